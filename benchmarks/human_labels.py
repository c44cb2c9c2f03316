"""Labels that people got wrong: who finds them, and is training without them any better?

    pip install -e ".[rivals]"
    python benchmarks/human_labels.py [--trusted 1000] [--seeds 0 1 2] [--data_dir FOLDER]
        [--ratings_dir FOLDER]

writes results/human_labels.json, and leaves there the cases that it holds already; seed 0 with
1,000 trusted images also draws results/human_labels.png. FOLDER holds
cifar10n/train-*.parquet and test.parquet: CIFAR-10 with the labels of one annotator, of which 17 %
are wrong (Wei et al. 2022, arXiv 2110.12088; for research only). For each seed 20,000 images are
the pool, with the annotator's labels, and 5,000, 1,000 or 250 others are trusted, with the right
ones.

The rater is that of the recipe `photo_labels`. Beside it are the evidence that it begins with,
`datarater`'s baselines with a ToyCNN, the agreement of neighbours in features that need no labels,
and cleanlab with the rater's own kind of network, which makes no use of trusted images. With 1,000
trusted images a ToyCNN, and for three seeds a residual network (ResNetMnist, which takes colour as
well), are then trained on what each keeps, the share of wrong labels being known. With
--ratings_dir all ratings are kept, and nothing is rated twice.

Would the evidence be better with neighbours and training dynamics in it? A logistic regression on
the ratings of several methods, fitted across folds with the truth, says what the best weights
add.
"""

import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from provenance import COMMIT, ROOT, command_line, parser_of, write_result
from runs import configuration, groups_of, records, side_by_side
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from torch import Tensor

from datarater.curation import BaselineData, TrainingPlan
from datarater.curation.baselines import BASELINES
from datarater.curation.downstream import in_epochs, load_task, quality_of, train_model
from datarater.curation.ratings import keep_best
from datarater.data import IndexedDataset, ParquetDataRaterDataset, seeded_generator
from datarater.data.own_data import data_folder
from datarater.evaluation import detection_quality
from datarater.method import rate_many
from datarater.models.evidence import NUM_FOLDS, fold_of, label_margin
from datarater.models.image_evidence import PatchFeatures
from datarater.models.network_evidence import CrossFittedNetwork
from datarater.runs import DataRaterConfig, run_meta_training, write_figure

POOL, TRUSTED = 20_000, (5_000, 1_000, 250)
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
COLUMNS = ("auroc", "average_precision", "precision")
WITHOUT_TRUSTED = ("small_loss", "el2n", "cleanlab")
JUDGED = ("everything", "random", "rater", "evidence", "cleanlab", "outer_loss", "oracle")
JUDGED_WITH = 1_000  # trusted images
# what could be joined to the evidence
JOINED = {
    "evidence": (),
    "with neighbours": ("neighbours",),
    "with training dynamics": ("small_loss", "el2n"),
    "with both": ("neighbours", "small_loss", "el2n"),
}
EPOCHS = 6  # of the pool, for every model that is trained
# judged by, and for how many seeds
MODELS = {"ToyCNN": 5, "ResNetMnist": 3}


class HumanLabels(ParquetDataRaterDataset):
    "A part of the images, which the seed draws."

    num_trusted = max(TRUSTED)

    def __init__(self, data_dir: str | None = None, seed: int = 0):
        path = data_folder(data_dir) / "cifar10n" / "train-*.parquet"
        super().__init__(path, seed, label_column="human_label", truth_column="label")

    @property
    def parts(self) -> tuple[IndexedDataset, IndexedDataset, IndexedDataset]:
        train, test = self.sources["train"], self.sources["test"]
        order = torch.randperm(len(train), generator=seeded_generator(self.seed, "human labels"))
        trusted = train.subset(order[POOL : POOL + self.num_trusted]).corrected()
        return train.subset(order[:POOL]), trusted, test


class With1000(HumanLabels):
    num_trusted = 1_000


class With250(HumanLabels):
    num_trusted = 250


DATASETS = {5_000: HumanLabels, 1_000: With1000, 250: With250}


def settings_of(num_trusted: int, seed: int, data_dir: str | None) -> dict[str, Any]:
    "Of the rater's run."
    return {
        "recipe": "photo_labels",
        "dataset_name": f"human_labels:{DATASETS[num_trusted].__name__}",
        "seed": seed,
        "data_dir": data_dir,
        "device": "cpu",
        "log": False,
    }


