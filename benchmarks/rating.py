"""Rating a dataset that does not fit into memory: how fast next to the rater's bare forward pass, and with how much memory.

    python benchmarks/rating.py [--num_images 1000000]      writes results/rating.json

Random images are written to a temporary file, one byte a pixel, and a process that may not allocate as much as the file is long rates them. First in pairs, in turn: a stretch of the dataset by
`rate_batches`, and the rater's bare forward pass (`rate_many`) over images that lie in memory as floats. Then all of them by `score_to_file`, while the memory that the process owns is watched;
pages of the file, which the system keeps as it sees fit, are not part of it. The control is that reading the file as a whole fails.
"""

import argparse
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import command_line, write_result
from torch import Tensor

from datarater.curation import rate_batches, read_ratings, score_to_file
from datarater.data import BatchDataset, TensorPairs
from datarater.method import rate_many
from datarater.models import construct_model

SHAPE = (1, 28, 28)


class ImagesOnDisk(BatchDataset):
    """Images in a file, a byte a pixel, read where they are asked for; labels are the remainders of
    the indices.
    """

    def __init__(self, path: Path):
        self.images = np.memmap(path, np.uint8, "r").reshape(-1, *SHAPE)
        self.indices = torch.arange(len(self.images))

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        rows = np.asarray(indices)
        pairs = TensorPairs(
            torch.from_numpy(np.array(self.images[rows])),
            torch.from_numpy(rows % 10),
            num_classes=10,
        )
        return pairs.batch(torch.arange(len(rows)))


def own_memory() -> int:
    "Bytes of this process that belong to no file (RssAnon)."
    return next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("RssAnon")
    )


def limit_memory(extra: int) -> int:
    "Allow this process to allocate `extra` bytes more than it has now; returns the limit."
    data = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmData")
    )
    resource.setrlimit(resource.RLIMIT_DATA, (data + extra, data + extra))
    return data + extra


def compare_speed(
    rater: torch.nn.Module, dataset: ImagesOnDisk, num_pairs: int, size: int
) -> list[dict[str, float]]:
    "Images per second of a stretch of the dataset, and of as many in memory, in turn."
    x, y = dataset.batch(torch.arange(size))
    pairs = []
    with torch.no_grad():
        rate_many(rater, x, y)
        for i in range(num_pairs):
            begun = time.perf_counter()
            for _ in rate_batches(rater, dataset, i * size, (i + 1) * size):
                pass
            streamed = time.perf_counter()
            rate_many(rater, x, y)
            pairs.append(
                {
                    "streamed": size / (streamed - begun),
                    "bare": size / (time.perf_counter() - streamed),
                }
            )
    return pairs


def watch_memory(seconds: float, stop: threading.Event, seen: list[int]) -> None:
    while not stop.wait(seconds):
        seen.append(own_memory())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_images", type=int, default=1_000_000)
    parser.add_argument("--num_pairs", type=int, default=15)
    parser.add_argument(
        "--limit",
        type=int,
        default=400,
        help="MB that may be allocated beside what the libraries take",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as folder:
        path, draw = Path(folder) / "images.bin", np.random.default_rng(0)
        with open(path, "wb") as file:
            for start in range(0, arguments.num_images, 50_000):
                file.write(
                    draw.integers(
                        0, 256, (min(50_000, arguments.num_images - start), *SHAPE), dtype=np.uint8
                    )
                )
        dataset, rater = ImagesOnDisk(path), construct_model("DataRater", seed=0)
        limit_memory(arguments.limit * 1_000_000)
        try:
            np.fromfile(path, np.uint8)
            fits = True
        except MemoryError:
            fits = False
        pairs = compare_speed(rater, dataset, arguments.num_pairs, size=10_000)
        stop, seen = threading.Event(), []
        watcher = threading.Thread(target=watch_memory, args=(0.5, stop, seen), daemon=True)
        watcher.start()
        begun = time.perf_counter()
        num_rated = len(
            read_ratings(score_to_file(rater, dataset, Path(folder) / "ratings.parquet"))
        )
        seconds = time.perf_counter() - begun
        stop.set()
        watcher.join()
        content: dict[str, Any] = {
            "command": command_line(),
            "num_images": arguments.num_images,
            "file_bytes": path.stat().st_size,
            "limit_bytes": arguments.limit * 1_000_000,
            "fits_into_the_limit": fits,
            "median_ratio": float(np.median([pair["streamed"] / pair["bare"] for pair in pairs])),
            "ratio_quartiles": np.quantile(
                [pair["streamed"] / pair["bare"] for pair in pairs], (0.25, 0.75)
            ).tolist(),
            "pairs": pairs,
            "num_rated": num_rated,
            "seconds": seconds,
            "memory": {
                "after_a_tenth": seen[len(seen) // 10],
                "at_the_end": seen[-1],
                "highest": max(seen),
            },
            "memory_over_time": seen[:: max(1, len(seen) // 100)],
        }
    print(
        {
            name: content[name]
            for name in ("fits_into_the_limit", "median_ratio", "seconds", "memory")
        }
    )
    print(f"written: {write_result('rating', 'cpu', content).name}")


if __name__ == "__main__":
    main()
