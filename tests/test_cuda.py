"""The same code on a GPU: left out where there is none."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch.func import stack_module_state

from datarater.method import (
    ESTIMATORS,
    EXECUTIONS,
    SGD,
    Compiler,
    MetaGradient,
    Recorded,
    meta_gradient,
    model_loss,
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


def problem(device: str, dtype: torch.dtype = torch.float32, num_samples: int = B) -> tuple:
    "Rater, loss and optimiser; and a population with its batches, as `meta_gradient` takes them."
    models = [construct_model("ToyCNN", seed=p).to(device, dtype) for p in range(P)]
    params = {name: value.detach() for name, value in stack_module_state(models)[0].items()}
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(P, T + 1, num_samples, 1, 28, 28, generator=generator) * 2 - 1).to(
        device, dtype
    )
    y = torch.randint(10, (P, T + 1, num_samples), generator=generator).to(device)
    rater = construct_model("DataRater", seed=0).to(device, dtype)
    return (rater, model_loss(models[0], "cross_entropy"), SGD(0.1)), (
        params,
        {},
        (x[:, :T], y[:, :T]),
        (x[:, T], y[:, T]),
    )


def differentiate(
    parts: tuple, estimator: str, execution: str, compiler: Compiler | None = None
) -> Recorded:
    return Recorded(
        lambda *trees: meta_gradient(
            *parts, *trees, estimator=estimator, execution=execution, compiler=compiler
        )
    )


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
    parts, trees = problem("cpu", torch.float64)
    return flat(meta_gradient(*parts, *trees))


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_meta_gradient_equals_the_oracle(estimator, execution, oracle):
    "As it is and played back, against float64 on the CPU."
    parts, trees = problem("cuda")
    recorded = differentiate(parts, estimator, execution)
    for step in (recorded.function(*trees), recorded(*trees), recorded(*trees)):
        assert distance(flat(step), oracle) < 1e-4
    assert is_played(recorded)


def test_compiled_and_recorded_equals_the_oracle(oracle):
    parts, trees = problem("cuda")
    recorded = differentiate(parts, "mixed", "vmap", Compiler())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "running without")  # the compiler
        for _ in range(2):
            assert distance(flat(recorded(*trees)), oracle) < 1e-4
    assert is_played(recorded)


def test_a_recording_follows_its_arguments_and_the_rater():
    """Other batches, other inner models and a rater changed in place are seen; what was given back
    stays; another shape is recorded anew.
    """
    parts, trees = problem("cuda")
    recorded = differentiate(parts, "mixed", "vmap")
    first = recorded(*trees)
    kept = flat(first)
    params, state, inner, (x, y) = trees
    changed = (
        {name: value + 0.01 * torch.randn_like(value) for name, value in params.items()},
        state,
        (inner[0].flip(2), inner[1]),
        (-x, y),
    )
    with torch.no_grad():
        for parameter in parts[0].parameters():
            parameter.mul_(1.1)
    second = recorded(*changed)
    assert (
        distance(flat(second), flat(recorded.function(*changed))) < 1e-5
        and distance(flat(second), kept) > 0.01
    )
    assert torch.equal(flat(first), kept)
    assert is_played(recorded)
    _, other = problem("cuda", num_samples=B // 2)
    recorded(*other)
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
