"""Time and memory of the meta-gradient and of whole runs, beside other ways.

    pip install -e ".[benchmarks]"
    python benchmarks/performance.py [--device cpu] [--parts NAME ...] [--repeats 7]

writes results/performance_cpu.json (or performance_gpu.json). The parts are meta_step,
light_rater, engines, compiled, memory, beside, run, rating and whole_runs; a part that is left out
keeps its entry in the file, and its commit. The ways take turns in one process, and each ratio is
taken within a turn, so a machine whose speed drifts does no harm; medians and quartiles of these
ratios are recorded. Memory is measured in a process of its own for each case. Images are random.
"""

import argparse
import ctypes
import gc
import json
import math
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from peers import PEERS, Problem, by_loop, largest_difference, make_problem, our_way, train_plainly
from provenance import COMMIT, ROOT, memory_of, parser_of, write_result
from runs import begin, take_step
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from datarater.data import TensorDataRaterDataset, register_dataset
from datarater.method import (
    EXECUTIONS,
    Compiled,
    Recorded,
    exact_kernels,
    make_engine,
    model_loss,
    rate_many,
    resolve_engine,
    shared_out,
    work_per_tensor,
)
from datarater.runs import DataRaterConfig, Run, evaluate_run, run_meta_training

MAIN = dict(inner_model="ToyCNN", num_models=8, num_steps=2, batch_size=128, optimizer="sgd")
GRID = [  # along each axis from one corner; the whole product would take days
    *({**MAIN, "num_models": p} for p in (1, 4, 8, 16)),
    {**MAIN, "optimizer": "adam"},
    *({**MAIN, "num_models": 1, "num_steps": t} for t in (1, 4, 8, 16, 32)),
    *({**MAIN, "num_models": 1, "num_steps": t, "optimizer": "adam"} for t in (1, 2, 4, 8)),
    *({**MAIN, "batch_size": 16, "optimizer": optimizer} for optimizer in ("sgd", "adam")),
    *(
        {**MAIN, "inner_model": "ResNet18", "num_models": 1, "num_steps": t, "batch_size": 8}
        for t in (1, 2, 4)
    ),
]
MEMORY = [("ToyCNN", 128, (1, 4, 16, 32)), ("ResNet18", 32, (1, 4, 8))]
MICRO_BATCH_SIZE = 8
MEMORY_WAYS = {  # estimator, and samples that are differentiated at a time
    "reverse": ("reverse", None),
    "mixed": ("mixed", None),
    "micro-batches": ("mixed", MICRO_BATCH_SIZE),
}


def synchronised(function: Callable[[], Any], device: str) -> float:
    "Seconds that a call takes, until the device is done."
    start = time.perf_counter()
    function()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def take_turns(
    ways: dict[str, Callable[[], Any]], repeats: int, device: str
) -> list[dict[str, float]]:
    "Seconds of each way, turn by turn, each turn in another order; a first turn does not count."
    turns = []
    order = random.Random(0)
    for _ in range(repeats + 1):
        names = order.sample(list(ways), len(ways))
        gc.collect()
        turns.append({name: synchronised(ways[name], device) for name in names})
    return turns[1:]


def summary(values: list[float]) -> dict[str, float]:
    "Median and quartiles."
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {
        "median": round(statistics.median(values), 4),
        "lower_quartile": round(low, 4),
        "upper_quartile": round(high, 4),
    }


def over(turns: list[dict[str, float]], one: str, other: str) -> dict[str, float]:
    "The ratio of two ways, turn by turn."
    return summary([turn[one] / turn[other] for turn in turns])


def engine_of(problem: Problem, device: str) -> tuple[str, str]:
    "What a run with settings left to `auto` takes."
    batch = problem.inner[0][0, 0], problem.inner[1][0, 0]
    work = work_per_tensor(
        model_loss(problem.models[0], "cross_entropy"),
        dict(problem.models[0].named_parameters()),
        batch,
    )
    return resolve_engine("auto", "auto", device, num_models=len(problem.models), work=work)


