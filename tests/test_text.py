"Documents from training to a comparison: what each step hands to the next."

import json

import numpy as np
import pandas as pd
import pytest
import torch

from datarater import DataRaterConfig, DataRaterError, load_rater, run_meta_training
from datarater.curation import ComparisonPlan, compare_downstream, rate_dataset, score_run
from datarater.data.text import to_tokens
from datarater.runs import get_dataset_loaders, resume_meta_training
from datarater.scale import score_corpus_of_run

SMALL = dict(
    recipe="text",
    document_length=32,
    batch_size=8,
    num_inner_models=2,
    meta_steps=4,
    eval_frequency=2,
    checkpoint_frequency=2,
    device="cpu",
    log=True,
)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    "A short run of the recipe `text`."
    folder = tmp_path_factory.mktemp("text")
    return run_meta_training(DataRaterConfig(**SMALL, output_dir=str(folder)), progress=False)


def test_a_run_on_documents_speaks_of_their_damage(result):
    kinds = {"character_noise", "word_shuffle", "repetition", "other_alphabet"}
    assert set(result.by_kind.index) == {*kinds, "all"}
    assert result.metrics["inner_loss"].iloc[-1] < result.metrics["inner_loss"].iloc[0]
    assert result.metrics["inner_accuracy"].isna().all()
    form = json.loads((result.run_dir / "samples.json").read_text())
    assert (form["shape"], form["num_outputs"], form["are_tokens"]) == ([32], 257, True)


def test_the_rater_comes_back_and_scores(result, tmp_path):
    train, _, _ = get_dataset_loaders(result.config)
    ratings = rate_dataset(load_rater(result.run_dir, device="cpu"), train.dataset)
    with torch.no_grad():
        by_hand = result.rater(train.dataset.batch(range(20))[0])
    np.testing.assert_allclose(ratings.table["rating"][:20], by_hand, rtol=1e-5)
    scored = score_run(result.run_dir, tmp_path / "ratings.parquet", device="cpu")
    np.testing.assert_allclose(scored.table["rating"], ratings.table["rating"], rtol=1e-5)
    assert scored.table["kind"].isin(["clean", *result.by_kind.index]).all()


def test_a_run_on_documents_goes_on_in_the_same_bits(result, tmp_path):
    half = DataRaterConfig(**{**SMALL, "meta_steps": 2}, output_dir=str(tmp_path))
    begun = run_meta_training(half, progress=False)
    ended = resume_meta_training(begun.run_dir, progress=False, meta_steps=4)
    for name, value in result.rater.state_dict().items():
        assert torch.equal(value, ended.rater.state_dict()[name]), name


def test_what_is_kept_is_compared_by_the_loss(result):
    plan = ComparisonPlan(
        runs=(str(result.run_dir),),
        methods=("baseline", "filtered", "oracle"),
        num_seeds=2,
        epochs=0.1,
        device="cpu",
    )
    found = compare_downstream(plan, progress=False)
    assert found.rows["loss"].between(1, 6).all() and found.rows["accuracy"].isna().all()


def test_what_needs_labels_says_so(result):
    with pytest.raises(DataRaterError, match="needs class labels"):
        plan = ComparisonPlan(
            runs=(str(result.run_dir),), methods=("baseline", "small_loss"), device="cpu"
        )
        compare_downstream(plan, progress=False)
    with pytest.raises(DataRaterError, match="the loss is next_token: leave the attack out"):
        run_meta_training(DataRaterConfig(**SMALL, attack=True), progress=False)
    with pytest.raises(DataRaterError, match="give recipe=documents, or models of text"):
        run_meta_training(DataRaterConfig(**SMALL, inner_model_class="ToyCNN"), progress=False)
    with pytest.raises(DataRaterError, match="is not for tokens"):
        noise = {"kinds": ["pixel_noise"], "corruption_probability": 0.5}
        run_meta_training(DataRaterConfig(**SMALL, corruption=noise), progress=False)


def test_documents_are_rated_where_they_lie(result, tmp_path):
    texts = ["The first document.", "And another one, which is cut, since it is longer."]
    (tmp_path / "docs").mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "docs" / "part.jsonl").write_text(lines)
    score_corpus_of_run(result.run_dir, str(tmp_path / "docs"), tmp_path / "ratings", device="cpu")
    table = pd.read_parquet(tmp_path / "ratings" / "part.parquet")
    with pytest.warns(RuntimeWarning, match="1 of 2 documents are longer than 32 tokens"):
        tokens = to_tokens(enumerate(texts), 32).long()
    with torch.no_grad():
        np.testing.assert_allclose(table["rating"], result.rater(tokens), rtol=1e-5)
    assert list(table["uid"]) == ["part:0", "part:1"]
