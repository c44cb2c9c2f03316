"Data as people have them: sorted, hidden, linked, turned, hostile; and what is made of them."

import io
import itertools
import os
import tarfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset

import datarater.data.files as files
from datarater import DataRaterError
from datarater.curation import read_ratings, score_to_file
from datarater.data import (
    CORRUPTIONS,
    BatchLoader,
    CorruptedSubset,
    DataCorruptionConfig,
    ItemDataset,
    NpzDataRaterDataset,
    PoolsDataRaterDataset,
    SampleForm,
    TensorPairs,
    as_pool,
    construct_dataset,
    read_image,
    register_corruption,
    stratified_order,
)
from datarater.method import pgd_poison
from datarater.runs import DataRaterConfig, mixed_samples
from datarater.scale.shards import DamagedShard, ShardColumns, find_shards, read_shard

SMALL = SampleForm((1, 2, 2))


def png(value: int = 0, size: tuple[int, int] = (2, 2)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, value).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, *members: tuple[str | tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def rows_of(path: Path, **columns: str) -> list:
    return list(read_shard("s", path, SMALL, ShardColumns(**columns)))


def pairs(labels: torch.Tensor) -> TensorPairs:
    x = torch.linspace(-1, 1, len(labels))[:, None]
    return TensorPairs(x, labels, num_classes=int(labels.max()) + 1)


# ---- splits


ORDERS = {"in turn": torch.arange(10).repeat(20), "sorted": torch.arange(10).repeat_interleave(20)}


@pytest.mark.parametrize("labels", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_each_part_has_its_share_of_each_class(labels, seed):
    dataset = PoolsDataRaterDataset({"train": pairs(labels)}, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaders = dataset.get_loaders(4, 0.75, DataCorruptionConfig(0.0))
    rows = [loader.dataset.indices for loader in loaders]
    # of 200 a fifth is held out, of the rest a quarter is outer data
    assert [labels[part].bincount().tolist() for part in rows] == [[12] * 10, [4] * 10, [4] * 10]
    assert torch.cat(rows).sort().values.equal(torch.arange(200))
    # the test samples are the same for any seed
    other = PoolsDataRaterDataset({"train": pairs(labels)}, seed + 1)
    others = other.get_loaders(4, 0.75, DataCorruptionConfig(0.0))
    assert others[2].dataset.indices.equal(rows[2])
    assert not others[1].dataset.indices.sort().values.equal(rows[1].sort().values)


def test_first_part_of_an_order_has_its_share_of_each_class():
    labels = torch.tensor([5] * 1000 + [9] * 300 + [0] * 37)
    order = stratified_order(len(labels), labels, torch.Generator().manual_seed(0))
    assert order.sort().values.equal(torch.arange(len(labels)))
    for size in range(1, len(labels), 50):
        for label, count in ((5, 1000), (9, 300), (0, 37)):
            got = int((labels[order[:size]] == label).sum())
            assert abs(got - count * size / len(labels)) <= 1
    reals = stratified_order(5, torch.rand(5), torch.Generator().manual_seed(3))
    assert reals.equal(torch.randperm(5, generator=torch.Generator().manual_seed(3)))


def test_class_too_small_to_share_out_is_named():
    labels = torch.tensor([0] * 50 + [1] * 48 + [2, 2])
    dataset = PoolsDataRaterDataset({"train": pairs(labels)})
    with pytest.warns(RuntimeWarning) as caught:
        dataset.get_loaders(4, 0.9, DataCorruptionConfig(0.0))
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2 and all("no sample of class 2 (2 in all): too few" in one for one in said)
    assert said[0].startswith("the test data") and said[1].startswith("the outer data")


def test_one_class_and_very_few_trusted_samples_are_said():
    one = PoolsDataRaterDataset({"train": pairs(torch.full((50,), 3))})
    with pytest.raises(DataRaterError, match="all 50 training samples have the label 3"):
        one.get_loaders(4, 0.9, DataCorruptionConfig(0.0))
    labels = torch.arange(50) % 2
    few = PoolsDataRaterDataset({"train": pairs(labels), "val": pairs(labels[:3])})
    with pytest.warns(UserWarning, match="only 3 trusted samples"):
        few.get_loaders(2, 0.9, DataCorruptionConfig(0.0))


@pytest.mark.parametrize("num_test", [30, 90, 91])
def test_evaluation_of_sorted_test_data_sees_every_class(num_test):
    """Of 30 samples 15 in either half; of 90 as many as are asked for; the first of them, which
    models see, too.
    """
    labels = (torch.arange(num_test) * 3 // num_test).clamp(max=2)
    data = pairs(labels)
    config = DataRaterConfig(dataset_name="digits", device="cpu")
    own = [data.batch(range(num_test))]  # somebody's own
    by_sampler = DataLoader(data, batch_sampler=torch.arange(num_test).split(8))
    for loader in (BatchLoader(data, 8), DataLoader(data, 8), by_sampler, own):
        halves = []
        for part, most in (("watched", (num_test + 1) // 2), ("reported", num_test // 2)):
            x, y = mixed_samples(loader, config, part)
            assert len(x.unique()) == len(x) == most
            whole = len(y) - len(y) % 3
            assert all(set(three.tolist()) == {0, 1, 2} for three in y[:whole].split(3))
            halves.append(x)
            few, labels_of_few = mixed_samples(loader, config, part, 12)
            assert torch.isin(few, x).all() and labels_of_few.bincount().tolist() == [4, 4, 4]
        assert torch.cat(halves).sort(0).values.equal(data.samples)


def test_halves_stay_apart_however_many_are_asked_for(monkeypatch):
    "Of a loader that never ends too, of which the first are read."
    monkeypatch.setattr("datarater.runs.evaluate.MAX_EVALUATION_SAMPLES", 20)
    config = DataRaterConfig(dataset_name="digits", device="cpu")
    data = pairs(torch.arange(90) % 3)
    endless = (data.batch(range(start, start + 10)) for start in itertools.cycle(range(0, 90, 10)))
    for loader, num in (([data.batch(range(90))], 20), (BatchLoader(data, 8), 45)):
        watched, _ = mixed_samples(loader, config, "watched", 5)
        reported, _ = mixed_samples(loader, config, "reported", 10**9)
        assert len(reported) == num and not torch.isin(watched, reported).any()
    assert len(mixed_samples(endless, config, "reported", 10**9)[0]) == 20


# ---- what is made once


class Counted:
    "A corruption that notes how many samples it is given; can be sent to a worker."

    def __init__(self, corruption):
        self.corruption, self.calls = corruption, []

    def __call__(self, samples, *given):
        self.calls.append(len(samples))
        return self.corruption(samples, *given)


class Wandering(Dataset):
    "Foreign, and each reading of a sample is another one."

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        x, y = self.source[index]
        return (x + 0.2 * torch.rand(())).clamp(-1, 1), y


@pytest.fixture
def counted():
    "Poison under a name of its own, counted, and pairs of image and label."
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    torch.nn.init.normal_(model[1].weight, generator=torch.Generator().manual_seed(1))
    corruption = Counted(pgd_poison(model, eps=0.2, num_steps=3))
    register_corruption("counted", all_or_nothing=True, made_once=True)(corruption)
    x = torch.rand(300, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    yield corruption, TensorPairs(x, torch.arange(300) % 3, num_classes=3)
    CORRUPTIONS.pop("counted")


def poisoned(source, kinds="counted", share=0.5, **options) -> CorruptedSubset:
    return CorruptedSubset(source, None, DataCorruptionConfig(share, kinds=kinds, **options))


def test_what_is_made_once_is_what_would_be_made_anew(counted):
    corruption, clean = counted
    once = poisoned(clean, ("counted", "label_noise"), fixed=True)
    num = sum(corruption.calls)
    assert 50 < num < 100  # a half of the samples, and of these a half
    batch = once.batch_with_truth(torch.arange(300))
    assert sum(corruption.calls) == num
    corruption.made_once = False
    anew = poisoned(clean, ("counted", "label_noise"), fixed=True)
    assert sum(corruption.calls) == num
    for made, other in zip(batch, anew.batch_with_truth(torch.arange(300)), strict=True):
        torch.testing.assert_close(made, other, rtol=0, atol=0)
    assert sum(corruption.calls) == 2 * num
    x, y = clean.batch(range(300))
    is_poison = batch.codes == 1
    change = (batch.samples - x).abs().flatten(1).amax(1) / 2  # in pixels of [0, 1]
    assert is_poison.sum() == num and (change[is_poison] > 0.19).all() and change.max() < 0.2 + 1e-6
    assert batch.samples.abs().max() <= 1 and (change[~is_poison] == 0).all()
    assert ((batch.targets != y) == (batch.codes == 2)).all()
    truth = once.ground_truth([7, 3])
    names = [("clean", "counted", "label_noise")[code] for code in batch.codes[[7, 3]]]
    assert truth.kinds == names and truth.fractions.equal(batch.fractions[[7, 3]])


def test_what_is_made_once_reaches_subsets_and_workers(counted):
    corruption, clean = counted
    once = poisoned(clean.subset(range(299, -1, -1)), fixed=True)
    num = sum(corruption.calls)
    whole = once.batch(range(300))
    # the same as in the other order, since the original index decides
    other = poisoned(clean, fixed=True).batch(range(299, -1, -1))
    torch.testing.assert_close(other, whole, rtol=0, atol=0)
    corruption.calls.clear()
    part = CorruptedSubset(Subset(once, [5, 0, 9]), None, DataCorruptionConfig(0.0, fixed=True))
    few = tuple(tensor[[5, 0, 9]] for tensor in whole)
    torch.testing.assert_close(part.batch([0, 1, 2]), few, rtol=0, atol=0)
    loader = DataLoader(once, 100, num_workers=1, multiprocessing_context="spawn")
    parts = [torch.cat(parts) for parts in zip(*loader)]
    torch.testing.assert_close(tuple(parts), whole, rtol=0, atol=0)
    assert corruption.calls == [] and num > 100
    # whose batches come from the whole, may be changed
    once.batch([0, 1, 2])[0].zero_()
    torch.testing.assert_close(once.batch(range(300)), whole, rtol=0, atol=0)


def test_only_what_is_costly_is_kept(counted):
    corruption, clean = counted
    poisoned(clean)  # drawn anew at every access
    poisoned(clean, "pixel_noise", fixed=True)
    for source in (clean, Wandering(clean)):
        none = poisoned(source, share=0.0, fixed=True)
        assert none.made == () and len(none.batch([0, 1])[0]) == 2
    assert corruption.calls == []
    own = CorruptedSubset(clean, lambda samples, _: samples, DataCorruptionConfig(fixed=True))
    assert own.made == ()  # a function has no such attribute
    # clean samples of a dataset that draws stay as they were: new at every reading
    drawing = poisoned(Wandering(clean), fixed=True)
    codes = drawing.batch_with_truth(range(300)).codes
    one, other = drawing.batch(range(300))[0], drawing.batch(range(300))[0]
    is_same = (one == other).flatten(1).all(1)
    assert is_same.equal(codes == 1)


def test_function_that_is_not_registered_is_named(counted):
    corruption, clean = counted
    del corruption.made_once  # put into the registry by hand, with less than it asks for
    with pytest.raises(DataRaterError, match="made known by @register_corruption"):
        poisoned(clean, fixed=True)


# ---- folders


def test_hidden_files_and_copies_by_links_are_no_data(tmp_path):
    for name in "cat/1.png cat/._1.png cat/.trash/1.png dog/2.png .ipynb_checkpoints/1.png".split():
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / name).write_bytes(png())
    (tmp_path / "pets/__MACOSX").mkdir()
    (tmp_path / "pets/__MACOSX/1.png").write_bytes(png())
    (tmp_path / "far").mkdir()
    (tmp_path / "far/3.png").write_bytes(png(9))
    for name, target in (("self", "."), ("up", ".."), ("hound", "dog"), ("bird", "../far")):
        (tmp_path / "pets" / name).symlink_to(target)
    (tmp_path / "pets/dog/4.png").symlink_to("../cat/1.png")
    pool = construct_dataset(str(tmp_path / "pets")).pool()
    assert pool.classes == ("bird", "cat", "dog")  # what lies elsewhere alone is data
    assert [os.path.relpath(path, tmp_path / "pets") for path in pool.paths] == [
        "bird/3.png",
        "cat/1.png",
        "dog/2.png",
    ]
    assert pool.labels.tolist() == [0, 1, 2]
    # the same of a folder of shards, and of a pattern
    (tmp_path / "corpus/.cache").mkdir(parents=True)
    for name in ("a.tar", ".cache/b.tar", "._a.tar", "c.NPZ"):
        (tmp_path / "corpus" / name).touch()
    (tmp_path / "corpus/self").symlink_to(".")
    (tmp_path / "corpus/again.tar").symlink_to("a.tar")
    assert list(find_shards(f"{tmp_path}/corpus")) == ["a", "c"]
    assert list(find_shards(f"{tmp_path}/corpus/**/*.tar")) == ["a"]
    (tmp_path / "corpus/d.tar.gz").touch()
    with pytest.raises(DataRaterError, match="d.tar.gz is compressed"):
        find_shards(f"{tmp_path}/corpus")


def test_layout_is_not_told_by_hidden_folders(tmp_path):
    for name in ("train/a/1.png", "train/b/2.png", ".git/3.png", "val/a/4.png", "val/b/5.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png())
    assert set(construct_dataset(str(tmp_path)).sources) == {"train", "val"}
    for path in (tmp_path / "train/a/1.png", tmp_path / "train/b/2.png"):
        path.rename(tmp_path / "train" / path.name)
        path.parent.rmdir()
    (tmp_path / "train/.ipynb_checkpoints").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/6.png").write_bytes(png())
    # val is a class too now, with its images one folder deeper
    assert construct_dataset(str(tmp_path)).pool().classes == ("other", "train", "val")


@pytest.mark.parametrize("name", ["a/1.heic", "a/2.gif", "1.png"])
def test_image_that_is_not_read_is_named(tmp_path, name):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0.png").write_bytes(png())
    (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(DataRaterError, match=Path(name).name):
        construct_dataset(str(tmp_path), image_size=2).pool().batch([0, 1])


def test_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0.png").write_bytes(png())
    real = os.scandir

    def refuse(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataRaterError, match="cannot look into .*/a .Permission denied"):
        construct_dataset(str(tmp_path)).pool()


def test_name_that_is_no_utf8_is_one_clear_line(tmp_path):
    latin = os.fsdecode("é.png".encode("latin-1"))
    (tmp_path / "pets/cat").mkdir(parents=True)
    (tmp_path / "pets/cat" / latin).write_bytes(png())
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / latin.replace("png", "tar")).touch()
    path = write_tar(tmp_path / "s.tar", (latin, png()))
    for read in (
        lambda: construct_dataset(str(tmp_path / "pets")).pool(),
        lambda: find_shards(f"{tmp_path}/corpus"),
        lambda: find_shards(f"{tmp_path}/corpus/*.tar"),
        lambda: rows_of(path),
        lambda: NpzDataRaterDataset(tmp_path / latin),
    ):
        with pytest.raises(
            DataRaterError, match=r"\\udce9.(png|tar) is no UTF-8: rename it"
        ) as got:
            read()
        str(got.value).encode()  # can be printed and written


# ---- shards


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "members, message",
    [
        ([("a.png", 1), (link("b.png", "a.png", tarfile.LNKTYPE), 0)], "b.png is a link to a.png"),
        ([("a.png", 1), (link("b.png", "a.png", tarfile.SYMTYPE), 0)], "b.png is a link to a.png"),
        ([(link("a.png", "", tarfile.FIFOTYPE), 0)], "a.png is no plain file"),
        ([("a.png", 1), ("a.png", 2)], "row 0: a.png is there twice"),
        ([("a.png", 1), ("a.PNG", 2)], "row 0: a.png is there twice"),
        ([("a.png", 1), ("b.png", 2), ("a.png", 3)], "row 2: a was there before"),
        ([("a.png", 1), ("b.png", 2), ("a.jpg", 3)], "row 2: a was there before"),
        ([("a.png", 1), ("a.jpg", 2)], "row 0: a has png and jpg: say by --sample_column"),
    ],
)
def test_sample_of_an_archive_that_is_not_read_is_named(tmp_path, members, message):
    content = [(name, png(value) if value else b"") for name, value in members]
    path = write_tar(tmp_path / "s.tar", *content)
    with pytest.raises(DataRaterError, match=message) as caught:
        rows_of(path)
    assert isinstance(caught.value, DamagedShard) == ("--sample_column" not in message)


def test_archive_of_a_mac_and_a_chosen_column(tmp_path):
    members = [("./a.png", png(255)), ("./._a.png", b"?"), ("__MACOSX/a.png", b"?")]
    path = write_tar(tmp_path / "s.tar", *members, ("b.png", png(0)), ("b.jpg", png(255)))
    (batch,) = rows_of(path, sample="png")
    assert batch.uids == ["a", "b"] and batch.x.flatten(1).tolist() == [[1.0] * 4, [-1.0] * 4]


def test_claims_of_a_header_are_checked_against_the_file(tmp_path):
    def claim(size: int) -> Path:
        info = tarfile.TarInfo("a.png")
        info.size = size
        path = tmp_path / "s.tar"
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
        return path

    for size in (1 << 20, 1 << 42):
        with pytest.raises(DamagedShard, match="s.tar"):
            rows_of(claim(size))
    path = tmp_path / "s.npz"
    header = io.BytesIO()
    claims = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
    np.lib.format.write_array_header_1_0(header, claims)
    with zipfile.ZipFile(path, "w") as archive:
        for name in "xy":
            archive.writestr(f"{name}.npy", header.getvalue())
    for read in (lambda: rows_of(path), lambda: construct_dataset(str(path)).pool()):
        with pytest.raises(DataRaterError, match="4,000,000,000,000 bytes, and has 0"):
            read()


def test_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LARGE", 1_000_000)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((1100, 1000, 1), np.uint8), y=[0] * 1100)
    for read in (
        lambda: rows_of(tmp_path / "bomb.npz"),
        lambda: construct_dataset(str(tmp_path / "bomb.npz")).pool(),
    ):
        with pytest.raises(DataRaterError, match="x would grow from [0-9,]* bytes to 1,100,000"):
            read()
    np.savez(tmp_path / "bomb.npz", x=np.zeros((1100, 1000, 1), np.uint8), y=[0] * 1100)
    assert len(construct_dataset(str(tmp_path / "bomb.npz")).pool()) == 1100  # uncompressed


def test_array_of_objects_is_refused_before_it_is_read(tmp_path):
    "Its header does not say how large it is: 64 MiB of zeros, in a file of some kB."
    header = io.BytesIO()
    claims = {"descr": "|O", "fortran_order": False, "shape": (10,)}
    np.lib.format.write_array_header_1_0(header, claims)
    with zipfile.ZipFile(tmp_path / "s.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "xy":
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(1 << 26))
    tracemalloc.start()
    with pytest.raises(DataRaterError, match="Object arrays cannot be loaded"):
        construct_dataset(str(tmp_path / "s.npz")).pool()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23


def test_array_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "s.npz"
    array = io.BytesIO()
    np.save(array, np.zeros((2, 2, 2), np.uint8))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of what is done here
        for _ in range(2):
            archive.writestr("x.npy", array.getvalue())
    with pytest.raises(DataRaterError, match="it has 2 arrays x"):
        rows_of(path)


# ---- images and arrays


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_images_are_read_as_people_see_them(tmp_path, ending):
    """Orientations 1 to 8 of a picture whose upper left quarter is white: the corner that is white
    when it is shown, from the definition in EXIF (2 mirrored, 3 turned by 180°, 6 a quarter turn to
    the right, 8 to the left, 5 and 7 mirrored along a diagonal).
    """
    corners = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1)}
    corners[8] = (1, 0)
    for orientation, (down, right) in corners.items():
        exif = Image.Exif()
        exif[274] = orientation
        image = Image.new("L", (32, 32))
        image.paste(255, (0, 0, 16, 16))
        folder = tmp_path / str(orientation) / "a"
        folder.mkdir(parents=True)
        image.save(folder / f"1.{ending}", exif=exif)
        content = (folder / f"1.{ending}").read_bytes()
        expected = torch.zeros(2, 2)
        expected[down, right] = 1
        shard = write_tar(tmp_path / "s.tar", ("1.png", content))
        (batch,) = read_shard("s", shard, SampleForm((1, 32, 32)))
        pool = as_pool([({"bytes": content}, 0)])
        for x in (
            read_image(folder / f"1.{ending}", 32) / 255,
            construct_dataset(str(tmp_path / str(orientation))).pool().batch([0])[0][0] / 2 + 0.5,
            batch.x[0] / 2 + 0.5,
            pool.batch([0])[0][0, :1] / 2 + 0.5,
        ):
            seen = x.unfold(1, 16, 16).unfold(2, 16, 16).mean((0, 3, 4))
            assert (seen - expected).abs().max() < 0.05, (orientation, seen)


@pytest.mark.parametrize("kind", ["array", "tensor", "items", "npz"])
@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 6, 5, 3), (4, 1, 6, 5)])
def test_floats_are_images_as_bytes_are(tmp_path, kind, shape):
    pixels = np.arange(np.prod(shape), dtype=np.int64).reshape(shape) % 256
    labels = np.array([0, 1, 0, 1])
    pools = []
    for x in (pixels.astype(np.uint8), (pixels / 127.5 - 1).astype(np.float32)):
        if kind == "npz":
            np.savez(tmp_path / "d.npz", x=x, y=labels)
            pools.append(construct_dataset(str(tmp_path / "d.npz")).pool())
        elif kind == "items":
            pools.append(as_pool(list(zip(torch.from_numpy(x), labels))))
        else:
            given = torch.from_numpy(x) if kind == "tensor" else x
            pools.append(as_pool((given, torch.from_numpy(labels))))
    from_bytes, from_floats = (pool.batch(range(4))[0] for pool in pools)
    torch.testing.assert_close(from_floats, from_bytes, atol=1e-6, rtol=0)
    channels = shape[3] if len(shape) == 4 and shape[3] == 3 else 1
    assert from_floats.shape == (4, channels, 6, 6 if shape == (4, 6, 6) else 5)
    last = from_floats[0, -1, 0, 1].item()  # the pixel beside the first, its last channel
    assert last == pytest.approx((2 * channels - 1) / 127.5 - 1, abs=1e-6)


def test_sequences_stay_as_they_are(tmp_path):
    x, y = np.random.default_rng(0).random((4, 6, 5), np.float32), np.arange(4) % 2
    np.savez(tmp_path / "d.npz", x=x, y=y)
    of_file = construct_dataset(str(tmp_path / "d.npz")).pool()
    pools = [of_file, *(as_pool((given, y)) for given in (x, torch.from_numpy(x)))]
    for pool in [*pools, as_pool(list(zip(torch.from_numpy(x), y, strict=True)))]:
        assert torch.equal(pool.batch(range(4))[0], torch.from_numpy(x))


@pytest.mark.parametrize(
    "data",
    [
        (np.zeros((3, 0, 5), np.uint8), np.zeros(3, int)),
        (torch.zeros(3, 1, 0, 5), torch.zeros(3).long()),
        np.zeros((3, 0)),
        torch.zeros(3, 0),
        [(torch.zeros(1, 0, 2), 0)],
        [(Image.new("L", (0, 5)), 0)],
    ],
    ids=lambda data: type(data).__name__,
)
def test_samples_without_pixels_are_refused(data):
    with pytest.raises(DataRaterError, match="no pixels|no values|is (uint8|float).* of shape"):
        as_pool(data).batch([0])


def test_pool_of_items_without_values_is_refused():
    with pytest.raises(DataRaterError, match="sample 0 is .*: it holds no values"):
        ItemDataset(lambda row: torch.zeros(1, 0, 2), 1).batch([0])


def test_giant_pictures_are_one_clear_line(tmp_path):
    "A PNG of a few bytes that claims 20,000 × 20,000 pixels; a line that would be blown up."
    (tmp_path / "a").mkdir()
    content = bytearray(png(size=(1, 1)))
    place = content.index(b"IHDR")
    content[place + 4 : place + 12] = (20_000).to_bytes(4, "big") * 2
    content[place + 17 : place + 21] = zipfile.crc32(content[place : place + 17]).to_bytes(4, "big")
    (tmp_path / "a/1.png").write_bytes(content)
    with pytest.raises(DataRaterError, match="cannot read the image .*1.png"):
        construct_dataset(str(tmp_path)).pool().batch([0])
    line = Image.new("L", (60_000, 1), 7)
    assert read_image(line, 28).unique().tolist() == [7]


# ---- labels


class Half(torch.nn.Module):
    "Rates half of a sample's first value."

    def forward(self, x, y=None):
        return x.flatten(1)[:, 0] / 2


class Mixed(torch.utils.data.Dataset):
    "Whole labels first, and real ones later."

    def __len__(self):
        return 6

    def __getitem__(self, row):
        return torch.tensor([float(row)]), torch.tensor(row if row < 4 else row + 0.5)


@pytest.mark.parametrize("part_size", [2, 6])
def test_labels_that_become_real_in_a_later_part(tmp_path, part_size):
    path = score_to_file(Half(), Mixed(), tmp_path / "s.parquet", 2, part_size)
    table = read_ratings(path).table
    assert table["label"].tolist() == [0, 1, 2, 3, 4.5, 5.5]
    assert table["rating"].tolist() == [0, 0.5, 1, 1.5, 2, 2.5]


def test_label_that_no_int64_holds_is_named(tmp_path):
    x, y = np.zeros((3, 1, 2, 2), np.uint8), np.array([0, 2**63 + 5, 1], np.uint64)
    np.savez(tmp_path / "s.npz", x=x, y=y)
    with pytest.raises(DataRaterError, match="row 1 has the label 9223372036854775813, which is"):
        rows_of(tmp_path / "s.npz")
