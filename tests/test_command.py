"""The command as a shell runs it: in a process of its own, installed or as a module.

What does not depend on the process is called in this one: a start takes seconds.
"""

import fcntl
import io
import json
import os
import pty
import re
import runpy
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
from datarater.__main__ import main as entry
from datarater.cli import main
from datarater.curation import Comparison, downstream, read_ratings
from datarater.data import read_digits
from datarater.models import construct_model
from datarater.runs import load_checkpoint, load_inner_model, load_rater
from datarater.runs.checkpoints import save_checkpoint
from datarater.support import place_in_code

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
    assert list(tmp_path.iterdir()) == []


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

    def forward(self, x):
        if x.shape[2] == 4:
            open("rated", "a").write(f"{60_000 * x[0, 0, 0, 0].item():.0f}\\n")
        return super().forward(x)

class Images(torch.utils.data.Dataset):
    "60,000 images. A file STOP ends the process at sample 57,000."

    def __len__(self):
        return 60_000

    def __getitem__(self, index):
        return torch.full((1, 4, 4), index / 60_000), index % 10

    def __getitems__(self, indices):
        first = indices[0]
        if indices == list(range(first, first + 1000)):
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
    """No file is there; the second attempt begins to rate at the first sample that was not yet
    written.
    """
    (tmp_path / "mine.py").write_text(LARGE_DATASET)
    command = ("score", own_rater, "--dataset_name=mine:Large")
    (tmp_path / "STOP").write_text(str(int(stop)))
    stopped = shell(*command, cwd=tmp_path)
    assert stopped.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[stop], stopped.stderr
    assert stop == signal.SIGKILL or "repeat the command to continue" in stopped.stderr
    assert not (tmp_path / "ratings.parquet").exists()
    (tmp_path / "STOP").unlink()
    assert (tmp_path / "rated").read_text().split()[0] == "0"
    (tmp_path / "rated").unlink()
    assert shell(*command, cwd=tmp_path).returncode == 0
    assert (tmp_path / "rated").read_text().split()[0] == "55000"  # after eleven parts of 5,000
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


TINY = [
    *("--dataset_name=synthetic1", "--inner_model_class=ToyMLP", "--meta_steps=2"),
    *("--data_rater_model_class=RegressionDataRater", "--num_inner_models=1", "--batch_size=16"),
    *("--save_data_rater_checkpoint=true", "--corruption.corruption_probability=0"),
]


