"The method on models and numbers that are out of the ordinary."

import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._pytree import tree_map

from datarater import DataRaterConfig, DataRaterError, run_meta_training
from datarater.curation import sampling_weights
from datarater.data import TensorPairs, checked_batch
from datarater.evaluation import AttackPlan, measure_robustness
from datarater.method import (
    NORMS,
    SGD,
    Adam,
    InnerTask,
    Member,
    PGDSettings,
    exact_kernels,
    fgsm,
    make_engine,
    meta_gradient,
    model_loss,
    pgd,
    stack_trees,
)
from datarater.models import check_model, construct_model, rate
from datarater.runs.setup import choose_engine
from datarater.support import IGNORED


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 3, batch_first=True)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.flatten(1, 2))[0][:, -1])


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x.contiguous(memory_format=torch.channels_last)).flatten(1))


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.utils.parametrizations.weight_norm(nn.Linear(16, 3))
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x.flatten(1)))


class Rating(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1)).squeeze(1)


def engine_for(inner_model: nn.Module, **settings) -> tuple[str, str]:
    "What a run would take for this inner model."
    config = DataRaterConfig(
        device="cpu", inner_model_class="my:Inner", data_rater_model_class="my:Rater", **settings
    )
    batch = torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 1])
    loss_fn = model_loss(inner_model, "cross_entropy")
    return choose_engine(config, Rating(), inner_model, loss_fn, [batch, batch])


@pytest.mark.parametrize(
    "model, layer", [(Recurrent, "'rnn' (GRU)"), (ChannelsLast, "'itself' (ChannelsLast)")]
)
def test_what_vmap_cannot_do_is_done_one_by_one_or_named(model, layer):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert engine_for(model()) == ("reverse", "loop")
    assert [f"failed in layer {layer} with" in str(one.message) for one in caught] == [True]
    assert "\n" not in str(caught[0].message)
    with pytest.raises(DataRaterError) as error:
        engine_for(model(), execution="vmap")
    assert f"failed in layer {layer} with" in str(error.value)
    assert str(error.value).endswith("execution=loop may help")


def test_what_forward_mode_cannot_do_is_named():
    for compiled in (False, True):
        with pytest.raises(DataRaterError) as error:
            engine_for(Normalised(), meta_gradient="mixed", execution="loop", compile=compiled)
        assert "layer 'first.parametrizations.weight.0' (_WeightNorm)" in str(error.value)
        assert "meta_gradient=reverse" in str(error.value)
    # on a GPU mixed is the choice of ours
    assert engine_for(Normalised(), meta_gradient="reverse", execution="loop")


@pytest.mark.parametrize("estimator", ["reverse", "mixed"])
def test_members_computed_at_once_do_not_depend_on_how_many(estimator):
    "A process has any share of the members: each must come out in the same bits."
    torch.manual_seed(0)
    models = [
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(8 * 36, 4))
        for _ in range(4)
    ]
    params = stack_trees([dict(model.named_parameters()) for model in models])
    params = tree_map(Tensor.detach, params)
    x, y = torch.rand(4, 3, 16, 1, 8, 8), torch.randint(4, (4, 3, 16))
    members = Member(params, {}, (x[:, :2], y[:, :2]), (x[:, 2], y[:, 2]))
    rater = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 1))
    task = InnerTask(model_loss(models[0], "cross_entropy"), SGD(0.1))

    def rate_fn(params, x, y):
        return torch.func.functional_call(rater, params, (x,)).squeeze(1)

    def computed(rows):
        share = tree_map(lambda tensor: tensor[rows], members)
        engine = make_engine(estimator, "vmap")
        return meta_gradient(rate_fn, dict(rater.named_parameters()), task, share, engine=engine)

    of_all = computed([0, 1, 2, 3])
    for rows in ([0, 2], [3], [1, 2, 3]):
        share = tree_map(lambda tensor, rows=rows: tensor[rows], tuple(of_all))
        assert_close(tuple(computed(rows)), share, rtol=0, atol=0)


