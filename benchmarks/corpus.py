"""A corpus of shards, rated by both engines, with a worker killed on the way.

    pip install -e ".[ray]"
    python benchmarks/corpus.py [--num_shards 400] [--shard_size 20000]

writes results/corpus.json. The corpus is made in a temporary folder: Parquet files with ten
random numbers in each row. A short run on `synthetic1` trains the rater. The command rates the
corpus twice, by the local engine and by Ray. Meanwhile this process counts the finished shards
and the memory that each process owns and no file backs. When half of the shards are done, a
worker of Ray is killed (SIGKILL). Throughput is measured between a tenth and a half of the
shards, before the kill; the start-up is counted apart. Then the two folders are compared byte by
byte, curated by either rule and compared again, and the sketch is checked against the exact
quantiles.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from provenance import command_line, memory_of, parser_of, write_result

from datarater.runs import DataRaterConfig, run_meta_training
from datarater.scale import curate_corpus, open_corpus, rating_keys

SEED = 0
KEEP = 0.5
SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
RUN = dict(
    dataset_name="synthetic1",
    inner_model_class="ToyMLP",
    data_rater_model_class="RegressionDataRater",
    num_inner_models=2,
    meta_steps=50,
    save_data_rater_checkpoint=True,
    log=False,
    device="cpu",
    seed=SEED,
)


def make_corpus(folder: Path, num_shards: int, shard_size: int) -> int:
    "Write the shards; how many bytes they have."
    folder.mkdir()
    draw = np.random.default_rng(SEED)
    for number in range(num_shards):
        x = draw.uniform(-1, 1, shard_size * 10).astype(np.float32)
        table = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(x), 10)})
        pq.write_table(table, folder / f"part-{number:04d}.parquet")
    return sum(path.stat().st_size for path in folder.iterdir())


def processes_below(root: int) -> dict[int, str]:
    "The command lines of a process and all that it has started, directly or not."
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        try:
            parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        names[pid] = b" ".join(words).decode(errors="replace").strip()
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: names[pid] for pid in found if pid in names}


def is_worker(name: str) -> bool:
    "Whether a process is an actor that rates shards."
    return name.startswith("ray::") and "ShardRater" in name


def rate(place: Path, run_dir: Path, engine: str, num_shards: int, kill: bool) -> dict[str, Any]:
    "Run the command and watch it."
    command = [
        sys.executable,
        "-m",
        "datarater",
        "score",
        str(run_dir),
        "--input=corpus/*.parquet",
        f"--output={engine}",
        f"--engine={engine}",
        "--device=cpu",
        *(["--concurrency=2"] if engine == "ray" else []),
    ]
    begun = time.perf_counter()
    seen, killed = [], None
    process = subprocess.Popen(
        command,
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None:
        time.sleep(0.25)
        now = time.perf_counter() - begun
        finished = len(list((place / engine).glob("part-*.parquet")))
        below = processes_below(process.pid)
        workers = [pid for pid, name in below.items() if is_worker(name)]
        if kill and killed is None and finished >= num_shards // 2 and len(workers) > 1:
            killed = {"pid": workers[0], "when": now, "finished": finished}
            os.kill(workers[0], signal.SIGKILL)
        seen.append(
            {
                "seconds": now,
                "finished": finished,
                "driver": memory_of("RssAnon", process.pid),
                "workers": {pid: memory_of("RssAnon", pid) for pid in workers},
                "restarted": killed is not None,
            }
        )
    out, err = process.communicate()
    assert process.returncode == 0 and err == "", err
    assert not kill or killed, "no worker was found to be killed"
    return {
        "seconds": time.perf_counter() - begun,
        "said": out.splitlines()[0],
        "killed": killed,
        "seen": seen,
    }


def throughput(seen: list[dict[str, Any]], num_shards: int, shard_size: int) -> float:
    "Samples per second between a tenth and a half of the shards."
    first, last = (
        next(entry for entry in seen if entry["finished"] >= num_shards * share)
        for share in (0.1, 0.5)
    )
    num_samples = (last["finished"] - first["finished"]) * shard_size
    return num_samples / (last["seconds"] - first["seconds"])


def memory(seen: list[dict[str, Any]], num_shards: int) -> dict[str, Any]:
    "Of the driver, and of the worker that was there from the beginning to the end, in bytes."
    tenth = next(entry for entry in seen if entry["finished"] >= num_shards / 10)
    end = [entry for entry in seen if entry["finished"] < num_shards][-1]
    survivors = sorted(tenth["workers"].keys() & end["workers"].keys())
    found = {
        "driver": {
            "after_a_tenth": tenth["driver"],
            "at_the_end": end["driver"],
            "highest": max(entry["driver"] for entry in seen),
        }
    }
    if survivors:
        own = survivors[0]
        found["worker"] = {
            "after_a_tenth": tenth["workers"][own],
            "at_the_end": end["workers"][own],
            "highest": max(entry["workers"].get(own, 0) for entry in seen),
        }
    return found


def over_time(seen: list[dict[str, Any]], num_points: int = 60) -> list[dict[str, Any]]:
    "A sample of what was seen, for a figure."
    return [
        {
            "seconds": round(entry["seconds"], 2),
            "finished": entry["finished"],
            "driver": entry["driver"],
            "workers": list(entry["workers"].values()),
        }
        for entry in seen[:: max(1, len(seen) // num_points)]
    ]


def differing(first: Path, second: Path) -> int:
    "Files that are not the same in two folders."
    ours, theirs = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (first, second)
    )
    return sum(ours.get(name) != theirs.get(name) for name in ours | theirs)


def ratings_in(folder: Path) -> np.ndarray:
    "All ratings in a folder, shard by shard."
    paths = sorted(folder.glob("part-*.parquet"))
    tables = [pq.read_table(path, columns=["rating"]) for path in paths]
    return pa.concat_tables(tables)["rating"].to_numpy()


def sketch_error(folder: Path) -> dict[str, Any]:
    "The sketch against the exact quantiles, which need all ratings at once."
    ratings = np.sort(ratings_in(folder))
    sketch = open_corpus(folder).sketch
    rows = []
    for share in SHARES:
        low, high = sketch.quantile(share)
        exact = float(np.quantile(ratings, share, method="inverted_cdf"))
        rows.append(
            {
                "share": share,
                "exact": exact,
                "low": low,
                "high": high,
                "holds": low <= exact <= high,
                "ratings_between": float(((ratings >= low) & (ratings <= high)).mean()),
            }
        )
    return {
        "quantiles": rows,
        "fullest_bin": float(sketch.counts.max() / len(sketch)),
        "bins_in_use": int((sketch.counts > 0).sum()),
        "bytes": sketch.counts.nbytes,
        "bytes_of_all_ratings": ratings.nbytes,
    }


def described(engine: str, run: dict[str, Any], num_shards: int, shard_size: int) -> dict[str, Any]:
    "An engine's run in numbers."
    first = next(entry for entry in run["seen"] if entry["finished"])
    return {
        "seconds": run["seconds"],
        "until_the_first_shard": first["seconds"],
        "samples_per_second": throughput(run["seen"], num_shards, shard_size),
        "workers": 2 if engine == "ray" else 1,
        "memory": memory(run["seen"], num_shards),
        "over_time": over_time(run["seen"]),
    }


def curated(place: Path, rule: str) -> dict[str, Any]:
    "Both engines' ratings, curated by a rule."
    begun = time.perf_counter()
    summaries = [
        curate_corpus(place / engine, place / f"{engine} {rule}", keep=KEEP, rule=rule, seed=SEED)
        for engine in ("local", "ray")
    ]
    return {
        "num_kept": [summary["num_kept"] for summary in summaries],
        "differing_files": differing(place / f"local {rule}", place / f"ray {rule}"),
        "seconds_each": (time.perf_counter() - begun) / 2,
    }


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("--num_shards", type=int, default=400)
    parser.add_argument("--shard_size", type=int, default=20_000)
    arguments = parser.parse_args()
    import ray  # only its version: what is needed is there

    num_shards, shard_size = arguments.num_shards, arguments.shard_size
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        corpus_bytes = make_corpus(place / "corpus", num_shards, shard_size)
        config = DataRaterConfig(**RUN, output_dir=str(place / "runs"))
        run_dir = run_meta_training(config, progress=False).run_dir
        runs = {
            engine: rate(place, run_dir, engine, num_shards, kill=engine == "ray")
            for engine in ("local", "ray")
        }
        paths = sorted((place / "ray").glob("part-*.parquet"))
        uids = pa.concat_tables([pq.read_table(path, columns=["uid"]) for path in paths])["uid"]
        kept = {rule: curated(place, rule) for rule in ("best", "by_chance")}
        keys = np.sort(rating_keys(ratings_in(place / "ray")))
        best = keys[len(keys) - round(KEEP * len(keys)) :]
        chosen = np.sort(rating_keys(ratings_in(place / "ray best")))
        killed = runs["ray"]["killed"]
        content: dict[str, Any] = {
            "command": command_line(),
            "ray": ray.__version__,
            "cpus": os.cpu_count(),
            "seed": SEED,
            "configuration": RUN,
            "num_shards": num_shards,
            "shard_size": shard_size,
            "num_samples": num_shards * shard_size,
            "corpus_bytes": corpus_bytes,
            "keep": KEEP,
            "engines": {
                engine: described(engine, run, num_shards, shard_size)
                for engine, run in runs.items()
            },
            "killed": {"seconds": killed["when"], "finished": killed["finished"]},
            "rated": {
                "rows": len(uids),
                "distinct": len(uids.unique()),
                "differing_files": differing(place / "local", place / "ray"),
            },
            "kept": kept,
            "kept_as_sorting_finds": bool(np.array_equal(best, chosen)),
            "sketch": sketch_error(place / "ray"),
        }
    for engine, found in content["engines"].items():
        print(engine, {name: found[name] for name in ("seconds", "samples_per_second", "memory")})
    print(content["killed"], content["rated"], content["kept"], content["kept_as_sorting_finds"])
    write_result("corpus", content)


if __name__ == "__main__":
    main()
