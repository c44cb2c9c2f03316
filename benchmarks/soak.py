"""Trainers killed many times, and what checkpoints cost.

    python benchmarks/soak.py [--num_kills 100]     writes results/soak.json

The kills are those of tests/test_resume.py, only more of them. Files of a resumed run that differ
from those of a run that was never killed are counted. The cost is that of one checkpoint in fifty
meta-steps of the original's MNIST configuration, on random images of its size, as a share of those
meta-steps.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from performance import DAMAGED, MNISTShaped, summary  # noqa: F401  (the dataset registers itself)
from provenance import ROOT, parser_of, write_result
from runs import begin, take_step

from datarater.runs import DataRaterConfig, evaluate_run
from datarater.runs.training import save

sys.path.append(str(ROOT / "tests"))
from test_resume import kill_often  # noqa: E402

EVERY = 50  # meta-steps


def checkpoint_cost(repeats: int) -> dict[str, object]:
    "Seconds of a checkpoint over those of the meta-steps between two."
    with tempfile.TemporaryDirectory() as folder:
        config = DataRaterConfig(
            recipe="mnist_v1",
            dataset_name="mnist_shaped",
            corruption=DAMAGED,
            device="cpu",
            log=False,
        )
        run = begin(config, Path(folder))
        evaluate_run(run.data, run.samples, run.steps, run.log)
        take_step(run)
        run.log.steps *= 1000  # as long a history as at the run's end
        turns = []
        for _ in range(repeats):
            start = time.perf_counter()
            take_step(run)
            middle = time.perf_counter()
            save(run, must=True)
            turns.append((middle - start, time.perf_counter() - middle))
        size = run.checkpoint.stat().st_size
    return {
        "every": EVERY,
        "repeats": repeats,
        "bytes": size,
        "seconds": statistics.median(save for _, save in turns),
        "share_of_run": summary([save / (EVERY * step + save) for step, save in turns]),
    }


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("--num_kills", type=int, default=100)
    arguments = parser.parse_args()
    cost = checkpoint_cost(repeats=11)
    print(cost, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        killed = kill_often(Path(folder), arguments.num_kills)
    command = "python benchmarks/soak.py"
    write_result("soak", {"command": command, "checkpoint": cost, "killed": killed})


if __name__ == "__main__":
    main()
