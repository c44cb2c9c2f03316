"""Does an adversarial outer loss choose data that make models more robust?

    python benchmarks/robustness.py [--seeds 0 1 2 3 4] [--data_dir FOLDER]

writes results/robustness.json. Half of MNIST's training images are damaged, for good (`fixed`).
Each way of choosing keeps half of the images, except the first, which keeps everything. The same
model is trained on what is kept, from the same initialisation and for the same number of steps.
PGD attacks it: at three radii after plain training, and at 0.3 after adversarial training (of
some choices).

The choices are everything; a random half; the clean half (an oracle); the half nearest to a mild
damage of 0.25 and the most damaged half (oracles of another kind); the best-rated half of each
rater; and as many images drawn with replacement, in proportion to the softmax of an adversarial
rater's ratings.
"""

import tempfile
from typing import Any

import numpy as np
import torch
from provenance import command_line, parser_of, write_result
from runs import batches, configuration, rounded, side_by_side, spread, train_against_attack, whole
from torch import Tensor, nn

from datarater.evaluation import AttackPlan, check_evaluation, measure_robustness
from datarater.method import rate_many
from datarater.models import construct_model, fit_classifier, logits_of
from datarater.runs import (
    DataRaterConfig,
    EvaluationSet,
    dataset_of,
    get_dataset_loaders,
    make_evaluation_set,
    run_meta_training,
)

TRAIN_STEPS, BATCH_SIZE, NUM_TEST, PGD_STEPS, MILD = 375, 128, 1_000, 20, 0.25
RADII = (0.05, 0.1, 0.15)
ADVERSARIAL_TRAINING = {
    "eps": 0.3,
    "num_steps": 600,
    "lr": 3e-3,
    "attack_steps": 5,
    "step_size": 0.1,
    "ramp": 200,
}
ADVERSARIAL_BATCH_SIZE = 64
# inner models of up to 100 training steps, with the learning rate of those trained downstream
OLDER = {"inner_lr": 1e-3, "meta_refresh_steps": 50}
ATTACK = {"attack": True, "attack_eps": 0.15, "attack_steps": 5, "attack_step_size": 0.06}
RATERS: dict[str, dict[str, Any]] = {  # name -> settings beside the recipe's
    "clean outer": {},
    "clean outer, older inner models": OLDER,
    "adversarial outer": {**OLDER, **ATTACK},
}
ALSO_ADVERSARIAL = (
    "everything",
    "random half",
    "oracle, clean",
    "clean outer",
    "adversarial outer",
)
BINS = np.linspace(0.1, 0.9, 9)  # of the corrupted fraction, for the ratings' profile


def settings_of(rater: dict[str, Any], meta_steps: int, **settings: Any) -> dict[str, Any]:
    "Of a rater's run."
    corruption = {"corruption_probability": 0.5, "fixed": True}
    return dict(
        recipe="mnist",
        device="cpu",
        log=False,
        corruption=corruption,
        meta_steps=meta_steps,
        eval_frequency=50,
        **rater,
        **settings,
    )


def profile_of(ratings: Tensor, fractions: Tensor) -> list[float]:
    "Mean rating by fraction (first: clean, then by `BINS`), less its mean over all."
    bins = np.where(fractions == 0, 0, np.digitize(fractions, BINS[1:-1]) + 1)
    return [round((ratings[bins == i].mean() - ratings.mean()).item(), 4) for i in range(len(BINS))]


def data_of(
    seed: int, data_dir: str | None, meta_steps: int
) -> tuple[Tensor, Tensor, Tensor, EvaluationSet]:
    "Training images with their damage, labels and fractions of damage, and test images."
    config = DataRaterConfig(**settings_of({}, meta_steps, seed=seed, data_dir=data_dir))
    dataset = dataset_of(config)
    train_loader, _, test_loader = get_dataset_loaders(config)
    fractions = torch.as_tensor(train_loader.dataset.ground_truth().fractions, dtype=torch.float32)
    return *whole(train_loader), fractions, make_evaluation_set(dataset, test_loader, config)


def quality(
    model: nn.Module,
    test: tuple[Tensor, Tensor],
    corrupted: tuple[Tensor, Tensor],
    radii: tuple[float, ...],
) -> dict[str, float]:
    "Accuracy on clean and on corrupted test images, and robust accuracy at each radius."
    found = {}
    for name, (x, y) in (("clean", test), ("corrupted", corrupted)):
        found[name] = (logits_of(model, x).argmax(-1) == y).double().mean().item()
    x, y = (tensor[:NUM_TEST] for tensor in test)
    for eps in radii:
        plan = AttackPlan(eps=eps, num_steps=PGD_STEPS)
        found[f"eps {eps}"] = measure_robustness(model, x, y, plan).robust_accuracy
    return found


