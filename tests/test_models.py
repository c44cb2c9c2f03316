"""Models that are harder than they look: shared parameters, frozen layers, no gradient, outputs
that are no logits. Each goes through every loop that trains, and comes back from every file.
"""

import re
import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datarater import Curator
from datarater.curation.baselines import BASELINES, BaselineData, TrainingPlan
from datarater.curation.downstream import Task, in_epochs, train_model
from datarater.method import (
    SGD,
    Batch,
    InnerTask,
    Member,
    make_engine,
    meta_gradient,
    model_loss,
    stack_trees,
)
from datarater.models import fit_classifier, rate
from datarater.runs import (
    DataRaterConfig,
    get_dataset_loaders,
    load_inner_model,
    load_rater,
    mixed_samples,
    resume_meta_training,
    run_meta_training,
)
from datarater.runs.setup import set_up
from datarater.support import DataRaterError


class Tied(nn.Module):
    "Two layers that share a weight."

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Linear(10, 10, bias=False) for _ in range(2))
        self.second.weight = self.first.weight
        self.head = nn.Linear(10, 1)

    def forward(self, x):
        return self.head(self.second(self.first(x.flatten(1)).tanh()).tanh())


class Twice(Tied):
    "One layer under two names."

    def __init__(self):
        super().__init__()
        self.second = self.first


class ByHand(nn.Module):
    "`Twice`, written so that no parameter has a second name."

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(10, 10, bias=False), nn.Linear(10, 1)

    def forward(self, x):
        return self.head(self.first(self.first(x.flatten(1)).tanh()).tanh())


class OneNumber:
    def forward(self, x):
        return super().forward(x).squeeze(-1)


class TiedRater(OneNumber, Tied): ...


class TwiceRater(OneNumber, Twice): ...


class FrozenRater(OneNumber, ByHand):
    def __init__(self):
        super().__init__()
        self.first.requires_grad_(False)


class Half(nn.Module):
    "Four classes; the first layer is frozen."

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(10, 10).requires_grad_(False), nn.Linear(10, 4)

    def forward(self, x):
        return self.second(self.first(x.flatten(1)).tanh())


class HalfOf(Half):
    "For one real target."

    def __init__(self):
        super().__init__()
        self.second = nn.Linear(10, 1)


class Cut(nn.Linear):
    def __init__(self):
        super().__init__(10, 1)

    def forward(self, x):
        return super().forward(x.flatten(1)).detach()


class NoGrad(Cut):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class CutRater(OneNumber, Cut): ...


class NoGradRater(OneNumber, NoGrad): ...


class RoundedRater(OneNumber, nn.Linear):
    def __init__(self):
        super().__init__(10, 1)

    def forward(self, x):
        return super().forward(x.flatten(1)).round()


class Probabilities(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(10, 4), nn.Softmax(1))


CONFIG = dict(
    dataset_name="synthetic1",
    inner_model_class="ToyMLP",
    data_rater_model_class="RegressionDataRater",
    train_split_ratio=0.7,
    batch_size=32,
    num_inner_models=1,
    inner_steps=2,
    inner_lr=0.05,
    outer_lr=0.01,
    model_update=True,
    meta_refresh_steps=100,
    ema_decay=0.5,
    meta_steps=8,
    eval_frequency=8,
    save_data_rater_checkpoint=True,
    device="cpu",
)


def config_of(tmp_path, **changes):
    named = {
        name: f"{value.__module__}:{value.__qualname__}"
        for name, value in changes.items()
        if isinstance(value, type)
    }
    return DataRaterConfig(**{**CONFIG, "output_dir": str(tmp_path), **changes, **named})


def state_of(path):
    return torch.load(path, weights_only=True)


def some_data(seed=0, num=64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, 10, generator=generator)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


