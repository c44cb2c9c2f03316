"Ratings and their files: whose they are, what becomes of them when bits, data or people change."

import json
import os
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from datarater.curation import (
    Ratings,
    as_notes,
    curate,
    lowest_kept,
    open_rated,
    parts_folder,
    rate_batches,
    rate_dataset,
    rate_samples,
    ratings_by,
    read_ratings,
    read_samples,
    score_to_file,
    write_ratings,
)
from datarater.curation.contents import fingerprint
from datarater.data import SampleForm
from datarater.disk import write_atomically
from datarater.evaluation import measure_robustness
from datarater.evaluation.robustness import AttackPlan
from datarater.method import rate_many
from datarater.models import logits_of
from datarater.scale import curate_corpus, score_corpus
from datarater.support import DataRaterError

X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(X, torch.arange(30) % 2)


class Norm(nn.BatchNorm1d):
    "Batch statistics, and a counter of its own that grows in every mode."

    def forward(self, x):
        self.num_batches_tracked += 1
        return super().forward(x)


def changing(num_outputs: int) -> nn.Module:
    "A model that answers by chance in training mode, part of it frozen in evaluation mode."
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Dropout(), Norm(4), nn.BatchNorm1d(4).eval(), nn.Linear(4, 2)
    return nn.Sequential(*layers) if num_outputs > 1 else nn.Sequential(*layers[:4], Sum())


class Sum(nn.Module):
    def forward(self, x):
        return x.sum(1)


ASKED = {
    "rate_dataset": lambda model, path: rate_dataset(model, DATA).table["rating"],
    "rate_batches": lambda model, path: list(rate_batches(model, DATA))[0]["rating"],
    "rate_samples": lambda model, path: rate_samples(model, read_samples(DATA, torch.arange(30))),
    "rate_many": lambda model, path: rate_many(model, *DATA.tensors).detach(),
    "score_to_file": lambda model, path: rate_of_file(score_to_file(model, DATA, path)),
}


def rate_of_file(path):
    "Its ratings; the file goes, so that it can be written again."
    ratings = read_ratings(path).table["rating"]
    path.unlink()
    return ratings


@pytest.mark.parametrize("name", ASKED)
def test_a_question_does_not_change_the_rater(tmp_path, name):
    model = changing(1)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    first, second = (torch.as_tensor(ASKED[name](model, tmp_path / "file")) for _ in range(2))
    assert torch.equal(first, second)
    # batch statistics as they were made: mean 0 and variance 1, twice
    torch.testing.assert_close(first.float(), X.sum(1) / (1 + 1e-5), rtol=1e-4, atol=1e-4)
    assert modes == [part.training for part in model.modules()]
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)


def test_a_question_does_not_change_the_classifier():
    model = changing(2)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    images = (X - X.min()).div(X.max() - X.min()).reshape(30, 1, 2, 2)
    expected = (X / (1 + 1e-5)) @ model[-1].weight.T + model[-1].bias
    torch.testing.assert_close(logits_of(model, X), expected, rtol=1e-4, atol=1e-4)
    plan = AttackPlan(attack="fgsm")
    found = [measure_robustness(model, images, DATA.tensors[1], plan, (0.0, 1.0)) for _ in range(2)]
    assert found[0].robust_accuracy == found[1].robust_accuracy
    assert modes == [part.training for part in model.modules()]
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_have_the_mode_that_open_gives(tmp_path, umask):
    old = os.umask(umask)
    try:
        (tmp_path / "plain").open("w").close()
        write_atomically(tmp_path / "ours", "new")
        (tmp_path / "private").touch(0o600)
        write_atomically(tmp_path / "private", "an old file keeps its mode")
    finally:
        os.umask(old)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == {"plain": 0o666 & ~umask, "ours": 0o666 & ~umask, "private": 0o600 & ~umask}


