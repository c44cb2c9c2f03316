"""Runs that are killed, at any moment and many times, end in the same bits as one that never was.

Twenty kills; `pytest -n 0 tests/test_resume.py --num_kills=500` is a longer soak.
"""

import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch

from datarater.cli import main
from datarater.runs import load_checkpoint

# small models: the shorter a step, the more of the time goes into what a kill must not spoil
SETTINGS = dict(
    dataset_name="synthetic1",
    inner_model_class="ToyMLP",
    data_rater_model_class="RegressionDataRater",
    train_split_ratio=0.7,
    batch_size=8,
    num_inner_models=2,
    inner_steps=2,
    inner_optimizer="adam",
    model_update=True,
    meta_refresh_steps=5,
    refresh="random",
    meta_update="per_model",
    ema_decay=0.9,
    meta_steps=24,
    eval_frequency=12,
    checkpoint_frequency=2,
    save_data_rater_checkpoint=True,
    device="cpu",
)

# One process that imports everything once, and forks a trainer each time it is told to.
FORKER = """
import os, sys, torch
torch.set_num_threads(1)
import scipy.stats, sklearn.metrics, torch._dynamo  # which a run imports on its way
from datarater.runs import DataRaterConfig, resume_meta_training, run_meta_training
for line in sys.stdin:
    settings, run_dir = eval(line)
    child = os.fork()
    if child == 0:
        try:
            if run_dir:
                resume_meta_training(run_dir, progress=False)
            else:
                run_meta_training(DataRaterConfig(**settings), progress=False)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Trainers:
    "Trainers, one after the other, that may be killed."

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", FORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(self, settings: dict, run_dir: Path | None, kill_after: float | None) -> int:
        """Train, and kill after some seconds, unless that is None or training was faster; the exit
        status.
        """
        self.process.stdin.write(repr((settings, run_dir and str(run_dir))) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with suppress(ProcessLookupError):  # it may have come to its end
                os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline())


def only_run(folder: Path) -> Path:
    (run_dir,) = (path for path in folder.iterdir() if path.is_dir())
    return run_dir


def test_killed_many_times(tmp_path, num_kills):
    """Killed at random moments, resumed each time: the same rater, inner model and tables; nothing
    left behind, nothing lost, nothing that does not load.
    """
    done = kill_often(tmp_path, num_kills)
    assert done["kills"] == num_kills and done["differing files"] == 0, done


def kill_often(folder: Path, num_kills: int) -> dict[str, int]:
    """Kill trainers until there were `num_kills`, and compare each run with one that never was
    killed.

    Returns what was done.
    """
    trainers = Trainers()
    draw = random.Random(0)
    # imports everything
    assert trainers.run({**SETTINGS, "output_dir": str(folder / "first")}, None, None) == 0
    start = time.monotonic()
    assert trainers.run({**SETTINGS, "output_dir": str(folder / "whole")}, None, None) == 0
    seconds = time.monotonic() - start
    whole = only_run(folder / "whole")
    done = {"kills": 0, "before the first checkpoint": 0, "runs compared": 0, "differing files": 0}
    while done["kills"] < num_kills:
        place = folder / f"run {done['runs compared']}"
        run_dir, status = None, -1
        while status != 0:
            blow = draw.uniform(0.0, 1.0) * seconds if done["kills"] < num_kills else None
            status = trainers.run({**SETTINGS, "output_dir": str(place)}, run_dir, blow)
            if status != 0:
                assert status == signal.SIGKILL
                done["kills"] += 1
                if run_dir is None and (begun := list(place.glob("*/checkpoint.pt"))):
                    run_dir = begun[0].parent
                elif run_dir is None:  # nothing to resume yet
                    done["before the first checkpoint"] += 1
                    place = place.with_name(f"{place.name}, again")
        done["differing files"] += len(differing_files(whole, run_dir or only_run(place)))
        done["runs compared"] += 1
    return done


def differing_files(whole: Path, resumed: Path) -> list[str]:
    """Files that only one of two runs has, and those that differ.

    Of a checkpoint the tables count; the rest of it names the folder.
    """
    ours, theirs = (
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        for folder in (whole, resumed)
    )
    differing = [str(name) for name in ours ^ theirs]
    for name in ("data_rater.pt", "inner_model.pt"):
        if (whole / name).read_bytes() != (resumed / name).read_bytes():
            differing.append(name)
    ours, theirs = (load_checkpoint(folder / "checkpoint.pt")["log"] for folder in (whole, resumed))
    same = ours.keys() == theirs.keys() and all(
        torch.equal(ours[name].nan_to_num(), theirs[name].nan_to_num())
        for name in ("steps", "evaluations", "ratings")
    )
    return differing if same else [*differing, "checkpoint.pt"]


def train(*arguments: str, cwd: Path) -> subprocess.Popen:
    "The command, in the background."
    command = [sys.executable, "-m", "datarater", "train", *arguments]
    # which a test run in the background of a shell ignores, and its children with it
    heed_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        command,
        cwd=cwd,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=heed_interrupts,
    )


FLAGS = [f"--{name}={value}" for name, value in {**SETTINGS, "log": True}.items()]


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["interrupted", "terminated"]
)
def test_stopped_from_outside(tmp_path, capsys, number, code):
    """A signal ends a run after its step, with its code and the command that goes on; meanwhile a
    second process (this one) is refused; then it does go on.
    """
    process = train(*FLAGS, "--meta_steps=100000", cwd=tmp_path)
    run_dir = wait_for_checkpoint(tmp_path / "experiments", process)
    assert main(["train", f"--resume={run_dir}"]) == 2
    assert "is in use by another process" in capsys.readouterr().err
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    ((step, command),) = re.findall(r"stopped after meta-step (\d+); to go on: (.*)", errors)
    program, subcommand, resume = shlex.split(command)
    assert (program, subcommand) == ("datarater", "train")
    assert main([subcommand, resume, f"--meta_steps={int(step) + 3}"]) == 0
    assert (run_dir / "outer_loss.csv").read_text().count("\n") == int(step) + 4


def wait_for_checkpoint(folder: Path, process: subprocess.Popen) -> Path:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if found := list(folder.glob("*/checkpoint.pt")):
            return found[0].parent
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint: {process.communicate()[1]}")
