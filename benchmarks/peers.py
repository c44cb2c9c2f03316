"""One meta-gradient by other means, to check ours against and to time beside it: a plain loop, `higher`, TorchOpt; and plain training of the same inner models.

All take the same problem and leave the meta-gradient, summed over the population, in the rater's `.grad`. The last two need `pip install -e ".[benchmarks]"`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from datarater.method import (
    SGD,
    Adam,
    OptimizerState,
    Params,
    Recorded,
    meta_gradient,
    model_loss,
    stack_trees,
)
from datarater.models import construct_model


@dataclass
class Problem:
    "A population, a rater and random batches in the shape of the inner model's images."

    inner_model: str
    optimizer: str  # "sgd" or "adam"
    models: list[nn.Module]
    rater: nn.Module
    params: Params
    state: OptimizerState
    inner: tuple[Tensor, Tensor]  # (P, T, B, ...), (P, T, B)
    outer: tuple[Tensor, Tensor]  # (P, B, ...), (P, B)


# so small because Adam's eps stands in three different places in PyTorch, `higher` and TorchOpt
LR, EPS = 1e-3, 1e-16
RULES = {"sgd": SGD(LR), "adam": Adam(LR, eps=EPS, eps_root=0.0)}


def torch_optimizer(problem: "Problem", model: nn.Module) -> torch.optim.Optimizer:
    "The problem's inner optimiser by `torch.optim`."
    return (
        torch.optim.SGD(model.parameters(), lr=LR)
        if problem.optimizer == "sgd"
        else torch.optim.Adam(model.parameters(), lr=LR, eps=EPS)
    )


def make_problem(
    inner_model: str,
    num_models: int,
    num_steps: int,
    batch_size: int,
    optimizer: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Problem:
    "The same for the same arguments."
    channels, size = (3, 32) if inner_model == "ResNet18" else (1, 28)
    models = [construct_model(inner_model, seed=p).to(device, dtype) for p in range(num_models)]
    params = {name: value.detach() for name, value in stack_module_state(models)[0].items()}
    state = stack_trees(
        [
            RULES[optimizer].init({name: value[p] for name, value in params.items()})
            for p in range(num_models)
        ]
    )
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.rand(num_models, num_steps + 1, batch_size, channels, size, size, generator=generator)
        * 2
        - 1
    ).to(device, dtype)
    y = torch.randint(10, (num_models, num_steps + 1, batch_size), generator=generator).to(device)
    rater = construct_model("DataRater", seed=0, in_channels=channels).to(device, dtype)
    return Problem(
        inner_model,
        optimizer,
        models,
        rater,
        params,
        state,
        (x[:, :-1], y[:, :-1]),
        (x[:, -1], y[:, -1]),
    )


def weighted(rater: nn.Module, outputs: Tensor, x: Tensor, y: Tensor) -> Tensor:
    "The weighted loss of a batch, with the rater in its graph."
    return torch.softmax(rater(x), 0) @ F.cross_entropy(outputs, y, reduction="none")


def train_plainly(problem: Problem) -> None:
    "The same inner steps without any rater, by `torch.optim`."
    for p, model in enumerate(problem.models):
        parameters = [value.detach().clone() for value in model.parameters()]
        optimizer = torch_optimizer(problem, model)
        for x, y in zip(problem.inner[0][p], problem.inner[1][p], strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            for value, start in zip(model.parameters(), parameters, strict=True):
                value.copy_(start)


def by_loop(problem: Problem, careful: bool = False) -> None:
    """Reverse over reverse, one inner model after another, `backward()` through everything; if
    careful, only as far as the rater.
    """
    problem.rater.zero_grad()
    rule = RULES[problem.optimizer]
    for p, model in enumerate(problem.models):
        params = {
            name: value.detach().clone().requires_grad_()
            for name, value in model.named_parameters()
        }
        state = rule.init(params)
        for x, y in zip(problem.inner[0][p], problem.inner[1][p], strict=True):
            loss = weighted(problem.rater, functional_call(model, params, (x,)), x, y)
            gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
            params, state = rule.step(params, dict(zip(params, gradients, strict=True)), state)
        loss = F.cross_entropy(
            functional_call(model, params, (problem.outer[0][p],)), problem.outer[1][p]
        )
        loss.backward(inputs=list(problem.rater.parameters()) if careful else None)


def by_higher(problem: Problem) -> None:
    "The same by `higher` (Grefenstette et al. 2019)."
    import higher

    problem.rater.zero_grad()
    for p, model in enumerate(problem.models):
        with higher.innerloop_ctx(model, torch_optimizer(problem, model)) as (
            functional,
            optimizer,
        ):
            for x, y in zip(problem.inner[0][p], problem.inner[1][p], strict=True):
                optimizer.step(weighted(problem.rater, functional(x), x, y))
            F.cross_entropy(functional(problem.outer[0][p]), problem.outer[1][p]).backward()


def by_torchopt(problem: Problem) -> None:
    "The same by TorchOpt (Ren et al. 2022)."
    import torchopt

    problem.rater.zero_grad()
    for p, model in enumerate(problem.models):
        rule = (
            torchopt.sgd(lr=LR)
            if problem.optimizer == "sgd"
            else torchopt.adam(lr=LR, eps=EPS, moment_requires_grad=True)
        )
        optimizer = torchopt.FuncOptimizer(rule)
        names, params = zip(
            *(
                (name, value.detach().clone().requires_grad_())
                for name, value in model.named_parameters()
            ),
            strict=True,
        )
        for x, y in zip(problem.inner[0][p], problem.inner[1][p], strict=True):
            loss = weighted(
                problem.rater,
                functional_call(model, dict(zip(names, params, strict=True)), (x,)),
                x,
                y,
            )
            params = optimizer.step(loss, params)
        F.cross_entropy(
            functional_call(model, dict(zip(names, params, strict=True)), (problem.outer[0][p],)),
            problem.outer[1][p],
        ).backward()


PEERS = {
    "loop": by_loop,
    "careful loop": partial(by_loop, careful=True),
    "higher": by_higher,
    "torchopt": by_torchopt,
}


def our_way(
    problem: Problem, estimator: str = "reverse", execution: str = "loop", **options: object
) -> Callable[[], None]:
    "Ours, as a run does it: recorded on a GPU, at the first call."
    loss_fn, rule = model_loss(problem.models[0], "cross_entropy"), RULES[problem.optimizer]
    differentiate = Recorded(
        partial(
            meta_gradient,
            problem.rater,
            loss_fn,
            rule,
            estimator=estimator,
            execution=execution,
            **options,
        )
    )

    def by_us() -> None:
        step = differentiate(problem.params, problem.state, problem.inner, problem.outer)
        for name, parameter in problem.rater.named_parameters():
            parameter.grad = step.member_gradients[name].sum(0)

    return by_us


def largest_difference(inner_model: str, optimizer: str) -> dict[str, float]:
    """Of each peer's meta-gradient and ours, in float64 on a small problem, relative to the largest
    entry.
    """
    problem = make_problem(
        inner_model,
        num_models=2,
        num_steps=3,
        batch_size=4,
        optimizer=optimizer,
        dtype=torch.float64,
    )
    our_way(problem)()
    ours = [parameter.grad.clone() for parameter in problem.rater.parameters()]
    scale, differences = max(g.abs().max().item() for g in ours), {}
    for name, peer in PEERS.items():
        peer(problem)
        differences[name] = (
            max(
                (parameter.grad - g).abs().max().item()
                for parameter, g in zip(problem.rater.parameters(), ours, strict=True)
            )
            / scale
        )
    return differences
