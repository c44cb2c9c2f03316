"""What `datarater clean` finds in a folder of photographs, and what a model gains from its choice.

    python benchmarks/photos.py [--seeds 11 12 13 14 15] [--data_dir FOLDER]
                                                            writes results/photos.json
    python benchmarks/photos.py --rivals results/photos.json …

Each seed makes a folder of its own (photo_folder.py): four classes, a quarter of the pictures in a
wrong class folder, a tenth blurred or noisy, 40 trusted pictures a class. Every way of rating gets
the same pictures. Then a small network is trained from the same start on each choice of pictures,
and judged on clean test images, which no choice has looked at.

With --rivals, only what depends on the rater is measured anew; the rest is taken from an earlier
result on the same folders, whose commit is on record.

The rater's settings were chosen on the folders of seeds 0 to 2, with their truth in view; give
other seeds here.
"""

import csv
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import torch
from photo_folder import CLASSES, make_photos
from PIL import Image
from provenance import COMMIT, command_line, parser_of, write_result
from runs import configuration, spread
from torch import Tensor, nn

from datarater.curation import BaselineData, Curator, TrainingPlan, cleanlab_quality
from datarater.curation.baselines import outer_loss, shuffled_batches, small_loss
from datarater.data import as_pool, seeded_generator
from datarater.evaluation import detection_quality
from datarater.models import fit_classifier, logits_of, register_model

KEEP = 0.7
KINDS = ("wrong_class", "blur", "noise")
EPOCHS = 20


@register_model("PhotoNet")
class PhotoNet(nn.Sequential):
    "Three convolutions and a linear layer: what somebody would train on such pictures."

    def __init__(self, num_classes: int = 4):
        layers = []
        for before, after in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(8, after), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, num_classes)
        )


def read(folder: Path) -> tuple[Tensor, Tensor, list[str]]:
    "All pictures of a folder of class folders, their labels, and their paths."
    pool = as_pool(folder)
    x, y = pool.batch(torch.arange(len(pool)))[:2]
    return x, y, [Path(path).relative_to(folder.parent).as_posix() for path in pool.paths]


def read_test(data_dir: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    "The clean test pictures of some classes, in [-1, 1]."
    table = parquet.read_table(Path(data_dir, "cifar10n", "test.parquet"))
    names = np.array(CLASSES)[table["label"].to_numpy()]
    rows = np.flatnonzero(np.isin(names, classes))
    encoded = table["image"].to_pylist()
    pictures = [np.asarray(Image.open(io.BytesIO(encoded[row])).convert("RGB")) for row in rows]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1
    return x, torch.tensor([classes.index(name) for name in names[rows]])


def rate_by_command(folder: Path, seed: int, recipe: str | None) -> tuple[pd.DataFrame, float]:
    "The table of ratings that the command makes, and its seconds."
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "datarater", "clean", str(folder), f"--keep={KEEP}"]
        command += [f"--output={out}/kept.csv", f"--seed={seed}", "--device=cpu"]
        command += [f"--recipe={recipe}"] if recipe else []
        start = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.monotonic() - start
        (run,) = Path(out, "kept.run").iterdir()
        rated = Curator.load(run, device="cpu", progress=False).rate(folder / "train")
        kept = pd.read_csv(f"{out}/kept.csv")
    table = rated.table.assign(is_kept=rated.table["path"].isin(kept["path"]))
    assert table["is_kept"].sum() == len(kept)
    return table, seconds


def rate_by_evidence(folder: Path, seed: int) -> np.ndarray:
    "Ratings of a rater that has fitted its evidence, and has not been meta-trained."
    curator = Curator(meta_steps=1, seed=seed, device="cpu", progress=False).fit(folder)
    curator.rater_ = curator.untrained_
    return curator.rate(folder / "train").table["rating"].to_numpy()


def quality_of(ratings: np.ndarray, kinds: np.ndarray) -> dict[str, float]:
    "AUROC of good pictures against those of each kind of fault, and of any."
    found = {}
    for kind in KINDS:
        used = (kinds == "good") | (kinds == kind)
        found[kind] = detection_quality(ratings[used], kinds[used] != "good")["auroc"]
    found["any"] = detection_quality(ratings, kinds != "good")["auroc"]
    return {kind: round(float(value), 4) for kind, value in found.items()}