@pytest.mark.parametrize("execution", ["loop", "vmap"])
@pytest.mark.parametrize("estimator", ["reverse", "mixed"])
@pytest.mark.parametrize("make", [Tied, Twice])
def test_meta_gradient_of_shared_parameters(make, estimator, execution):
    "Equal to that of a model that says in plain words what is shared; in the rater as well."

    def found(inner, rater):
        inner, rater = inner.double(), rater.double()
        params = {name: p.detach() for name, p in inner.named_parameters()}
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(2, 3, 8, 10, generator=generator, dtype=torch.float64)  # (P, T + 1, B, …)
        y = x.mean(-1)
        batches: tuple[Batch, Batch] = (x[:, :2], y[:, :2]), (x[:, 2], y[:, 2])
        members = Member(stack_trees([params, params]), {}, *batches)
        rater_params = {name: p.detach() for name, p in rater.named_parameters()}
        rate_fn = lambda params, x, y: rate(rater, x, y, params)  # noqa: E731
        task = InnerTask(model_loss(inner, "mse"), SGD(0.1))
        engine = make_engine(estimator, execution)
        return meta_gradient(rate_fn, rater_params, task, members, engine=engine)

    class HandRater(OneNumber, ByHand): ...

    by_hand, hand_rater = ByHand(), HandRater()
    inner, rater = make(), TiedRater() if make is Tied else TwiceRater()
    for model, same in ((inner, by_hand), (rater, hand_rater)):
        same.first.load_state_dict(model.first.state_dict())
        same.head.load_state_dict(model.head.state_dict())
    got, wanted = found(inner, rater), found(by_hand, hand_rater)
    assert all(isinstance(p, nn.Parameter) for p in [*inner.parameters(), *rater.parameters()])
    torch.testing.assert_close(got, wanted)
    assert wanted.member_gradients["first.weight"].abs().max() > 1e-6


@pytest.mark.parametrize("inner, rater", [(Tied, TiedRater), (Twice, TwiceRater)])
def test_run_with_shared_parameters(inner, rater, tmp_path):
    "What a run reports is what its files give back; stopped and resumed, it has the same bits."
    config = config_of(tmp_path, inner_model_class=inner, data_rater_model_class=rater)
    run = run_meta_training(config, progress=False)
    states = [state_of(run.run_dir / name) for name in ("inner_model.pt", "data_rater.pt")]
    for state in states:
        assert torch.equal(state["first.weight"], state["second.weight"])
    model = load_inner_model(run.run_dir, "cpu")
    watched = mixed_samples(get_dataset_loaders(config)[2], config)
    x, y = (part[:1_000] for part in watched)
    loss = F.mse_loss(model(x).flatten().double(), y.flatten().double()).item()
    assert run.metrics["inner_loss"].iloc[-1] == pytest.approx(loss, rel=1e-5)
    assert loss < 0.9 * run.metrics["inner_loss"].iloc[0]  # and it has learnt
    ratings = run.rater(x), load_rater(run.run_dir, "cpu")(x)
    assert torch.equal(*ratings)

    half = config_of(tmp_path, inner_model_class=inner, data_rater_model_class=rater, meta_steps=4)
    resumed = resume_meta_training(
        run_meta_training(half, progress=False).run_dir, meta_steps=8, progress=False
    )
    for name, state in zip(("inner_model.pt", "data_rater.pt"), states, strict=True):
        again = state_of(resumed.run_dir / name)
        assert state.keys() == again.keys()
        assert all(torch.equal(state[key], again[key]) for key in state)

    untrained = {**states[0], "second.weight": states[0]["second.weight"] + 1}
    torch.save(untrained, run.run_dir / "inner_model.pt")
    with pytest.raises(DataRaterError, match="first.weight and second.weight are one parameter"):
        load_inner_model(run.run_dir, "cpu")


def test_frozen_layers_stay_frozen_in_a_run(tmp_path):
    "In inner models and in the rater; all members have the same, and files hold it."
    config = config_of(
        tmp_path,
        inner_model_class=HalfOf,
        data_rater_model_class=FrozenRater,
        num_inner_models=2,
        meta_refresh_steps=3,
        refresh="staggered",
        outer_weight_decay=0.1,
    )
    data, learner = set_up(config)
    frozen, of_rater = data.inner_model.first.weight.clone(), learner.rater.first.weight.clone()
    run = run_meta_training(config, progress=False)
    assert list(learner.population.params) == ["second.weight", "second.bias"]
    inner, rater = load_inner_model(run.run_dir, "cpu"), load_rater(run.run_dir, "cpu")
    assert torch.equal(inner.first.weight, frozen)
    assert torch.equal(rater.first.weight, of_rater)
    assert not torch.equal(rater.head.weight, learner.rater.head.weight)  # and the rest has learnt


