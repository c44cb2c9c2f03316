"""One meta-gradient by other means: a plain loop, `higher`, TorchOpt; and plain training.

They check ours, and are timed beside it. All take the same problem and leave the meta-gradient,
summed over the population, in the rater's `.grad`. `higher` and TorchOpt need
`pip install -e ".[benchmarks]"`.
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
    InnerTask,
    Member,
    OptimizerState,
    Params,
    Recorded,
    differentiate_with,
    lean_loss,
    make_engine,
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
    loss_type: str = "cross_entropy"

    @property
    def members(self) -> Member:
        "The population and its data, as the library takes them."
        return Member(self.params, self.state, self.inner, self.outer)

    @property
    def task(self) -> InnerTask:
        "What its inner models share, with the layers that suit higher derivatives."
        loss_fn = lean_loss(model_loss(self.models[0], self.loss_type))
        return InnerTask(loss_fn, RULES[self.optimizer])


# so small because Adam's eps stands in three different places in PyTorch, `higher` and TorchOpt
LR, EPS = 1e-3, 1e-16
RULES = {"sgd": SGD(LR), "adam": Adam(LR, eps=EPS, eps_root=0.0)}


def torch_optimizer(problem: "Problem", model: nn.Module) -> torch.optim.Optimizer:
    "The problem's inner optimiser by `torch.optim`."
    if problem.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=LR)
    return torch.optim.Adam(model.parameters(), lr=LR, eps=EPS)


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
    members = [{name: value[p] for name, value in params.items()} for p in range(num_models)]
    generator = torch.Generator().manual_seed(0)
    shape = (num_models, num_steps + 1, batch_size)  # (P, T + 1, B): the last batch is the outer
    x = torch.rand(*shape, channels, size, size, generator=generator) * 2 - 1
    x = x.to(device, dtype)
    y = torch.randint(10, shape, generator=generator).to(device)
    return Problem(
        inner_model=inner_model,
        optimizer=optimizer,
        models=models,
        rater=construct_model("DataRater", seed=0, in_channels=channels).to(device, dtype),
        params=params,
        state=stack_trees([RULES[optimizer].init(member) for member in members]),
        inner=(x[:, :-1], y[:, :-1]),
        outer=(x[:, -1], y[:, -1]),
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
    """Reverse over reverse, one inner model after another.

    `backward()` goes through everything; if careful, only as far as the rater.
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
        outputs = functional_call(model, params, (problem.outer[0][p],))
        loss = F.cross_entropy(outputs, problem.outer[1][p])
        loss.backward(inputs=list(problem.rater.parameters()) if careful else None)


def by_higher(problem: Problem) -> None:
    "The same by `higher` (Grefenstette et al. 2019)."
    import higher

    problem.rater.zero_grad()
    for p, model in enumerate(problem.models):
        context = higher.innerloop_ctx(model, torch_optimizer(problem, model))
        with context as (functional, optimizer):
            for x, y in zip(problem.inner[0][p], problem.inner[1][p], strict=True):
                optimizer.step(weighted(problem.rater, functional(x), x, y))
            F.cross_entropy(functional(problem.outer[0][p]), problem.outer[1][p]).backward()


def by_torchopt(problem: Problem) -> None:
    "The same by TorchOpt (Ren et al. 2022)."
    import torchopt

    problem.rater.zero_grad()
    for p, model in enumerate(problem.models):
        if problem.optimizer == "sgd":
            rule = torchopt.sgd(lr=LR)
        else:
            rule = torchopt.adam(lr=LR, eps=EPS, moment_requires_grad=True)
        optimizer = torchopt.FuncOptimizer(rule)
        names = [name for name, _ in model.named_parameters()]
        params = tuple(value.detach().clone().requires_grad_() for value in model.parameters())

        def outputs(params: tuple, x: Tensor, names: list = names, model=model) -> Tensor:
            return functional_call(model, dict(zip(names, params, strict=True)), (x,))

        for x, y in zip(problem.inner[0][p], problem.inner[1][p], strict=True):
            params = optimizer.step(weighted(problem.rater, outputs(params, x), x, y), params)
        F.cross_entropy(outputs(params, problem.outer[0][p]), problem.outer[1][p]).backward()


PEERS = {
    "loop": by_loop,
    "careful loop": partial(by_loop, careful=True),
    "higher": by_higher,
    "torchopt": by_torchopt,
}


def our_way(
    problem: Problem, estimator: str = "reverse", execution: str = "loop"
) -> Callable[[], None]:
    "Ours, as a run does it: recorded on a GPU, at the first call."
    engine = make_engine(estimator, execution)
    differentiate = Recorded(differentiate_with(problem.rater, problem.task, 1.0, engine))

    def by_us() -> None:
        step = differentiate(problem.members)
        for name, parameter in problem.rater.named_parameters():
            parameter.grad = step.member_gradients[name].sum(0)

    return by_us


def largest_difference(inner_model: str, optimizer: str) -> dict[str, float]:
    "Between each peer's meta-gradient and ours, relative to the largest entry; in float64."
    problem = make_problem(inner_model, 2, 3, 4, optimizer, dtype=torch.float64)
    our_way(problem)()
    ours = [parameter.grad.clone() for parameter in problem.rater.parameters()]
    scale = max(gradient.abs().max().item() for gradient in ours)
    differences = {}
    for name, peer in PEERS.items():
        peer(problem)
        theirs = [parameter.grad for parameter in problem.rater.parameters()]
        pairs = zip(theirs, ours, strict=True)
        differences[name] = max((one - other).abs().max().item() for one, other in pairs) / scale
    return differences
