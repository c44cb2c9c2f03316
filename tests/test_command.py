"""The command as a shell runs it: in a process of its own, installed or as a module.

What does not depend on the process is called in this one: a start takes seconds.
"""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from datarater import cli
from datarater.cli import main
from datarater.curation import Comparison
from datarater.data import read_digits
from datarater.models import construct_model

COMMAND = [str(Path(sys.executable).with_name("datarater"))]
MODULE = [sys.executable, "-m", "datarater"]
SHORT = ["--meta_steps=2", "--num_inner_models=1", "--batch_size=16", "--log=False"]
# The original README's command; meta_steps is added by each test.
ORIGINAL = (
    "--dataset_name=mnist --inner_model_name=ToyCNN --data_rater_model_name=DataRater "
    "--train_split_ratio=0.8 --batch_size=128 --inner_lr=1e-3 --outer_lr=3e-4 "
    "--inner_steps=2 --meta_refresh_steps=150 --grad_clip_norm=5.0 --num_inner_models=8 "
    "--loss_type=cross_entropy --save_data_rater_checkpoint=True --log=True "
    "--eval_frequency=100 "
    "--attack=True --attack_eps=0.031 --attack_steps=10 --attack_eval_steps=20 "
    "--attack_step_size=0.007 --model_update=True"
).split()


def shell(
    *arguments: str, command=COMMAND, cwd=None, **environment: str
) -> subprocess.CompletedProcess:
    "Run the command; its output as text."
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    # which a test run in the background of a shell ignores, and its children with it
    heed_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.run(
        [*command, *arguments],
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        preexec_fn=heed_interrupts,
    )


@pytest.fixture
def here(capsys):
    "Run the command in this process; as `shell`."

    def run(*arguments: str) -> subprocess.CompletedProcess:
        code = main(arguments)
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


def one_line_error(run: subprocess.CompletedProcess) -> str:
    "The single line that a refused command prints."
    assert run.returncode == 2, (run.returncode, run.stdout, run.stderr)
    assert run.stderr.startswith("datarater: error: "), run.stderr
    assert run.stderr.count("\n") == 1, run.stderr
    return run.stderr


@pytest.mark.parametrize("command", [COMMAND, MODULE], ids=["command", "module"])
def test_list(command):
    run = shell("list", command=command)
    assert run.returncode == 0, run.stderr
    names = "digits mnist cifar10 synthetic1 ToyCNN DataRater pixel_noise label_noise mnist_v1"
    assert [name for name in names.split() if name not in run.stdout] == []


def test_run_without_arguments_is_the_embedded_default(tmp_path):
    """Only shortened: recipe digits, saved rater, logs and plots; no network and no data folder are
    needed.
    """
    run = shell(
        "train",
        "--meta_steps=2",
        "--num_inner_models=1",
        "--output_dir=runs",
        cwd=tmp_path,
        DATARATER_DATA=str(tmp_path / "nowhere"),
    )
    assert run.returncode == 0, run.stderr
    run_dir = tmp_path / re.search(r"run folder: (.+)", run.stdout).group(1)
    assert re.fullmatch(r"digits_\d{8}_\d{4}_[0-9a-f]{8}", run_dir.name)
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["recipe"] == "digits"
    assert len(pd.read_csv(run_dir / "outer_loss.csv")) == 2
    assert {"data_rater.pt", "metrics.csv", "plots"} <= {path.name for path in run_dir.iterdir()}


def test_a_terminal_of_80_columns_shows_all_numbers_of_the_bars(tmp_path):
    "One bar for the reference, one for the meta-steps; each ends with its total and a time."
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    options = ["--data_rater_model_class=ReferenceDataRater", "--reference_steps=3"]
    command = [*COMMAND, "train", *SHORT, *options, f"--output_dir={tmp_path}"]
    run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=its)
    os.close(its)
    shown = b""
    with suppress(OSError):  # of a terminal whose other end is closed
        while part := os.read(ours, 65536):
            shown += part
    assert run.wait(timeout=280) == 0, shown
    ends = re.findall(r"\r([^\r\n]+)\r?\n", shown.decode())
    assert [len(line) <= 80 for line in ends] == [True, True], ends
    assert re.fullmatch(r"fitting the reference 100%\|.+\| 3/3 \[\d\d:\d\d<00:00\]", ends[0])
    numbers = r"2/2 \[\d\d:\d\d<00:00, loss=[\d.]+, auroc=[\d.]+\]"
    assert re.fullmatch(rf"meta-training 100%\|.+\| {numbers}", ends[1].rstrip()), ends[1]


