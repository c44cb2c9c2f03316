"""Are models better when they train on what a rater keeps? Everything on MNIST.

    python benchmarks/downstream.py original [--data_dir FOLDER]
    python benchmarks/downstream.py half
    python benchmarks/downstream.py labels
    python benchmarks/downstream.py sweep
    python benchmarks/downstream.py ledger

each write results/downstream_NAME.json:

    original   10 % damaged, 10 % dropped, as in the original's table; 20 repeats
    half       50 % damaged, 50 % dropped; 10 repeats
    labels     40 % wrong labels, 40 % dropped; 10 repeats; needs pip install -e ".[rivals]"
    sweep      50 % damaged: ρ chosen on ToyCNN, used for ResNetMnist; both ends of the ratings
    ledger     50 % damaged: FLOPs spent and saved, also for ResNetMnist

A rater for each repeat is meta-trained first; `original` and `labels` have two, with which the
repeats take turns. `--runs FOLDER` stores them there and reuses those it finds. Each repeat has its
own damage, initialisation and batches. Models train for one epoch of the whole training set, 375
steps, whatever is kept.
"""

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from provenance import command_line, parser_of, write_result
from runs import configuration, records, side_by_side, spread

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

HALF = {"recipe": "mnist", "corruption": {"corruption_probability": 0.5}}
NUM_RATERS = {"original": 2, "labels": 2}  # elsewhere one for each repeat
CONTROLS = ("random_drop", "oracle")
BASELINES = ("small_loss", "el2n", "outer_loss", "knn_shapley")
# name -> settings of the raters' runs, and of the plan
EXPERIMENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "original": (
        {"recipe": "mnist"},
        {
            "num_seeds": 20,
            "discard_frac": 0.1,
            "methods": ("baseline", "filtered", "filtered_batch", *CONTROLS),
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
                *CONTROLS,
                "trusted_only",
                *BASELINES,
            ),
        },
    ),
    "labels": (
        {"recipe": "mnist_labels"},
        {
            "num_seeds": 10,
            "discard_frac": 0.4,
            "methods": ("baseline", "filtered", "weighted", *CONTROLS, *BASELINES, "cleanlab"),
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


def sweep(
    plan: ComparisonPlan,
    jobs: int,
    models: tuple[str, str] = (SMALL, LARGE),
    metric: str = "accuracy",  # or "loss", the lower the better
) -> dict[str, Any]:
    """The sweep, the ρ that the small model's outer loss chooses, and how far it is from the best
    for the large model.
    """
    small_model, large_model = models
    ends = sweep_discard(plan, models=(small_model,), keeps=KEEPS, num_processes=jobs)
    of_large = sweep_discard(plan, models=(large_model,), num_processes=jobs)
    rows = pd.concat([ends.query("keeps == 'best'"), of_large], ignore_index=True)
    chosen = choose_discard_frac(rows, small_model)
    large = rows.query("model == @large_model").pivot(
        index="seed", columns="discard_frac", values=metric
    )
    best = float(large.mean().idxmin() if metric == "loss" else large.mean().idxmax())
    less = paired_difference(large[chosen].to_numpy(), large[best].to_numpy())
    summary: dict[str, dict[str, Any]] = {}
    for (model, frac), own in rows.groupby(["model", "discard_frac"]):
        columns = {name: spread(own[name].tolist()) for name in (metric, "outer_loss")}
        summary.setdefault(model, {})[str(frac)] = columns
    return {
        "discard_fracs": DISCARD_FRACTIONS,
        "chosen_on_small": chosen,
        "chosen_on_large": choose_discard_frac(rows, large_model),
        "best_for_large": best,
        "large_chosen_less_best": {
            name: None if math.isnan(value) else value for name, value in less.items()
        },
        "summary": summary,
        "rows": records(rows),
        "ends": records(ends),
    }


def ledger(
    plan: ComparisonPlan, jobs: int, models: tuple[str, str] = (SMALL, LARGE)
) -> dict[str, Any]:
    "Ledgers of both models, repeat by repeat."
    found = {}
    for model in models:
        of_model = replace(plan, model_class=model)
        entries = keep_ledger(of_model, num_looks=15, num_processes=jobs)
        found[model] = [entry.as_dict() for entry in entries]
    return found


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--num_seeds", type=int, default=None)
    parser.add_argument("--meta_steps", type=int, default=None, help="default: the recipe's")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--runs", default=None, help="folder that keeps the raters' runs")
    parser.add_argument("--jobs", type=int, default=2, help="at a time, a thread each")
    arguments = parser.parse_args()

    of_runs, of_plan = EXPERIMENTS[arguments.experiment]
    settings = {**of_runs, "device": "cpu", "log": False}
    if arguments.meta_steps:
        settings["meta_steps"] = arguments.meta_steps
    if arguments.num_seeds:
        of_plan = {**of_plan, "num_seeds": arguments.num_seeds}
    rater_seeds = list(range(NUM_RATERS.get(arguments.experiment, of_plan["num_seeds"])))
    with tempfile.TemporaryDirectory() as folder:
        where = {"output_dir": arguments.runs or folder, "data_dir": arguments.data_dir}
        jobs = [{**settings, **where, "seed": seed} for seed in rater_seeds]
        runs = tuple(side_by_side(train, jobs, arguments.jobs))
        plan = ComparisonPlan(runs=runs, data_dir=arguments.data_dir, **of_plan)
        if arguments.experiment == "sweep":
            found = sweep(plan, arguments.jobs)
        elif arguments.experiment == "ledger":
            found = ledger(plan, arguments.jobs)
        else:
            comparison = compare_downstream(plan, arguments.jobs)
            print(describe_comparison(comparison))
            found = {name: comparison.as_dict()[name] for name in ("metric", "table", "rows")}
    content = {
        "command": command_line(),
        "configuration": configuration(**settings),
        "rater_seeds": rater_seeds,
        "num_seeds": plan.num_seeds,
        "discard_frac": plan.discard_frac,
        "epochs": plan.epochs,
        "lr": plan.lr,
        **found,
    }
    write_result(f"downstream_{arguments.experiment}", content)


if __name__ == "__main__":
    main()