def test_home_stands_in_every_path(tmp_path, here, monkeypatch):
    "~ is the home in each path of each command, and in Python; no folder is called ~."
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    (home / "damage.yaml").write_text("fixed: true\n")
    trained = here(
        *("train", *TINY, "--data_dir=~/data", "--output_dir=~/runs"), "--corruption=~/damage.yaml"
    )
    assert trained.returncode == 0, trained.stderr
    (run_dir,) = (home / "runs").iterdir()
    run = f"~/runs/{run_dir.name}"
    settings = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert settings["data_dir"] == str(home / "data") and settings["corruption"]["fixed"] is True
    for command in (
        ("train", f"--config={run}/config.yaml", "--print_config"),
        ("train", f"--resume={run}", "--meta_steps=3", "--data_dir=~/data"),
        ("score", run, "--output=~/ratings.parquet"),
        ("score", run, "--output=~/ratings.parquet", "--overwrite=true", "--data_dir=~/data"),
        ("curate", "~/ratings.parquet", "--keep=0.5", "--output=~/kept.csv"),
    ):
        done = here(*command)
        assert done.returncode == 0, (command, done.stderr)
    assert load_rater(run, "cpu") is not None and load_inner_model(run, "cpu") is not None
    assert len(read_ratings("~/ratings.parquet")) == 5000
    assert {"ratings.parquet", "kept.csv"} < {path.name for path in home.iterdir()}
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("value", ["a\0b", "~no-such-user/x", ""])
@pytest.mark.parametrize(
    "command",
    [
        ("train", "--print_config", "--data_dir"),
        ("train", "--print_config", "--output_dir"),
        ("train", "--print_config", "--config"),
        ("train", "--print_config", "--resume"),
        ("score", "run", "--output"),
        ("curate", "x.parquet", "--output"),
        ("evaluate", "run", "--output"),
        ("clean", "photos", "--output"),
        ("compare", "run", "--output"),
    ],
    ids=" ".join,
)
def test_what_can_be_no_path(tmp_path, here, monkeypatch, command, value):
    monkeypatch.chdir(tmp_path)
    if value == "" and command[-1] in ("--config", "--output"):
        return  # as if it were left out
    one_line_error(here(*command[:-1], f"{command[-1]}={value}"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "setting",
    """
    meta_refresh_steps=100000000000000000000 meta_refresh_steps=1e20 inner_steps=1000000000000000
    num_inner_models=1000000000000000 num_inner_models=1e15 outer_lr=1e300 inner_lr=1e-40
    softmax_temperature=1e-300 grad_clip_norm=1e300 outer_weight_decay=1e300 attack_eps=1e300
    outer_warmup_steps=9999999999 seed=9999999999999999999
    """.split()
    + [f"batch_size={'9' * 30}", f"batch_size={'9' * 5000}", "corruption={fixed: !!bool maybe}"],
    ids=lambda setting: setting[:30],
)
def test_numbers_that_nothing_can_hold(here, setting):
    name = setting.partition("=")[0]
    error = one_line_error(here("train", f"--{setting}", "--print_config"))
    assert name in error or name == "corruption", error


def test_more_inner_models_than_memory(tmp_path, here):
    error = one_line_error(
        here("train", *TINY, "--num_inner_models=2147483647", f"--output_dir={tmp_path}")
    )
    assert "num_inner_models=2147483647" in error and "memory" in error
    assert list(tmp_path.iterdir()) == []


HOSTILE_YAML = {
    "digits": "seed: " + "9" * 5000,
    "date": "seed: 2020-99-99",
    "time": "seed: 2020-01-01 99:99:99",
    "no integer": "seed: !!int abc",
    "no boolean": "model_update: !!bool maybe",
    "no float": "inner_lr: !!float abc",
    "no time": "seed: !!timestamp abc",
    "nested": "seed: " + "[" * 300,
    "nested mappings": "\n".join(" " * depth + "seed:" for depth in range(300)),
    "endless": "seed: [&a [x, x]" + "".join(f", &a{i} [*a, *a]" for i in range(1)) + "]",
    "alias of itself": "seed: &a [*a]",
}


@pytest.mark.parametrize("text", HOSTILE_YAML.values(), ids=HOSTILE_YAML)
def test_hostile_configurations(tmp_path, here, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    one_line_error(here("train", f"--config={path}", "--print_config"))


def test_aliases_that_double(tmp_path, here):
    "Written out, the value has 2**60 letters."
    doubled = "".join(f", &a{i + 1} [*a{i}, *a{i}]" for i in range(60))
    path = tmp_path / "config.yaml"
    for name in ("seed", "dataset_name", "kinds"):
        path.write_text(f"{name}: [&a0 [x]{doubled}]")
        one_line_error(here("train", f"--config={path}", "--print_config"))
        one_line_error(here("train", f"--corruption={path}", "--print_config"))


@pytest.mark.parametrize("place", ["/dev/zero", "fifo", "huge", "."])
def test_only_files_of_some_size_are_read(tmp_path, here, place, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with open("huge", "wb") as file:
        file.truncate(1 << 40)  # a terabyte of which nothing is on the disk
    said = f"cannot read the configuration {place}"
    if place == "fifo":  # into which nobody writes
        said = "the configuration fifo holds NoneType"
    for flag in ("config", "corruption"):
        assert said in one_line_error(here("train", f"--{flag}={place}", "--print_config"))


def test_a_configuration_from_another_command(here):
    "As by a shell's <(command); with a number in quotes, which PyYAML takes for text."
    reader, writer = os.pipe()
    os.write(writer, b'inner_lr: "1e-3"\n')
    os.close(writer)
    run = here("train", f"--config=/dev/fd/{reader}", "--print_config")
    os.close(reader)
    assert yaml.safe_load(run.stdout)["inner_lr"] == 0.001, run.stderr


def test_files_of_a_run_that_are_no_text(tmp_path, here):
    "A run whose small files are damaged, endless or nested is refused in a line."
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "data_rater.pt").write_bytes(b"")
    for name in ("config.yaml", "samples.json"):
        nested = b"[" * 100_000 if name == "samples.json" else b"["
        for content in (nested, b"\xff\xfe", b"\0", Path("/dev/zero")):
            (run_dir / "config.yaml").write_text("dataset_name: synthetic1\n")
            (run_dir / name).unlink(missing_ok=True)
            if isinstance(content, Path):
                (run_dir / name).symlink_to(content)
            else:
                (run_dir / name).write_bytes(content)
            one_line_error(here("score", str(run_dir), f"--output={tmp_path / 'r.parquet'}"))
            (run_dir / name).unlink()


def test_numbers_with_an_exponent_in_a_file_of_a_corruption(tmp_path, here):
    (tmp_path / "damage.yaml").write_text("corruption_probability: 1e-1\nseed: 3\n")
    for flag in ([f"--corruption={tmp_path / 'damage.yaml'}"], ["--corruption", "{seed: 3}"]):
        run = here("train", *flag, "--corruption.fixed=true", "--print_config")
        assert run.returncode == 0, run.stderr
        found = yaml.safe_load(run.stdout)["corruption"]
        assert (found["seed"], found["fixed"]) == (3, True)
        # that of the recipe digits where the file has none
        assert found["corruption_probability"] == (0.1 if len(flag) == 1 else 0.5)


def test_what_is_missing_has_its_name(here):
    for command, place in {"clean": "PATH", "score": "RUN", "compare": "RUN ..."}.items():
        assert one_line_error(here(command)).endswith(f"are required: {place}\n")


OWN_CODE = """
import sys
from torch import nn
from datarater.data import DataRaterDataset, TensorDataRaterDataset

VALUE = 3

class Base(DataRaterDataset):
    def corrupt_samples(self, samples, corruption_fraction):
        return samples

    def get_loaders(self, batch_size, train_split_ratio, train_corruption_config):
        raise KeyError("loaders")

class Made(Base):
    def __init__(self):
        raise RuntimeError("made")

class Read(TensorDataRaterDataset):
    def read_tensors(self):
        return open("no_such_file")

class Ends(Base):
    def __init__(self):
        sys.exit("ended")

class Loaders(Base):
    def get_loaders(self, batch_size, train_split_ratio, train_corruption_config):
        def failing():
            raise ZeroDivisionError("batches")
            yield
        class Loader:
            def __iter__(self):
                return failing()
        return Loader(), Loader(), Loader()

class Range(Base):
    value_range = property(lambda self: 1 / 0)

    def get_loaders(self, batch_size, train_split_ratio, train_corruption_config):
        import torch
        batches = [(torch.rand(8, 10), torch.rand(8))]
        return batches, batches, batches

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        raise IndexError("constructor")

class Forward(nn.Linear):
    def __init__(self):
        super().__init__(10, 1)

    def forward(self, x):
        return super().forward(x[:, :3]).flatten()
"""


@pytest.mark.parametrize(
    ("flag", "said"),
    {
        "--dataset_name=own_code:Base": "KeyError: 'loaders' (own_code.py, line ",
        "--dataset_name=own_code:Made": "RuntimeError: made (own_code.py, line ",
        "--dataset_name=own_code:Read": "No such file or directory: 'no_such_file' (own_code.py",
        "--dataset_name=own_code:Ends": "SystemExit: ended (own_code.py, line ",
        "--dataset_name=own_code:Loaders": "ZeroDivisionError: batches (own_code.py, line ",
        "--dataset_name=own_code:Range": "ZeroDivisionError: division by zero (own_code.py, line ",
        "--inner_model_class=own_code:Model": "IndexError: constructor (own_code.py, line ",
        "--inner_model_class=own_code:Forward": "cannot be multiplied (8x3 and 10x1) (own_code.py",
        "--inner_model_class=ends_at_import:X": "SystemExit: 3 (ends_at_import.py, line 1",
    }.items(),
)
def test_own_code_that_raises(tmp_path, here, monkeypatch, flag, said):
    "One line says whose code failed where; `--traceback` shows their frames, and none of ours."
    monkeypatch.chdir(tmp_path)
    Path("own_code.py").write_text(OWN_CODE)
    Path("ends_at_import.py").write_text("raise SystemExit(3)\n")
    for name in ("own_code", "ends_at_import"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    command = ("train", *TINY, "--batch_size=8", flag)
    error = one_line_error(here(*command))
    assert said in error and error.endswith(": --traceback shows how it came to that\n"), error
    monkeypatch.setattr(sys, "path", [*sys.path])
    run = here("--traceback", *command)
    first, *rest = run.stderr.splitlines()
    assert run.returncode == 2 and said in first and first.startswith("datarater: error: ")
    assert rest[0] == "Traceback (most recent call last):"
    frames = [line for line in rest if line.startswith("  File ")]
    assert "own_code.py" in frames[0] or "ends_at_import.py" in frames[-1], run.stderr
    assert not [frame for frame in frames if f"{os.sep}datarater{os.sep}" in frame], frames
    assert not (tmp_path / "experiments").exists()


@pytest.mark.parametrize(
    ("folder", "place"),
    [
        (".local/lib/python3/site-packages", None),
        ("dist-packages", None),
        ("mine", "it.py, line 1"),
    ],
)
def test_a_library_in_a_home_is_nobody_s_own_code(tmp_path, folder, place):
    file = tmp_path / folder / "it.py"
    file.parent.mkdir(parents=True)
    file.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError) as caught:
        runpy.run_path(str(file))
    # the frames of this test are left out
    error = caught.value.with_traceback(caught.tb.tb_next)
    assert place_in_code(error) == (place and f"{place}, <module>")


@pytest.mark.parametrize(
    "flag",
    "--dataset_name=math:pi --dataset_name=os:system --inner_model_class=math:pi "
    "--inner_model_class=os:getcwd --corruption.kinds=os:system --corruption.kinds=math:pi "
    "--data_rater_model_class=math:pi --dataset_name=datarater.data:DATASETS".split(),
)
def test_names_of_what_cannot_be_used(tmp_path, here, monkeypatch, flag):
    monkeypatch.chdir(tmp_path)
    error = one_line_error(here("train", *TINY, flag))
    assert "give a" in error or "let it return a torch.nn.Module" in error


def test_a_terminal_of_ascii_alone(monkeypatch, capsys):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["list"]) == 0 and capsys.readouterr().err == ""
    assert rb"28\xd728" in screen.buffer.getvalue()


@pytest.mark.parametrize(
    "command", [["list"], ["train", "--print_config"], ["clean", "--help"], []]
)
def test_a_closed_pipe_ends_quietly(monkeypatch, capsys, command):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(command) == 128 + signal.SIGPIPE
    assert capsys.readouterr().err == ""


def test_variables_of_a_launcher(here, monkeypatch):
    for name in ("RANK", "MASTER_ADDR"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "")
    assert here("train", "--print_config").returncode == 0
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert "WORLD_SIZE='two' is no whole number" in one_line_error(here("train", "--print_config"))


def test_a_folder_that_is_gone(tmp_path, here, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert "the current folder does not exist" in one_line_error(here("list"))
    assert entry() == 2  # where PyTorch could not even be imported
    assert "the current folder does not exist" in capsys.readouterr().err


def test_an_interrupt_during_imports(tmp_path):
    "A module in PyTorch's place, which takes seconds to import, stands for the person."
    (tmp_path / "torch.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    run = shell("list", command=MODULE, PYTHONPATH=path)
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("name", ["a  b", "a\tb", "a\nb", "it's  $HOME", "\\x41 'q' \\", b"\xff"])
def test_printed_commands_can_be_copied(tmp_path, here, name):
    "A shell gets back the very folder, whatever its name is."
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    (folder / "checkpoint.pt").touch()
    (folder / "config.yaml").touch()
    word = re.search(r"--resume=(.+) --save_data", here("score", str(folder)).stderr).group(1)
    shown = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert shown.stdout == os.fsencode(folder)


def test_edited_checkpoints_are_refused(tmp_path, here):
    trained = here("train", *TINY, f"--output_dir={tmp_path}")
    assert trained.returncode == 0, trained.stderr
    run_dir = next(tmp_path.iterdir())
    good = load_checkpoint(run_dir / "checkpoint.pt")

    def set_to(*keys):
        *path, last, value = keys
        state = load_checkpoint(run_dir / "checkpoint.pt.good")
        part = state
        for key in path:
            part = part[key]
        part[last] = value
        save_checkpoint(run_dir / "checkpoint.pt", state)

    save_checkpoint(run_dir / "checkpoint.pt.good", good)
    assert (good["learner"]["num_steps"], good["learner"]["population"]["ages"]) == (2, [2])
    for keys in (
        ("learner", "population", "ages", [10**40]),
        ("learner", "population", "ages", [-1]),
        ("learner", "population", "ages", [3]),
        ("learner", "population", "lifetimes", [0]),
        ("learner", "population", "lifetimes", [10**40]),
        ("learner", "num_steps", 1),
        ("learner", "num_steps", 10**40),
        ("learner", "meta_optimizer", "num_steps", 3),
        ("log", "steps", good["log"]["steps"][:1]),
    ):
        set_to(*keys)
        error = one_line_error(here("train", f"--resume={run_dir}", "--meta_steps=3"))
        assert "checkpoint: " in error, (keys[:-1], error)
    set_to("learner", "num_steps", 2)
    assert here("train", f"--resume={run_dir}", "--meta_steps=3").returncode == 0


@pytest.mark.parametrize("command", ["clean", "train", "score", "curate", "compare", "evaluate"])
@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_that_ask_to_end(command, number, code, here, monkeypatch):
    "Like Ctrl-C: what is open is closed, one line says it, and the code is the signal's."
    before = signal.signal(number, signal.SIG_DFL)  # whatever these tests were started by
    parser, about, _ = cli._COMMANDS[command]
    closed = []

    def work(**_):
        try:
            signal.raise_signal(number)
        finally:
            closed.append(True)
        return "it went on"

    monkeypatch.setitem(cli._COMMANDS, command, (parser, about, work))
    place = [] if command == "train" else ["somewhere"]
    run = here(command, *place)
    assert (run.returncode, run.stdout, run.stderr) == (code, "", "datarater: interrupted\n")
    assert closed and signal.getsignal(number) == signal.SIG_DFL
    signal.signal(number, before)


def test_workers_end_with_their_parent(tmp_path):
    "A repeat that would take minutes, in a process of its own, and a parent that is killed."
    (tmp_path / "mine.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "def busy(item):\n"
        "    Path('begun').touch()\n"
        "    time.sleep(300)\n"
    )
    (tmp_path / "parent.py").write_text(
        "import mine\n"
        "from datarater.curation import side_by_side\n"
        "from datarater.support import Progress\n"
        "if __name__ == '__main__':\n"
        "    side_by_side(mine.busy, [0, 1], 2, Progress('naps', 2, shown=False))\n"
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


OWN_MODEL = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 3))
"""


@pytest.fixture(scope="module")
def own_run(tmp_path_factory) -> Path:
    "A run on a folder of small images with a model of one's own; in its working folder."
    place = tmp_path_factory.mktemp("compared")
    (place / "own_net.py").write_text(OWN_MODEL)
    images, labels = read_digits()
    for i in (labels < 3).nonzero()[:150, 0].tolist():
        folder = place / "photos" / str(labels[i].item())
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i, 0].numpy()).save(folder / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(place)
        code = main(
            [
                "train",
                "--dataset_name=photos",
                "--image_size=8",
                "--inner_model_class=own_net:Net",
                "--data_rater_model_class=DataRater",
                "--output_dir=runs",
                "--device=cpu",
                *SHORT,
            ]
        )
        assert code == 0
    (run,) = (place / "runs").iterdir()
    return run


def comparing(run: Path, *changes: str) -> list[str]:
    "A short comparison that trains and measures by attacks."
    return [
        "compare",
        str(run),
        "--methods=baseline,filtered",
        "--num_seeds=2",
        "--train_attack=pgd",
        "--attack=pgd",
        "--attack_eps=0.1",
        "--attack_steps=2",
        "--num_attacked=10",
        "--jobs=1",
        *changes,
    ]


@pytest.fixture
def judged(own_run, monkeypatch):
    "Which models are trained, in the folder of the run; `judged.stop_at` one, Ctrl-C is pressed."
    found = SimpleNamespace(models=[], stop_at=None)
    judge = downstream.judge_method

    def judge_or_stop(method, given):
        if len(found.models) == found.stop_at:
            signal.raise_signal(signal.SIGINT)
        found.models.append((given.seed, method))
        return judge(method, given)

    monkeypatch.setattr(downstream, "judge_method", judge_or_stop)
    monkeypatch.chdir(own_run.parents[1])
    monkeypatch.syspath_prepend(own_run.parents[1])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield found
    signal.signal(signal.SIGINT, before)


def test_a_comparison_that_was_stopped_goes_on(own_run, judged, here, tmp_path):
    "On images and a model of one's own, by attacks; the rows are those of one that wasn't stopped."
    whole, file = tmp_path / "whole.json", tmp_path / "found.json"
    run = here(*comparing(own_run, f"--output={whole}"))
    assert run.returncode == 0, run.stderr
    assert "robust accuracy, %: pgd, eps 0.1, on 10 of the samples\nbaseline " in run.stdout
    everything = [(seed, name) for seed in (0, 1) for name in ("baseline", "filtered")]
    assert judged.models == everything
    found = json.loads(whole.read_text())
    assert all(0 <= row["pgd 0.1"] <= 1 and "failed_checks" in row for row in found["rows"])
    assert [row["method"] for row in found["robust_tables"]["pgd 0.1"]] == ["baseline", "filtered"]

    judged.models.clear()
    judged.stop_at = 1
    run = here(*comparing(own_run, f"--output={file}"))
    parts = tmp_path / "found.json.parts"
    assert (run.returncode, judged.models) == (130, everything[:1])
    assert f"what was trained is safe in {parts}; repeat the command" in run.stderr
    assert not file.exists() and (parts / "0_baseline.json").exists()
    judged.stop_at = None
    for change, name in (
        ("--epochs=2", "epochs"),
        ("--attack_eps=0.2", "attack_eps"),
        ("--train_attack=none", "train_attack"),
    ):
        said = one_line_error(here(*comparing(own_run, change, f"--output={file}")))
        assert f"differs in {name}: give them as they were" in said
    image = min((own_run.parents[1] / "photos").rglob("*.png"))
    image.rename(tmp_path / "elsewhere.png")
    said = one_line_error(here(*comparing(own_run, f"--output={file}")))
    assert "differs in data: give them as they were" in said
    (tmp_path / "elsewhere.png").rename(image)
    judged.models.clear()
    run = here(*comparing(own_run, f"--output={file}"))
    assert (run.returncode, judged.models) == (0, everything[1:]), run.stderr
    assert json.loads(file.read_text()) == found
    names = {"whole.json", "whole.png", "found.json", "found.png"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize(
    "change, said",
    {
        "--attack=foo": "some of fgsm, pgd, apgd, square, autoattack",
        "--attack_eps=8": "pixels in [0, 1]",
        "--attack_eps=[0.1,8]": "pixels in [0, 1]",
        "--attack_eps=-0.1": "pixels in [0, 1]",
        "--train_attack=fgsm": "one of none, pgd",
        "--inner_model_class=own_net:Ne": "has no attribute 'Ne'",
    }.items(),
)
def test_attacks_that_make_no_sense(own_run, judged, here, tmp_path, change, said):
    "Are refused before anything is trained or left behind, so that the next attempt works."
    file = f"--output={tmp_path / 'found.json'}"
    assert said in one_line_error(here(*comparing(own_run, change, file)))
    assert judged.models == []
    if "inner_model_class" in change:
        small = ["--methods=baseline", "--num_seeds=1", "--train_attack=none", "--attack_eps=0"]
        assert here(*comparing(own_run, *small, file)).returncode == 0


def test_attacks_on_what_is_no_image(here, tmp_path):
    models = ["--inner_model_class=ToyMLP", "--data_rater_model_class=RegressionDataRater"]
    saved = ["--save_data_rater_checkpoint=True", f"--output_dir={tmp_path}"]
    run = here("train", "--dataset_name=synthetic1", *models, *saved, *SHORT)
    assert run.returncode == 0, run.stderr
    (folder,) = tmp_path.iterdir()
    for flags in (["--train_attack=pgd"], ["--attack=pgd", "--attack_eps=0.1"]):
        said = one_line_error(here("compare", str(folder), "--jobs=1", *flags))
        assert "attacks need images (C, H, W) and class labels: leave them out" in said
    assert "no effect without attack" in one_line_error(
        here("compare", str(folder), "--attack_eps=0.1")
    )
    assert not list(folder.glob("comparison*"))


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
    monkeypatch.setattr(
        cli, "compare_downstream", lambda *_, **__: (evaluated(), Comparison(rows))[1]
    )
    monkeypatch.setattr(cli, "evaluate_robustness", evaluated)
    model = tmp_path / "model.pt"
    torch.save(construct_model("ToyCNN", seed=0).state_dict(), model)
    evaluating = ["evaluate", str(model), "--inner_model_class=ToyCNN", "--dataset_name=digits"]
    commands = {
        "robust accuracy 12.5%": [*evaluating, "--num_samples=10", "--device=cpu"],
        "baseline          50.00": ["compare", "run", "--jobs=1"],
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
