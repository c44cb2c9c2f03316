"""A reference for adversarial robustness: two ToyCNNs on MNIST under PGD and AutoAttack.

    python benchmarks/reference.py [--seeds 0 1 2] [--data_dir FOLDER]

writes results/reference.json. One model is trained plainly, the other adversarially.
"""

from collections.abc import Callable
from typing import Any

import torch
from provenance import command_line, parser_of, write_result
from runs import side_by_side, spread, whole
from torch import Tensor, nn

from datarater import get_dataset_loaders
from datarater.data import BatchStream, seeded_generator
from datarater.evaluation import AttackPlan, check_evaluation, measure_robustness
from datarater.method import attacked_in_training, model_loss
from datarater.models import construct_model
from datarater.runs import DataRaterConfig

EPS, BATCH_SIZE, NUM_SAMPLES = 0.3, 64, 250
TRAINING = {
    "plain": {"num_steps": 1_000, "lr": 1e-3, "attack_steps": 0, "step_size": 0.0, "ramp": 1},
    "adversarial": {
        "num_steps": 2_600,
        "lr": 3e-3,
        "attack_steps": 10,
        "step_size": 0.05,
        "ramp": 500,
    },
}
PLANS = {
    "pgd40": AttackPlan(attack="pgd", eps=EPS, num_steps=40),
    "pgd40_large_steps": AttackPlan(eps=EPS, num_steps=40, step_size=EPS, num_restarts=10),
    "autoattack": AttackPlan(attack="autoattack", eps=EPS, num_steps=100),
}


def train_against_attack(
    next_batch: Callable[[], tuple[Tensor, Tensor]],
    seed: int,
    eps: float,  # largest change of a pixel in [0, 1]
    num_steps: int,
    lr: float,  # the peak of a one-cycle schedule
    attack_steps: int,  # PGD steps against each batch; 0: none, plain training
    step_size: float,  # of PGD; no effect without an attack
    ramp: int,  # training steps over which radius and step size grow to their full size
) -> nn.Module:
    "A ToyCNN trained by Adam on batches that PGD has attacked first (Madry et al. 2018)."
    model = construct_model("ToyCNN", seed=seed)
    size = {"eps": eps, "step_size": step_size or 1.0, "num_steps": attack_steps or 1}
    harden = attacked_in_training(model, seeded_generator(seed, "attack"), **size)
    loss_fn = model_loss(model, "cross_entropy")
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=num_steps)
    for step in range(1, num_steps + 1):
        x, y = next_batch()
        if attack_steps:
            x = harden(x, y, step / (3 * ramp))  # of full size from a third on
        loss = loss_fn(dict(model.named_parameters()), x, y).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def measure(job: tuple[str, int, str | None]) -> dict[str, Any]:
    "Train one model and attack it."
    name, seed, data_dir = job
    torch.set_num_threads(1)
    config = DataRaterConfig(
        dataset_name="mnist",
        train_split_ratio=0.95,
        corruption={"corruption_probability": 0.0},
        batch_size=BATCH_SIZE,
        seed=seed,
        device="cpu",
        data_dir=data_dir,
    )
    train_loader, _, test_loader = get_dataset_loaders(config)
    stream = BatchStream(train_loader, device="cpu")
    model = train_against_attack(stream.one, seed, EPS, **TRAINING[name])
    x, y = whole(test_loader)
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:NUM_SAMPLES]
    x, y = x[chosen], y[chosen]
    found = {attack: measure_robustness(model, x, y, plan) for attack, plan in PLANS.items()}
    checks = check_evaluation(model, x, y, found["pgd40"])
    result = {
        "model": name,
        "seed": seed,
        "clean": found["pgd40"].clean_accuracy,
        **{attack: result.robust_accuracy for attack, result in found.items()},
    }
    print(result, [check.name for check in checks if not check.passed], flush=True)
    return {**result, "checks": {check.name: check.passed for check in checks}}


def main() -> None:
    parser = parser_of(__doc__)
    arguments = parser.parse_args()

    jobs = [
        (name, seed, arguments.data_dir)
        for seed in arguments.seeds
        for name in ("adversarial", "plain")
    ]
    runs = side_by_side(measure, jobs, arguments.jobs)
    models = {}
    for name in TRAINING:
        own = [run for run in runs if run["model"] == name]
        models[name] = {
            column: spread([run[column] for run in own]) for column in ("clean", *PLANS)
        }
    content = {
        "command": command_line(),
        "eps": EPS,
        "num_samples": NUM_SAMPLES,
        "batch_size": BATCH_SIZE,
        "training": TRAINING,
        "attacks": {
            name: {
                "num_steps": plan.num_steps,
                "step_size": plan.size if plan.attack == "pgd" else None,
                "num_restarts": plan.num_restarts,
            }
            for name, plan in PLANS.items()
        },
        "seeds": arguments.seeds,
        "models": models,
        "runs": runs,
    }
    write_result("reference", content)


if __name__ == "__main__":
    main()