def meta_step(device: str, repeats: int) -> dict[str, Any]:
    "Our meta-gradient, that of the peers, and plain training of the same inner steps."
    differences = {}
    for inner_model, optimizer in (("ToyCNN", "sgd"), ("ToyCNN", "adam"), ("ResNet18", "sgd")):
        found = largest_difference(inner_model, optimizer)
        differences[f"{inner_model}, {optimizer}"] = found
        if max(found.values()) > (1e-10 if optimizer == "sgd" else 1e-4):
            raise SystemExit(
                f"the meta-gradients of {inner_model} with {optimizer} differ: {found}; the "
                "comparison would mean nothing"
            )
    rows = []
    for case in GRID if device == "cpu" else [*GRID, {**MAIN, "num_models": 64}]:
        problem = make_problem(**case, device=device)
        engine = engine_of(problem, device)
        ways = {
            "plain": lambda: train_plainly(problem),
            "ours": our_way(problem, *engine),
            "ours, without the rater": unrolled(problem, *engine),
        }
        ways |= {name: partial(peer, problem) for name, peer in PEERS.items()}
        is_short = case["num_models"] * case["num_steps"] <= 16
        is_short &= case["inner_model"] == "ToyCNN"
        turns = take_turns(ways, repeats if is_short else 5, device)
        best = [min(turn[name] for name in PEERS) / turn["ours"] for turn in turns]
        rows.append(
            {
                **case,
                "engine": engine,
                "repeats": len(turns),
                "plain_seconds": summary([turn["plain"] for turn in turns]),
                "our_seconds": summary([turn["ours"] for turn in turns]),
                "over_plain": {
                    name: over(turns, name, "plain") for name in ways if name != "plain"
                },
                "peers_over_ours": {name: over(turns, name, "ours") for name in PEERS},
                "best_peer_over_ours": summary(best),
            }
        )
        medians = {name: ratio["median"] for name, ratio in rows[-1]["over_plain"].items()}
        print(case, engine, medians, "best peer / ours", summary(best)["median"], flush=True)
    return {"largest_difference_in_float64": differences, "rows": rows}


def unrolled(
    problem: Problem,
    estimator: str,
    execution: str,
    compiler: type[Compiled] | None = None,
    record: bool = True,
    micro_batch_size: int | None = None,
) -> Callable[[], Any]:
    "Ours without the rater's own forward and backward pass."
    shape = problem.inner[0].shape[:3]  # (P, T, B)
    weights = next(iter(problem.params.values())).new_full(shape, 1 / shape[2])
    engine = make_engine(estimator, execution, compiler, micro_batch_size)
    differentiate = partial(engine.weight_gradient, problem.task)
    differentiate = exact_kernels()(shared_out(differentiate, engine.threads_take))
    if record:
        differentiate = Recorded(differentiate)
    return lambda: differentiate(problem.members, weights)


def light_rater(device: str, repeats: int) -> dict[str, Any]:
    "The main case with a rater that costs little beside the inner model."
    problem = make_problem(**MAIN, device=device)
    torch.manual_seed(0)
    problem.rater = nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=4), nn.GELU(), nn.Flatten(), nn.Linear(288, 1), nn.Flatten(0)
    ).to(device)
    engine = engine_of(problem, device)
    ways = {
        "plain": lambda: train_plainly(problem),
        "ours": our_way(problem, *engine),
        **{name: partial(peer, problem) for name, peer in PEERS.items()},
    }
    turns = take_turns(ways, repeats, device)
    return {
        **MAIN,
        "engine": engine,
        "repeats": repeats,
        "over_plain": {name: over(turns, name, "plain") for name in ways if name != "plain"},
        "best_peer_over_ours": summary(
            [min(turn[name] for name in PEERS) / turn["ours"] for turn in turns]
        ),
    }


