"""What inner models of different ages say about damage.

    python benchmarks/ages.py [--data_dir FOLDER]       writes results/ages.json

No rater is trained. With all
weights equal, the derivative of the outer loss with respect to a sample's weight (minus its batch's
mean, sign reversed) says how the sample's rating would move. It is averaged over many samples of
each corruption fraction and divided by its standard deviation among clean samples: signal over
noise for a single sample.
"""

import math
from typing import Any

import numpy as np
import torch
from provenance import command_line, parser_of, write_result
from runs import configuration

from datarater.data import seeded_generator, seeded_globally
from datarater.method import InnerTask, Member, exact_kernels, make_engine, model_loss
from datarater.runs import DataRaterConfig, set_up

FRACTION_EDGES = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
NUM_BINS = len(FRACTION_EDGES) - 1
AGE_EDGES = (0, 2, 5, 10, 20, 40, 70)  # in meta-steps of T = 2
INNER_LRS = (3e-4, 1e-3)


def settings_of(inner_lr: float, data_dir: str | None) -> dict[str, Any]:
    "Of the run whose inner models grow older."
    # half of the samples damaged, evenly: all bins are well filled
    corruption = {"corruption_probability": 0.5, "corruption_fraction_range": (0.0, 1.0)}
    return dict(
        recipe="mnist",
        device="cpu",
        inner_lr=inner_lr,
        num_inner_models=8,
        corruption=corruption,
        data_dir=data_dir,
    )


def rows_of(inner_lr: float, data_dir: str | None) -> list[dict[str, Any]]:
    "A row for each band of ages."
    config = DataRaterConfig(**settings_of(inner_lr, data_dir))
    shape = (config.num_inner_models, config.inner_steps, config.batch_size)  # (P, T, B)
    with seeded_globally(config.seed):
        data, learner = set_up(config)
        population = learner.population
        loss_fn = model_loss(data.inner_model, data.loss_type)
        task = data.adversary.arm(InnerTask(loss_fn, population.optimizer))
        differentiate = exact_kernels()(make_engine().weight_gradient)
        dataset = data.inner_stream.loader.dataset
        generator = seeded_generator(config.seed, "ages")
        seen = []
        weights = torch.full(shape, 1 / config.batch_size)
        for _ in range(AGE_EDGES[-1]):
            indices = torch.randint(len(dataset), (math.prod(shape),), generator=generator)
            truth = dataset.batch_with_truth(indices)
            inner = tuple(tensor.unflatten(0, shape) for tensor in truth[:2])
            outer = data.outer_stream.next(config.num_inner_models)
            seeds = data.adversary.draw_seeds(config.num_inner_models)
            batches = data.adversary.add_starts(inner, outer, seeds)
            members = Member(population.params, population.state, *batches)
            step = differentiate(task, members, weights)
            population.grow_older(step)
            # (P, T, B): up is better
            push = (step.weight_gradient.mean(-1, keepdim=True) - step.weight_gradient).double()
            fractions = truth.fractions.view(push.shape)
            signal = push.flatten(1) / push[fractions == 0].std()
            seen.append((signal, fractions.flatten(1), step.outer_loss.mean().item()))
    rows = []
    for first, end in zip(AGE_EDGES[:-1], AGE_EDGES[1:], strict=True):
        signals, fractions, losses = zip(*seen[first:end], strict=True)
        push = torch.cat(signals, dim=1).numpy()  # (P, samples)
        fractions = torch.cat(fractions, dim=1).numpy()
        bins = np.digitize(fractions, FRACTION_EDGES[1:-1], right=True)
        bins = np.where(fractions == 0, -1, bins)
        of_member = np.array(  # (P, bins); samples of one member are not independent
            [
                [values[own == i].mean() - values[own == -1].mean() for i in range(NUM_BINS)]
                for values, own in zip(push, bins, strict=True)
            ]
        )
        standard_error = of_member.std(0, ddof=1) / len(of_member) ** 0.5
        rows.append(
            {
                "first_age": first,
                "last_age": end - 1,
                "outer_loss": round(float(np.mean(losses)), 3),
                "signal": of_member.mean(0).round(4).tolist(),
                "standard_error": standard_error.round(4).tolist(),
            }
        )
        print(inner_lr, rows[-1], flush=True)
    return rows


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("--data_dir", default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = {str(inner_lr): rows_of(inner_lr, arguments.data_dir) for inner_lr in INNER_LRS}
    content = {
        "command": command_line(),
        "configuration": configuration(**settings_of(INNER_LRS[0], arguments.data_dir)),
        "fraction_edges": FRACTION_EDGES,
        "by_inner_lr": rows,
    }
    write_result("ages", content)


if __name__ == "__main__":
    main()
