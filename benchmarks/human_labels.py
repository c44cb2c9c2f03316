"""Labels that people got wrong: who finds them, and is training without them any better?

    pip install -e ".[rivals]"
    python benchmarks/human_labels.py [--seeds 0 1 2] [--data_dir FOLDER]

writes results/human_labels.json. FOLDER holds cifar10n/train-*.parquet and test.parquet: CIFAR-10
with the labels of one annotator, of which 17 % are wrong (Wei et al. 2022, arXiv 2110.12088; for
research only). For each seed 20,000 images are the pool, with the annotator's labels, and 5,000,
1,000 or 250 others are trusted, with the right ones.

The rater is that of the recipe `images_and_labels`. The methods beside it are `datarater`'s
baselines with a ToyCNN, the agreement of neighbours in the rater's own features, and the evidence
that the rater begins with. Then a ToyCNN is trained on what each of them keeps, the share of
wrong labels being known.
"""

import tempfile
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from provenance import command_line, parser_of, write_result
from runs import configuration, records, side_by_side, spread
from torch import Tensor

from datarater.curation import BaselineData, TrainingPlan
from datarater.curation.baselines import BASELINES
from datarater.curation.downstream import in_epochs, load_task, quality_of, train_model
from datarater.curation.ratings import keep_best
from datarater.data import IndexedDataset, ParquetDataRaterDataset, seeded_generator
from datarater.data.own_data import data_folder
from datarater.evaluation import detection_quality
from datarater.method import rate_many
from datarater.runs import DataRaterConfig, run_meta_training

POOL, TRUSTED = 20_000, (5_000, 1_000, 250)
COLUMNS = ("auroc", "average_precision", "precision")
RIVALS = ("small_loss", "el2n", "outer_loss", "cleanlab")
JUDGED = ("everything", "random", "rater", "cleanlab", "outer_loss", "evidence", "oracle")
EPOCHS = 6  # of the pool, for every model that is trained


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
        "recipe": "images_and_labels",
        "dataset_name": f"human_labels:{DATASETS[num_trusted].__name__}",
        "seed": seed,
        "data_dir": data_dir,
        "device": "cpu",
        "log": False,
    }


def neighbours(features: Tensor, y: Tensor, num_neighbours: int = 50) -> Tensor:  # (N,)
    "The share of each sample's nearest others, by the angle of features, that have its label."
    features = F.normalize(features - features.mean(0))
    agree = []
    for rows in torch.arange(len(y)).split(500):
        near = features[rows] @ features.T  # (n, N)
        near[torch.arange(len(rows)), rows] = -2.0  # not itself
        found = near.topk(num_neighbours).indices  # (n, K)
        agree.append((y[found] == y[rows, None]).double().mean(1))
    return torch.cat(agree)


@torch.no_grad()
def ratings_of(result: Any, task: Any, seed: int) -> dict[str, np.ndarray]:
    "Of each method: higher is better."
    x, y = task.x, task.y
    batches = x.split(500), y.split(500)
    features = torch.cat([result.rater.features(part) for part in batches[0]])
    plan = TrainingPlan(num_steps=EPOCHS * POOL // 128)
    data = BaselineData(x, y, task.outer_x, task.outer_y, plan)
    found = {
        "rater": rate_many(result.rater, x, y),
        "evidence": rate_many(result.untrained, x, y),
        "neighbours": neighbours(features, y),
    }
    with torch.enable_grad():
        found |= {name: BASELINES[name](data, seed) for name in RIVALS}
    return {name: ratings.cpu().numpy() for name, ratings in found.items()}


def one_case(job: tuple[int, int, str | None]) -> dict[str, Any]:
    "For one number of trusted images and one seed, what each method finds, and is worth."
    num_trusted, seed, data_dir = job
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(num_trusted, seed, data_dir)
        config = DataRaterConfig(**settings, output_dir=folder)
        result = run_meta_training(config, progress=False)
    task = load_task(config)
    is_wrong = task.fractions > 0
    ratings = ratings_of(result, task, seed)
    found = {name: detection_quality(own, is_wrong) for name, own in ratings.items()}
    quality = {
        name: {column: round(own[column], 4) for column in COLUMNS} for name, own in found.items()
    }
    keep = 1 - is_wrong.mean()
    ratings |= {"everything": None, "random": np.zeros(POOL), "oracle": -task.fractions}
    plan = TrainingPlan(num_steps=EPOCHS * POOL // 128)
    accuracy = {}
    for name in JUDGED:
        kept = np.arange(POOL) if name == "everything" else keep_best(ratings[name], keep, seed)
        model, _ = train_model(task, partial(in_epochs, kept), plan, seed)
        accuracy[name] = round(quality_of(model, task)["accuracy"], 4)
    case = {"trusted": num_trusted, "seed": seed, "quality": quality, "accuracy": accuracy}
    print(case, flush=True)
    columns = ["meta_step", *COLUMNS]
    return {**case, "metrics": records(result.metrics[columns])}


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    jobs = [
        (size, seed, arguments.data_dir) for seed in arguments.seeds for size in sorted(TRUSTED)
    ]
    cases = side_by_side(one_case, jobs, arguments.jobs)
    tables = {}
    for size in TRUSTED:
        own = [case for case in cases if case["trusted"] == size]
        tables[str(size)] = {
            "quality": {
                name: {c: spread([case["quality"][name][c] for case in own]) for c in COLUMNS}
                for name in own[0]["quality"]
            },
            "accuracy": {name: spread([case["accuracy"][name] for case in own]) for name in JUDGED},
        }
    content = {
        "command": command_line(),
        "configuration": configuration(**settings_of(1_000, 0, arguments.data_dir)),
        "seeds": arguments.seeds,
        "pool": POOL,
        "tables": tables,
        "cases": cases,
    }
    write_result("human_labels", content)


if __name__ == "__main__":
    main()
