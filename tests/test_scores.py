"Ratings and their files: whose they are, what becomes of them when bits, data or people change."

import os
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from datarater.curation import (
    rate_batches,
    rate_dataset,
    rate_samples,
    read_ratings,
    read_samples,
    score_to_file,
)
from datarater.evaluation import measure_robustness
from datarater.evaluation.robustness import AttackPlan
from datarater.method import rate_many
from datarater.models import logits_of
from datarater.support import DataRaterError, write_atomically

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
