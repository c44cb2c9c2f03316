"""What does a meta-gradient say of labels that people got wrong, and what of hard images?

    python benchmarks/ages_labels.py [--data_dir FOLDER]       writes results/ages_labels.json

The pool is that of `human_labels.py` with 1,000 trusted images. As in `ages_poison.py` no rater is
trained: with all weights equal, the meta-gradient says up or down for each sample. Three means of
it are taken, each over its standard deviation among images with a right label:

- wrong: of wrong labels, less that of right ones;
- beyond: the same among images that the evidence of the recipe `photo_labels` rates alike (by
  tenths of the pool): what a rater could add to its evidence;
- hard: of the right labels that the evidence finds least likely, a quarter of them, less that of
  the most likely quarter.

An error is over inner models, which are independent.
"""

import math
from typing import Any

import numpy as np
import torch
from ages_poison import Pushes, pushes
from human_labels import settings_of
from provenance import command_line, parser_of, write_result
from runs import configuration
from torch import Tensor

from datarater.curation.downstream import load_task
from datarater.method import rate_many
from datarater.runs import DataRaterConfig, set_up

UNROLLS = (2, 10)
INNER_LRS = (3e-4, 1e-3, 3e-3)
AGE_EDGES = (0, 20, 60, 120, 200)  # in inner steps
NUM_MODELS = 8
MEASURES = ("wrong", "beyond", "hard")


def grid_settings(unroll: int, inner_lr: float, data_dir: str | None) -> dict[str, Any]:
    "Of the run whose inner models grow older; its rater rates nothing."
    return {
        **settings_of(1_000, 0, data_dir),
        "data_rater_model_class": "LabelAwareDataRater",
        "keep_rater": "last",
        "inner_steps": unroll,
        "inner_lr": inner_lr,
        "num_inner_models": NUM_MODELS,
        "batch_size": 128,
    }


def evidence_of(data_dir: str | None) -> tuple[Tensor, Tensor]:  # (N,), (N,) int64
    "Ratings of the pool by the evidence alone, and the tenth of the pool that each is in."
    config = DataRaterConfig(**settings_of(1_000, 0, data_dir))
    _, learner = set_up(config)
    task = load_task(config)
    ratings = rate_many(learner.averaged.module, task.x, task.y).detach().double()
    return ratings, ratings.argsort().argsort() * 10 // len(ratings)


def within_tenths(push: Tensor, is_wrong: Tensor, tenths: Tensor) -> Tensor:
    "The mean push of wrong labels less that of right ones, among samples of the same tenth."
    gap, weight = push.new_zeros(()), 0.0
    for tenth in range(10):
        own = tenths == tenth
        wrong, right = push[own & is_wrong], push[own & ~is_wrong]
        if len(wrong) and len(right):
            pairs = len(wrong) * len(right) / (len(wrong) + len(right))
            gap, weight = gap + pairs * (wrong.mean() - right.mean()), weight + pairs
    return gap / weight


def means_of(step: Pushes, ratings: Tensor, tenths: Tensor) -> list[list[float]]:
    "By member the three means, as above."
    found = []
    for push, codes, indices in zip(step.push, step.codes, step.indices, strict=True):
        is_wrong = codes > 0
        right = push[~is_wrong]
        hardest_first = right[ratings[indices][~is_wrong].argsort()]
        quarter = len(right) // 4
        means = (
            push[is_wrong].mean() - right.mean(),
            within_tenths(push, is_wrong, tenths[indices]),
            hardest_first[:quarter].mean() - hardest_first[-quarter:].mean(),
        )
        found.append([float(mean / right.std()) for mean in means])
    return found


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("--data_dir", default=None)
    data_dir = parser.parse_args().data_dir
    torch.set_num_threads(1)
    evidence = evidence_of(data_dir)
    rows = []
    for unroll in UNROLLS:
        for inner_lr in INNER_LRS:
            config = DataRaterConfig(**grid_settings(unroll, inner_lr, data_dir))
            steps = [(at.age, means_of(at, *evidence)) for at in pushes(config, AGE_EDGES[-1])]
            for first, end in zip(AGE_EDGES[:-1], AGE_EDGES[1:], strict=True):
                members = np.mean([means for age, means in steps if first <= age < end], axis=0)
                error = members.std(0, ddof=1) / math.sqrt(NUM_MODELS)  # (3,)
                row = {"T": unroll, "inner_lr": inner_lr, "first_age": first, "last_age": end}
                for name, mean, one in zip(MEASURES, members.mean(0), error, strict=True):
                    row |= {name: round(float(mean), 4), f"{name}_error": round(float(one), 4)}
                rows.append(row)
                print(row, flush=True)
    content = {
        "command": command_line(),
        "seed": 0,
        "configuration": configuration(**grid_settings(2, 1e-3, data_dir)),
        "num_models": NUM_MODELS,
        "rows": rows,
    }
    write_result("ages_labels", content)


if __name__ == "__main__":
    main()
