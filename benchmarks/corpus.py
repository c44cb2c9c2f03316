"""A corpus of shards: both engines on the same eight million samples, a worker killed in the middle, memory over time, and the keep-lists.

    python benchmarks/corpus.py [--num_shards 400] [--shard_size 20000]      writes results/corpus.json; needs pip install -e ".[ray]"

The corpus is made into a temporary folder: Parquet files of ten random numbers a row. A short run on `synthetic1` trains the rater. The command rates the corpus twice, by the local engine and by
Ray, while this process watches from outside: how many shards are finished, and how much memory each process owns that belongs to no file. When half of the shards are there, a worker of Ray is
killed (SIGKILL). Throughput is taken between a tenth and a half of the shards, before the kill; starting is counted apart. Then the two folders are compared byte by byte, curated by either
rule, compared again, and the sketch is held against the exact quantiles.
"""

import argparse
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
from provenance import command_line, write_result

from datarater.runs import DataRaterConfig, run_meta_training
from datarater.scale import curate_corpus, open_corpus, rating_keys

SEED, KEEP, SHARES = 0, 0.5, (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
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
        pq.write_table(
            pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(x), 10)}),
            folder / f"part-{number:04d}.parquet",
        )
    return sum(path.stat().st_size for path in folder.iterdir())


def processes_below(root: int) -> dict[int, str]:
    "The command lines of a process and all that it has started, directly or not."
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rpartition(")")[2].split()[1]
                )
                names[int(entry.name)] = (
                    (entry / "cmdline")
                    .read_bytes()
                    .replace(b"\0", b" ")
                    .decode(errors="replace")
                    .strip()
                )
            except (OSError, IndexError):  # it has ended meanwhile
                continue
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: names[pid] for pid in found if pid in names}


def own_memory(pid: int) -> int:
    "Bytes of a process that belong to no file (RssAnon); 0 when it is gone."
    try:
        return next(
            (
                int(line.split()[1]) * 1024
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if line.startswith("RssAnon")
            ),
            0,
        )
    except OSError:
        return 0


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
    begun, seen, killed = time.perf_counter(), [], None
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
        now, finished = (
            time.perf_counter() - begun,
            len(list((place / engine).glob("part-*.parquet"))),
        )
        below = processes_below(process.pid)
        workers = [pid for pid, name in below.items() if is_worker(name)]
        if kill and killed is None and finished >= num_shards // 2 and len(workers) > 1:
            killed = {"pid": workers[0], "when": now, "finished": finished}
            os.kill(workers[0], signal.SIGKILL)
        seen.append(
            {
                "seconds": now,
                "finished": finished,
                "driver": own_memory(process.pid),
                "workers": {pid: own_memory(pid) for pid in workers},
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
    return (
        (last["finished"] - first["finished"]) * shard_size / (last["seconds"] - first["seconds"])
    )


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
    names = {path.name for folder in (first, second) for path in folder.iterdir()}
    return sum(
        not (
            (first / name).is_file()
            and (second / name).is_file()
            and (first / name).read_bytes() == (second / name).read_bytes()
        )
        for name in names
    )


def sketch_error(folder: Path) -> dict[str, Any]:
    "The sketch against the exact quantiles, which need all ratings at once."
    ratings, sketch = (
        np.sort(
            np.concatenate(
                [
                    pq.read_table(path, columns=["rating"])["rating"].to_numpy()
                    for path in sorted(folder.glob("part-*.parquet"))
                ]
            )
        ),
        open_corpus(folder).sketch,
    )
    rows = []
    for share in SHARES:
        (low, high), exact = (
            sketch.quantile(share),
            float(np.quantile(ratings, share, method="inverted_cdf")),
        )
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_shards", type=int, default=400)
    parser.add_argument("--shard_size", type=int, default=20_000)
    arguments = parser.parse_args()
    import ray  # only its version: what is needed is there

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        corpus_bytes = make_corpus(place / "corpus", arguments.num_shards, arguments.shard_size)
        run_dir = run_meta_training(
            DataRaterConfig(**RUN, output_dir=str(place / "runs")), progress=False
        ).run_dir
        runs = {
            engine: rate(place, run_dir, engine, arguments.num_shards, kill=engine == "ray")
            for engine in ("local", "ray")
        }
        rows = [
            pq.read_table(path, columns=["uid", "rating"])
            for path in sorted((place / "ray").glob("part-*.parquet"))
        ]
        uids = pa.concat_tables(rows)["uid"]
        kept = {}
        for rule in ("best", "by_chance"):
            begun = time.perf_counter()
            summaries = [
                curate_corpus(
                    place / engine, place / f"{engine} {rule}", keep=KEEP, rule=rule, seed=SEED
                )
                for engine in runs
            ]
            kept[rule] = {
                "num_kept": [summary["num_kept"] for summary in summaries],
                "differing_files": differing(place / f"local {rule}", place / f"ray {rule}"),
                "seconds_each": (time.perf_counter() - begun) / 2,
            }
        ratings = np.concatenate([table["rating"].to_numpy() for table in rows])
        best = np.sort(rating_keys(ratings))[::-1][: round(KEEP * len(ratings))]
        chosen = np.sort(
            rating_keys(
                np.concatenate(
                    [
                        pq.read_table(path, columns=["rating"])["rating"].to_numpy()
                        for path in sorted((place / "ray best").glob("part-*.parquet"))
                    ]
                )
            )
        )[::-1]
        content: dict[str, Any] = {
            "command": command_line(),
            "ray": ray.__version__,
            "cpus": os.cpu_count(),
            "seed": SEED,
            "configuration": RUN,
            "num_shards": arguments.num_shards,
            "shard_size": arguments.shard_size,
            "num_samples": arguments.num_shards * arguments.shard_size,
            "corpus_bytes": corpus_bytes,
            "keep": KEEP,
            "engines": {
                engine: {
                    "seconds": run["seconds"],
                    "until_the_first_shard": next(
                        entry["seconds"] for entry in run["seen"] if entry["finished"]
                    ),
                    "samples_per_second": throughput(
                        run["seen"], arguments.num_shards, arguments.shard_size
                    ),
                    "workers": 2 if engine == "ray" else 1,
                    "memory": memory(run["seen"], arguments.num_shards),
                    "over_time": over_time(run["seen"]),
                }
                for engine, run in runs.items()
            },
            "killed": {
                "seconds": runs["ray"]["killed"]["when"],
                "finished": runs["ray"]["killed"]["finished"],
            },
            "rated": {
                "rows": len(uids),
                "distinct": len(uids.unique()),
                "differing_files": differing(place / "local", place / "ray"),
            },
            "kept": kept,
            "kept_as_sorting_finds": bool(np.array_equal(best, chosen)),
            "sketch": sketch_error(place / "ray"),
        }
    print(
        {
            engine: {name: found[name] for name in ("seconds", "samples_per_second", "memory")}
            for engine, found in content["engines"].items()
        }
    )
    print(content["killed"], content["rated"], content["kept"], content["kept_as_sorting_finds"])
    print(f"written: {write_result('corpus', 'cpu', content).name}")


if __name__ == "__main__":
    main()
