"""Are models trained on what a rater keeps better? The downstream comparisons on MNIST, the discard sweep, and the compute ledger.

    python benchmarks/downstream.py original [--data_dir FOLDER]      10 % damaged, 10 % dropped, as in the original's table; 20 repeats; writes results/downstream_original.json
    python benchmarks/downstream.py half                              50 % damaged, 50 % dropped, 10 repeats; writes results/downstream_half.json
    python benchmarks/downstream.py labels                            40 % wrong labels, 40 % dropped, 10 repeats; writes results/downstream_labels.json (needs: pip install "datarater[rivals]")
    python benchmarks/downstream.py sweep                             50 % damaged: ρ chosen on ToyCNN, used for ResNetMnist; both ends of the ratings; writes results/downstream_sweep.json
    python benchmarks/downstream.py ledger                            50 % damaged: FLOPs spent and saved, also for ResNetMnist; writes results/downstream_ledger.json

Raters are meta-trained first, with two seeds, and repeats take them in turn; `--runs FOLDER` keeps them there and uses those that are there. Each repeat has its own damage, initialisation and
batches. Models train for one epoch of the whole training set, 375 steps, whatever is kept.
"""

import argparse
import math
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from provenance import command_line, write_result
from runs import configuration, records, spread

from datarater.curation import (
    DISCARD_FRACTIONS,
    KEEPS,
    ComparisonPlan,
    choose_discard_frac,
    compare_downstream,
    describe_comparison,
    keep_ledger,
    paired_difference,
    sweep_discard,
)
from datarater.runs import DataRaterConfig, config_from_yaml, run_meta_training

RATER_SEEDS = (0, 1)
HALF = {"recipe": "mnist", "corruption": {"corruption_probability": 0.5}}
BASELINES = ("small_loss", "el2n", "outer_loss", "knn_shapley")
# name -> settings of the raters' runs, and of the plan
EXPERIMENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "original": (
        {"recipe": "mnist"},
        {
            "num_seeds": 20,
            "discard_frac": 0.1,
            "methods": ("baseline", "filtered", "filtered_batch", "random_drop", "oracle"),
        },
    ),
    "half": (
        HALF,
        {
            "num_seeds": 10,
            "discard_frac": 0.5,
            "methods": (
                "baseline",
                "filtered",
                "filtered_batch",
                "weighted",
                "random_drop",
                "oracle",
                *BASELINES,
            ),
        },
    ),
    "labels": (
        {"recipe": "mnist_labels"},
        {
            "num_seeds": 10,
            "discard_frac": 0.4,
            "methods": (
                "baseline",
                "filtered",
                "weighted",
                "random_drop",
                "oracle",
                *BASELINES,
                "cleanlab",
            ),
        },
    ),
    "sweep": (HALF, {"num_seeds": 3, "discard_frac": 0.5}),
    "ledger": (HALF, {"num_seeds": 3, "discard_frac": 0.5}),
}
SMALL, LARGE = "ToyCNN", "ResNetMnist"


def train(settings: dict[str, Any]) -> str:
    "The folder of a run with these settings, which is made unless it is there."
    torch.set_num_threads(1)
    config = DataRaterConfig(**settings)
    for path in sorted(Path(config.output_dir).glob("*/data_rater.pt")):
        if config_from_yaml(path.parent / "config.yaml") == config:
            return str(path.parent)
    return str(run_meta_training(config, progress=False).run_dir)


def sweep(plan: ComparisonPlan, jobs: int) -> dict[str, Any]:
    """The sweep, the ρ chosen by the small model's outer loss, and how far it is from the best for
    the large one.
    """
    ends = sweep_discard(plan, models=(SMALL,), keeps=KEEPS, num_processes=jobs)
    rows = pd.concat(
        [ends.query("keeps == 'best'"), sweep_discard(plan, models=(LARGE,), num_processes=jobs)],
        ignore_index=True,
    )
    chosen = choose_discard_frac(rows, SMALL)
    large = rows.query("model == @LARGE").pivot(
        index="seed", columns="discard_frac", values="accuracy"
    )
    best = float(large.mean().idxmax())
    summary = {
        model: {
            str(frac): {
                column: spread(own[column].tolist()) for column in ("accuracy", "outer_loss")
            }
            for frac, own in part.groupby("discard_frac")
        }
        for model, part in rows.groupby("model")
    }
    return {
        "discard_fracs": DISCARD_FRACTIONS,
        "chosen_on_small": chosen,
        "chosen_on_large": choose_discard_frac(rows, LARGE),
        "best_for_large": best,
        "large_chosen_less_best": {
            name: None if math.isnan(value) else value
            for name, value in paired_difference(
                large[chosen].to_numpy(), large[best].to_numpy()
            ).items()
        },
        "summary": summary,
        "rows": records(rows),
        "ends": records(ends),
    }


def ledger(plan: ComparisonPlan, jobs: int) -> dict[str, Any]:
    "Ledgers of both models, repeat by repeat."
    return {
        model: [
            entry.as_dict()
            for entry in keep_ledger(
                replace(plan, model_class=model), num_looks=15, num_processes=jobs
            )
        ]
        for model in (SMALL, LARGE)
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--num_seeds", type=int, default=None)
    parser.add_argument("--meta_steps", type=int, default=None, help="default: the recipe's")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--runs", default=None, help="folder that keeps the raters' runs")
    parser.add_argument(
        "--jobs", type=int, default=2, help="runs or repeats at a time, a thread each"
    )
    arguments = parser.parse_args()

    settings, chosen = EXPERIMENTS[arguments.experiment]
    settings = {
        **settings,
        "device": "cpu",
        "log": False,
        **({"meta_steps": arguments.meta_steps} if arguments.meta_steps else {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        where = {"output_dir": arguments.runs or folder, "data_dir": arguments.data_dir}
        with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
            runs = tuple(
                pool.map(train, [{**settings, **where, "seed": seed} for seed in RATER_SEEDS])
            )
        plan = ComparisonPlan(
            runs=runs,
            data_dir=arguments.data_dir,
            **{**chosen, **({"num_seeds": arguments.num_seeds} if arguments.num_seeds else {})},
        )
        if arguments.experiment == "sweep":
            found = sweep(plan, arguments.jobs)
        elif arguments.experiment == "ledger":
            found = ledger(plan, arguments.jobs)
        else:
            comparison = compare_downstream(plan, arguments.jobs)
            print(describe_comparison(comparison))
            found = {
                name: value
                for name, value in comparison.as_dict().items()
                if name in ("metric", "table", "rows")
            }
    content = {
        "command": command_line(),
        "configuration": configuration(**settings),
        "rater_seeds": RATER_SEEDS,
        "num_seeds": plan.num_seeds,
        "discard_frac": plan.discard_frac,
        "epochs": plan.epochs,
        "lr": plan.lr,
        **found,
    }
    print(f"written: {write_result(f'downstream_{arguments.experiment}', 'cpu', content).name}")


if __name__ == "__main__":
    main()
