"""One meta-step of the original's MNIST configuration, ours against the plain way, measured side by side.

    python benchmarks/meta_step.py [--repeats 15]        writes results/meta_step.json

The plain way is what scripts for this paper do: samples are corrupted one by one in a DataLoader, inner models are unrolled one after another with
`create_graph=True`, and `backward()` runs through everything. Both ways are first checked to give the same meta-gradient on the same batches. Then they take turns, and
ratios are taken pair by pair, so that a machine whose speed drifts does no harm. The estimators and executions of our own meta-step take turns too. The images are random bytes in MNIST's shapes; nothing is downloaded.
"""
import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from provenance import write_result
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset

from datarater.config import DataRaterConfig
from datarater.datasets import TensorDataRaterDataset, register_dataset
from datarater.inner_loop import meta_gradient
from datarater.meta_training import Parts, set_up, take_meta_step


@register_dataset("mnist_shaped")
class MNISTShaped(TensorDataRaterDataset):
    "Random images and labels in the sizes of MNIST."
    num_classes = 10

    def read_tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        parts = []
        for num in (60_000, 1_000):
            parts += [torch.randint(256, (num, 1, 28, 28), dtype=torch.uint8, generator=generator), torch.randint(10, (num,), generator=generator)]
        return tuple(parts)


class PerSampleDataset(Dataset):
    "The plain way: one sample at a time, corrupted on access."

    def __init__(self, images: Tensor, labels: Tensor, corruption_probability: float):
        self.images, self.labels, self.corruption_probability = images, labels, corruption_probability

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index].float() / 127.5 - 1  # (1, 28, 28)
        if torch.rand(()).item() < self.corruption_probability:
            fraction = 0.1 + 0.8 * torch.rand(()).item()
            chosen = torch.randperm(784)[: round(fraction * 784)]
            image.view(-1)[chosen] = torch.rand(len(chosen)) * 2 - 1
        return image, int(self.labels[index])


def endless(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def plain_backward(rater: nn.Module, models: list[nn.Module], inner: Callable, outer: Callable, inner_steps: int, lr: float) -> None:
    "Reverse over reverse through every inner model; the meta-gradient ends up in the rater's `.grad`."
    rater.zero_grad()
    losses = []
    for p, model in enumerate(models):
        params = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
        for t in range(inner_steps):
            x, y = inner(p, t)
            weights = torch.softmax(rater(x), 0)
            loss = (weights * F.cross_entropy(functional_call(model, params, (x,)), y, reduction="none")).sum()
            gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
            params = {name: value - lr * gradient for (name, value), gradient in zip(params.items(), gradients, strict=True)}
        x, y = outer(p)
        losses.append(F.cross_entropy(functional_call(model, params, (x,)), y))
    torch.stack(losses).mean().backward()


def check_same_gradient(parts: Parts, models: list[nn.Module]) -> float:
    "Largest relative difference between our meta-gradient and the plain one on the same batches."
    config = parts.config
    shape = (config.num_inner_models, config.inner_steps)
    inner = tuple(tensor.unflatten(0, shape) for tensor in parts.inner_stream.next(shape[0] * shape[1]))
    outer = parts.outer_stream.next(shape[0])
    ours = meta_gradient(parts.rater, parts.loss_fn, parts.optimizer, parts.population.params, parts.population.state, inner, outer)
    plain_backward(parts.rater, models, lambda p, t: (inner[0][p, t], inner[1][p, t]), lambda p: (outer[0][p], outer[1][p]), config.inner_steps, config.inner_lr)
    difference = max((ours.rater_gradient[name] - value.grad).abs().max().item() for name, value in parts.rater.named_parameters())
    return difference / max(value.grad.abs().max().item() for value in parts.rater.parameters())


def engine_step(parts: Parts, estimator: str, execution: str) -> Callable[[], Any]:
    "A meta-step with another estimator and execution."
    changed = dataclasses.replace(parts, config=dataclasses.replace(parts.config, meta_gradient=estimator, execution=execution))
    return lambda: take_meta_step(changed, 1)


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def summary(values: list[float]) -> dict[str, float]:
    quartiles = statistics.quantiles(values, n=4)
    return {"median": round(statistics.median(values), 4), "lower_quartile": round(quartiles[0], 4), "upper_quartile": round(quartiles[2], 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats

    config = DataRaterConfig(recipe="mnist_v1", dataset_name="mnist_shaped", device="cpu")
    parts = set_up(config)
    models = [parts.population.make_model(0) for _ in range(config.num_inner_models)]
    for p, model in enumerate(models):
        model.load_state_dict({name: value[p] for name, value in parts.population.params.items()})
    relative_difference = check_same_gradient(parts, models)
    if relative_difference > 1e-3:
        raise SystemExit(f"the two ways differ by {relative_difference:.1e}: the comparison would mean nothing")

    train, val = parts.inner_stream.loader.dataset.original_subset, parts.outer_stream.loader.dataset
    loaders = [
        endless(DataLoader(PerSampleDataset(part.samples[part.indices], part.targets[part.indices], probability), batch_size=config.batch_size, shuffle=True, drop_last=True))
        for part, probability in ((train, config.corruption.corruption_probability), (val, 0.0))
    ]
    num_inner = config.num_inner_models * config.inner_steps
    optimizer = torch.optim.Adam(parts.rater.parameters(), lr=config.outer_lr)

    def plain_step() -> None:
        plain_backward(parts.rater, models, lambda p, t: next(loaders[0]), lambda p: next(loaders[1]), config.inner_steps, config.inner_lr)
        torch.nn.utils.clip_grad_norm_(parts.rater.parameters(), config.grad_clip_norm)
        optimizer.step()

    ways = {
        "meta_step": (lambda: take_meta_step(parts, 1), plain_step),
        "data": (
            lambda: (parts.inner_stream.next(num_inner), parts.outer_stream.next(config.num_inner_models)),
            lambda: ([next(loaders[0]) for _ in range(num_inner)], [next(loaders[1]) for _ in range(config.num_inner_models)]),
        ),
    }
    results = {}
    for name, pair in ways.items():
        for way in pair:
            way()  # a warm-up, not counted
        times = [[seconds(way) for way in pair] for _ in range(repeats)]
        results[name] = {
            "ours_seconds": summary([ours for ours, _ in times]), "plain_seconds": summary([plain for _, plain in times]),
            "plain_over_ours": summary([plain / ours for ours, plain in times]),
        }
        print(f"{name}: plain / ours = {results[name]['plain_over_ours']}")
    engines = {f"{estimator}, {execution}": engine_step(parts, estimator, execution) for estimator in ("reverse", "mixed") for execution in ("loop", "vmap")}
    times = [[seconds(step) for step in engines.values()] for _ in range(repeats + 1)][1:]  # the first is a warm-up
    results["engines_over_reverse_loop"] = {name: summary([turn[i] / turn[0] for turn in times]) for i, name in enumerate(engines)}
    print(f"engines / (reverse, loop): {results['engines_over_reverse_loop']}")
    settings = {name: getattr(config, name) for name in ("num_inner_models", "inner_steps", "batch_size", "inner_model_class", "data_rater_model_class", "inner_optimizer", "seed")}
    path = write_result("meta_step", "cpu", {"command": "python benchmarks/meta_step.py", "configuration": settings, "repeats": repeats, "largest_relative_difference_of_gradients": relative_difference, **results})
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
