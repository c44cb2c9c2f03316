"""What the benchmarks share: runs side by side, models trained downstream, results as numbers."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from datarater.runs import (
    DataRaterConfig,
    Interruption,
    Ranks,
    Run,
    call_on_all,
    evaluation_set_of,
    run_meta_training,
    set_up,
)

# not part of what a run computes, or given beside it
ELSEWHERE = ("seed", "data_dir", "output_dir", "device")


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    "A table as JSON knows it: a row each, five digits, NaN as null."

    def shorter(column: pd.Series) -> pd.Series:
        return column.map(lambda value: float(f"{value:.5g}"))

    reals = table.select_dtypes("float")
    shortened = table.assign(**{name: shorter(reals[name]) for name in reals})
    return shortened.astype(object).where(table.notna(), None).to_dict("records")


def run(settings: dict[str, Any]) -> dict[str, Any]:
    "One run on one thread: its seed and its tables."
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = run_meta_training(DataRaterConfig(**settings, output_dir=folder), progress=False)
    return {
        "seed": result.config.seed,
        "metrics": records(result.metrics),
        "by_kind": records(result.by_kind.reset_index()),
        "by_strength": records(result.by_strength),
    }


def begin(
    config: DataRaterConfig,
    folder: Path,  # for whatever the run writes
    ranks: Ranks = Ranks(),
) -> Run:
    "A run before its first step, to be taken apart."
    data, learner = set_up(config, ranks)
    return Run(data, learner, evaluation_set_of(data), folder, Interruption())


def take_step(run: Run) -> None:
    "The run's next meta-step, as the run itself takes and logs it."
    step = run.steps(run.learner, *call_on_all(run.ranks, run.data.next_batches))
    run.log.steps.append({"meta_step": run.learner.num_steps, **step})


def side_by_side(function: Callable[[Any], Any], items: Sequence[Any], jobs: int) -> list[Any]:
    "The function's result for each item, in order; `jobs` processes at a time."
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return list(pool.map(function, items))


def groups_of(runs: Sequence[Any], size: int) -> list[Sequence[Any]]:
    "Runs that follow each other, in groups of that size."
    return [runs[start : start + size] for start in range(0, len(runs), size)]


def run_all(all_settings: Sequence[dict[str, Any]], jobs: int) -> list[dict[str, Any]]:
    "`run` for each, `jobs` at a time, in order; prints where each ended."
    results = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for settings, result in zip(all_settings, pool.map(run, all_settings), strict=True):
            last = result["metrics"][-1]
            print(settings)
            print(
                f"    meta-step {last['meta_step']}: AUROC {last['auroc']}, R² {last['r2']}, "
                f"rho {last['spearman']}",
                flush=True,
            )
            results.append(result)
    return results


def whole(loader: Any) -> tuple[Tensor, Tensor]:
    "All samples and labels of a loader's dataset."
    return loader.dataset.batch(torch.arange(len(loader.dataset)))[:2]


def batches(
    x: Tensor, y: Tensor, seed: int, size: int = 128
) -> Callable[[], tuple[Tensor, Tensor]]:
    "A function that draws random batches."
    generator = torch.Generator().manual_seed(seed)

    def next_batch() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(x), (size,), generator=generator)
        return x[chosen], y[chosen]

    return next_batch


def configuration(**settings: Any) -> dict[str, Any]:
    "Every setting of a run as it is resolved, without those that say where it happens."
    resolved = dataclasses.asdict(DataRaterConfig(**settings))
    return {name: value for name, value in resolved.items() if name not in ELSEWHERE}


def rounded(values: dict[str, float]) -> dict[str, float]:
    "Three digits of each, to be printed."
    return {name: round(value, 3) for name, value in values.items()}


def spread(values: list[float | None]) -> dict[str, float | None]:
    "Mean, standard deviation over repeats, and lowest and highest value; nulls if any is missing."
    if any(value is None for value in values):
        return dict.fromkeys(("mean", "std", "min", "max"))
    std = round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else None
    return {
        "mean": round(float(np.mean(values)), 4),
        "std": std,
        "min": round(float(min(values)), 4),
        "max": round(float(max(values)), 4),
    }