def infinite_loss(params: dict, x: Tensor, y: Tensor) -> Tensor:
    "Gradients of each sample, in order: infinite, NaN, 1."
    slopes = torch.tensor([math.inf, math.nan, 1.0])
    return (x.flatten(1) * slopes[:, None]).sum(1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("keep_best", [True, False])
def test_a_gradient_that_is_not_finite_moves_nothing(norm, keep_best):
    x = torch.full((3, 1, 2, 2), 0.25)
    settings = dict(eps=0.1, step_size=0.05, num_steps=4, norm=norm, value_range=(0.0, 1.0))
    moved = pgd(infinite_loss, {}, x, torch.zeros(3), keep_best=keep_best, **settings)
    assert torch.equal(moved[:2], x[:2])
    # the third goes to the edge of the ball, along the diagonal
    step = 0.1 if norm == "linf" else 0.1 / 2
    assert_close(moved[2:], x[2:] + step)
    start = torch.full_like(x, 0.02)
    moved = fgsm(infinite_loss, {}, x, torch.zeros(3), start, eps=0.1, norm=norm)
    assert moved.isfinite().all()
    assert (NORMS[norm].measure(moved - x) <= 0.2 * (1 + 1e-6)).all()


def test_a_loss_that_is_not_a_number_is_never_the_best():
    "It is NaN at the start only; the loss of what follows counts."

    def loss_fn(params, x, y):
        losses = x.flatten(1).sum(1)
        return losses * math.nan if losses[0] == 0 else losses

    x = torch.zeros(1, 1, 1, 1)
    start = torch.full_like(x, 0.1)
    moved = pgd(loss_fn, {}, x, torch.zeros(1), start, eps=0.1, step_size=0.1, num_steps=2)
    assert_close(moved, torch.full_like(x, 0.2))


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"eps": 1e30, "norm": "l2"}, "eps=1e+30 is not allowed: give a number from 0 to 1e6"),
        ({"step_size": 1e30}, "step_size=1e+30 is not allowed: give a number above 0 and at most"),
        ({"value_range": (0.0, 1e30)}, "at most 1e12 apart"),
    ],
)
def test_sizes_whose_squares_overflow_are_refused(wrong, said):
    with pytest.raises(DataRaterError) as error:
        PGDSettings(**{"eps": 0.1, "step_size": 0.1, "num_steps": 1, **wrong})
    assert said in str(error.value)


def test_the_largest_sizes_allowed_reach_the_corner():
    x = torch.full((1, 1, 2, 2), 0.25)
    for value_range in ((0.0, 1.0), (-1e12 / 2, 1e12 / 2)):
        moved = fgsm(
            lambda params, x, y: x.flatten(1).sum(1),
            {},
            x,
            torch.zeros(1),
            eps=1e6,
            norm="l2",
            value_range=value_range,
        )
        assert_close(moved, torch.full_like(x, value_range[1]))
    with pytest.raises(DataRaterError):
        DataRaterConfig(attack=True, attack_norm="l2", attack_eps=1e30, attack_step_size=1e30)


def test_an_attack_whose_samples_are_not_finite_is_an_error():
    "The gradient of a root at 0 is infinite, and times 0 it is NaN."

    class Root(nn.Module):
        def forward(self, x):
            rooted = (x.flatten(1) * 0).sqrt().sum(1)  # 0, with a slope of 0 times infinity
            return torch.stack([rooted + 1, -rooted], 1)

    x, y = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.long)
    plan = AttackPlan(eps=0.1, num_steps=2, norm="l2")
    with pytest.raises(DataRaterError) as error:
        measure_robustness(Root(), x, y, plan, (0.0, 1.0))
    assert "not finite" in str(error.value)
    assert "give attack='square'" in str(error.value)
    # the sign of NaN is 0: only the random start is left
    found = measure_robustness(Root(), x, y, replace(plan, norm="linf"), (0.0, 1.0))
    assert found.is_in_range
    assert found.farthest <= 0.1 * (1 + 1e-6)


@pytest.mark.parametrize("temperature", [1e-40, 1e-7, 1e300])
def test_a_temperature_that_float32_cannot_divide_by_is_refused(temperature):
    said = "a number from 1e-6 to 1e6"
    with pytest.raises(DataRaterError, match=said) as error:
        DataRaterConfig(softmax_temperature=temperature)
    assert f"softmax_temperature={temperature!r}" in str(error.value)
    with pytest.raises(DataRaterError, match=said):
        sampling_weights([1.0, 2.0], temperature)