def engines(device: str, repeats: int) -> list[dict[str, Any]]:
    "The estimators and executions of the unrolled steps, over sizes of the work."
    rows = []
    for inner_model, num_models, num_steps, batch_size in (
        ("ToyCNN", 8, 2, 128),
        ("ToyCNN", 8, 2, 32),
        ("ToyCNN", 8, 2, 8),
        ("ResNetMnist", 4, 2, 128),
        ("ResNetMnist", 4, 2, 16),
    ):
        problem = make_problem(inner_model, num_models, num_steps, batch_size, "adam", device)
        loss_fn = model_loss(problem.models[0], "cross_entropy")
        work = work_per_tensor(
            loss_fn,
            dict(problem.models[0].named_parameters()),
            (problem.inner[0][0, 0], problem.inner[1][0, 0]),
        )
        ways = {
            f"{estimator}, {execution}": unrolled(problem, estimator, execution)
            for estimator in ("reverse", "mixed")
            for execution in EXECUTIONS
        }
        turns = take_turns(ways, max(3, repeats // 2), device)
        rows.append(
            {
                "inner_model": inner_model,
                "P": num_models,
                "T": num_steps,
                "B": batch_size,
                "optimizer": "adam",
                "work_per_tensor": work,
                "chosen": engine_of(problem, device),
                "repeats": len(turns),
                "over_reverse_loop": {name: over(turns, name, "reverse, loop") for name in ways},
            }
        )
        medians = {name: over(turns, name, "reverse, loop")["median"] for name in ways}
        print({**rows[-1], "over_reverse_loop": medians}, flush=True)
    return rows


def compiled(device: str, repeats: int) -> dict[str, Any]:
    "The unrolled steps of `mixed`, compiled against as they are, and what compiling takes."
    problem = make_problem(**MAIN, device=device)
    execution = engine_of(problem, device)[1]
    ways = {
        "compiled": unrolled(problem, "mixed", execution, Compiled),
        "as it is": unrolled(problem, "mixed", execution),
    }
    seconds = synchronised(ways["compiled"], device)
    turns = take_turns(ways, repeats, device)
    return {
        **MAIN,
        "execution": execution,
        "seconds_to_compile": round(seconds, 1),
        "repeats": len(turns),
        "compiled_over_as_it_is": over(turns, "compiled", "as it is"),
    }


def memory(device: str, repeats: int) -> list[dict[str, Any]]:
    "Peak memory of the unrolled steps, above what was there before, over T."
    rows = []
    for inner_model, batch_size, steps in MEMORY:
        for num_steps in steps:
            for way in MEMORY_WAYS:
                case = inner_model, str(batch_size), str(num_steps), way
                if device == "cpu":  # a process of its own
                    command = [sys.executable, __file__, "--probe", *case]
                    probed = subprocess.run(command, check=True, capture_output=True, text=True)
                    rows.append(json.loads(probed.stdout.splitlines()[-1]))
                else:
                    rows.append(probe(device, *case))
                print(rows[-1], flush=True)
    return rows


def peak_of(differentiate: Callable[[], Any], device: str) -> int:
    "The peak of one call, in bytes above what was there before."
    if device == "cpu":
        ctypes.CDLL(None).malloc_trim(0)  # what was freed is no memory of ours
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = memory_of("VmRSS")
        differentiate()
        return memory_of("VmHWM") - before
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    differentiate()
    return torch.cuda.max_memory_allocated() - before


def probe(
    device: str, inner_model: str, batch_size: str, num_steps: str, way: str
) -> dict[str, Any]:
    "The peak of one call, in this process."
    estimator, size = MEMORY_WAYS[way]
    problem = make_problem(inner_model, 1, int(num_steps), int(batch_size), "sgd", device)
    # load whatever is loaded once
    unrolled(make_problem(inner_model, 1, 2, 1, "sgd", device), estimator, "loop", record=False)()
    differentiate = unrolled(problem, estimator, "loop", record=False, micro_batch_size=size)
    peak = peak_of(differentiate, device)
    saved = {}

    def note(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    if estimator == "reverse":
        # the estimator refuses them, for layers that would use them
        allowed = patch(
            "torch.autograd.graph.disable_saved_tensors_hooks", lambda message: nullcontext()
        )
        with allowed, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            differentiate()
    copies = sum(value.nbytes for value in problem.params.values())
    return {
        "inner_model": inner_model,
        "B": int(batch_size),
        "T": int(num_steps),
        "way": way,
        "micro_batch_size": size,
        "peak_bytes": peak,
        "bytes_saved_by_autograd": sum(saved.values()) or None,
        "bytes_of_parameters": copies,
    }


@contextmanager
def busy_program() -> Iterator[None]:
    "Context in which another process keeps a core busy."
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        program.kill()
        program.wait()


def beside(device: str, repeats: int) -> list[dict[str, Any]]:
    """Meta-gradients with one thread and with two, alone and beside a program that keeps a core
    busy: seconds, and seconds of processor time, over those of one thread alone, turn by turn.
    """
    cases = [(threads, is_busy) for threads in (1, 2) for is_busy in (False, True)]
    turns = []
    for _ in range(max(3, repeats // 2)):
        turn = {}
        for threads, is_busy in cases:
            command = [sys.executable, __file__, "--probe_threads", str(threads)]
            with busy_program() if is_busy else nullcontext():
                probed = subprocess.run(command, check=True, capture_output=True, text=True)
            turn[threads, is_busy] = json.loads(probed.stdout.splitlines()[-1])
        turns.append(turn)
        print({str(case): found["ours"] for case, found in turn.items()}, flush=True)
    return [
        {
            "way": way,
            "threads": threads,
            "beside_a_busy_program": is_busy,
            **{
                what: summary(
                    [turn[threads, is_busy][way][i] / turn[1, False][way][i] for turn in turns]
                )
                for i, what in enumerate(("seconds", "processor_seconds"))
            },
        }
        for way in turns[0][1, False]
        for threads, is_busy in cases
    ]


def probe_threads(num_threads: int) -> dict[str, tuple[float, float]]:
    "Seconds of five calls of each way, and of processor time, in this process."
    torch.set_num_threads(num_threads)
    problem = make_problem(**{**MAIN, "batch_size": 64})
    ways = {"ours": our_way(problem), "careful loop": partial(PEERS["careful loop"], problem)}
    found = {}
    for name, way in ways.items():
        way()
        start, used = time.perf_counter(), time.process_time()
        for _ in range(5):
            way()
        found[name] = time.perf_counter() - start, time.process_time() - used
    return found


DAMAGED = {"corruption_probability": 0.1}  # as MNIST is by default


@register_dataset("mnist_shaped")
class MNISTShaped(TensorDataRaterDataset):
    "Random images and labels in the sizes of MNIST."

    num_classes = 10

    def read_tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        parts = []
        for num in (60_000, 10_000):
            parts += [
                torch.randint(256, (num, 1, 28, 28), dtype=torch.uint8, generator=generator),
                torch.randint(10, (num,), generator=generator),
            ]
        return tuple(parts)


class PerSampleDataset(Dataset):
    "The plain way: one sample at a time, corrupted on access."

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        probability: float,
        low: float = 0.1,
        high: float = 0.9,
    ):
        self.images, self.labels = images, labels
        self.probability = probability
        self.low, self.high = low, high

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int, float]:
        image = self.images[index].float() / 127.5 - 1  # (1, 28, 28)
        fraction = 0.0
        if torch.rand(()).item() < self.probability:
            fraction = self.low + (self.high - self.low) * torch.rand(()).item()
            chosen = torch.randperm(784)[: round(fraction * 784)]
            image.view(-1)[chosen] = torch.rand(len(chosen)) * 2 - 1
        return image, int(self.labels[index]), fraction


def endless(samples: Dataset, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
    "Shuffled batches, epoch after epoch."
    loader = DataLoader(samples, batch_size=batch_size, shuffle=True, drop_last=True)
    while True:
        yield from loader


def plain_run(run: Run) -> tuple[Callable[[], None], Callable[[], None]]:
    "A meta-step (`by_loop`) and an evaluation as scripts for this paper do them, sample by sample."
    config = run.config
    device = config.device
    rater = run.learner.rater
    num_models = config.num_inner_models
    train = run.data.inner_stream.loader.dataset.original_subset
    val = run.data.outer_stream.loader.dataset
    test = run.samples.clean
    models = [run.learner.population.make_model(p) for p in range(num_models)]
    optimizer = torch.optim.Adam(rater.parameters(), lr=config.outer_lr)

    def batches_of(part: Any, probability: float) -> Iterator[tuple[Tensor, ...]]:
        images = part.samples[part.indices].cpu()
        labels = part.targets[part.indices].cpu()
        return endless(PerSampleDataset(images, labels, probability), config.batch_size)

    def draw(loader: Iterator, num: int) -> tuple[Tensor, Tensor]:
        x, y, _ = zip(*(next(loader) for _ in range(num)), strict=True)
        return torch.stack(x).to(device), torch.stack(y).to(device)

    inner_batches = batches_of(train, config.corruption.corruption_probability)
    outer_batches = batches_of(val, 0.0)

    def step() -> None:
        shape = (num_models, config.inner_steps)
        inner = tuple(part.unflatten(0, shape) for part in draw(inner_batches, math.prod(shape)))
        problem = Problem(
            inner_model=config.inner_model_class,
            optimizer=config.inner_optimizer,
            models=models,
            rater=rater,
            params={},
            state={},
            inner=inner,
            outer=draw(outer_batches, num_models),
        )
        by_loop(problem)
        torch.nn.utils.clip_grad_norm_(rater.parameters(), config.grad_clip_norm)
        optimizer.step()

    def evaluation() -> None:
        images = ((test[0].cpu() + 1) * 127.5).round().byte()
        samples = PerSampleDataset(images, test[1].cpu(), probability=1.0, low=0.0, high=1.0)
        ratings, fractions = [], []
        with torch.no_grad():
            for i in range(len(samples)):
                image, _, fraction = samples[i]
                ratings.append(rater(image[None].to(device)).item())
                fractions.append(fraction)
        statistics.correlation(ratings, fractions)

    return step, evaluation


MEASURED_SETTINGS = (
    "num_inner_models",
    "inner_steps",
    "batch_size",
    "inner_model_class",
    "data_rater_model_class",
    "eval_frequency",
)


def whole_run(device: str, repeats: int) -> dict[str, Any]:
    """A whole run by part, per meta-step, with an evaluation every hundred.

    It is compared with its bare meta-steps and with the plain way.
    """
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raters of noise may collapse
        config = DataRaterConfig(
            recipe="mnist_v1", dataset_name="mnist_shaped", corruption=DAMAGED, device=device
        )
        run = begin(config, Path(folder))
        config = run.config  # with the size of batches that the data can fill
        num_models = config.num_inner_models
        num_steps = config.inner_steps
        fixed = make_problem("ToyCNN", num_models, num_steps, config.batch_size, "sgd", device)
        plain_step, plain_evaluation = plain_run(run)

        def data() -> None:
            run.data.inner_stream.next(num_models * num_steps)
            run.data.outer_stream.next(num_models)

        def evaluation() -> None:
            run.log.drawing = 0.0  # all figures each time, which a run may put off
            evaluate_run(run.data, run.samples, run.steps, run.log)

        x, y = (part.flatten(0, 2) for part in fixed.inner)  # (P·T·B, ...)
        ways = {
            "bare": our_way(fixed, *engine_of(fixed, device)),
            "unrolled": unrolled(fixed, *engine_of(fixed, device)),
            "ratings": torch.no_grad()(partial(rate_many, fixed.rater, x, y)),
            "data": data,
            "step": partial(take_step, run),
            "evaluation": evaluation,
            "plain step": plain_step,
            "plain evaluation": plain_evaluation,
        }
        turns = take_turns(ways, repeats, device)
    every = config.eval_frequency
    for turn in turns:
        turn["whole"] = turn["step"] + turn["evaluation"] / every
        turn["plain whole"] = turn["plain step"] + turn["plain evaluation"] / every
    parts_of_it = {name: summary([turn[name] for turn in turns]) for name in ways}
    return {
        "configuration": {name: getattr(config, name) for name in MEASURED_SETTINGS},
        "repeats": repeats,
        "seconds": parts_of_it,
        "whole_over_bare": over(turns, "whole", "bare"),
        "plain_over_whole": over(turns, "plain whole", "whole"),
        "plain_evaluation_over_ours": over(turns, "plain evaluation", "evaluation"),
    }


def whole_runs(device: str, repeats: int) -> list[dict[str, Any]]:
    "Seconds of runs with set-up, recording, evaluations, files and figures; for a GPU."
    rows = []
    for attack, num_models, meta_steps in (
        (False, 8, 1000),
        (True, 8, 1000),
        (False, 64, 200),
        (True, 64, 200),
    ):
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # raters of noise may collapse
            config = DataRaterConfig(
                recipe="mnist_v1",
                dataset_name="mnist_shaped",
                corruption=DAMAGED,
                device=device,
                output_dir=folder,
                attack=attack,
                num_inner_models=num_models,
                meta_steps=meta_steps,
            )
            seconds = synchronised(
                lambda config=config: run_meta_training(config, progress=False), device
            )
        rows.append(
            {
                "attack_steps": config.attack_steps if attack else 0,
                "P": num_models,
                "T": config.inner_steps,
                "B": config.batch_size,
                "meta_steps": meta_steps,
                "eval_frequency": config.eval_frequency,
                "seconds": round(seconds, 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def rating(device: str, repeats: int) -> dict[str, Any]:
    "Images per second: by `rate_many`, by the bare rater in large batches, and one by one."
    problem = make_problem("ToyCNN", 1, 1, 2000, "sgd", device)
    x, y = problem.inner[0][0, 0], problem.inner[1][0, 0]
    rater = problem.rater

    def without_gradient(function: Callable[[], Any]) -> Callable[[], Any]:
        return torch.no_grad()(function)

    ways = {
        "rate_many": without_gradient(lambda: rate_many(rater, x, y)),
        "batches of 1000": without_gradient(lambda: [rater(part) for part in x.split(1000)]),
        "one by one": without_gradient(lambda: [rater(image[None]) for image in x]),
    }
    turns = take_turns(ways, repeats, device)
    return {
        "images": len(x),
        "repeats": repeats,
        "images_per_second": {
            name: summary([len(x) / turn[name] for turn in turns]) for name in ways
        },
        "batches_over_rate_many": over(turns, "batches of 1000", "rate_many"),
        "one_by_one_over_rate_many": over(turns, "one by one", "rate_many"),
    }


PARTS = {
    "meta_step": meta_step,
    "light_rater": light_rater,
    "engines": engines,
    "compiled": compiled,
    "memory": memory,
    "beside": beside,
    "run": whole_run,
    "rating": rating,
    "whole_runs": whole_runs,
}


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("--device", default="cpu")
    about = "default: all, but whole_runs on a GPU only, and beside on a CPU only"
    parser.add_argument("--parts", nargs="+", choices=PARTS, help=about)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--probe", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--probe_threads", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    if arguments.probe_threads:
        print(json.dumps(probe_threads(arguments.probe_threads)))
        return
    if arguments.probe:
        print(json.dumps(probe(arguments.device, *arguments.probe)))
        return
    is_cpu = arguments.device == "cpu"
    name = f"performance_{'cpu' if is_cpu else 'gpu'}"
    default = [part for part in PARTS if part != ("whole_runs" if is_cpu else "beside")]
    command = "python benchmarks/performance.py"
    if not is_cpu:
        command += f" --device {arguments.device}"
    for part in arguments.parts or default:
        start = time.perf_counter()
        measured = PARTS[part](arguments.device, arguments.repeats)
        minutes = round((time.perf_counter() - start) / 60, 1)
        path = ROOT / "results" / f"{name}.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        content = {
            "command": command,
            "commits": {**before.get("commits", {}), part: COMMIT},
            "minutes": {**before.get("minutes", {}), part: minutes},
            **{key: value for key, value in before.items() if key in PARTS},
            part: measured,
        }
        write_result(name, content, arguments.device)


if __name__ == "__main__":
    main()
