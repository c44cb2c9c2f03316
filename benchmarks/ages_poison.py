"""When do inner models see poison? The push of the meta-gradient by age, T and outer loss.

    python benchmarks/ages_poison.py [--data_dir FOLDER]       writes results/ages_poison.json

The pool is that of `robustness.py poison`: clean images, pixel noise and images attacked once. No
rater is trained. With all weights equal, the derivative of the outer loss with respect to a
sample's weight (minus its batch's mean, sign reversed) says how the sample's rating would move.
It is averaged over the samples of a kind, less that of clean ones, and divided by its standard
deviation among clean samples: signal over noise for a single sample.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from provenance import command_line, parser_of, write_result
from robustness import AGAINST, OLD, POISON
from runs import configuration
from torch import Tensor

from datarater.data import seeded_generator, seeded_globally
from datarater.method import InnerTask, Member, exact_kernels, make_engine, model_loss
from datarater.runs import DataRaterConfig, set_up

KINDS = ("pixel_noise", "poison:by_cnn")
OUTER = {"clean": {}, "adversarial": {**AGAINST, "attack_eps": 0.1, "attack_step_size": 0.05}}
UNROLLS = (2, 10)
AGE_EDGES = (0, 20, 60, 120, 200, 300)  # in inner steps
NUM_MODELS = 8


def settings_of(unroll: int, outer: str, data_dir: str | None) -> dict[str, Any]:
    "Of the run whose inner models grow older."
    corruption = {**POISON, "kinds": KINDS, "seed": 0}
    return {
        **OLD,
        **OUTER[outer],
        "inner_steps": unroll,
        "num_inner_models": NUM_MODELS,
        "corruption": corruption,
        "train_split_ratio": 1 - 1_000 / 60_000,
        "device": "cpu",
        "data_dir": data_dir,
    }


class Pushes(NamedTuple):
    "What one meta-gradient would do to the ratings of its samples, member by member."

    age: int  # of the inner models, in inner steps
    push: Tensor  # (P, T·B): up is better
    codes: Tensor  # (P, T·B) int64: what is wrong with a sample, 0 for nothing
    indices: Tensor  # (P, T·B) int64: the samples, among those of the pool


def pushes(config: DataRaterConfig, last_age: int) -> Iterator[Pushes]:
    "Of every meta-step, all weights being equal, while the inner models grow older."
    shape = (config.num_inner_models, config.inner_steps, config.batch_size)  # (P, T, B)
    with seeded_globally(config.seed):
        data, learner = set_up(config)
        population = learner.population
        task = InnerTask(model_loss(data.inner_model, data.loss_type), population.optimizer)
        task = data.adversary.arm(task)
        differentiate = exact_kernels()(make_engine().weight_gradient)
        dataset = data.inner_stream.loader.dataset
        generator = seeded_generator(config.seed, "ages")
        weights = torch.full(shape, 1 / config.batch_size)
        for number in range(last_age // config.inner_steps):
            indices = torch.randint(len(dataset), (math.prod(shape),), generator=generator)
            x, y, codes, _ = dataset.batch_with_truth(indices)
            inner = x.unflatten(0, shape), y.unflatten(0, shape)
            outer_batch = data.outer_stream.next(config.num_inner_models)
            seeds = data.adversary.draw_seeds(config.num_inner_models)
            batches = data.adversary.add_starts(inner, outer_batch, seeds)
            step = differentiate(
                task, Member(population.params, population.state, *batches), weights
            )
            population.grow_older(step)
            push = step.weight_gradient.mean(-1, keepdim=True) - step.weight_gradient
            by_member = (part.view(shape).flatten(1) for part in (push.double(), codes, indices))
            yield Pushes(number * config.inner_steps, *by_member)


def of_kinds(step: Pushes) -> list[list[float]]:  # (P, kinds)
    "The mean push of each kind less that of clean samples, over the deviation among these."
    noise = step.push[step.codes == 0].std()
    codes = range(1, len(KINDS) + 1)
    return [
        [float((own[of == code].mean() - own[of == 0].mean()) / noise) for code in codes]
        for own, of in zip(step.push, step.codes, strict=True)
    ]


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("--data_dir", default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for unroll in UNROLLS:
        for outer in OUTER:
            config = DataRaterConfig(**settings_of(unroll, outer, arguments.data_dir))
            steps = [(step.age, of_kinds(step)) for step in pushes(config, AGE_EDGES[-1])]
            for first, end in zip(AGE_EDGES[:-1], AGE_EDGES[1:], strict=True):
                own = [push for age, push in steps if first <= age < end]
                members = np.mean(own, axis=0)  # (P, kinds); members are independent
                error = members.std(0, ddof=1) / len(members) ** 0.5
                for i, kind in enumerate(KINDS):
                    row = {"T": unroll, "outer_loss": outer, "first_age": first, "last_age": end}
                    row |= {"kind": kind, "signal": round(float(members[:, i].mean()), 4)}
                    rows.append({**row, "standard_error": round(float(error[i]), 4)})
                    print(rows[-1], flush=True)
    content = {
        "command": command_line(),
        "seed": 0,
        "configuration": configuration(**settings_of(10, "adversarial", arguments.data_dir)),
        "num_models": NUM_MODELS,
        "rows": rows,
    }
    write_result("ages_poison", content)


if __name__ == "__main__":
    main()