def test_false_is_false(tmp_path, here):
    run = here("train", *SHORT, "--save_data_rater_checkpoint=False", f"--output_dir={tmp_path}")
    assert run.returncode == 0, run.stderr
    # what the run goes on from
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "config.yaml",
        "checkpoint.pt",
        "samples.json",
    }


def test_same_seed_same_bytes_in_two_processes(tmp_path):
    raters = []
    for name in ("first", "second"):
        run = shell("train", *SHORT, f"--output_dir={tmp_path / name}")
        assert run.returncode == 0, run.stderr
        raters += [path.read_bytes() for path in (tmp_path / name).rglob("data_rater.pt")]
    assert len(raters) == 2 and raters[0] == raters[1]


def test_own_classes_from_the_command_line(tmp_path):
    "A module beside the caller is found by package.module:Name."
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Rater(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(784, 1), nn.Flatten(0))\n"
    )
    run = shell(
        "train",
        *SHORT,
        "--data_rater_model_name=mine:Rater",
        f"--output_dir={tmp_path / 'runs'}",
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    state = torch.load(next((tmp_path / "runs").rglob("data_rater.pt")), weights_only=True)
    assert {tuple(value.shape) for value in state.values()} == {(1, 784), (1,)}


def test_no_network_and_no_data_says_which_files_to_put_where(tmp_path):
    "A proxy that refuses every connection stands in for the missing network."
    refused = dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"
    )
    run = shell(
        "train",
        "--dataset_name=mnist",
        *SHORT,
        f"--data_dir={tmp_path / 'data'}",
        f"--output_dir={tmp_path / 'runs'}",
        **refused,
        no_proxy="",
        NO_PROXY="",
    )
    error = one_line_error(run)
    assert "train-images-idx3-ubyte" in error and str(tmp_path / "data") in error
    assert not (tmp_path / "runs").exists()


def test_output_folder_that_cannot_be_written(tmp_path, here):
    (tmp_path / "file").write_text("in the way")
    assert "cannot write to output_dir" in one_line_error(
        here("train", *SHORT, f"--output_dir={tmp_path / 'file'}")
    )


def test_breakdown_keeps_the_last_good_rater(tmp_path, here):
    run = here(
        "train", *SHORT, "--inner_lr=1e30", "--inner_optimizer=sgd", f"--output_dir={tmp_path}"
    )
    warning, error = run.stderr.splitlines()
    assert run.returncode == 2 and warning.startswith(
        "datarater: warning: meta-step 1 is skipped: the outer loss of inner model 0 is"
    )
    assert (
        error.startswith("datarater: error: meta-step 2: the outer loss of inner model 0 is")
        and "2 meta-steps in a row" in error
    )
    state = torch.load(next(tmp_path.rglob("data_rater.pt")), weights_only=True)
    assert all(value.isfinite().all() for value in state.values())


def test_from_a_folder_of_images_to_a_list_of_files(tmp_path, here, monkeypatch):
    """Images in class folders: train, score all, keep the better half of each class, and name the
    files.
    """
    monkeypatch.chdir(tmp_path)
    images, labels = read_digits()
    for i in range(120):
        place = tmp_path / "photos" / f"class_{labels[i]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i, 0].numpy()).save(place / f"{i}.png")
    trained = here(
        "train",
        "--dataset_name=photos",
        "--image_size=20",
        "--meta_steps=1",
        "--num_inner_models=1",
    )
    assert trained.returncode == 0, trained.stderr
    run_dir = re.search(r"run folder: (.+)", trained.stdout).group(1)
    assert Path(run_dir).name.startswith("photos_")
    # nothing is damaged, batches fit (a fifth of 96 images are outer data), the rater is saved
    settings = yaml.safe_load((tmp_path / run_dir / "config.yaml").read_text())
    assert settings["corruption"]["corruption_probability"] == 0 and settings["batch_size"] == 19
    assert settings["recipe"] == "images_and_labels"  # of a folder of images
    assert json.loads((tmp_path / run_dir / "samples.json").read_text())["shape"] == [1, 20, 20]
    assert "nothing was damaged on purpose" in trained.stdout and "AUROC" not in trained.stdout
    run = here("score", run_dir, "--split=all")
    assert run.returncode == 0, run.stderr
    rule = "--rule=best_of_each_class"
    run = here("curate", "ratings.parquet", "--keep=0.5", rule)
    assert run.returncode == 0, run.stderr
    ratings = pd.read_parquet(tmp_path / "ratings.parquet")
    kept = pd.read_parquet(tmp_path / "kept.parquet")
    assert len(ratings) == 120 and all((tmp_path / path).is_file() for path in ratings["path"])
    assert 55 <= len(kept) <= 65 and kept["rating"].mean() > ratings["rating"].mean()
    assert "exists already" in one_line_error(here("score", run_dir))


