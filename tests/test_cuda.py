"""The same code on a GPU: left out where there is none."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from datarater.method import (
    ESTIMATORS,
    EXECUTIONS,
    SGD,
    Compiler,
    InnerTask,
    Member,
    MetaGradient,
    Recorded,
    detached,
    lean_loss,
    make_engine,
    model_loss,
    stack_trees,
)
from datarater.models import construct_model
from datarater.runs import (
    DataRaterConfig,
    differentiate_with,
    resume_meta_training,
    run_meta_training,
)

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


def problem(
    device: str, dtype: torch.dtype = torch.float32, num_samples: int = B
) -> tuple[nn.Module, InnerTask, Member]:
    "A rater, what the inner models share, and a population with its batches."
    models = [construct_model("ToyCNN", seed=p).to(device, dtype) for p in range(P)]
    params = stack_trees([detached(dict(model.named_parameters())) for model in models])
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(P, T + 1, num_samples, 1, 28, 28, generator=generator) * 2 - 1
    y = torch.randint(10, (P, T + 1, num_samples), generator=generator)
    x = x.to(device, dtype)
    y = y.to(device)
    rater = construct_model("DataRater", seed=0).to(device, dtype)
    task = InnerTask(lean_loss(model_loss(models[0], "cross_entropy")), SGD(0.1))
    return rater, task, Member(params, {}, (x[:, :T], y[:, :T]), (x[:, T], y[:, T]))


def recorded_gradient(
    rater: nn.Module, task: InnerTask, *engine: str | Compiler
) -> Recorded:  # of members
    "The meta-gradient as a run takes it."
    return Recorded(differentiate_with(rater, task, 1.0, make_engine(*engine)))


def flat(step: MetaGradient) -> torch.Tensor:
    return torch.cat([g.flatten() for g in step.member_gradients.values()]).double().cpu()


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


def is_played(recorded: Recorded, num: int = 1) -> bool:
    "Whether it has that many recordings, and none is the function itself."
    return len(recorded.recordings) == num and all(
        play is not recorded.function for play in recorded.recordings.values()
    )


@pytest.fixture(scope="module")
def oracle() -> torch.Tensor:
    rater, task, members = problem("cpu", torch.float64)
    return flat(recorded_gradient(rater, task, "reverse", "loop").function(members))


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_meta_gradient_equals_the_oracle(estimator, execution, oracle):
    "As it is and played back, against float64 on the CPU."
    rater, task, members = problem("cuda")
    recorded = recorded_gradient(rater, task, estimator, execution)
    for step in (recorded.function(members), recorded(members), recorded(members)):
        assert distance(flat(step), oracle) < 1e-4
    assert is_played(recorded)


def test_compiled_and_recorded_equals_the_oracle(oracle):
    rater, task, members = problem("cuda")
    recorded = recorded_gradient(rater, task, "mixed", "vmap", Compiler())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "running without")  # the compiler
        for _ in range(2):
            assert distance(flat(recorded(members)), oracle) < 1e-4
    assert is_played(recorded)


def test_a_recording_follows_its_arguments_and_the_rater():
    """Other batches, other inner models and a rater changed in place are seen; what was given back
    stays; another shape is recorded anew.
    """
    rater, task, members = problem("cuda")
    recorded = recorded_gradient(rater, task, "mixed", "vmap")
    first = recorded(members)
    kept = flat(first)
    params, state, (inner_x, inner_y), (x, y) = members
    moved = {name: value + 0.01 * torch.randn_like(value) for name, value in params.items()}
    changed = Member(moved, state, (inner_x.flip(2), inner_y), (-x, y))
    with torch.no_grad():
        for parameter in rater.parameters():
            parameter.mul_(1.1)
    second = recorded(changed)
    assert distance(flat(second), flat(recorded.function(changed))) < 1e-5
    assert distance(flat(second), kept) > 0.01
    assert torch.equal(flat(first), kept)
    assert is_played(recorded)
    _, _, others = problem("cuda", num_samples=B // 2)
    recorded(others)
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