def neighbours(x: Tensor, y: Tensor, seed: int, num_neighbours: int = 50) -> Tensor:  # (N,)
    "The share of each image's nearest others, by the angle of features, that have its label."
    found = PatchFeatures(x.shape[1])
    found.fit(x, seeded_generator(seed, "neighbours"))
    features = torch.cat([found(part) for part in x.split(500)])
    features = F.normalize(features - features.mean(0))
    agree = []
    for rows in torch.arange(len(y)).split(500):
        near = features[rows] @ features.T  # (n, N)
        near[torch.arange(len(rows)), rows] = -2.0  # not itself
        nearest = near.topk(num_neighbours).indices  # (n, K)
        agree.append((y[nearest] == y[rows, None]).double().mean(1))
    return torch.cat(agree)


def cleanlab_network(x: Tensor, y: Tensor, seed: int) -> Tensor:  # (N,)
    "cleanlab's normalised margin, by the rater's kind of network, cross-fitted on the pool alone."
    network = CrossFittedNetwork(x.shape[1], num_classes=10)  # `fit` draws its weights
    folds = fold_of(x, NUM_FOLDS)
    network.fit(x, y, folds, torch.ones(len(x)), seeded_generator(seed, "cleanlab network"))
    with torch.no_grad():
        parts = zip(x.split(1_000), folds.split(1_000))
        return label_margin(torch.cat([network(*part).softmax(1) for part in parts]), y)