LARGE_DATASET = """
import os, signal, torch
from torch import nn
from datarater import DataRaterDataset

class Rater(nn.Sequential):
    def __init__(self):
        layers = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 1), nn.Flatten(0)
        super().__init__(*layers)

class Images(torch.utils.data.Dataset):
    "60,000 images. Notes where reading began; a file STOP ends the process at sample 57,000."

    def __len__(self):
        return 60_000

    def __getitem__(self, index):
        return torch.full((1, 4, 4), index / 60_000), index % 10

    def __getitems__(self, indices):
        first = indices[0]
        if indices == list(range(first, first + 1000)):
            open("read", "a").write(f"{first}\\n")
            if first == 57_000 and os.path.exists("STOP"):
                os.kill(os.getpid(), int(open("STOP").read()))
        return [self[i] for i in indices]

class Large(DataRaterDataset):
    "Is only rated: it has no loaders."

    def corrupt_samples(self, samples, corruption_fraction):
        return samples

    def get_loaders(self, batch_size, train_split_ratio, train_corruption_config):
        return ()

    def pool(self):
        return Images()
"""


@pytest.fixture(scope="module")
def own_rater(tmp_path_factory) -> str:
    "The run that trained the rater of the large dataset."
    place = tmp_path_factory.mktemp("own")
    (place / "mine.py").write_text(LARGE_DATASET)
    trained = shell(
        "train",
        *SHORT,
        "--data_rater_model_name=mine:Rater",
        "--save_data_rater_checkpoint=True",
        f"--output_dir={place}",
        cwd=place,
    )
    return re.search(r"run folder: (.+)", trained.stdout).group(1)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_scoring_that_was_stopped_continues(tmp_path, own_rater, stop):
    "No file is there; the second attempt begins at the first sample that was not yet written."
    (tmp_path / "mine.py").write_text(LARGE_DATASET)
    command = ("score", own_rater, "--dataset_name=mine:Large")
    (tmp_path / "STOP").write_text(str(int(stop)))
    stopped = shell(*command, cwd=tmp_path)
    assert stopped.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[stop], stopped.stderr
    assert stop == signal.SIGKILL or "repeat the command to continue" in stopped.stderr
    assert not (tmp_path / "ratings.parquet").exists()
    (tmp_path / "STOP").unlink()
    (tmp_path / "read").unlink()
    assert shell(*command, cwd=tmp_path).returncode == 0
    assert (tmp_path / "read").read_text().split()[0] == "55000"  # after eleven parts of 5,000
    ratings = pd.read_parquet(tmp_path / "ratings.parquet")
    assert ratings["index"].tolist() == list(range(60_000))
    assert ratings["rating"].is_monotonic_increasing != ratings["rating"].is_monotonic_decreasing
    left = [path.name for path in tmp_path.iterdir()]
    assert not [name for name in left if ".parts" in name or name.startswith(".ratings")]


@pytest.mark.usefixtures("mnist_dir")
def test_original_command_on_mnist(tmp_path):
    "The original's command, shortened to two meta-steps, on the real MNIST."
    run = shell("train", *ORIGINAL, "--meta_steps=2", f"--output_dir={tmp_path}")
    assert run.returncode == 0, run.stderr
    run_dir = next(tmp_path.iterdir())
    metrics = pd.read_csv(run_dir / "metrics.csv")
    assert run_dir.name.startswith("mnist_") and metrics["meta_step"].tolist() == [0, 2]
    # ln 10 = 2.303: four steps of SGD at 1e-3, so inner models know next to nothing
    assert metrics["inner_loss"].between(2.2, 2.4).all()
    losses = pd.read_csv(run_dir / "outer_loss.csv")
    assert (losses["adversarial_outer_loss"] > losses["clean_outer_loss"]).all()
    assert (losses["outer_loss"] == losses["adversarial_outer_loss"]).all()


