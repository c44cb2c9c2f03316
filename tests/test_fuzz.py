"""Readers of files are given nonsense: they must read it or refuse it with a `DataRaterError` of
one line, never anything else.
"""

from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datarater.curation import read_ratings, score_to_file
from datarater.data import TensorPairs
from datarater.models import construct_model
from datarater.runs import (
    DataRaterConfig,
    Interruption,
    Run,
    config_from_yaml,
    evaluation_set_of,
    load_checkpoint,
    run_meta_training,
    set_up,
)
from datarater.support import DataRaterError

CASES = settings(
    max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TINY = dict(
    dataset_name="synthetic1",
    inner_model_class="ToyMLP",
    data_rater_model_class="RegressionDataRater",
    batch_size=8,
    num_inner_models=2,
    meta_steps=2,
    device="cpu",
    save_data_rater_checkpoint=True,
)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)
setting_names = st.sampled_from(
    [*DataRaterConfig.__dataclass_fields__, "datarater_version"]
) | st.text(max_size=12)


def refuses_or_reads(function, *arguments):
    "The result, or None where it was refused as it should be."
    try:
        return function(*arguments)
    except DataRaterError as error:
        assert str(error) and len(str(error)) < 2000
        return None


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return run_meta_training(
        DataRaterConfig(**TINY, output_dir=str(tmp_path_factory.mktemp("runs"))), progress=False
    ).run_dir


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scores") / "ratings.parquet"
    score_to_file(
        construct_model("RegressionDataRater", seed=0),
        TensorPairs(torch.rand(40, 10), torch.rand(40)),
        path,
    )
    return path


def test_configurations(tmp_path):
    "Settings of any name and value."

    @CASES
    @given(st.dictionaries(setting_names, nested, max_size=5))
    def check(values):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        found = refuses_or_reads(config_from_yaml, tmp_path / "config.yaml")
        assert found is None or isinstance(found, DataRaterConfig)

    check()


def test_texts_as_configurations(tmp_path):
    "Any text, with YAML's own signs and tags among it."
    tags = ["!!python/object/apply:os.system [ls]", "!!python/name:os.system", "%YAML 9"]
    words = ["&a", "*a", "<<: *a", "? ", "- ", ": ", "  ", "seed", "1e-3", "recipe: digits"]
    signs = st.sampled_from([*tags, *words, *"{}[]'\"\n"])

    @CASES
    @given(st.lists(signs | st.text(max_size=8), max_size=12).map("".join))
    def check(text):
        (tmp_path / "config.yaml").write_bytes(text.encode("utf-8", errors="replace"))
        refuses_or_reads(config_from_yaml, tmp_path / "config.yaml")

    check()


def spoilt(content: bytes):
    "The bytes of a file with some of them changed, cut out, doubled or cut off; or any bytes."
    place = st.integers(0, len(content))
    kinds = st.sampled_from(["flip", "flip", "cut", "double", "end"])
    change = st.tuples(kinds, place, place, st.integers(1, 255))

    def apply(changes: list[tuple[str, int, int, int]]) -> bytes:
        data = content
        for kind, one, other, mask in changes:
            first, last = sorted((one, other))
            if kind == "flip" and one < len(data):
                data = data[:one] + bytes([data[one] ^ mask]) + data[one + 1 :]
            elif kind == "cut":
                data = data[:first] + data[last:]
            elif kind == "double":
                data = data[:last] + data[first:]
            elif kind == "end":
                data = data[:one]
        return data

    return st.lists(change, min_size=1, max_size=4).map(apply) | st.binary(max_size=200)


def test_checkpoints(run, tmp_path):
    "A spoilt checkpoint is refused, unless nothing that it says has changed."
    config = DataRaterConfig(**TINY)
    data, learner = set_up(config)
    resumed = Run(data, learner, evaluation_set_of(data), tmp_path, Interruption())
    good = load_checkpoint(run / "checkpoint.pt")

    @CASES
    @given(spoilt((run / "checkpoint.pt").read_bytes()))
    def check(content):
        path = tmp_path / "checkpoint.pt"
        path.write_bytes(content)
        state = refuses_or_reads(load_checkpoint, path)
        if state is not None:
            assert all(
                torch.equal(value, good["learner"]["rater"][name])
                for name, value in state["learner"]["rater"].items()
            )
            refuses_or_reads(resumed.load_state_dict, state)

    check()


def test_score_files(scores, tmp_path):
    "A spoilt score file is refused, or read as ratings."

    @CASES
    @given(spoilt(scores.read_bytes()))
    def check(content):
        path = tmp_path / "ratings.parquet"
        path.write_bytes(content)
        found = refuses_or_reads(read_ratings, path)
        assert found is None or isinstance(found.table, pd.DataFrame)

    check()