@pytest.fixture
def default_dtype():
    "A float64 of PyTorch's, for a time."
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def run_of(folder, **settings) -> list[Tensor]:
    "The parameters of a rater after two meta-steps."
    config = DataRaterConfig(
        dataset_name="synthetic1",
        inner_model_class="ToyMLP",
        data_rater_model_class="RegressionDataRater",
        batch_size=8,
        num_inner_models=2,
        meta_steps=1,
        device="cpu",
        output_dir=str(folder),
        **settings,
    )
    return [p.detach() for p in run_meta_training(config, progress=False).rater.parameters()]


def test_modes_of_pytorch_do_not_reach_a_run(tmp_path, request):
    plain = run_of(tmp_path)
    with torch.no_grad():
        assert_close(run_of(tmp_path), plain, rtol=0, atol=0)
    with torch.inference_mode():
        assert_close(run_of(tmp_path), plain, rtol=0, atol=0)
    request.getfixturevalue("default_dtype")
    assert_close(run_of(tmp_path), plain, rtol=0, atol=0)
    assert torch.get_default_dtype() == torch.float64
    assert {p.dtype for p in construct_model("ToyMLP").parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "layer", [nn.LazyLinear(2), nn.LazyConv2d(2, 3), nn.Bilinear(2, 2, 2)], ids=lambda x: str(x)[:6]
)
def test_a_layer_without_a_size_is_named(layer):
    model = nn.Sequential(nn.Flatten(), layer)
    if isinstance(layer, nn.Bilinear):  # has one
        check_model(model, "mine")
        return
    with pytest.raises(DataRaterError) as error:
        check_model(model, "mine")
    assert str(error.value).startswith("model mine: layer '1' (Lazy")
    assert "has no size yet" in str(error.value)


def test_samples_are_read_as_constants_of_32_bits():
    x = torch.tensor([[0.5, -0.25], [0.125, 1.0]])
    y = torch.tensor([0, 1])
    for given in (x.bfloat16(), x.half(), x.clone().requires_grad_()):
        pool = TensorPairs(given, y, num_classes=2)
        for samples, labels in (pool.read(torch.tensor([0, 1])), checked_batch((given, y))):
            assert not samples.requires_grad
            assert_close(samples, x, rtol=0, atol=0)
            assert torch.equal(labels, y)


@pytest.mark.parametrize("estimator", ["reverse", "mixed"])
@pytest.mark.parametrize("execution", ["loop", "vmap"])
def test_the_meta_gradient_through_a_transformer(estimator, execution):
    "Documents of different lengths, Adam inside: all ways agree with plain reverse mode to 1e-10."
    torch.manual_seed(0)
    sizes = dict(vocab_size=17, length=9, width=8)
    models = [construct_model("ToyTransformer", seed=seed, **sizes).double() for seed in range(3)]
    rater = construct_model("TextDataRater", seed=0, **sizes).double()
    params = stack_trees([dict(model.named_parameters()) for model in models])
    params = tree_map(Tensor.detach, params)
    optimizer = Adam(1e-2)
    state = stack_trees([optimizer.init(dict(model.named_parameters())) for model in models])
    x = torch.randint(16, (3, 3, 4, 9))  # (P, T + 1, B, L)
    x[..., 0, 5:] = 16  # the end mark
    y = x.masked_fill((x == 16).cumsum(-1) > 1, IGNORED)
    members = Member(params, state, (x[:, :2], y[:, :2]), (x[:, 2], y[:, 2]))
    task = InnerTask(model_loss(models[0], "next_token"), optimizer)

    def computed(*names):
        with exact_kernels():
            return meta_gradient(
                lambda own, x, y: rate(rater, x, y, own),
                dict(rater.named_parameters()),
                task,
                members,
                engine=make_engine(*names),
            )

    expected, found = computed("reverse", "loop"), computed(estimator, execution)
    assert expected.weight_gradient.abs().max() > 1e-6
    largest = max(part.abs().max() for part in expected.member_gradients.values())
    for name, part in expected.member_gradients.items():
        atol = 1e-10 * float(largest)
        assert_close(found.member_gradients[name], part, rtol=1e-10, atol=atol)
    assert_close(found.weight_gradient, expected.weight_gradient, rtol=1e-10, atol=1e-14)
