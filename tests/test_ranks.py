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
    "documents": dict(
        recipe="text",
        dataset_name="python_prose",
        document_length=32,
        meta_update="per_model",
        meta_steps=10,
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
# Groups of runs, each shared by some ranks, which are forks of one process that has imported what
# takes seconds; each run is named after its folder.
PROGRAM = """
import json, multiprocessing, os, socket, sys
import seaborn, sklearn.datasets, torch._dynamo
import torch.distributed as dist
from datarater import DataRaterConfig, resume_meta_training, run_meta_training

def rank(number, num_ranks, port, jobs):
    os.environ.update(
        RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(num_ranks), GROUP_WORLD_SIZE="1",
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )
    dist.init_process_group("gloo")
    for job in jobs:
        if "resume" in job:
            resume_meta_training(job["resume"], progress=False, meta_steps=job["meta_steps"])
        else:
            run_meta_training(DataRaterConfig(**job), progress=False)
    dist.barrier()
    os._exit(0)  # gloo's threads may abort a process that is taken down around them

fork = multiprocessing.get_context("fork")
for num_ranks, jobs in json.loads(sys.argv[1]):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        fork.Process(target=rank, args=(number, num_ranks, port, jobs))
        for number in range(num_ranks)
    ]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join()
    if any(one.exitcode for one in ranks):
        sys.exit(f"{num_ranks} ranks ended with {[one.exitcode for one in ranks]}")
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
    return start(command, cwd)


def start(command: list[str], cwd: Path) -> subprocess.CompletedProcess:
    "Run a command with the users' module at hand, one thread to a process."
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
    "A folder with the users' module and the program."
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "restless.py").write_text(MODULE)
    (folder / "program.py").write_text(PROGRAM)
    return folder


def jobs(folder: Path, **kinds: dict) -> list[dict]:
    return [
        {**SETTINGS, "output_dir": str(folder / name), **change} for name, change in kinds.items()
    ]


def run_groups(place: Path, *groups: tuple[int, list[dict]]) -> None:
    "Run the program on groups of runs: a number of ranks, and what they run one after the other."
    run = start([sys.executable, "program.py", json.dumps(groups)], cwd=place)
    assert run.returncode == 0, run.stderr[-3000:]


def assert_same(one: Path, other: Path, *files: str) -> None:
    "The files of two runs hold the same parameters, to 1e-6."
    for file in files:
        ours, theirs = (torch.load(run / file, weights_only=True) for run in (one, other))
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            torch.testing.assert_close(
                ours[key],
                value,
                rtol=1e-6,
                atol=1e-6,
                msg=lambda text: f"{one.parent.name}, {file}, {key}: {text}",
            )


def test_the_same_rater_on_any_number_of_ranks(place):
    """After 50 meta-steps, with either meta-update, and under attack; after ten of documents, or
    with a user's own loader: rater and oldest inner model to 1e-6. And saved by two, gone on with
    by one or four: the run of one process.
    """
    begun = place / "begun"
    halves = jobs(begun, **dict.fromkeys(("1", "4"), {**SHORT, "meta_steps": 7}))
    run_groups(
        place,
        (1, jobs(place / "1", **KINDS, short=SHORT)),
        (2, jobs(place / "2", **KINDS) + halves),
        (4, jobs(place / "4", **KINDS)),
    )
    for num_ranks in ("2", "4"):
        for name in KINDS:
            one, many = only_run(place / "1" / name), only_run(place / num_ranks / name)
            assert_same(many, one, "data_rater.pt", "inner_model.pt")
    ended = {num_ranks: only_run(begun / str(num_ranks)) for num_ranks in (1, 4)}
    run_groups(
        place, *((n, [{"resume": str(run_dir), "meta_steps": 12}]) for n, run_dir in ended.items())
    )
    for run_dir in ended.values():
        assert_same(run_dir, only_run(place / "1" / "short"), "data_rater.pt")


def test_a_killed_rank_is_started_again(place):
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
    run_groups(place, (1, jobs(place / "alone", short=SHORT)))  # as many threads to a process
    assert_same(run_dir, only_run(place / "alone" / "short"), "data_rater.pt")


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