@pytest.mark.parametrize("content", ["old", None])
def test_a_symbolic_link_is_written_through(tmp_path, content):
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    target.parent.mkdir()
    if content:
        target.write_text(content)
    link.symlink_to(Path("there", "target"))
    write_atomically(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    assert os.listdir(tmp_path / "there") == ["target"]


def test_a_file_made_meanwhile_stays(tmp_path, monkeypatch):
    def no_links(*paths):
        raise PermissionError

    file = tmp_path / "theirs"
    for link in (os.link, no_links):  # FAT has none
        monkeypatch.setattr(os, "link", link)
        write_atomically(file, "theirs", overwrite=False)
        with pytest.raises(DataRaterError, match="made by another program meanwhile"):
            write_atomically(file, "ours", overwrite=False)
        assert file.read_text() == "theirs" and os.listdir(tmp_path) == ["theirs"]
        file.unlink()


class Given(nn.Module):
    "Rates a sample by its first number, as a float64."

    def forward(self, x):
        return x[:, 0].double()


def pairs(x, y):
    return TensorDataset(torch.as_tensor(x), torch.as_tensor(y))


N = 900  # the fingerprint looks at 64 of them, so 1 to 13 lie between two
ROWS = torch.randn(N, 3, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(N) % 10


def labels_changed(x, y):
    y[5] = (y[5] + 1) % 10
    return x, y


def image_inverted(x, y):
    x[5] = -x[5]
    return x, y


def rows_swapped(x, y):
    order = torch.arange(N)
    order[5], order[6] = 6, 5
    return x[order], y[order]


CHANGES = [labels_changed, image_inverted, rows_swapped]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: Subset(data, range(N))])
def test_ratings_are_refused_for_changed_data(tmp_path, change, wrap):
    ratings = rate_dataset(Given(), wrap(pairs(ROWS, LABELS)), batch_size=77)
    changed = wrap(pairs(*change(ROWS.clone(), LABELS.clone())))
    assert fingerprint(changed) == ratings.fingerprint  # which sees nothing of it
    kept = read_ratings(write_ratings(curate(ratings, 0.5), tmp_path / "kept.parquet"))
    assert len(kept.subset(wrap(pairs(ROWS, LABELS)))) == N // 2
    with pytest.raises(DataRaterError, match="have changed since they were rated"):
        kept.subset(changed)


def test_data_at_hand_are_not_read_once_more():
    read = []

    class Watched(TensorDataset):
        def __getitem__(self, row):
            read.append(row)
            return super().__getitem__(row)

    data, same = Watched(ROWS, LABELS), Watched(ROWS, LABELS)
    ratings = replace(rate_dataset(Given(), data), data=data)
    for given, num_read in ((data, range(200)), (same, range(N, N + 200))):
        read.clear()
        assert len(ratings.subset(given)) == N
        assert len(read) in num_read  # the fingerprint looks at 64, twice


def test_files_of_older_versions_still_open(tmp_path):
    old = replace(rate_dataset(Given(), pairs(ROWS, LABELS)), contents=None)
    back = read_ratings(write_ratings(old, tmp_path / "old.parquet"))
    assert back.contents is None and len(back.subset(pairs(ROWS, LABELS))) == N


class StopsAt(Given):
    "As if Ctrl-C were pressed when a number of samples is rated."

    left = 450

    def forward(self, x):
        self.left -= len(x)
        if self.left < 0:
            raise KeyboardInterrupt
        return super().forward(x)


def interrupted(path, monkeypatch):
    "A scoring that was stopped after four parts of 100."
    with pytest.raises(KeyboardInterrupt):
        score_to_file(StopsAt(), pairs(ROWS, LABELS), path, batch_size=50, part_size=100)
    assert len(list(parts_folder(path).glob("*.parquet"))) == 4
    monkeypatch.setattr(StopsAt, "left", 10**9)


@pytest.mark.parametrize("change", CHANGES)
def test_a_scoring_does_not_go_on_over_changed_data(tmp_path, monkeypatch, change):
    path = tmp_path / "scores.parquet"
    interrupted(path, monkeypatch)
    changed = pairs(*change(ROWS.clone(), LABELS.clone()))
    with pytest.raises(DataRaterError, match="000000000000.parquet rates, .* have changed since"):
        score_to_file(StopsAt(), changed, path, batch_size=50, part_size=100)
    assert not path.exists()
    # as they were, in batches of another size: the same ratings and the same hash
    done = read_ratings(score_to_file(StopsAt(), pairs(ROWS, LABELS), path, 70, part_size=100))
    assert done.table["rating"].tolist() == ROWS[:, 0].tolist()
    assert done.contents == rate_dataset(Given(), pairs(ROWS, LABELS), batch_size=33).contents


def test_a_second_scoring_is_sent_away(tmp_path, monkeypatch):
    path, seen = tmp_path / "scores.parquet", []

    class Meanwhile(Given):
        "While it rates, somebody starts the same."

        def forward(self, x):
            with pytest.raises(DataRaterError, match="in use by another process"):
                score_to_file(Given(), DATA, path)
            seen.append(sorted(os.listdir(tmp_path)))
            return super().forward(x)

    score_to_file(Meanwhile(), DATA, path)
    assert seen == [["scores.parquet.parts"]]
    assert os.listdir(tmp_path) == ["scores.parquet"] and len(read_ratings(path)) == len(DATA)


def test_a_file_made_while_it_was_scored_stays(tmp_path):
    path = tmp_path / "scores.parquet"

    class Meanwhile(Given):
        def forward(self, x):
            path.write_text("theirs")
            return super().forward(x)

    with pytest.raises(DataRaterError, match="made by another program meanwhile"):
        score_to_file(Meanwhile(), DATA, path)
    assert path.read_text() == "theirs"
    score_to_file(Meanwhile(), DATA, path, overwrite=True)  # nothing is rated anew
    assert len(read_ratings(path)) == len(DATA) and os.listdir(tmp_path) == ["scores.parquet"]


