"""A run that several processes share: the same rater on any number of them, whatever stops one, and
one line for what is wrong.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from datarater.runs import distributed

SETTINGS = dict(
    dataset_name="digits",
    train_split_ratio=0.7,
    batch_size=8,
    num_inner_models=4,
    inner_steps=2,
    inner_optimizer="adam",
    inner_lr=1e-3,
    model_update=True,
    meta_refresh_steps=10,
    refresh="random",
    ema_decay=0.5,
    meta_steps=50,
    eval_frequency=50,
    save_data_rater_checkpoint=True,
    device="cpu",
    execution="loop",  # at once, a member's last digits depend on how many are computed with it
)
KINDS = {
    "shared": dict(meta_update="shared"),
    "per model": dict(meta_update="per_model", outer_warmup_steps=10, refresh="staggered"),
    "attacked": dict(
        meta_update="per_model",
        attack=True,
        inner_attack="fgsm",
        attack_eps=0.05,
        attack_step_size=0.05,
        attack_steps=2,
        attack_eval_steps=2,
    ),
    "of any loader": dict(
        meta_update="shared", dataset_name="restless:RestlessDigits", meta_steps=10
    ),
}
SHORT = dict(meta_steps=12, meta_update="per_model", checkpoint_frequency=2)
MODULE = """
import os, signal
from torch.utils.data import DataLoader
from datarater.data import DigitsDataRaterDataset

class RestlessDigits(DigitsDataRaterDataset):
    "Digits from PyTorch's own loader, shuffled by the global generator."

    def make_loader(self, part, batch_size, shuffle=False, **options):
        return DataLoader(part, batch_size, shuffle=shuffle)

class Mortal(DigitsDataRaterDataset):
    "Digits whose reader kills the second rank at its twelfth batch, at the first start."

    def make_loader(self, part, *args, **options):
        loader = super().make_loader(part, *args, **options)
        read = loader.dataset.read
        count = 0

        def read_or_die(*indices):
            nonlocal count
            count += 1
            is_first_start = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
            if count == 12 and os.environ.get("RANK") == "1" and is_first_start:
                os.kill(os.getpid(), signal.SIGKILL)
            return read(*indices)

        loader.dataset.read = read_or_die
        return loader
"""
# All runs of one number of ranks, in one start of the processes; each is named after its folder.
PROGRAM = """
import json, os, sys
import torch.distributed as dist
from datarater import DataRaterConfig, resume_meta_training, run_meta_training
dist.init_process_group("gloo")
for job in json.loads(sys.argv[1]):
    if "resume" in job:
        resume_meta_training(job["resume"], progress=False, meta_steps=job["meta_steps"])
    else:
        run_meta_training(DataRaterConfig(**job), progress=False)