@pytest.mark.parametrize("command", ["clean", "train", "score", "curate", "compare", "evaluate"])
@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_that_ask_to_end(command, number, code, here, monkeypatch):
    "Like Ctrl-C: what is open is closed, one line says it, and the code is the signal's."
    parser, about, _ = cli._COMMANDS[command]
    closed = []

    def work(**_):
        try:
            os.kill(os.getpid(), number)
        finally:
            closed.append(True)
        return "it went on"

    monkeypatch.setitem(cli._COMMANDS, command, (parser, about, work))
    place = [] if command == "train" else ["somewhere"]
    run = here(command, *place)
    assert (run.returncode, run.stdout, run.stderr) == (code, "", "datarater: interrupted\n")
    assert closed and signal.getsignal(number) == signal.SIG_DFL


def test_workers_end_with_their_parent(tmp_path):
    "A repeat that would take minutes, in a process of its own, and a parent that is killed."
    (tmp_path / "mine.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "def busy(plan, work, seed):\n"
        "    Path('begun').touch()\n"
        "    time.sleep(300)\n"
    )
    (tmp_path / "parent.py").write_text(
        "from types import SimpleNamespace\n"
        "import mine\n"
        "from datarater.curation import downstream\n"
        "downstream.check_runs, downstream._one_repeat = id, mine.busy\n"
        "if __name__ == '__main__':\n"
        "    downstream.in_repeats(SimpleNamespace(num_seeds=1), None, 2, progress=False)\n"
    )
    reader, writer = os.pipe()  # the parent and its worker hold its end until they end
    path = os.pathsep.join([str(tmp_path), str(Path(cli.__file__).parents[1])])
    parent = subprocess.Popen(
        [sys.executable, "parent.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stderr=writer,
    )
    os.close(writer)
    while not (tmp_path / "begun").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    killed = time.monotonic()
    while os.read(reader, 1 << 16):
        pass
    os.close(reader)
    assert parent.wait() == -signal.SIGKILL and time.monotonic() - killed < 100


def test_what_was_found_is_printed_and_nothing_of_others_replaced(tmp_path, here, monkeypatch):
    """`evaluate` and `compare`, where the disk is full at the end, and where somebody makes the
    file meanwhile; where it can't be written at all, they do not begin.
    """
    file, picture = tmp_path / "found.json", tmp_path / "found.png"
    rows = [dict(seed=0, run=0, method=name, accuracy=0.5) for name in ("baseline", "filtered")]
    rows = pd.DataFrame([{**row, "num_steps": 7, "num_test": 9} for row in rows])
    found = SimpleNamespace(describe=lambda: "robust accuracy 12.5%", as_dict=dict)
    writes = []

    def evaluated(*_, **__):
        for path in writes:
            path.write_text("theirs")
        return found

    monkeypatch.setattr(cli, "check_runs", id)
    monkeypatch.setattr(cli, "compare_downstream", lambda *_: (evaluated(), Comparison(rows))[1])
    monkeypatch.setattr(cli, "evaluate_robustness", evaluated)
    model = tmp_path / "model.pt"
    torch.save(construct_model("ToyCNN", seed=0).state_dict(), model)
    evaluating = ["evaluate", str(model), "--inner_model_class=ToyCNN", "--dataset_name=digits"]
    commands = {
        "robust accuracy 12.5%": [*evaluating, "--num_samples=10", "--device=cpu"],
        "baseline        50.00": ["compare", "run", "--jobs=1"],
    }
    for text, command in commands.items():
        for others in ([file], [picture])[: 1 if command[0] == "evaluate" else 2]:
            writes[:] = others
            run = here(*command, f"--output={file}")
            assert text in run.stdout and "was made by another program meanwhile" in run.stderr
            assert run.returncode == 2 and others[0].read_text() == "theirs"
            file.unlink()
            picture.unlink(missing_ok=True)
        writes.clear()
        with monkeypatch.context() as full:
            full.setattr(cli, "write_atomically", Mock(side_effect=OSError(28, "No space left")))
            run = here(*command, f"--output={file}")
        assert run.returncode == 2 and text in run.stdout and "No space left" in run.stderr
        run = here(*command, "--output=/proc/self/found.json")
        assert (run.returncode, run.stdout) == (2, "") and "cannot be written" in run.stderr
        assert sorted(os.listdir(tmp_path)) == ["model.pt"]
