"""What each stabiliser is worth: the recipe `mnist` in batches of 64, and the same with one stabiliser at a time taken away.

python benchmarks/stability.py [--meta_steps 120] [--seeds 0 1 2] [--data_dir FOLDER]      writes results/stability.json
"""

import argparse

from provenance import command_line, write_result
from runs import configuration, run_all, spread

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--meta_steps", type=int, default=120)
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, a thread each")
    arguments = parser.parse_args()

    common = {**COMMON, "meta_steps": arguments.meta_steps, "log": False}
    jobs = [
        {**common, **VARIANTS[name], "seed": seed, "data_dir": arguments.data_dir}
        for name in arguments.variants
        for seed in arguments.seeds
    ]
    runs = run_all(jobs, arguments.jobs)
    variants = {}
    for i, name in enumerate(arguments.variants):
        own = runs[i * len(arguments.seeds) : (i + 1) * len(arguments.seeds)]
        last, worst = (
            [
                [
                    pick([row[column] for row in run["metrics"][len(run["metrics"]) // 2 :]])
                    for run in own
                ]
                for column in ("auroc", "r2")
            ]
            for pick in (lambda values: values[-1], min)
        )
        variants[name] = {
            "changed": {
                key: [getattr(DataRaterConfig(**common), key), value]
                for key, value in VARIANTS[name].items()
            },
            "auroc": spread(last[0]),
            "r2": spread(last[1]),
            "worst_auroc_of_second_half": spread(worst[0]),
            "worst_r2_of_second_half": spread(worst[1]),
            "runs": [{"seed": run["seed"], "metrics": run["metrics"]} for run in own],
        }
    content = {
        "command": command_line(),
        "configuration": configuration(**common),
        "seeds": arguments.seeds,
        "variants": variants,
    }
    print(f"written: {write_result('stability', DataRaterConfig(**common).device, content).name}")


if __name__ == "__main__":
    main()