def flipped(content: bytes, position: int) -> bytes:
    "A file's content with one bit turned over."
    changed = bytearray(content)
    changed[position] ^= 1 << position % 8
    return bytes(changed)


def test_no_flipped_bit_is_read_as_another_number(tmp_path):
    ratings = rate_dataset(Given(), pairs(ROWS, LABELS), about={"dataset": {"seed": 0}})
    path = write_ratings(ratings, tmp_path / "scores.parquet")
    content, num_refused = path.read_bytes(), 0
    whole = read_ratings(path)
    positions = torch.randperm(len(content), generator=torch.Generator().manual_seed(0))[:250]
    for position in positions.tolist():
        path.write_bytes(flipped(content, position))
        try:
            found = read_ratings(path)
        except DataRaterError:
            num_refused += 1
            continue
        assert found.table.equals(whole.table)
        names = ("num_samples", "fingerprint", "contents", "about")
        assert all(getattr(found, name) == getattr(whole, name) for name in names)
    assert num_refused > 200  # the rest are bytes that mean nothing


def test_kept_lists_have_checksums(tmp_path):
    path = tmp_path / "kept.parquet"
    ratings = replace(rate_dataset(Given(), pairs(ROWS, LABELS)), data=pairs(ROWS, LABELS))
    ratings.keep(0.5).to_parquet(path)
    content = path.read_bytes()
    for position in range(200, 3000, 100):  # in the pages of the first column
        path.write_bytes(flipped(content, position))
        with pytest.raises(OSError):
            pq.read_table(path, page_checksum_verification=True)


BAD_COLUMNS = {
    "label as text": ("label", pa.array(list("ab"))),
    "label as lists": ("label", pa.array([[1], [2]])),
    "label as decimals": ("label", pa.array([Decimal(1), Decimal(2)])),
    "label as dates": ("label", pa.array([date(2020, 1, 1)] * 2)),
    "label unsigned": ("label", pa.array([1, 2**64 - 1], pa.uint64())),
    "kind as numbers": ("kind", pa.array([1, 2])),
    "path as numbers": ("path", pa.array([1, 2])),
    "index unsigned": ("index", pa.array([0, 1], pa.uint8())),
    "index as numbers with a point": ("index", pa.array([0.0, 1.0])),
    "rating as float64": ("rating", pa.array([0.5, 1e300])),
    "rating as text": ("rating", pa.array(["0.5", "0.7"])),
}


@pytest.mark.parametrize("case", BAD_COLUMNS)
def test_columns_of_other_types_are_refused(tmp_path, case):
    name, column = BAD_COLUMNS[case]
    two = TensorDataset(torch.rand(2, 3), torch.arange(2))
    path = write_ratings(rate_dataset(Given(), two), tmp_path / "scores.parquet")
    table = pq.read_table(path)
    place = table.schema.get_field_index(name)
    pq.write_table(table.set_column(place, name, column), path)
    with pytest.raises(DataRaterError, match=f"its column {name} is .*, not ") as caught:
        read_ratings(path)
    assert "\n" not in str(caught.value)
    pq.write_table(table.drop_columns(name), path)
    with pytest.raises(DataRaterError, match=f"its column {name} is missing"):
        read_ratings(path)


@pytest.mark.parametrize("depth", [60, 500, 900, 5_000, 200_000])
def test_notes_nested_deep_are_refused(tmp_path, depth):
    path = write_ratings(rate_dataset(Given(), DATA), tmp_path / "scores.parquet")
    notes = b'{"num_samples": 30, "fingerprint": "", "about": {"a": %b}}'
    notes %= b"[" * depth + b"]" * depth
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"datarater": notes}), path)
    with pytest.raises(DataRaterError, match="is no file of ratings"):
        read_ratings(path)
    deep = []
    for _ in range(min(depth, 900)):
        deep = [deep]
    with pytest.raises(DataRaterError, match="nested more than 50 deep"):
        write_ratings(rate_dataset(Given(), DATA, about={"a": deep}), tmp_path / "deep.parquet")


@pytest.mark.parametrize("notes", [{"num_samples": "30"}, {"about": []}, {"fingerprint": 7}])
def test_notes_of_other_types_are_refused(tmp_path, notes):
    path = write_ratings(rate_dataset(Given(), DATA), tmp_path / "scores.parquet")
    whole = {"num_samples": 30, "fingerprint": "", "about": {}, **notes}
    pq.write_table(pq.read_table(path).replace_schema_metadata(as_notes(**whole)), path)
    with pytest.raises(DataRaterError, match=f"{min(notes)}=.* is not allowed"):
        read_ratings(path)