def rated_without_trusted(task: Any, seed: int) -> dict[str, Tensor]:
    "The ratings of methods that look at the pool alone."
    x, y = task.x, task.y
    data = BaselineData(x, y, x[:0], y[:0], TrainingPlan(num_steps=EPOCHS * POOL // 128))
    return {
        **{name: BASELINES[name](data, seed) for name in WITHOUT_TRUSTED},
        "cleanlab_network": cleanlab_network(x, y, seed),
        "neighbours": neighbours(x, y, seed),
    }


def draw_lowest(task: Any, ratings: Tensor, rater: torch.nn.Module) -> None:
    "Draw the images rated lowest, with their label, and what the rater expects instead."
    chosen = ratings.argsort()[:24]
    with torch.no_grad():
        expected = rater.class_probabilities(task.x[chosen]).argmax(1)
    low, high = task.x.min(), task.x.max()
    fig = Figure(figsize=(9, 4.2), dpi=80, layout="constrained")
    axes = fig.subplots(3, 8)
    for ax, row, other in zip(axes.flat, chosen.tolist(), expected.tolist(), strict=True):
        ax.imshow(((task.x[row] - low) / (high - low)).permute(1, 2, 0), interpolation="nearest")
        given = CLASSES[task.y[row]]
        ax.set_title(f"{given}?\n{CLASSES[other]}", fontsize=9)
        ax.axis("off")
    write_figure(fig, ROOT / "results" / "human_labels.png")


def quality_in(ratings: dict[str, Tensor], is_wrong: np.ndarray) -> dict[str, dict[str, float]]:
    "How well each method's ratings find wrong labels."
    found = {name: detection_quality(own.numpy(), is_wrong) for name, own in ratings.items()}
    return {name: {c: round(own[c], 4) for c in COLUMNS} for name, own in found.items()}


def joined_quality(ratings: dict[str, Tensor], is_wrong: np.ndarray) -> dict[str, float]:
    "AUROC of the evidence joined to other methods, with weights that are fitted to the truth."
    found = {}
    for name, others in JOINED.items():
        values = [ratings[method].numpy() for method in ("evidence", *others)]
        ranks = [rankdata(own) / len(own) for own in values]
        x = np.stack([*ranks, *(own / own.std() for own in values)], axis=1)
        fit = LogisticRegression(max_iter=1_000)
        odds = cross_val_predict(fit, x, is_wrong, cv=5, method="decision_function")
        found[name] = round(detection_quality(-odds, is_wrong)["auroc"], 4)
    return found


def accuracy_of(
    model_class: str, kept_by: dict[str, Tensor], task: Any, seed: int
) -> dict[str, float]:
    "Test accuracy of a model that is trained on the best share by each method's ratings."
    plan = TrainingPlan(model_class=model_class, num_steps=EPOCHS * POOL // 128)
    is_wrong = task.fractions > 0
    kept_by = {**kept_by, "random": torch.zeros(POOL), "oracle": -torch.from_numpy(task.fractions)}
    found = {}
    for name in JUDGED:
        kept = np.arange(POOL)
        if name != "everything":
            kept = keep_best(kept_by[name].numpy(), 1 - is_wrong.mean(), seed)
        model, _ = train_model(task, partial(in_epochs, kept), plan, seed)
        found[name] = round(quality_of(model, task)["accuracy"], 4)
    return found


def rated(
    config: DataRaterConfig, task: Any, alone: dict[str, Tensor], draw: bool
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    "What each method finds, and its ratings; those without trusted images are given."
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = run_meta_training(replace(config, output_dir=folder), progress=False)
    minutes = (time.monotonic() - started) / 60
    plan = TrainingPlan(num_steps=EPOCHS * POOL // 128)
    data = BaselineData(task.x, task.y, task.outer_x, task.outer_y, plan)
    ratings = {
        "rater": rate_many(result.rater, task.x, task.y),
        "evidence": rate_many(result.untrained, task.x, task.y),
        "outer_loss": BASELINES["outer_loss"](data, config.seed),
        **alone,
    }
    ratings = {name: own.detach().double().cpu() for name, own in ratings.items()}
    if draw:
        draw_lowest(task, ratings["rater"], result.rater)
    found = {
        "commit": COMMIT,
        "minutes": round(minutes, 1),
        "quality": quality_in(ratings, task.fractions > 0),
        "kept_step": result.kept_step,
        "metrics": records(result.metrics[["meta_step", *COLUMNS]]),
    }
    return found, ratings


def missing_of(case: dict[str, Any]) -> list[str]:
    "The models that are yet to be trained on what each method keeps."
    if case["trusted"] != JUDGED_WITH:
        return []
    models = [name for name, num_seeds in MODELS.items() if case["seed"] < num_seeds]
    return [name for name in models if name not in case.get("accuracy", {})]


class Job(NamedTuple):
    "The cases of one seed."

    seed: int
    cases: list[dict[str, Any]]  # to be completed; their `trusted` and `seed` at least
    data_dir: str | None
    ratings_dir: str | None


def completed(job: Job) -> list[dict[str, Any]]:
    "What each method finds, and is worth, for one seed and some numbers of trusted images."
    torch.set_num_threads(1)
    alone, cases = {}, []
    for case in job.cases:
        config = DataRaterConfig(**settings_of(case["trusted"], job.seed, job.data_dir))
        task = load_task(config)
        file = job.ratings_dir and Path(job.ratings_dir, f"{case['trusted']}_{job.seed}.pt")
        if "quality" in case and file and file.exists():
            ratings = torch.load(file, weights_only=True)
        else:
            alone = alone or rated_without_trusted(task, job.seed)
            draw = job.seed == 0 and case["trusted"] == JUDGED_WITH
            found, ratings = rated(config, task, alone, draw)
            case = {"trusted": case["trusted"], "seed": job.seed, **found}
            if file:
                torch.save(ratings, file)
        case = {**case, "joined": joined_quality(ratings, task.fractions > 0)}
        accuracy = dict(case.get("accuracy", {}))
        for name in missing_of(case):
            accuracy[name] = accuracy_of(name, ratings, task, job.seed)
        cases.append({**case, "accuracy": accuracy} if accuracy else case)
        print(cases[-1], flush=True)
    return cases


def known_cases() -> list[dict[str, Any]]:
    "Those in the file of results."
    path = ROOT / "results" / "human_labels.json"
    return json.loads(path.read_text())["cases"] if path.exists() else []


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--trusted", type=int, nargs="+", choices=TRUSTED, default=TRUSTED)
    parser.add_argument("--ratings_dir", default=None, help="a folder to keep all ratings in")
    arguments = parser.parse_args()
    cases = {(case["trusted"], case["seed"]): case for case in known_cases()}
    jobs = []
    for seed in arguments.seeds:
        own = [cases.get((n, seed), {"trusted": n, "seed": seed}) for n in arguments.trusted]
        own = [case for case in own if "joined" not in case or missing_of(case)]
        jobs += [Job(seed, own, arguments.data_dir, arguments.ratings_dir)] * bool(own)
    content = {
        "command": command_line(),
        "configuration": configuration(**settings_of(1_000, 0, arguments.data_dir)),
        "pool": POOL,
    }
    for group in groups_of(jobs, arguments.jobs):  # what is done is written at once
        for case in chain(*side_by_side(completed, group, arguments.jobs)):
            cases[case["trusted"], case["seed"]] = case
        ordered = [cases[key] for key in sorted(cases, key=lambda key: (-key[0], key[1]))]
        write_result("human_labels", {**content, "cases": ordered})


if __name__ == "__main__":
    main()