dist.barrier()
os._exit(0)  # gloo's threads may abort a process that is taken down around them
"""


def launch(
    num_ranks: int, *program: str, cwd: Path, max_restarts: int = 0
) -> subprocess.CompletedProcess:
    "Run a program by torchrun, on this machine."
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={num_ranks}",
        f"--max-restarts={max_restarts}",
        *program,
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": os.pathsep.join([str(cwd), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=500,
    )


def only_run(folder: Path) -> Path:
    (run_dir,) = (path for path in folder.iterdir() if path.is_dir())
    return run_dir


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    "A folder with the users' module and the program, and the runs of one process."
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "restless.py").write_text(MODULE)
    (folder / "program.py").write_text(PROGRAM)
    return folder


@pytest.fixture(scope="module")
def alone(place) -> Path:
    "The runs of one process, each in a folder of its kind; with them the one that is `SHORT`."
    run = launch(1, "program.py", jobs(place / "1", **KINDS, short=SHORT), cwd=place)
    assert run.returncode == 0, run.stderr[-3000:]
    return place / "1"


def jobs(folder: Path, **kinds: dict) -> str:
    return json.dumps(
        [{**SETTINGS, "output_dir": str(folder / name), **change} for name, change in kinds.items()]
    )


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_the_same_rater_on_any_number_of_ranks(place, alone, num_ranks):
    """After 50 meta-steps, with either meta-update, and under attack; after ten with a user's own
    loader: rater and oldest inner model to 1e-6.
    """
    folder = place / str(num_ranks)
    run = launch(num_ranks, "program.py", jobs(folder, **KINDS), cwd=place)
    assert run.returncode == 0, run.stderr[-3000:]
    for name in KINDS:
        one, many = only_run(alone / name), only_run(folder / name)
        for file in ("data_rater.pt", "inner_model.pt"):
            ours, theirs = (
                torch.load(run_dir / file, weights_only=True) for run_dir in (many, one)
            )
            for key, value in theirs.items():
                torch.testing.assert_close(
                    ours[key],
                    value,
                    rtol=1e-6,
                    atol=1e-6,
                    msg=lambda text: f"{name}, {file}, {key}: {text}",
                )


def assert_same_rater(one: Path, other: Path) -> None:
    ours, theirs = (
        torch.load(run_dir / "data_rater.pt", weights_only=True) for run_dir in (one, other)
    )
    for key, value in theirs.items():
        torch.testing.assert_close(
            ours[key],
            value,
            rtol=1e-6,
            atol=1e-6,
            msg=lambda text: f"{one.parent.name}, {key}: {text}",
        )


@pytest.fixture(scope="module")
def begun(place) -> Path:
    "Two runs that two processes have begun, each in a folder of the number that will go on."
    kinds = dict.fromkeys(("1", "4"), {**SHORT, "meta_steps": 7})
    run = launch(2, "program.py", jobs(place / "begun", **kinds), cwd=place)
    assert run.returncode == 0, run.stderr[-3000:]
    return place / "begun"


@pytest.mark.parametrize("ended", [1, 4])
def test_a_checkpoint_knows_nothing_of_ranks(place, alone, begun, ended):
    "Saved by some, gone on with by others: the run of one process."
    run_dir = only_run(begun / str(ended))
    run = launch(
        ended, "program.py", json.dumps([{"resume": str(run_dir), "meta_steps": 12}]), cwd=place
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert_same_rater(run_dir, only_run(alone / "short"))


def test_a_killed_rank_is_started_again(place, alone):
    """SIGKILL in the middle of a meta-step: torchrun starts all ranks again, and the run ends in
    the rater that it would have had.
    """
    flags = [
        f"--{name}={value}"
        for name, value in {**SETTINGS, **SHORT, "dataset_name": "restless:Mortal"}.items()
    ]
    run = launch(
        2,
        "-m",
        "datarater",
        "train",
        *flags,
        "--corruption.corruption_probability=0.1",  # as of digits, which are not one's own
        f"--output_dir={place / 'killed'}",
        cwd=place,
        max_restarts=3,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.count("run folder") == 1  # one rank speaks
    run_dir = only_run(place / "killed")  # the second start went on in the folder of the first
    assert list((place / "killed").iterdir()) == [run_dir]  # and the note that said so is gone
    assert "exitcode: -9" in run.stderr and "Traceback" not in run.stderr, run.stderr[-3000:]
    assert_same_rater(run_dir, only_run(alone / "short"))


def test_bad_input_is_one_line(place):
    "More processes than inner models: said once, not by each of them."
    run = launch(
        3,
        "-m",
        "datarater",
        "train",
        "--recipe=digits",
        "--num_inner_models=2",
        "--device=cpu",
        cwd=place,
    )
    lines = [line for line in run.stderr.splitlines() if "datarater: error" in line]
    assert run.returncode != 0 and lines == [
        "datarater: error: 3 processes can't share 2 inner models: start at most 2, or give "
        "a larger num_inner_models"
    ], run.stderr[-3000:]


def test_ranks_end_with_their_launcher(monkeypatch):
    "A launcher that is killed cannot tell them; they are asked to stop all the same."
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    reader, writer = os.pipe()
    if (launcher := os.fork()) == 0:
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(os.write(writer, b"stopped") * 0))
            distributed._end_with_launcher()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(20)
        os.close(writer)
        time.sleep(20)
        os._exit(1)
    os.close(writer)
    assert os.waitpid(launcher, 0)[1] == signal.SIGKILL
    assert os.read(reader, 100) == b"stopped"
    os.close(reader)
