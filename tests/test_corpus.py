"""A corpus on the command line, by both engines: whatever is killed in the middle, the ratings are
those of a run that was left alone.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch import nn

from datarater.cli import main
from datarater.data import SampleForm
from datarater.runs import DataRaterConfig, run_meta_training
from datarater.scale import curate_corpus, score_corpus
from datarater.support import DataRaterError

SIZES = (3000, 2000, 0, 2500, 2000, 1500)

# A rater that kills its own process at the fifth batch it sees while the file is there; only one
# process can take the file away.
MINE = """
import os, signal
from datarater.models import RegressionDataRater

class Rater(RegressionDataRater):
    num_batches = 0

    def forward(self, x):
        Rater.num_batches += 1
        if Rater.num_batches == 5:
            try:
                os.unlink(os.environ.get("STOP", ""))
            except OSError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)
"""


def command_of(place: Path, *arguments: str) -> list[str]:
    "The command that rates the corpus."
    run = (place / "run").read_text()
    return ["score", run, "--input=corpus/*", "--device=cpu", *arguments]


def errors_of(run):
    "The lines of the error output, but for those that say how far it has come."
    return [line for line in run.stderr.splitlines() if not line.startswith("rating shards: ")]


def score(place: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    "`datarater score` of the corpus, in a process of its own."
    command = [sys.executable, "-m", "datarater", *command_of(place, *arguments)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        command,
        cwd=place,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )


def refused(arguments: list[str], message: str, capsys) -> None:
    "The command ends with code 2 and one line that has the message."
    code = main(arguments)
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), (arguments, err)
    assert message in err, (arguments, err)
    assert err.startswith("datarater: error: "), (arguments, err)
    assert err.count("\n") == 1, (arguments, err)


def tables_in(folder: Path) -> pd.DataFrame:
    "The tables in a folder, in the order of their names."
    paths = sorted(folder.glob("*.parquet"))
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)


def contents(folder: Path) -> dict[str, bytes]:
    "What lies in a folder, hidden files too."
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def contents_of_all(folder: str) -> dict[Path, bytes | None]:
    "What lies in a folder, at any depth."
    return {path: path.read_bytes() if path.is_file() else None for path in Path(folder).rglob("*")}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a run, a corpus of six shards, and its ratings in `ratings`, by a process that
    nobody disturbed.
    """
    place = tmp_path_factory.mktemp("place")
    settings = dict(
        dataset_name="synthetic1",
        inner_model_class="ToyMLP",
        data_rater_model_class="RegressionDataRater",
        device="cpu",
        save_data_rater_checkpoint=True,
        log=False,
    )
    run_dir = run_meta_training(
        DataRaterConfig(**settings, meta_steps=2, num_inner_models=1, output_dir=str(place)),
        progress=False,
    ).run_dir
    (place / "run").write_text(str(run_dir))
    (place / "mine.py").write_text(MINE)
    config = (run_dir / "config.yaml").read_text()
    (run_dir / "config.yaml").write_text(config.replace("RegressionDataRater", "mine:Rater"))
    (place / "corpus").mkdir()
    draw = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        x = draw.uniform(-1, 1, (size, 10)).astype(np.float32)
        y = draw.standard_normal(size)
        if number % 2:
            np.savez(place / f"corpus/part-{number}.npz", x=x, y=y)
        else:
            pq.write_table(
                pa.table({"x": pa.array(list(x), pa.list_(pa.float32())), "y": y}),
                place / f"corpus/part-{number}.parquet",
            )
    run = score(place, "--output=ratings")
    assert (run.returncode, errors_of(run)) == (0, []), run.stderr
    assert run.stdout.startswith(
        "rated 11,000 samples in 6 of 6 shards: median rating between "
    ) and run.stdout.endswith("\nwritten: ratings\n")
    return place


def test_ratings_are_complete(place):
    "Every row once, in order; nothing else in the folder."
    files = contents(place / "ratings")
    assert sorted(files) == [
        "job.json",
        *(f"part-{number}.parquet" for number in range(6)),
        "summary.json",
    ]
    table = tables_in(place / "ratings")
    assert table["uid"].tolist() == [
        f"part-{number}:{row}" for number, size in enumerate(SIZES) for row in range(size)
    ]


def test_local_process_killed(place, monkeypatch):
    """What it had finished is safe, what it was at is not there; the second attempt does the rest,
    in the same bytes.
    """
    (place / "stop").touch()
    killed = score(place, "--output=killed", STOP=str(place / "stop"))
    assert killed.returncode == -signal.SIGKILL and not (place / "stop").exists()
    before = contents(place / "killed")
    assert [name for name in before if name.startswith(".part-0.parquet.")]
    assert not {"part-0.parquet", "summary.json"} & set(before)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    assert main(command_of(place, "--output=killed")) == 0
    assert contents(place / "killed") == contents(place / "ratings")


