"""The benchmark that data valuation uses, on tables that scikit-learn brings along.

    pip install -e ".[rivals]"
    python benchmarks/valuation.py [--seeds 0 1 2]

writes results/valuation.json. The protocol is OpenDataVal's (Jiang et al. 2023, arXiv 2306.10577):
a share of the training samples gets a wrong label, or noise on its features; methods value every
sample; and a logistic regression tells what the values are worth.

    auroc, average_precision   how well faults are found
    f1                         of the lowest values, as many as there are faults
    removal                    mean test accuracy while the most valuable tenths go, one by one:
                               the lower, the better
    addition                   mean test accuracy while the most valuable tenths come, one by one
    kept                       test accuracy without the lowest values, as many as there are faults

Methods may look at a few trusted samples. These are clean, or as faulty as the training samples,
which is OpenDataVal's default.
"""

import warnings
from typing import Any

import numpy as np
import torch
from provenance import command_line, parser_of, write_result
from runs import configuration, side_by_side
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from valuers import VALUERS

from datarater.curation import BaselineData, Curator, TrainingPlan
from datarater.curation.baselines import BASELINES
from datarater.evaluation import detection_quality

# name -> how to load it; samples for training, and trusted ones: the rest is for the test
TABLES = {
    "digits": (load_digits, 1_000, 100),
    "breast_cancer": (load_breast_cancer, 300, 100),
    "wine": (load_wine, 80, 30),
}
FAULTS = {"labels 10 %": 0.1, "labels 20 %": 0.2, "labels 30 %": 0.3, "features 20 %": 0.2}
OWN = ("small_loss", "el2n", "outer_loss", "cleanlab", "knn_shapley")
SETTINGS = {"recipe": "images_and_labels", "device": "cpu"}


def spoilt(
    x: np.ndarray, y: np.ndarray, fault: str, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Samples and labels with a fault, and which have it."
    is_bad = np.zeros(len(x), bool)
    is_bad[draw.permutation(len(x))[: round(FAULTS[fault] * len(x))]] = True
    if fault.startswith("labels"):
        other = (y + draw.integers(1, y.max() + 1, len(y))) % (y.max() + 1)
        return x, np.where(is_bad, other, y), is_bad
    noise = draw.normal(size=x.shape).astype(x.dtype)
    return np.where(is_bad[:, None], x + noise, x), y, is_bad


def accuracy(x: np.ndarray, y: np.ndarray, test: tuple[np.ndarray, np.ndarray]) -> float:
    "Of a logistic regression; where there is one class only, of that class."
    if len(np.unique(y)) == 1:
        return float((test[1] == y[0]).mean())
    return float(LogisticRegression(max_iter=200).fit(x, y).score(*test))


def worth(
    values: np.ndarray,
    is_bad: np.ndarray,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
) -> dict[str, float]:
    "All measures of one method."
    found = detection_quality(values, is_bad)
    order = np.argsort(values, kind="stable")  # the least valuable first
    sizes = np.linspace(0, len(order), 11).round().astype(int)[1:]
    worst_left = [accuracy(*(part[order[:size]] for part in train), test) for size in sizes]
    best_first = [accuracy(*(part[order[-size:]] for part in train), test) for size in sizes]
    kept = order[is_bad.sum() :]
    return {
        "auroc": found["auroc"],
        "average_precision": found["average_precision"],
        "f1": found["precision"],  # as many are flagged as are faulty: then it is the recall, too
        "removal": float(np.mean(worst_left)),
        "addition": float(np.mean(best_first)),
        "kept": accuracy(*(part[kept] for part in train), test),
    }


def values_of(
    train: tuple[np.ndarray, np.ndarray], trusted: tuple[np.ndarray, np.ndarray], seed: int
) -> dict[str, np.ndarray]:
    "Of each method."
    pairs = [torch.from_numpy(part) for part in (*train, *trusted)]
    plan = TrainingPlan(model_class="ToyMLP", num_steps=500, batch_size=64)
    data = BaselineData(*pairs, plan)
    methods = {name: BASELINES[name] for name in OWN} | VALUERS
    found = {name: method(data, seed).detach() for name, method in methods.items()}
    curator = Curator(progress=False, seed=seed, **SETTINGS).fit(train, trusted)
    found["rater"] = torch.as_tensor(curator.rate(train).table["rating"].to_numpy())
    curator.rater_ = curator.untrained_
    found["evidence"] = torch.as_tensor(curator.rate(train).table["rating"].to_numpy())
    found["random"] = torch.rand(len(train[0]), generator=torch.Generator().manual_seed(seed))
    return {name: values.double().numpy() for name, values in found.items()}


def one_case(job: tuple[str, str, str, int]) -> dict[str, Any]:
    "What each method's values are worth, on one table with one fault and one seed."
    name, fault, trusted_is, seed = job
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of fits that did not converge, which is not asked for
    load, num_train, num_trusted = TABLES[name]
    draw = np.random.default_rng(seed)
    x, y = load(return_X_y=True)
    order = draw.permutation(len(x))
    x, y = x[order], y[order].astype(np.int64)
    spread_of = x[:num_train].std(0)
    x = ((x - x[:num_train].mean(0)) / np.where(spread_of > 0, spread_of, 1.0)).astype(np.float32)
    train, trusted, test = (
        tuple(part[start:stop] for part in (x, y))
        for start, stop in (
            (0, num_train),
            (num_train, num_train + num_trusted),
            (num_train + num_trusted, len(x)),
        )
    )
    *train, is_bad = spoilt(*train, fault, draw)
    if trusted_is == "as faulty":
        trusted = spoilt(*trusted, fault, draw)[:2]
    values = values_of(tuple(train), trusted, seed)
    found = {
        method: {name: round(value, 4) for name, value in worth(own, is_bad, train, test).items()}
        for method, own in values.items()
    }
    case = {"table": name, "fault": fault, "trusted": trusted_is, "seed": seed, "methods": found}
    auroc = {method: measures["auroc"] for method, measures in found.items()}
    print({**case, "methods": auroc}, flush=True)
    return case


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    jobs = [
        (name, fault, trusted_is, seed)
        for name in TABLES
        for fault in FAULTS
        for trusted_is in ("clean", "as faulty")
        for seed in arguments.seeds
    ]
    cases = side_by_side(one_case, jobs, arguments.jobs)
    content = {
        "command": command_line(),
        "configuration": configuration(**SETTINGS),
        "seeds": arguments.seeds,
        "cases": cases,
    }
    write_result("valuation", content)


if __name__ == "__main__":
    main()
