"""The same code on a GPU: left out where there is none."""

import warnings
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.func import stack_module_state

from datarater.method import (
    ESTIMATORS,
    EXECUTIONS,
    SGD,
    Compiled,
    InnerTask,
    Member,
    MetaGradient,
    Params,
    Recorded,
    exact_kernels,
    lean_loss,
    make_engine,
    meta_gradient,
    model_loss,
    rate_many,
)
from datarater.models import construct_model
from datarater.runs import DataRaterConfig, resume_meta_training, run_meta_training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
P, T, B = 3, 2, 16
SETTINGS = dict(
    recipe="digits",
    meta_steps=6,
    eval_frequency=3,
    checkpoint_frequency=3,
    num_inner_models=3,
    log=False,
    outer_warmup_steps=0,
)


class Problem(NamedTuple):
    "A rater, what the inner models share, and a population with its batches."

    rater: nn.Module
    task: InnerTask
    members: Member


def problem(device: str, dtype: torch.dtype = torch.float32, num_samples: int = B) -> Problem:
    "The same numbers on any device."
    models = [construct_model("ToyCNN", seed=p).to(device, dtype) for p in range(P)]
    params = {name: value.detach() for name, value in stack_module_state(models)[0].items()}
    generator = torch.Generator().manual_seed(0)
    shape = (P, T + 1, num_samples)  # the last batch is the outer one
    x = torch.rand(*shape, 1, 28, 28, generator=generator) * 2 - 1
    x = x.to(device, dtype)
    y = torch.randint(10, shape, generator=generator).to(device)
    return Problem(
        construct_model("DataRater", seed=0).to(device, dtype),
        InnerTask(lean_loss(model_loss(models[0], "cross_entropy")), SGD(0.1)),
        Member(params, {}, (x[:, :T], y[:, :T]), (x[:, T], y[:, T])),
    )


def differentiate(given: Problem, *names: str, compiler: type[Compiled] | None = None) -> Recorded:
    "The meta-gradient as a function of the members, by an estimator and an execution."
    engine = make_engine(*names, compiler)
    rater_params = dict(given.rater.named_parameters())

    def rate_fn(params: Params, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return rate_many(given.rater, x, y, params)

    def of_members(members: Member) -> MetaGradient:
        with exact_kernels():
            return meta_gradient(rate_fn, rater_params, given.task, members, engine=engine)

    return Recorded(of_members)


def flat(step: MetaGradient) -> torch.Tensor:
    return torch.cat([g.flatten() for g in step.member_gradients.values()]).double().cpu()


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


def is_played(recorded: Recorded, num: int = 1) -> bool:
    "Whether it has that many recordings, and none is the function itself."
    return len(recorded.versions) == num and all(
        play is not recorded.function for play in recorded.versions.values()
    )


@pytest.fixture(scope="module")
def oracle() -> torch.Tensor:
    given = problem("cpu", torch.float64)
    return flat(differentiate(given, "reverse", "loop").function(given.members))


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_meta_gradient_equals_the_oracle(estimator, execution, oracle):
    "As it is and played back, against float64 on the CPU."
    given = problem("cuda")
    recorded = differentiate(given, estimator, execution)
    for function in (recorded.function, recorded, recorded):
        assert distance(flat(function(given.members)), oracle) < 1e-4
    assert is_played(recorded)


def test_compiled_and_recorded_equals_the_oracle(oracle):
    given = problem("cuda")
    recorded = differentiate(given, "mixed", "vmap", compiler=Compiled)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "running without")  # the compiler
        for _ in range(2):
            assert distance(flat(recorded(given.members)), oracle) < 1e-4
    assert is_played(recorded)


def test_a_recording_follows_its_arguments_and_the_rater():
    """Other batches, other inner models and a rater changed in place are seen; what was given back
    stays; another shape is recorded anew.
    """
    given = problem("cuda")
    recorded = differentiate(given, "mixed", "vmap")
    first = recorded(given.members)
    kept = flat(first)
    params, state, inner, (x, y) = given.members
    params = {name: value + 0.01 * torch.randn_like(value) for name, value in params.items()}
    changed = Member(params, state, (inner[0].flip(2), inner[1]), (-x, y))
    with torch.no_grad():
        for parameter in given.rater.parameters():
            parameter.mul_(1.1)
    second = flat(recorded(changed))
    assert distance(second, flat(recorded.function(changed))) < 1e-5
    assert distance(second, kept) > 0.01
    assert torch.equal(flat(first), kept)
    assert is_played(recorded)
    recorded(problem("cuda", num_samples=B // 2).members)
    assert is_played(recorded, num=2)


def test_what_waits_for_the_device_runs_as_it_is():
    recorded = Recorded(lambda x: x * x.sum().item())
    x = torch.arange(4.0, device="cuda")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert torch.equal(recorded(x), x * 6)
    assert [str(warning.message).partition(",")[0] for warning in caught] == [
        "running without a CUDA graph"
    ]
    assert (
        torch.cuda.current_stream() == torch.cuda.default_stream()
        and torch.rand(1, device="cuda") < 1
    )


@pytest.mark.parametrize("attack", [False, True], ids=["clean", "attacked"])
def test_a_run_is_the_same_run(tmp_path, attack):
    """The same data, attacks and population as on the CPU, and numbers close to its; recorded or
    not.
    """
    config = DataRaterConfig(**SETTINGS, attack=attack, output_dir=str(tmp_path), device="cuda")
    histories = [
        run_meta_training(changed, progress=False).history
        for changed in (config, replace(config, cuda_graph=False), replace(config, device="cpu"))
    ]
    for history in histories[:2]:
        for column in ("outer_loss", "meta_gradient_norm", "ess"):
            assert history[column].to_numpy() == pytest.approx(
                histories[2][column].to_numpy(), rel=1e-2
            ), column


def test_a_run_is_resumed(tmp_path):
    """Begun on the GPU, gone on with there and on the CPU: near the run that never stopped, and a
    warning where the machine changes.
    """
    config = DataRaterConfig(**SETTINGS, output_dir=str(tmp_path), device="cuda")
    whole = run_meta_training(config, progress=False).history
    begun = run_meta_training(replace(config, meta_steps=3), progress=False)
    resume_meta_training(begun.run_dir, progress=False, meta_steps=5)
    with pytest.warns(RuntimeWarning, match="it will be close to the uninterrupted run"):
        resumed = resume_meta_training(
            begun.run_dir, progress=False, meta_steps=6, device="cpu"
        ).history
    for column in ("outer_loss", "meta_gradient_norm", "ess"):
        assert resumed[column].to_numpy() == pytest.approx(whole[column].to_numpy(), rel=1e-2), (
            column
        )