def test_worker_of_ray_killed(place):
    """Ray starts another worker, which repeats the shard; the same bytes, no error on the
    error output, and no Ray left.
    """
    (place / "stop").touch()
    run = score(
        place, "--output=by_ray", "--engine=ray", "--concurrency=2", STOP=str(place / "stop")
    )
    assert (run.returncode, errors_of(run)) == (0, []), run.stderr
    assert not (place / "stop").exists()  # a worker was killed
    assert contents(place / "by_ray") == contents(place / "ratings")
    assert run.stdout.startswith("rated 11,000 samples in 6 of 6 shards: ")


def test_repaired_after_it_was_skipped(place, capsys, monkeypatch):
    "A damaged shard is left out and listed; repaired, it is the only one that is rated."
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    command = command_of(place, "--output=skipped")
    whole = Path("corpus/part-1.npz").read_bytes()
    Path("corpus/part-1.npz").write_bytes(whole[:-300])
    code = main([*command, "--skip_corrupt=true"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert "in 5 of 6 shards" in out
    assert "\nskipped: shard part-1.npz is damaged" in out.replace(f"{place}/corpus/", "")
    Path("corpus/part-1.npz").write_bytes(whole)
    times = {path: path.stat().st_mtime_ns for path in Path("skipped").glob("*.parquet")}
    assert main(command) == 0 and contents(place / "skipped") == contents(place / "ratings")
    assert len(times) == 5 and all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_bad_input(place, tmp_path, capsys, monkeypatch):
    "One line each, code 2, and nothing is written."
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setitem(sys.modules, "ray", None)  # not installed
    run = (place / "run").read_text()
    ratings = place / "ratings"
    np.savez("x.npz", x=np.full((3, 10), np.nan))
    np.savez("shape.npz", x=np.zeros((3, 9)))
    np.savez("column.npz", samples=np.zeros((3, 10)))
    Path("damaged.parquet").write_bytes(b"PAR1")
    bad = {
        ("--input=nothing/*.npz",): "no file matches 'nothing/*.npz'",
        ("--input=x.npz",): "x.npz: row 0 has NaN or infinity",
        ("--input=shape.npz",): "row 0 has a sample of shape (9,), expected (10,)",
        ("--input=column.npz",): "only samples: give --sample_column",
        ("--input=x.npz", "--label_column=z"): "there is no column z, only x: give --label_column",
        ("--input=damaged.parquet",): "damaged.parquet is damaged or no .parquet file",
        ("--input=x.npz", "--engine=fast"): "engine='fast' is not allowed: give one of local, ray",
        ("--input=x.npz", "--engine=ray"): "pip install 'datarater[ray]'",
        ("--input=x.npz", "--concurrency=0"): "concurrency=0 is not allowed",
        ("--input=x.npz", "--concurrency=2"): "give engine='ray'",
        ("--input=x.npz", "--dataset_name=digits"): "--dataset_name is not allowed beside --input",
        ("--input=x.npz", "--batch_size=0"): "batch_size=0 is not allowed",
        ("--input=x.npz", f"--output={ratings}"): "holds ratings of another job",
        ("--input=x.npz", f"--output={place}"): "holds other files: give a new folder",
        ("--input=x.npz", "--output=no/such"): "is in a folder that does not exist",
        ("--input=x.npz", "--skip_corrupt=maybe"): "skip_corrupt",
        ("--engine=ray",): "--engine is not allowed without --input",
    }
    for number, (arguments, message) in enumerate(bad.items()):
        # a later --output counts
        own = f"--output=ratings{number}"
        refused(["score", run, "--device=cpu", own, *arguments], message, capsys)
    assert {path.name for path in tmp_path.glob("ratings*/*")} <= {"job.json"}


def test_second_attempt(place, tmp_path, capsys, monkeypatch):
    """A first one with a wrong option doesn't block the folder; repeated, ratings inside the corpus
    are no shards; another corpus of the same names and sizes is refused.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(place)
    np.savez("a.npz", x=np.zeros((3, 10)))
    command = [
        "score",
        (place / "run").read_text(),
        "--input=.",
        "--output=ratings",
        "--device=cpu",
    ]
    assert main([*command, "--label_column=z"]) == 2 and os.listdir("ratings") == ["job.json"]
    for _ in range(2):
        assert main(command) == 0 and "3 samples in 1 of 1 shards" in capsys.readouterr().out
    np.savez("a.npz", x=np.ones((3, 10)))
    refused(command, "shard a.npz has changed since it was rated", capsys)


def test_curated(place, tmp_path, capsys):
    """Exactly the best, as sorting finds them; the same coins for each folder of ratings; bad input
    in one line.
    """
    assert main(["curate", str(place / "ratings"), "--keep=0.3", f"--output={tmp_path}/kept"]) == 0
    assert "kept 3,300 of 11,000 samples in 6 shards (rule best)" in capsys.readouterr().out
    table = tables_in(place / "ratings")
    kept = tables_in(tmp_path / "kept")
    best = np.sort(np.argsort(-table["rating"].to_numpy(), kind="stable")[:3300])
    assert kept["uid"].tolist() == table.loc[best, "uid"].tolist()
    others = [name for name in ("killed", "by_ray", "skipped") if (place / name).exists()]
    by_chance = ["--keep=0.3", "--rule=by_chance", "--seed=3"]
    for options in (["--keep=0.3"], by_chance, ["--threshold=0.1"]):
        found = []
        for source in ("ratings", *others):
            output = tmp_path / f"of_{source}"
            flags = [*options, f"--output={output}", "--overwrite=true"]
            assert main(["curate", str(place / source), *flags]) == 0
            found.append(contents(output))
        assert all(each == found[0] for each in found)
    capsys.readouterr()
    for arguments, message in {
        ("ratings",): "give either keep",
        ("ratings", "--keep=2"): "keep=2.0 is not allowed",
        ("ratings", "--keep=0.5", "--rule=best_of_each_class"): "is not allowed for a corpus",
        ("corpus", "--keep=0.5"): "is no finished folder of ratings",
        ("ratings", "--keep=0.5", f"--output={place}"): "exists already",
    }.items():
        source, *flags = arguments
        new = f"--output={tmp_path}/new"
        refused(["curate", str(place / source), new, *flags], message, capsys)
    assert not (tmp_path / "new").exists()


class Linear(nn.Module):
    "Rates ten numbers by their sum."

    def forward(self, x):
        return x.sum(1)


FORM = SampleForm((10,), (-100.0, 100.0))


@pytest.fixture
def rated(tmp_path, monkeypatch) -> Callable[[], np.ndarray]:
    "In a folder with a corpus of two shards, which is rated into `ratings`; a call rates it again."
    monkeypatch.chdir(tmp_path)
    Path("corpus").mkdir()
    for number in range(2):
        x = np.random.default_rng(number).uniform(-1, 1, (2500, 10))
        pq.write_table(pa.table({"x": list(x)}), f"corpus/{number}.parquet", compression="none")

    def rate() -> np.ndarray:
        score_corpus(Linear(), FORM, "corpus", "ratings")
        return tables_in(Path("ratings"))["rating"].to_numpy()

    rate()
    return rate


def test_a_shard_changed_in_its_middle(rated):
    "Its size and both its ends are the same; it is refused, and rated anew when that is asked for."
    shard, ratings = Path("corpus/0.parquet"), Path("ratings/0.parquet")
    old, before = shard.read_bytes(), rated()
    x = np.stack(pd.read_parquet(shard)["x"])
    place = old.index(x[1250].tobytes())
    assert 1 << 16 < place < len(old) - (1 << 17)
    shard.write_bytes(old[:place] + np.ones(10).tobytes() + old[place + 80 :])
    with pytest.raises(DataRaterError, match="0.parquet has changed since it was rated"):
        rated()
    ratings.unlink()
    after = rated()
    assert after[1250] == 10 and np.flatnonzero(after != before).tolist() == [1250]
    ratings.unlink()
    shard.write_bytes(old)
    assert np.array_equal(rated(), before) and np.array_equal(rated(), before)


def test_ratings_that_do_not_know_their_shard(rated):
    "Written before the shard was hashed: they can be curated, but not gone on with."
    notes = json.loads(pq.read_metadata("ratings/0.parquet").metadata[b"datarater"])
    del notes["content"]
    old = pq.read_table("ratings/0.parquet").replace_schema_metadata(
        {"datarater": json.dumps(notes)}
    )
    pq.write_table(old, "ratings/0.parquet")
    assert curate_corpus("ratings", "kept", keep=0.5)["num_kept"] == 2500
    with pytest.raises(DataRaterError, match="0.parquet has changed since it was rated"):
        rated()


def test_names_from_files_lead_nowhere(rated, tmp_path):
    "A hostile folder of ratings: curated, it is refused, and nothing beside the output is written."
    Path("ratings/sub").mkdir()
    job = json.loads(Path("ratings/job.json").read_text())
    notes = json.loads(pq.read_metadata("ratings/0.parquet").metadata[b"datarater"])
    for name in ("../precious", f"{tmp_path}/precious", "link", "./0", "sub/0"):
        forged = {"datarater": json.dumps(notes | {"shard": name})}
        stolen = pq.read_table("ratings/0.parquet").replace_schema_metadata(forged)
        Path("precious.parquet").unlink(missing_ok=True)
        if name == "link":
            Path("ratings/link.parquet").symlink_to(tmp_path / "precious.parquet")
        pq.write_table(stolen, Path("ratings", f"{name}.parquet"))
        Path("ratings/job.json").write_text(json.dumps(job | {"shards": {name: 1}}))
        before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        with pytest.raises(DataRaterError, match="it does not lie in this folder itself"):
            curate_corpus("ratings", "kept", keep=0.5)
        assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_a_folder_with_a_person_s_files_is_not_replaced(rated, tmp_path):
    "With --overwrite=true too; neither is one that merely has a summary.json."
    curate_corpus("ratings", "kept", keep=0.5)
    cases = {
        "of ours": lambda: None,
        "a file beside ours": lambda: Path("kept/notes.txt").write_text("mine"),
        "a hidden one": lambda: Path("kept/.notes").write_text("mine"),
        "a folder": lambda: Path("kept/mine").mkdir(),
        "a link": lambda: Path("kept/link").symlink_to(tmp_path / "corpus"),
        "a shard of theirs": lambda: Path("kept/0.parquet").write_text("mine"),
        "another program's": lambda: [file.unlink() for file in Path("kept").glob("*.parquet")],
    }
    for case, change in cases.items():
        shutil.rmtree("kept")
        curate_corpus("ratings", "kept", keep=0.5)
        change()
        before = contents_of_all("kept")
        try:
            curate_corpus("ratings", "kept", keep=0.25, overwrite=True)
        except DataRaterError as error:
            assert "which would be lost: give a new folder" in str(error)
            assert contents_of_all("kept") == before and case != "of ours", case
        else:
            assert case == "of ours" and len(tables_in(Path("kept"))) == 1250
        assert sorted(os.listdir()) == ["corpus", "kept", "ratings"]


@pytest.mark.parametrize("num_renamed", [0, 1, 2])
def test_curating_killed_at_its_renamings(rated, monkeypatch, num_renamed):
    """The old folder and then the new one are renamed: whenever it is killed, one of both is in
    sight, and the next attempt leaves nothing else.
    """
    curate_corpus("ratings", "kept", keep=0.5)
    old = contents(Path("kept"))
    if (child := os.fork()) == 0:
        rename, done = Path.rename, []

        def rename_or_die(path, target):
            if len(done) == num_renamed:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(target)
            return rename(path, target)

        Path.rename = rename_or_die
        monkeypatch.setattr("datarater.disk._remove_own", lambda _: os.kill(os.getpid(), 9))
        try:
            curate_corpus("ratings", "kept", keep=0.25, overwrite=True)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    in_sight = [path for path in Path().iterdir() if path.name.startswith("kept")]
    sizes = sorted(len(tables_in(path)) for path in in_sight)
    assert sizes == [[2500], [2500], [1250, 2500]][num_renamed]
    with pytest.raises(DataRaterError, match="exists already: give a new folder, or allow it"):
        curate_corpus("ratings", "kept", keep=0.25)
    assert sorted(os.listdir()) == ["corpus", "kept", "ratings"]
    assert (contents(Path("kept")) == old) == (num_renamed < 2)


@pytest.mark.parametrize("moment", ["job.json", "0.parquet", "1.parquet", "summary.json"])
def test_scoring_killed_while_a_file_is_written(rated, monkeypatch, moment):
    "The same command goes on, to the same files, and nothing is left of what was not finished."
    whole = contents(Path("ratings"))
    shutil.rmtree("ratings")
    if (child := os.fork()) == 0:

        def put_or_die(temporary, path, overwrite):
            if path.name == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            temporary.replace(path)

        monkeypatch.setattr("datarater.disk._put", put_or_die)
        try:
            rated()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert any(name.startswith(f".{moment}.") for name in os.listdir("ratings"))
    rated()
    assert contents(Path("ratings")) == whole


def test_links_in_the_output_are_not_followed(rated, tmp_path):
    Path("ratings/0.parquet").unlink()
    Path("ratings/0.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(DataRaterError, match="0.parquet is a link, which may lead out"):
        rated()
    assert not Path("elsewhere.parquet").exists()
