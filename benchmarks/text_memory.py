"""Time and memory of the meta-gradient of a small transformer, over the unroll T.

    python benchmarks/text_memory.py [--device cpu] [--repeats 3]

writes results/text_memory.json. One ToyTransformer, 32 random documents of 128 tokens in a batch,
SGD. The ways take turns in one process, and each ratio is taken within a turn; memory is
measured in a process of its own for each case.
"""

from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from peers import RULES, Problem
from performance import MEMORY_WAYS, MICRO_BATCH_SIZE, over, peak_of, summary, take_turns, unrolled
from provenance import command_line, parser_of, write_result

from datarater.method import stack_trees
from datarater.models import construct_model

STEPS = 1, 2, 4, 8
BATCH_SIZE, LENGTH = 32, 128


def problem_of(num_steps: int, device: str, batch_size: int = BATCH_SIZE) -> Problem:
    "One transformer and random documents."
    sizes = {"vocab_size": 257, "length": LENGTH}
    model = construct_model("ToyTransformer", seed=0, sizes=sizes).to(device)
    params = {name: value.detach()[None] for name, value in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (1, num_steps + 1, batch_size, LENGTH), generator=generator).to(device)
    return Problem(
        inner_model="ToyTransformer",
        optimizer="sgd",
        models=[model],
        rater=construct_model("TextDataRater", seed=0, sizes=sizes).to(device),
        params=params,
        state=stack_trees([RULES["sgd"].init({name: own[0] for name, own in params.items()})]),
        inner=(x[:, :-1], x[:, :-1]),
        outer=(x[:, -1], x[:, -1]),
        loss_type="next_token",
    )


def peak(device: str, case: tuple[int, str]) -> int:
    "Bytes that one meta-gradient needs, in this process."
    torch.set_num_threads(1)
    num_steps, way = case
    estimator, size = MEMORY_WAYS[way]
    unrolled(problem_of(2, device, batch_size=1), estimator, "loop", record=False)()  # loads all
    problem = problem_of(num_steps, device)
    way = unrolled(problem, estimator, "loop", record=False, micro_batch_size=size)
    return peak_of(way, device)


def seconds(num_steps: int, device: str, repeats: int) -> dict[str, Any]:
    "Medians and ratios of the ways."
    problem = problem_of(num_steps, device)
    ways = {
        name: unrolled(problem, estimator, "loop", record=False, micro_batch_size=size)
        for name, (estimator, size) in MEMORY_WAYS.items()
    }
    turns = take_turns(ways, repeats, device)
    return {
        "seconds": {name: summary([turn[name] for turn in turns]) for name in ways},
        "time_over_reverse": {name: over(turns, name, "reverse") for name in ways},
    }


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    cases = [(num_steps, way) for num_steps in STEPS for way in MEMORY_WAYS]
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = dict(zip(cases, pool.map(partial(peak, arguments.device), cases, chunksize=1)))
    rows = []
    for num_steps in STEPS:
        bytes_of = {name: peaks[num_steps, name] for name in MEMORY_WAYS}
        row = {"T": num_steps, "peak_bytes": bytes_of}
        rows.append({**row, **seconds(num_steps, arguments.device, arguments.repeats)})
        print(rows[-1], flush=True)
    content = {
        "command": command_line(),
        "seeds": [0],
        "configuration": {
            "B": BATCH_SIZE,
            "L": LENGTH,
            "micro_batch_size": MICRO_BATCH_SIZE,
            "optimizer": "sgd",
            "execution": "loop",
        },
        "repeats": arguments.repeats,
        "rows": rows,
    }
    write_result("text_memory", content, arguments.device)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