def test_ratings_too_large_for_a_file_are_refused_when_they_are_made():
    with pytest.raises(DataRaterError, match="sample 1 the rating 1e.300, no finite number of flo"):
        rate_dataset(Given64(), pairs(torch.zeros(2, 3), [0, 1]))
    table = rate_dataset(Given(), DATA).table
    with pytest.raises(DataRaterError, match="a rating of 1e.300 at index 3"):
        Ratings(table.assign(rating=[1e300 if row == 3 else 0.5 for row in range(30)]), 30, "")


class Alone(Dataset):
    "Samples without targets."

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row]


def test_samples_without_targets_are_constants_of_32_bits():
    x = torch.tensor([[0.5, 1.0], [-0.25, 2.0]])
    for given in (x.bfloat16(), x.half(), x.clone().requires_grad_()):
        assert rate_dataset(Given(), Alone(given)).table["rating"].tolist() == [0.5, -0.25]


class Given64(nn.Module):
    def forward(self, x):
        return torch.tensor([0.5, 1e300], dtype=torch.float64)


def test_an_unsigned_index_that_wraps_is_refused():
    index = np.arange(1_006).astype(np.uint8)  # 256 of them are distinct
    table = pd.DataFrame({"index": index, "rating": 0.5})
    with pytest.raises(DataRaterError, match="indices that do not ascend from 0 to 1999"):
        Ratings(table, 2_000, "")
    assert len(Ratings(table[:256], 2_000, "")) == 256


def test_a_table_alone_is_no_ratings():
    table = rate_dataset(Given(), DATA).table
    for ask in (
        lambda: curate(table, 0.5),
        lambda: write_ratings(table, "never.parquet"),
        lambda: ratings_by(table, "label"),
        lambda: open_rated(table),
    ):
        with pytest.raises(DataRaterError, match="got a DataFrame, not Ratings"):
            ask()
    for rater in (table, None, 7):
        with pytest.raises(DataRaterError, match="give a torch.nn.Module"):
            rate_dataset(rater, DATA)
    with pytest.raises(DataRaterError, match="give the folder of a run"):
        rate_dataset("no/such/run", DATA)


def test_a_threshold_keeps_what_is_printed_above_it():
    ratings = ROWS[:, 0].numpy()
    rng = np.random.default_rng(0)
    printed = [float(text) for text in ratings.astype(str)]
    exact = ratings.astype(np.float64)
    thresholds = [*printed[:40], *exact[:40]]
    thresholds += [np.nextafter(value, rng.choice([-9, 9])) for value in thresholds]
    for threshold in thresholds:
        expected = [max(pair) >= threshold for pair in zip(printed, exact, strict=True)]
        assert (ratings >= lowest_kept(threshold)).tolist() == expected


def test_lists_print_the_shortest_number(tmp_path):
    ratings = replace(rate_dataset(Given(), pairs(ROWS, LABELS)), data=pairs(ROWS, LABELS))
    kept = ratings.keep(1.0)
    kept.to_csv(tmp_path / "kept.csv")
    kept.to_json_lines(tmp_path / "kept.jsonl")
    shortest = ROWS[:, 0].numpy().astype(str).tolist()
    lines = [json.loads(line)["rating"] for line in (tmp_path / "kept.jsonl").open()]
    assert lines == list(map(float, shortest))
    column = pd.read_csv(tmp_path / "kept.csv", dtype=str)["rating"].tolist()
    assert list(map(float, column)) == lines


@pytest.mark.parametrize("file", ["ratings/part.parquet", "kept/part.parquet"])
def test_folders_of_a_corpus_have_checksums(tmp_path, file):
    (tmp_path / "corpus").mkdir()
    np.savez(tmp_path / "corpus" / "part.npz", x=ROWS.numpy(), y=LABELS.numpy())
    form = SampleForm((3,), (-4.0, 4.0), 10)
    score_corpus(Given(), form, str(tmp_path / "corpus"), tmp_path / "ratings")
    curate_corpus(tmp_path / "ratings", tmp_path / "kept", keep=0.9)
    content = (tmp_path / file).read_bytes()
    columns = pq.read_metadata(tmp_path / file).row_group(0)
    rating = columns.column(columns.num_columns - 1)
    start = rating.dictionary_page_offset or rating.data_page_offset
    place = start + rating.total_compressed_size - 20
    (tmp_path / file).write_bytes(flipped(content, place))
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(tmp_path / file, page_checksum_verification=True)
    if file.startswith("ratings"):
        with pytest.raises(DataRaterError, match="part.parquet"):
            curate_corpus(tmp_path / "ratings", tmp_path / "again", keep=0.9)