def fitted_for_a_while(model):
    x, y = some_data()
    fit_classifier(model, lambda: (x, y), 3)
    return model


def compared(made):
    "As `compare` trains it."
    x, y = some_data()
    task = Task(x, y, x, y, x, y, None, "cross_entropy")
    plan = TrainingPlan(model_class=f"{__name__}:Half", num_steps=3, batch_size=16)
    return train_model(task, partial(in_epochs, range(len(x))), plan, seed=0)[0]


def of_a_rival(made):
    "As a rival trains it."
    x, y = some_data()
    plan = TrainingPlan(model_class=f"{__name__}:Half", num_steps=3, batch_size=16)
    BASELINES["small_loss"](BaselineData(x, y, x[:0], y[:0], plan), 0)
    return made[-1]


@pytest.mark.parametrize("train", [compared, of_a_rival, lambda made: fitted_for_a_while(Half())])
def test_frozen_layers_stay_frozen_in_plain_training(train, monkeypatch):
    made, begun = [], []

    class Watched(Half):
        def __init__(self):
            super().__init__()
            made.append(self)
            begun.append([p.detach().clone() for p in self.parameters()])

    monkeypatch.setitem(globals(), "Half", Watched)
    model = train(made)
    assert model is made[-1]
    is_same = [torch.equal(p, old) for p, old in zip(model.parameters(), begun[-1], strict=True)]
    assert is_same == [True, True, False, False]


@pytest.mark.parametrize("model", [Cut, NoGrad])
def test_inner_model_without_gradient(model, tmp_path):
    with pytest.raises(DataRaterError, match="inner model .* outputs without a gradient"):
        set_up(config_of(tmp_path, inner_model_class=model))


@pytest.mark.parametrize("model", [CutRater, NoGradRater])
def test_rater_without_gradient(model, tmp_path):
    with pytest.raises(DataRaterError, match="the ratings do not depend on the rater's parameters"):
        set_up(config_of(tmp_path, data_rater_model_class=model))


def test_rater_whose_gradient_is_zero(tmp_path):
    config = config_of(tmp_path, data_rater_model_class=RoundedRater, meta_steps=2)
    with pytest.warns(RuntimeWarning, match="meta-gradient of every inner model is exactly 0"):
        run_meta_training(config, progress=False)


class CutClassifier(nn.Linear):
    def __init__(self):
        super().__init__(10, 4)

    def forward(self, x):
        return super().forward(x).detach()


def test_rival_without_gradient():
    x, y = some_data()
    plan = TrainingPlan(model_class=f"{__name__}:CutClassifier", num_steps=3, batch_size=16)
    with pytest.raises(DataRaterError, match="outputs without a gradient"):
        BASELINES["small_loss"](BaselineData(x, y, x[:0], y[:0], plan), 0)
    with pytest.raises(DataRaterError, match="reference model has outputs without a gradient"):
        fitted_for_a_while(CutClassifier())


def fitted(train, trusted, **settings):
    "The warnings of a short fit, or the error."
    curator = Curator(recipe=None, meta_steps=1, device="cpu", progress=False, **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        curator.fit(train, trusted)
    return [str(warning.message) for warning in caught]


def test_doubtful_data_and_models_are_said():
    "Each in one line; what can't work is an error, and what is right is passed over in silence."
    train, trusted = some_data(), some_data(seed=1)
    cases = {
        r"": (trusted, {}),
        r"gives probabilities \(each row sums up to 1\)": (
            trusted,
            dict(inner_model=Probabilities),
        ),
        r"only 3 trusted samples": ([part[:3] for part in trusted], {}),
    }
    for said, (few, settings) in cases.items():
        found = fitted(train, tuple(few), **settings)
        assert len(found) == (said != "") and all(re.search(said, line) for line in found), found
    for label in (0, 3):
        x, y = train
        with pytest.raises(DataRaterError, match=f"all 64 training samples have the label {label}"):
            fitted((x, torch.full_like(y, label)), trusted)