def rated_by(settings: dict[str, Any], x: Tensor, y: Tensor) -> Tensor:
    "Ratings by a rater that is trained first."
    with tempfile.TemporaryDirectory() as folder:
        config = DataRaterConfig(**settings, output_dir=folder)
        rater = run_meta_training(config, progress=False).rater
    with torch.no_grad():
        return rate_many(rater, x, y)


def drawn_by_weight(ratings: Tensor, num: int, seed: int) -> Tensor:
    "Indices drawn with replacement, in proportion to the softmax of the ratings."
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(ratings.softmax(0), num, replacement=True, generator=generator)


def trained_plainly(x: Tensor, y: Tensor, seed: int) -> nn.Module:
    "A ToyCNN after plain training."
    model = construct_model("ToyCNN", seed=seed)
    fit_classifier(model, batches(x, y, seed, BATCH_SIZE), TRAIN_STEPS)
    return model


def trained_adversarially(x: Tensor, y: Tensor, seed: int) -> nn.Module:
    "A ToyCNN after adversarial training."
    next_batch = batches(x, y, seed, ADVERSARIAL_BATCH_SIZE)
    return train_against_attack(next_batch, seed, **ADVERSARIAL_TRAINING)


def spreads_of(runs: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    "What the runs found after either training, summed up over seeds."
    return {
        training: {
            name: {
                column: spread([run[training][name][column] for run in runs]) for column in columns
            }
            for name, columns in runs[0][training].items()
        }
        for training in ("plain", "adversarial")
    }


def choose(
    x: Tensor, y: Tensor, fractions: Tensor, seed: int, meta_steps: int, **settings: Any
) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
    "Indices kept by each way of choosing, and each rater's profile."
    half = len(x) // 2
    kept = {
        "everything": torch.arange(len(x)),
        "random half": torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:half],
        "oracle, clean": fractions.argsort(stable=True)[:half],
        "oracle, mild": (fractions - MILD).abs().argsort(stable=True)[:half],
        "most damaged": fractions.argsort(stable=True, descending=True)[:half],
    }
    profiles = {}
    for rater, changes in RATERS.items():
        ratings = rated_by(settings_of(changes, meta_steps, seed=seed, **settings), x, y)
        kept[rater] = ratings.argsort(descending=True)[:half]
        if rater == "adversarial outer":
            kept[f"{rater}, drawn"] = drawn_by_weight(ratings, half, seed)
        profiles[rater] = profile_of(ratings, fractions)
        print(seed, rater, profiles[rater], flush=True)
    return kept, profiles


def compare(job: tuple[int, str | None, int]) -> dict[str, Any]:
    "Everything for one seed."
    seed, data_dir, meta_steps = job
    torch.set_num_threads(1)
    x, y, fractions, evaluation = data_of(seed, data_dir, meta_steps)
    kept, profiles = choose(x, y, fractions, seed, meta_steps, data_dir=data_dir)
    plain, adversarial = {}, {}
    for name, chosen in kept.items():
        model = trained_plainly(x[chosen], y[chosen], seed)
        plain[name] = quality(model, evaluation.clean, evaluation.corrupted, RADII)
        if name == "everything":
            part = tuple(tensor[:NUM_TEST] for tensor in evaluation.clean)
            plan = AttackPlan(eps=RADII[-1], num_steps=PGD_STEPS)
            checks = check_evaluation(model, *part, measure_robustness(model, *part, plan))
        print(seed, name, rounded(plain[name]), flush=True)
        if name in ALSO_ADVERSARIAL:
            model = trained_adversarially(x[chosen], y[chosen], seed)
            radii = (ADVERSARIAL_TRAINING["eps"],)
            adversarial[name] = quality(model, evaluation.clean, evaluation.corrupted, radii)
            print(seed, name, "adversarial training", rounded(adversarial[name]), flush=True)
    return {
        "seed": seed,
        "plain": plain,
        "adversarial": adversarial,
        "profiles": profiles,
        "checks": {check.name: check.passed for check in checks},
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
        "raters": RATERS,
        "seeds": arguments.seeds,
        "train_steps": TRAIN_STEPS,
        "batch_size": BATCH_SIZE,
        "adversarial_training": {**ADVERSARIAL_TRAINING, "batch_size": ADVERSARIAL_BATCH_SIZE},
        "num_test": NUM_TEST,
        "pgd_steps": PGD_STEPS,
        "mild_fraction": MILD,
        "fraction_edges": BINS.tolist(),
        **spreads_of(runs),
        "runs": runs,
    }
    write_result("robustness", content)


if __name__ == "__main__":
    main()
