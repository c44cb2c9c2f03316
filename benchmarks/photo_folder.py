"""A folder of colour photographs, some in the wrong class folder, blurred or noisy.

    DATARATER_DATA=FOLDER python benchmarks/photo_folder.py photos [--seed 0]

makes photos/train/CLASS/*.png (candidates), photos/val/CLASS/*.png (trusted) and, beside the
folder, photos.csv: for each candidate its path, what is wrong with it, and its true class. The
pictures are those of CIFAR-10, from cifar10n/train-*.parquet in the data folder (columns `image`,
JPEG bytes of 32×32 pixels, and `label`). The same seed makes the same folder, byte for byte.
"""

import argparse
import csv
import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from PIL import Image, ImageFilter

CLASSES = (
    "airplane automobile bird cat deer dog frog horse ship truck"
).split()  # in the order of CIFAR-10's labels
WRONG, BLUR, NOISE = 0.25, 0.05, 0.05  # shares of the candidates
BLUR_RADIUS = (2.0, 3.0)  # in pixels: standard deviation of the Gaussian, drawn uniformly
NOISE_LEVEL = (0.15, 0.25)  # standard deviation as a share of the range of bytes, drawn uniformly


def read_pictures(
    data_dir: str | os.PathLike, classes: list[int], num_per_class: int, rng: np.random.Generator
) -> tuple[list[Image.Image], np.ndarray]:  # pictures and labels, in random order
    "Some pictures of each class."
    files = sorted(Path(data_dir).glob("cifar10n/train-*.parquet"))
    tables = [parquet.read_table(file, columns=["image", "label"]) for file in files]
    labels = np.concatenate([table["label"].to_numpy() for table in tables])
    encoded = [value for table in tables for value in table["image"].to_pylist()]
    rows = [rng.choice(np.flatnonzero(labels == c), num_per_class, replace=False) for c in classes]
    rows = rng.permutation(np.concatenate(rows))
    return [Image.open(io.BytesIO(encoded[row])).convert("RGB") for row in rows], labels[rows]


def blurred(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR_RADIUS)))


def noisy(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(picture, dtype=float)
    pixels = pixels + rng.normal(0, 255 * rng.uniform(*NOISE_LEVEL), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def make_photos(
    folder: str | os.PathLike,  # made anew
    seed: int,
    data_dir: str | os.PathLike,
    classes: tuple[str, ...] = tuple(CLASSES[:4]),
    num_per_class: int = 800,
    num_trusted: int = 40,  # of each class
) -> Path:  # the table of what is wrong, beside the folder
    "Make the folder of pictures and the table of what is wrong with its candidates."
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    numbers = [CLASSES.index(name) for name in classes]
    pictures, labels = read_pictures(data_dir, numbers, num_per_class, rng)
    is_trusted = np.zeros(len(labels), dtype=bool)
    for number in numbers:
        is_trusted[np.flatnonzero(labels == number)[:num_trusted]] = True
    candidates = np.flatnonzero(~is_trusted)  # in random order
    ends = np.cumsum([round(share * len(candidates)) for share in (WRONG, BLUR, NOISE)])
    kinds = np.full(len(labels), "good", dtype=object)
    for kind, rows in zip(("wrong_class", "blur", "noise"), np.split(candidates, ends)):
        kinds[rows] = kind
    # names in an order that tells nothing: the pictures were drawn in random order, kinds were not
    names = rng.permutation(len(labels))
    table = []
    for row, (picture, label, kind) in enumerate(zip(pictures, labels, kinds)):
        true_class = shown_class = CLASSES[label]
        if kind == "wrong_class":
            shown_class = rng.choice([name for name in classes if name != true_class])
        elif kind != "good":
            picture = (blurred if kind == "blur" else noisy)(picture, rng)
        part = "val" if is_trusted[row] else "train"
        path = folder / part / shown_class / f"{names[row]:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        if part == "train":
            table.append((path.relative_to(folder).as_posix(), kind, true_class))
    truth = folder.with_name(folder.name + ".csv")
    with open(truth, "w", newline="") as file:
        csv.writer(file).writerows([("path", "kind", "true_class"), *sorted(table)])
    return truth


def main() -> None:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data_dir", default=os.environ.get("DATARATER_DATA"))
    arguments = parser.parse_args()
    print(make_photos(arguments.folder, arguments.seed, arguments.data_dir))


if __name__ == "__main__":
    main()
