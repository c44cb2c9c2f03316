"""Rating a dataset that does not fit into memory: speed and memory.

    python benchmarks/rating.py [--num_images 1000000]      writes results/rating.json

Random images are written to a temporary file, one byte a pixel. The process that rates them may
not allocate as much memory as the file is long. First, stretches of the dataset rated by
`rate_batches` take turns with the rater's bare forward pass (`rate_many`) over images held in
memory as floats. Then `score_to_file` rates all images while the memory that the process owns is
watched; pages of the file, which the system keeps as it sees fit, do not count. As a control,
reading the whole file fails.
"""

import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import command_line, memory_of, parser_of, write_result
from torch import Tensor

from datarater.curation import rate_batches, read_ratings, score_to_file
from datarater.data import BatchDataset, TensorPairs
from datarater.method import rate_many
from datarater.models import construct_model

SHAPE = (1, 28, 28)


class ImagesOnDisk(BatchDataset):
    "Images in a file, a byte a pixel, read when asked for; labels are the indices modulo ten."

    def __init__(self, path: Path):
        self.images = np.memmap(path, np.uint8, "r").reshape(-1, *SHAPE)
        self.indices = torch.arange(len(self.images))

    def read(self, indices: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        rows = np.asarray(indices)
        images = torch.from_numpy(np.array(self.images[rows]))
        pairs = TensorPairs(images, torch.from_numpy(rows % 10), num_classes=10)
        return pairs.batch(torch.arange(len(rows)))


def write_images(path: Path, num: int) -> None:
    "Random bytes, a part at a time."
    draw = np.random.default_rng(0)
    with open(path, "wb") as file:
        for start in range(0, num, 50_000):
            shape = (min(50_000, num - start), *SHAPE)
            file.write(draw.integers(0, 256, shape, dtype=np.uint8))


def limit_memory(extra: int) -> int:
    "Allow this process to allocate `extra` bytes more than it has now; returns the limit."
    limit = memory_of("VmData") + extra
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return limit


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
            bare = time.perf_counter() - streamed
            pairs.append({"streamed": size / (streamed - begun), "bare": size / bare})
    return pairs


def watch_memory(seconds: float, stop: threading.Event, seen: list[int]) -> None:
    "Note this process's own memory again and again, until told to stop."
    while not stop.wait(seconds):
        seen.append(memory_of("RssAnon"))


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("--num_images", type=int, default=1_000_000)
    parser.add_argument("--num_pairs", type=int, default=15)
    about = "MB that may be allocated beside what the libraries take"
    parser.add_argument("--limit", type=int, default=400, help=about)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.bin"
        write_images(path, arguments.num_images)
        dataset = ImagesOnDisk(path)
        rater = construct_model("DataRater", seed=0)
        limit_memory(arguments.limit * 1_000_000)
        try:
            np.fromfile(path, np.uint8)
            fits = True
        except MemoryError:
            fits = False
        pairs = compare_speed(rater, dataset, arguments.num_pairs, size=10_000)
        stop = threading.Event()
        seen: list[int] = []
        watcher = threading.Thread(target=watch_memory, args=(0.5, stop, seen), daemon=True)
        watcher.start()
        begun = time.perf_counter()
        rated = score_to_file(rater, dataset, Path(folder) / "ratings.parquet")
        num_rated = len(read_ratings(rated))
        seconds = time.perf_counter() - begun
        stop.set()
        watcher.join()
        ratios = [pair["streamed"] / pair["bare"] for pair in pairs]
        content: dict[str, Any] = {
            "command": command_line(),
            "num_images": arguments.num_images,
            "file_bytes": path.stat().st_size,
            "limit_bytes": arguments.limit * 1_000_000,
            "fits_into_the_limit": fits,
            "median_ratio": float(np.median(ratios)),
            "ratio_quartiles": np.quantile(ratios, (0.25, 0.75)).tolist(),
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
    shown = ("fits_into_the_limit", "median_ratio", "seconds", "memory")
    print({name: content[name] for name in shown})
    write_result("rating", content)


if __name__ == "__main__":
    main()
