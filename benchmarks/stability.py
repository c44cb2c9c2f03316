"""What each stabiliser of the recipe `mnist` is worth.

    python benchmarks/stability.py [--meta_steps 120] [--seeds 0 1 2] [--data_dir FOLDER]

writes results/stability.json. The recipe runs in batches of 64: whole, with one stabiliser at a
time taken away, and with none of them.
"""

from typing import Any

from provenance import command_line, parser_of, write_result
from runs import configuration, groups_of, run_all, spread

from datarater.runs import DataRaterConfig

# half the recipe's batches: half the time, and more noise to be stable against
COMMON = {"recipe": "mnist", "batch_size": 64, "eval_frequency": 20}
VARIANTS = {  # name -> what is changed
    "all of them": {},
    "one shared Adam": {"meta_update": "shared"},
    "all refreshed together": {"refresh": "together"},
    "never refreshed": {"meta_refresh_steps": 10_000},
    "no clipping": {"grad_clip_norm": 1e6},
    "no warm-up": {"outer_warmup_steps": 0},
    "no weight decay": {"outer_weight_decay": 0.0},
    "no averaging": {"ema_decay": 0.0},
}
VARIANTS["none of them"] = {
    name: value
    for changed in VARIANTS.values()
    for name, value in changed.items()
    if name != "meta_refresh_steps"
}
VARIANTS["none, never refreshed"] = {**VARIANTS["none of them"], **VARIANTS["never refreshed"]}


def worst_of(run: dict[str, Any], column: str) -> float:
    "The lowest value of a column in the second half of a run."
    rows = run["metrics"]
    return min(row[column] for row in rows[len(rows) // 2 :])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--meta_steps", type=int, default=120)
    arguments = parser.parse_args()

    common = {**COMMON, "meta_steps": arguments.meta_steps, "log": False}
    jobs = [
        {**common, **VARIANTS[name], "seed": seed, "data_dir": arguments.data_dir}
        for name in arguments.variants
        for seed in arguments.seeds
    ]
    runs = run_all(jobs, arguments.jobs)
    variants = {}
    unchanged = DataRaterConfig(**common)
    groups = groups_of(runs, len(arguments.seeds))
    for name, own in zip(arguments.variants, groups, strict=True):
        changes = VARIANTS[name].items()
        variants[name] = {
            "changed": {key: [getattr(unchanged, key), value] for key, value in changes},
            "auroc": spread([run["metrics"][-1]["auroc"] for run in own]),
            "r2": spread([run["metrics"][-1]["r2"] for run in own]),
            "worst_auroc_of_second_half": spread([worst_of(run, "auroc") for run in own]),
            "worst_r2_of_second_half": spread([worst_of(run, "r2") for run in own]),
            "runs": [{"seed": run["seed"], "metrics": run["metrics"]} for run in own],
        }
    content = {
        "command": command_line(),
        "configuration": configuration(**common),
        "seeds": arguments.seeds,
        "variants": variants,
    }
    write_result("stability", content, DataRaterConfig(**common).device)


if __name__ == "__main__":
    main()
