"""Can an adversarial outer loss choose data that serve adversarial training too?

    python benchmarks/robustness_changes.py [--seeds 0 1 2 3 4] [--data_dir FOLDER]

writes results/robustness_changes.json. It changes the rater or the keep rule of
benchmarks/robustness.py, one thing at a time. Data, seeds, models and both kinds of training are
the same, and so are the first two raters, which the changes are compared with. After adversarial
training, the models are attacked a second time: by PGD with steps of the radius and several
starts, which small steps cannot flatter. The file records what each choice keeps: the share of
undamaged images, the mean fraction of damage, and the share of each class.
"""

from typing import Any

import torch
from provenance import command_line, parser_of, write_result
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
    drawn_by_weight,
    profile_of,
    quality,
    rated_by,
    settings_of,
    spreads_of,
    trained_adversarially,
    trained_plainly,
)
from runs import configuration, rounded, side_by_side
from torch import Tensor

from datarater.evaluation import AttackPlan, measure_robustness

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
    kept = []
    for label in y.unique():
        own = (y == label).nonzero().flatten()
        kept.append(own[ratings[own].argsort(descending=True)[: len(own) // 2]])
    return torch.cat(kept)


def choose(
    x: Tensor, y: Tensor, fractions: Tensor, seed: int, meta_steps: int, data_dir: str | None
) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
    "Indices kept by each rater and keep rule, and each rater's profile."
    half = len(x) // 2
    kept, profiles = {}, {}
    for name, changes in CHANGES.items():
        settings = settings_of(changes, meta_steps, seed=seed, data_dir=data_dir)
        ratings = rated_by(settings, x, y)
        kept[name] = ratings.argsort(descending=True)[:half]
        profiles[name] = profile_of(ratings, fractions)
        if name == "adversarial outer":
            kept["drawn by weight"] = drawn_by_weight(ratings, half, seed)
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


def compare(job: tuple[int, str | None, int]) -> dict[str, Any]:
    "Everything for one seed."
    seed, data_dir, meta_steps = job
    torch.set_num_threads(1)
    x, y, fractions, data = data_of(seed, data_dir, meta_steps)
    kept, profiles = choose(x, y, fractions, seed, meta_steps, data_dir)
    plain, adversarial = {}, {}
    eps = ADVERSARIAL_TRAINING["eps"]
    plan = AttackPlan(eps=eps, num_steps=PGD_STEPS, **STRONG)
    test_x, test_y = (tensor[:NUM_TEST] for tensor in data.clean)
    for name, chosen in kept.items():
        model = trained_plainly(x[chosen], y[chosen], seed)
        plain[name] = quality(model, data.clean, data.corrupted, RADII)
        model = trained_adversarially(x[chosen], y[chosen], seed)
        strong = measure_robustness(model, test_x, test_y, plan).robust_accuracy
        adversarial[name] = {
            **quality(model, data.clean, data.corrupted, (eps,)),
            f"eps {eps}, strong": strong,
        }
        print(seed, name, rounded(plain[name]), rounded(adversarial[name]), flush=True)
    return {
        "seed": seed,
        "plain": plain,
        "adversarial": adversarial,
        "profiles": profiles,
        "kept": {name: describe(chosen, y, fractions) for name, chosen in kept.items()},
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.set_defaults(seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--meta_steps", type=int, default=240)
    arguments = parser.parse_args()

    jobs = [(seed, arguments.data_dir, arguments.meta_steps) for seed in arguments.seeds]
    runs = side_by_side(compare, jobs, arguments.jobs)
    content = {
        "command": command_line(),
        "configuration": configuration(**settings_of({}, arguments.meta_steps)),
        "changes": CHANGES,
        "seeds": arguments.seeds,
        "train_steps": TRAIN_STEPS,
        "batch_size": BATCH_SIZE,
        "adversarial_training": {**ADVERSARIAL_TRAINING, "batch_size": ADVERSARIAL_BATCH_SIZE},
        "num_test": NUM_TEST,
        "pgd_steps": PGD_STEPS,
        "strong": STRONG,
        "fraction_edges": BINS.tolist(),
        **spreads_of(runs),
        "runs": runs,
    }
    write_result("robustness_changes", content)


if __name__ == "__main__":
    main()
