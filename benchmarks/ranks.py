"""What processes that share a population gain, and what a meta-step moves between them.

    python benchmarks/ranks.py [--rounds 5]     writes results/ranks.json

torchrun starts a program that takes meta-steps of the recipe `mnist`, on random images of its size,
with one or two processes of one or two threads each. The ways take turns, and each ratio is taken
within a turn: strong and weak scaling on one machine. Bytes are counted by replacing the exchanges
of torch.distributed with functions that note how much they were given.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from performance import DAMAGED, MNISTShaped, summary  # noqa: F401  (the dataset registers itself)
from provenance import command_line, parser_of, write_result
from runs import begin, take_step

from datarater.runs import DataRaterConfig, evaluate_run, joined_ranks

WARM_UP, STEPS = 2, 6


@dataclass(frozen=True)
class Way:
    "How a population is shared out."

    num_ranks: int
    num_threads: int  # of each
    num_inner_models: int  # of all


WAYS = {
    "one process, one thread": Way(1, 1, 8),
    "one process, two threads": Way(1, 2, 8),
    "two processes, one thread each": Way(2, 1, 8),
    "half the population, one process, one thread": Way(1, 1, 4),
}
RATIOS = {  # slower way over faster one: above 1, the second is faster
    "strong scaling, to one thread": ("one process, one thread", "two processes, one thread each"),
    "strong scaling, to two threads": (
        "one process, two threads",
        "two processes, one thread each",
    ),
    "weak scaling": (
        "half the population, one process, one thread",
        "two processes, one thread each",
    ),
}


def count_bytes() -> dict[str, int]:
    "Note what the exchanges are given from now on, in bytes by kind."
    sent = {"all_reduce": 0, "all_gather": 0}
    reduce, gather = dist.all_reduce, dist.all_gather

    def noting_reduce(tensor: torch.Tensor, *args: object) -> object:
        sent["all_reduce"] += tensor.nbytes
        return reduce(tensor, *args)

    def noting_gather(pieces: list[torch.Tensor], tensor: torch.Tensor) -> object:
        sent["all_gather"] += tensor.nbytes
        return gather(pieces, tensor)

    dist.all_reduce, dist.all_gather = noting_reduce, noting_gather
    return sent


def measure(num_inner_models: int, num_threads: int, meta_update: str) -> None:
    """Take meta-steps as one of the ranks; rank 0 prints the median of their seconds, and what one
    sends.
    """
    torch.set_num_threads(num_threads)
    with joined_ranks("cpu") as ranks:
        config = DataRaterConfig(
            recipe="mnist",
            dataset_name="mnist_shaped",
            corruption=DAMAGED,
            device="cpu",
            num_inner_models=num_inner_models,
            meta_update=meta_update,
            log=False,
        )
        run = begin(config, Path(), ranks)  # nothing is written
        seconds = []
        for _ in range(WARM_UP + STEPS):
            start = time.perf_counter()
            take_step(run)
            seconds.append(time.perf_counter() - start)
        sent = count_bytes()
        take_step(run)
        sent = dict(sent)  # what follows is not counted
        start = time.perf_counter()
        evaluate_run(run.data, run.samples, run.steps, run.log)
        evaluation = time.perf_counter() - start
        if ranks.is_first:
            print(
                json.dumps(
                    {
                        "seconds": statistics.median(seconds[WARM_UP:]),
                        "evaluation": evaluation,
                        "bytes": sent,
                        "rater_parameters": sum(p.numel() for p in run.learner.rater.parameters()),
                    }
                )
            )


def run(way: Way, meta_update: str = "per_model") -> dict[str, object]:
    "Start the processes of a way, and read what they found."
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={way.num_ranks}",
        str(Path(__file__).resolve()),
        "--measure",
        json.dumps([way.num_inner_models, way.num_threads, meta_update]),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(way.num_threads)},
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("--rounds", type=int, default=5)
    # how the script starts itself
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    rounds = []
    for number in range(arguments.rounds):
        rounds.append({name: run(way) for name, way in WAYS.items()})
        print(
            number,
            {name: round(found["seconds"], 3) for name, found in rounds[-1].items()},
            flush=True,
        )
    two = WAYS["two processes, one thread each"]
    messages = {
        update: {key: run(two, update)[key] for key in ("bytes", "rater_parameters")}
        for update in ("shared", "per_model")
    }
    content = {
        "command": command_line(),
        "rounds": arguments.rounds,
        "steps": STEPS,
        "ways": {name: vars(way) for name, way in WAYS.items()},
        "seconds": {name: summary([found[name]["seconds"] for found in rounds]) for name in WAYS},
        "evaluation_seconds": {
            name: summary([found[name]["evaluation"] for found in rounds]) for name in WAYS
        },
        "ratios": {
            name: summary([found[slow]["seconds"] / found[fast]["seconds"] for found in rounds])
            for name, (slow, fast) in RATIOS.items()
        },
        "messages": messages,
    }
    print(json.dumps(content["ratios"], indent=1), json.dumps(messages), sep="\n")
    write_result("ranks", content)


if __name__ == "__main__":
    main()
