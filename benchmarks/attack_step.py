"""What the adversarial outer loss costs: meta-steps with attacks of several lengths.

    python benchmarks/attack_step.py [--repeats 9]      writes results/attack_step.json

For each member, a PGD step is one forward and one backward pass of the outer batch. Measured ratios
to the clean meta-step stand beside ratios of counted floating-point operations. The meta-steps take
turns, and each ratio is taken within a turn. The images are random bytes in MNIST's shapes; nothing
is downloaded.
"""

from collections.abc import Callable
from dataclasses import replace

from performance import DAMAGED, summary, take_turns  # registers mnist_shaped
from provenance import command_line, parser_of, write_result
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from datarater.method import (
    InnerTask,
    Params,
    differentiate_with,
    make_engine,
    model_loss,
    take_meta_step,
)
from datarater.runs import DataRaterConfig, set_up
from datarater.support import pytorch_threads

ATTACK_STEPS = (1, 5, 10)


def meta_step(attack_steps: int) -> tuple[Callable[[], object], int]:
    "A meta-step with that many attack steps (0: a clean one), and its floating-point operations."
    settings = (
        {"attack": True, "attack_steps": attack_steps, "attack_step_size": 8 / 255}
        if attack_steps
        else {}
    )
    config = DataRaterConfig(
        recipe="mnist", dataset_name="mnist_shaped", corruption=DAMAGED, device="cpu", **settings
    )
    data, learner = set_up(config)
    loss_fn = model_loss(data.inner_model, data.loss_type)

    def countable_loss(params: Params, x: Tensor, y: Tensor) -> Tensor:
        return loss_fn(params, 1 * x, y)  # the counter wants no leaf as a module's input

    task = data.adversary.arm(InnerTask(countable_loss, learner.population.optimizer))
    engine = make_engine("reverse", data.execution)
    differentiate = differentiate_with(learner.rater, task, config.softmax_temperature, engine)
    with pytorch_threads(1), FlopCounterMode(display=False) as counter:  # it sees one thread
        take_meta_step(replace(learner, differentiate=differentiate), *data.next_batches())

    def step() -> None:
        take_meta_step(learner, *data.next_batches())

    return step, counter.get_total_flops()


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats

    steps, flops = zip(
        *(meta_step(attack_steps) for attack_steps in (0, *ATTACK_STEPS)), strict=True
    )
    times = take_turns(dict(enumerate(steps)), repeats, "cpu")
    over_clean = {
        str(attack_steps): {
            "measured": summary([turn[i] / turn[0] for turn in times]),
            "counted": round(flops[i] / flops[0], 3),
        }
        for i, attack_steps in enumerate(ATTACK_STEPS, start=1)
    }
    for attack_steps, ratios in over_clean.items():
        print(f"{attack_steps} attack steps / clean: {ratios}")
    content = {
        "command": command_line(),
        "recipe": "mnist",
        "repeats": repeats,
        "clean_seconds": summary([turn[0] for turn in times]),
        "over_clean": over_clean,
    }
    write_result("attack_step", content)


if __name__ == "__main__":
    main()
