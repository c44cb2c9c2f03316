"""Does an adversarial outer loss choose data that make models more robust? Models trained on what raters keep, and on controls, for several seeds.

    python benchmarks/robustness.py [--seeds 0 1 2 3 4] [--data_dir FOLDER]      writes results/robustness.json

Half of MNIST's training images are damaged, for good (`fixed`). Each way of choosing keeps half of them. The same model is trained on what is kept, from the same initialisation and for
the same number of steps, and attacked by PGD. Choices compared: everything, a random half, the clean half (oracle), the half nearest to a mild damage of 0.25, clean and damaged alike
(an oracle of another kind), and the best-rated half of each rater.
"""
import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from provenance import command_line, write_result
from runs import batches, configuration, logits_of, spread, whole
from torch import Tensor, nn

from datarater.adversarial import AttackPlan, check_evaluation, measure_robustness
from datarater.config import DataRaterConfig
from datarater.datasets import construct_dataset, make_loaders
from datarater.inner_loop import rate_many
from datarater.meta_training import make_evaluation_set, run_meta_training
from datarater.models import construct_model
from datarater.reference import fit_classifier

TRAIN_STEPS, BATCH_SIZE, NUM_TEST, PGD_STEPS, MILD = 375, 128, 1_000, 20, 0.25
RADII = (0.05, 0.1, 0.15)
ATTACK = {"attack": True, "attack_eps": 0.15, "attack_steps": 7, "attack_step_size": 0.05}
RATERS: dict[str, dict[str, Any]] = {  # name -> settings beside the recipe's
    "clean outer": {},
    "adversarial outer": ATTACK,
    "adversarial outer, mature inner models": {**ATTACK, "inner_lr": 1e-3, "meta_refresh_steps": 60},
    "adversarial outer, half clean": {**ATTACK, "adversarial_frac": 0.5},
    "adversarial outer and inner": {**ATTACK, "inner_attack": "fgsm"},
}
BINS = np.linspace(0.1, 0.9, 9)  # of the corrupted fraction, for the ratings' profile


def settings_of(rater: str, meta_steps: int, **settings: Any) -> dict[str, Any]:
    corruption = {"corruption_probability": 0.5, "fixed": True}
    return dict(recipe="mnist", device="cpu", log=False, corruption=corruption, meta_steps=meta_steps, eval_frequency=50, **RATERS[rater], **settings)


def quality(model: nn.Module, test: tuple[Tensor, Tensor], corrupted: tuple[Tensor, Tensor]) -> dict[str, float]:
    "Accuracy on clean and on corrupted test images, and robust accuracy at each radius."
    found = {name: (logits_of(model, x).argmax(-1) == y).double().mean().item() for name, (x, y) in (("clean", test), ("corrupted", corrupted))}
    x, y = test[0][:NUM_TEST], test[1][:NUM_TEST]
    return {**found, **{f"eps {eps}": measure_robustness(model, x, y, AttackPlan(eps=eps, num_steps=PGD_STEPS)).robust_accuracy for eps in RADII}}


def choose(x: Tensor, y: Tensor, fractions: Tensor, seed: int, meta_steps: int, raters: list[str], **settings: Any) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
    "Indices kept by each way of choosing, and each rater's mean rating by fraction (first: clean, then by `BINS`), less its mean over all."
    half = len(x) // 2
    kept = {
        "everything": torch.arange(len(x)), "random half": torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:half],
        "oracle, clean": fractions.argsort(stable=True)[:half], "oracle, mild": (fractions - MILD).abs().argsort(stable=True)[:half],
    }
    profiles = {}
    for rater in raters:
        with tempfile.TemporaryDirectory() as folder:
            trained = run_meta_training(DataRaterConfig(**settings_of(rater, meta_steps, seed=seed, **settings), output_dir=folder), progress=False).rater
        with torch.no_grad():
            ratings = rate_many(trained, x, y)
        kept[rater] = ratings.argsort(descending=True)[:half]
        bins = np.where(fractions == 0, 0, np.digitize(fractions, BINS[1:-1]) + 1)
        profiles[rater] = [round((ratings[bins == i].mean() - ratings.mean()).item(), 4) for i in range(len(BINS))]
        print(seed, rater, profiles[rater], flush=True)
    return kept, profiles


def compare(job: tuple[int, str | None, int, list[str]]) -> dict[str, Any]:
    "Everything for one seed."
    seed, data_dir, meta_steps, raters = job
    torch.set_num_threads(1)
    config = DataRaterConfig(**settings_of("clean outer", meta_steps, seed=seed, data_dir=data_dir))
    dataset = construct_dataset(config)
    train_loader, _, test_loader = make_loaders(dataset, config)
    evaluation = make_evaluation_set(dataset, test_loader, config)
    x, y = whole(train_loader)
    fractions = torch.as_tensor(train_loader.dataset.ground_truth().fractions, dtype=torch.float32)
    kept, profiles = choose(x, y, fractions, seed, meta_steps, raters, data_dir=data_dir)
    plain = {}
    for name, chosen in kept.items():
        model = construct_model("ToyCNN", seed=seed)
        fit_classifier(model, batches(x[chosen], y[chosen], seed, BATCH_SIZE), TRAIN_STEPS)
        plain[name] = quality(model, evaluation.clean, evaluation.corrupted)
        if name == "everything":
            part = tuple(tensor[:NUM_TEST] for tensor in evaluation.clean)
            checks = check_evaluation(model, *part, measure_robustness(model, *part, AttackPlan(eps=RADII[-1], num_steps=PGD_STEPS)))
        print(seed, name, {key: round(value, 3) for key, value in plain[name].items()}, flush=True)
    return {"seed": seed, "plain": plain, "profiles": profiles, "checks": {check.name: check.passed for check in checks}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--meta_steps", type=int, default=100)
    parser.add_argument("--raters", nargs="+", default=list(RATERS), choices=list(RATERS))
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time, a thread each")
    arguments = parser.parse_args()

    jobs = [(seed, arguments.data_dir, arguments.meta_steps, arguments.raters) for seed in arguments.seeds]
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        runs = list(pool.map(compare, jobs))
    names, columns = list(runs[0]["plain"]), list(runs[0]["plain"]["everything"])
    content = {
        "command": command_line(), "configuration": configuration(**settings_of("clean outer", arguments.meta_steps)), "raters": {name: RATERS[name] for name in arguments.raters},
        "seeds": arguments.seeds, "train_steps": TRAIN_STEPS, "batch_size": BATCH_SIZE, "num_test": NUM_TEST, "pgd_steps": PGD_STEPS, "mild_fraction": MILD, "fraction_edges": BINS.tolist(),
        "plain": {name: {column: spread([run["plain"][name][column] for run in runs]) for column in columns} for name in names}, "runs": runs,
    }
    print(f"written: {write_result('robustness', 'cpu', content).name}")


if __name__ == "__main__":
    main()