def accuracy_of(
    x: Tensor, y: Tensor, rows: np.ndarray, test: tuple[Tensor, Tensor], seed: int, num_steps: int
) -> float:
    "Test accuracy of a PhotoNet trained on some pictures; the seed sets its start and batches."
    torch.manual_seed(seed)
    model = PhotoNet(int(y.max()) + 1)
    chosen = torch.as_tensor(rows)
    stream = shuffled_batches(x[chosen], y[chosen], 64, seeded_generator(seed, "photos"))
    fit_classifier(model, lambda: next(stream), num_steps)
    return (logits_of(model, test[0]).argmax(1) == test[1]).double().mean().item()


def rate_by_rivals(
    folder: Path, seed: int, pool: tuple[Tensor, Tensor], trusted: tuple[Tensor, Tensor]
) -> dict[str, np.ndarray]:
    "What people try first."
    x, y = pool
    plan = TrainingPlan(model_class=f"{__name__}:PhotoNet", num_steps=10 * len(x) // 128)
    data = BaselineData(x, y, *trusted, plan)
    return {
        "recipe labels": rate_by_command(folder, seed, "labels")[0]["rating"].to_numpy(),
        "small loss": small_loss(data, seed).numpy(),
        "cleanlab": cleanlab_quality(data, seed).numpy(),
        "loss of a model of the trusted": outer_loss(data, seed).numpy(),
    }


def measure(seed: int, data_dir: str, known: dict[str, Any] | None) -> dict[str, Any]:
    "One folder: who finds what, and what a model gains; `known`: an earlier result of its rivals."
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "photos")
        truth = make_photos(folder, seed, data_dir)
        with open(truth) as file:
            kind_of = {row["path"]: row["kind"] for row in csv.DictReader(file)}
        x, y, paths = read(folder / "train")
        trusted = read(folder / "val")[:2]
        kinds = np.array([kind_of[path] for path in paths])
        table, seconds = rate_by_command(folder, seed, None)
        assert [Path(path).name for path in table["path"]] == [Path(path).name for path in paths]
        own = {
            "datarater clean": table["rating"].to_numpy(),
            "its evidence alone": rate_by_evidence(folder, seed),
        }
        rivals = {} if known else rate_by_rivals(folder, seed, (x, y), trusted)
    quality = {name: quality_of(ratings, kinds) for name, ratings in {**own, **rivals}.items()}
    kept = np.flatnonzero(table["is_kept"])
    random = np.random.default_rng(seed).choice(len(x), len(kept), replace=False)
    choices = {
        "everything": (x, y, np.arange(len(x))),
        "kept": (x, y, kept),
        "random share": (x, y, random),
        "truly good": (x, y, np.flatnonzero(kinds == "good")),
        "trusted alone": (*trusted, np.arange(len(trusted[0]))),
    }
    if known:
        assert known["seed"] == seed and known["num_pictures"] == len(x)
        quality = {**known["quality"], **quality}
        choices = {name: choices[name] for name in ("kept", "trusted alone")}
    test = read_test(data_dir, tuple(sorted(set(CLASSES[:4]))))
    accuracy = known["accuracy"] if known else {}
    for name, choice in choices.items():
        accuracy[name] = round(accuracy_of(*choice, test, seed, EPOCHS * len(x) // 64), 4)
    print(seed, f"{seconds:.0f} s", quality, accuracy, flush=True)
    return {
        "seed": seed,
        "num_pictures": len(x),
        "num_trusted": len(trusted[0]),
        "seconds": round(seconds),
        "quality": quality,
        "accuracy": accuracy,
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.set_defaults(seeds=[11, 12, 13, 14, 15])
    parser.add_argument("--rivals", default=None, help="an earlier result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    earlier = json.loads(Path(arguments.rivals).read_text()) if arguments.rivals else {"runs": []}
    known = {run["seed"]: run for run in earlier["runs"]}
    runs = [measure(seed, arguments.data_dir, known.get(seed)) for seed in arguments.seeds]
    names = ["datarater clean", "its evidence alone"]
    names += [name for name in runs[0]["quality"] if name not in names]
    accuracy = [run["accuracy"] for run in runs]
    content = {
        "command": command_line(),
        "commit_of_rivals": earlier.get("commit", COMMIT),
        "configuration": configuration(recipe="images_and_labels"),
        "seeds": arguments.seeds,
        "keep": KEEP,
        "auroc": {
            name: {
                kind: spread([run["quality"][name][kind] for run in runs])
                for kind in (*KINDS, "any")
            }
            for name in names
        },
        "accuracy": {name: spread([found[name] for found in accuracy]) for name in accuracy[0]},
        "kept_less": {
            name: spread([found["kept"] - found[name] for found in accuracy])
            for name in ("everything", "random share", "trusted alone")
        },
        "seconds": spread([run["seconds"] for run in runs]),
        "runs": runs,
    }
    write_result("photos", content)


if __name__ == "__main__":
    main()
