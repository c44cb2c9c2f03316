"""What inner models of different ages say about damage: the meta-gradient of a sample's rating, by corruption fraction and age.

    python benchmarks/ages.py [--data_dir FOLDER]           writes results/ages.json
    python benchmarks/ages.py --attack_eps 0.15 [...]       writes results/ages_adversarial.json: the same with an adversarial outer loss

No rater is trained. With all weights equal, the derivative of the outer loss by a sample's weight (minus its batch's mean, sign reversed) says how its rating would move. It is
averaged over many samples of each corruption fraction and divided by its standard deviation among clean samples: signal over noise of a single sample.
"""

import argparse
from typing import Any

import numpy as np
import torch
from provenance import command_line, write_result
from runs import configuration

from datarater.data import seeded_generator, seeded_globally
from datarater.method import Batch, population_weight_gradient
from datarater.runs import DataRaterConfig, set_up

FRACTION_EDGES = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
AGE_EDGES = (0, 2, 5, 10, 20, 40, 70)  # in meta-steps of T = 2
INNER_LRS = (3e-4, 1e-3)
ATTACK_STEPS = 7


def settings_of(inner_lr: float, attack_eps: float | None, data_dir: str | None) -> dict[str, Any]:
    attack = (
        {}
        if attack_eps is None
        else {
            "attack": True,
            "attack_eps": attack_eps,
            "attack_steps": ATTACK_STEPS,
            "attack_step_size": 2.5 * attack_eps / ATTACK_STEPS,
        }
    )
    # half of the samples damaged, evenly: all bins are well filled
    corruption = {"corruption_probability": 0.5, "corruption_fraction_range": (0.0, 1.0)}
    return dict(
        recipe="mnist",
        device="cpu",
        inner_lr=inner_lr,
        num_inner_models=8,
        corruption=corruption,
        data_dir=data_dir,
        **attack,
    )


def signals(
    inner_lr: float, attack_eps: float | None, data_dir: str | None
) -> list[dict[str, Any]]:
    "A row for each band of ages."
    config = DataRaterConfig(**settings_of(inner_lr, attack_eps, data_dir))
    num_models, num_steps, batch_size = (
        config.num_inner_models,
        config.inner_steps,
        config.batch_size,
    )
    with seeded_globally(config.seed):
        parts = set_up(config)
        dataset, generator, seen = (
            parts.inner_stream.loader.dataset,
            seeded_generator(config.seed, "ages"),
            [],
        )
        weights = torch.full((num_models, num_steps, batch_size), 1 / batch_size)
        for _ in range(AGE_EDGES[-1]):
            truth = dataset.batch_with_truth(
                torch.randint(
                    len(dataset), (num_models * num_steps * batch_size,), generator=generator
                )
            )
            drawn: Batch = tuple(
                t.view(num_models, num_steps, batch_size, *t.shape[1:]) for t in truth[:2]
            )
            inner, outer = parts.adversary.add_starts(drawn, parts.outer_stream.next(num_models))
            step = population_weight_gradient(
                parts.loss_fn,
                parts.optimizer,
                parts.population.params,
                parts.population.state,
                weights,
                inner,
                outer,
                **parts.adversary.hooks(parts.loss_fn),
            )
            parts.population.params, parts.population.state = (
                step.inner_params,
                step.optimizer_state,
            )
            # (P, T, B): up is better
            push = (step.weight_gradient.mean(-1, keepdim=True) - step.weight_gradient).double()
            fractions = truth.fractions.view(push.shape)
            seen.append(
                (
                    push.flatten(1) / push[fractions == 0].std(),
                    fractions.flatten(1),
                    step.outer_loss.mean().item(),
                )
            )
    rows = []
    for first, end in zip(AGE_EDGES[:-1], AGE_EDGES[1:], strict=True):
        # (P, samples)
        push, fractions = (
            torch.cat([part[i] for part in seen[first:end]], dim=1).numpy() for i in (0, 1)
        )
        bins = np.where(
            fractions == 0, -1, np.digitize(fractions, FRACTION_EDGES[1:-1], right=True)
        )
        # (P, bins)
        of_member = np.array(
            [
                [
                    values[own == i].mean() - values[own == -1].mean()
                    for i in range(len(FRACTION_EDGES) - 1)
                ]
                for values, own in zip(push, bins, strict=True)
            ]
        )
        rows.append(
            {
                "first_age": first,
                "last_age": end - 1,
                "outer_loss": round(float(np.mean([part[2] for part in seen[first:end]])), 3),
                # samples of one member are not independent
                "signal": of_member.mean(0).round(4).tolist(),
                "standard_error": (of_member.std(0, ddof=1) / num_models**0.5).round(4).tolist(),
            }
        )
        print(inner_lr, rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attack_eps", type=float, default=None)
    parser.add_argument("--data_dir", default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = {
        str(inner_lr): signals(inner_lr, arguments.attack_eps, arguments.data_dir)
        for inner_lr in INNER_LRS
    }
    content = {
        "command": command_line(),
        "configuration": configuration(
            **settings_of(INNER_LRS[0], arguments.attack_eps, arguments.data_dir)
        ),
        "fraction_edges": FRACTION_EDGES,
        "by_inner_lr": rows,
    }
    print(
        "written: "
        f"{write_result('ages' if arguments.attack_eps is None else 'ages_adversarial', DataRaterConfig(recipe='mnist').device, content).name}"
    )


if __name__ == "__main__":
    main()
