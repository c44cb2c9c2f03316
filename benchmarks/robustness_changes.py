"""Can the adversarial outer loss be made to choose data that serve adversarial training too? Changes to the rater or to the keep rule of benchmarks/robustness.py, one at a time.

    python benchmarks/robustness_changes.py [--seeds 0 1 2 3 4] [--data_dir FOLDER]      writes results/robustness_changes.json

Data, seeds, models and both kinds of training are those of benchmarks/robustness.py; so are the first two raters, which the changes are compared with. After adversarial training the models
are attacked a second time, by PGD with steps of the radius and several starts, which small steps can't flatter. What each choice keeps is recorded: the share of undamaged images, the mean
fraction of damage, and the share of each class.
"""

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from provenance import command_line, write_result
from robustness import (
    ADVERSARIAL_BATCH_SIZE,
    ADVERSARIAL_TRAINING,
    ATTACK,
    BATCH_SIZE,
    BINS,
    NUM_TEST,
    OLDER,
    PGD_STEPS,
    RADII,
    TRAIN_STEPS,
    data_of,
    profile_of,
    quality,
    settings_of,
)
from runs import batches, configuration, spread, train_against_attack
from torch import Tensor, nn

from datarater.evaluation import AttackPlan, measure_robustness
from datarater.method import rate_many
from datarater.models import construct_model, fit_classifier
from datarater.runs import DataRaterConfig, run_meta_training

OLD = {**OLDER, **ATTACK}  # the adversarial-outer rater of benchmarks/robustness.py
CHANGES: dict[str, dict[str, Any]] = {  # name -> settings beside the recipe's
    "clean outer": {},
    "adversarial outer": OLD,
    "younger inner models": ATTACK,  # the recipe's learning rate and lifetime
    "half of the loss clean": {**OLD, "adversarial_frac": 0.5},
    # inner models of the same number of training steps
    "longer unroll": {**OLD, "inner_steps": 4, "meta_refresh_steps": 25},
    "inner models attacked": {**OLD, "inner_attack": "pgd"},
}
STRONG = {"step_size": ADVERSARIAL_TRAINING["eps"], "num_restarts": 5}


def best_of_each_class(ratings: Tensor, y: Tensor) -> Tensor:
    "Indices of the best-rated half of each class."
    return torch.cat(
        [
            own[ratings[own].argsort(descending=True)[: len(own) // 2]]
            for own in ((y == label).nonzero().flatten() for label in y.unique())
        ]
    )


def choose(
    x: Tensor, y: Tensor, fractions: Tensor, seed: int, meta_steps: int, data_dir: str | None
) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
    "Indices kept by each rater and keep rule, and each rater's profile."
    half, kept, profiles = len(x) // 2, {}, {}
    for name, changes in CHANGES.items():
        with tempfile.TemporaryDirectory() as folder:
            trained = run_meta_training(
                DataRaterConfig(
                    **settings_of(changes, meta_steps, seed=seed, data_dir=data_dir),
                    output_dir=folder,
                ),
                progress=False,
            ).rater
        with torch.no_grad():
            ratings = rate_many(trained, x, y)
        kept[name], profiles[name] = (
            ratings.argsort(descending=True)[:half],
            profile_of(ratings, fractions),
        )
        if name == "adversarial outer":
            kept["drawn by weight"] = torch.multinomial(
                ratings.softmax(0),
                half,
                replacement=True,
                generator=torch.Generator().manual_seed(seed),
            )
            kept["half of each class"] = best_of_each_class(ratings, y)
        print(seed, name, profiles[name], flush=True)
    return kept, profiles


def describe(kept: Tensor, y: Tensor, fractions: Tensor) -> dict[str, Any]:
    "What is in a choice."
    shares = torch.bincount(y[kept], minlength=10) / torch.bincount(y, minlength=10)
    return {
        "undamaged": round((fractions[kept] == 0).float().mean().item(), 4),
        "mean fraction": round(fractions[kept].mean().item(), 4),
        "kept of each class": [round(share, 3) for share in shares.tolist()],
    }


def trained_plainly(x: Tensor, y: Tensor, seed: int) -> nn.Module:
    model = construct_model("ToyCNN", seed=seed)
    fit_classifier(model, batches(x, y, seed, BATCH_SIZE), TRAIN_STEPS)
    return model


def compare(job: tuple[int, str | None, int]) -> dict[str, Any]:
    "Everything for one seed."
    seed, data_dir, meta_steps = job
    torch.set_num_threads(1)
    x, y, fractions, data = data_of(seed, data_dir, meta_steps)
    kept, profiles = choose(x, y, fractions, seed, meta_steps, data_dir)
    plain, adversarial, eps = {}, {}, ADVERSARIAL_TRAINING["eps"]
    test_x, test_y = (tensor[:NUM_TEST] for tensor in data.clean)
    for name, chosen in kept.items():
        plain[name] = quality(
            trained_plainly(x[chosen], y[chosen], seed), data.clean, data.corrupted, RADII
        )
        model = train_against_attack(
            batches(x[chosen], y[chosen], seed, ADVERSARIAL_BATCH_SIZE),
            seed,
            **ADVERSARIAL_TRAINING,
        )
        strong = measure_robustness(
            model, test_x, test_y, AttackPlan(eps=eps, num_steps=PGD_STEPS, **STRONG)
        ).robust_accuracy
        adversarial[name] = {
            **quality(model, data.clean, data.corrupted, (eps,)),
            f"eps {eps}, strong": strong,
        }
        print(
            seed,
            name,
            *(
                {key: round(value, 3) for key, value in found[name].items()}
                for found in (plain, adversarial)
            ),
            flush=True,
        )
    return {
        "seed": seed,
        "plain": plain,
        "adversarial": adversarial,
        "profiles": profiles,
        "kept": {name: describe(chosen, y, fractions) for name, chosen in kept.items()},
    }


def write(runs: list[dict[str, Any]], meta_steps: int) -> None:
    "Sum up the runs and write them."
    results = {
        training: {
            name: {
                column: spread([run[training][name][column] for run in runs]) for column in columns
            }
            for name, columns in runs[0][training].items()
        }
        for training in ("plain", "adversarial")
    }
    content = {
        "command": command_line(),
        "configuration": configuration(**settings_of({}, meta_steps)),
        "changes": CHANGES,
        "seeds": [run["seed"] for run in runs],
        "train_steps": TRAIN_STEPS,
        "batch_size": BATCH_SIZE,
        "adversarial_training": {**ADVERSARIAL_TRAINING, "batch_size": ADVERSARIAL_BATCH_SIZE},
        "num_test": NUM_TEST,
        "pgd_steps": PGD_STEPS,
        "strong": STRONG,
        "fraction_edges": BINS.tolist(),
        **results,
        "runs": runs,
    }
    print(f"written: {write_result('robustness_changes', 'cpu', content).name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--meta_steps", type=int, default=240)
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time, a thread each")
    arguments = parser.parse_args()

    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        runs = list(
            pool.map(
                compare,
                [(seed, arguments.data_dir, arguments.meta_steps) for seed in arguments.seeds],
            )
        )
    write(runs, arguments.meta_steps)


if __name__ == "__main__":
    main()
