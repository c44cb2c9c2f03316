"""What curation buys models that are to be robust: MNIST, with the controls that decide.

    python benchmarks/robustness.py labels          40 % wrong labels, 1,000 trusted, 600 steps
    python benchmarks/robustness.py labels_few      with 300 trusted images
    python benchmarks/robustness.py labels_many     with 5,000
    python benchmarks/robustness.py labels_light    with 20 % wrong labels
    python benchmarks/robustness.py labels_long     with 2,400 steps
    python benchmarks/robustness.py noise           half of the images damaged, labels right
    python benchmarks/robustness.py labels_adversarial    with the outer loss attacked, too
    python benchmarks/robustness.py poison          plain training from a pool with poison in it
    python benchmarks/robustness.py poison_mlp      with poison made against another architecture
    python benchmarks/robustness.py trusted         plain training, 100 to 12,000 trusted images

each write results/robust_NAME.json. A seed trains raters of its own, damages the pool anew, and
trains a model on what each method keeps: the unit of replication is the rater. Seeds that the
file holds already are not repeated, so a stopped study can go on. Nothing was chosen by the half
of the test images that is reported (`mixed_samples`); settings were chosen on seeds from 100 on.
"""

import json
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from provenance import COMMIT, ROOT, command_line, parser_of, write_result
from runs import configuration, groups_of, side_by_side

from datarater.curation import ComparisonPlan, judge_method, prepare
from datarater.evaluation import detection_quality
from datarater.runs import DataRaterConfig, run_meta_training

WRONG = {"kinds": ("label_noise",), "fixed": True}
POISON = {"corruption_probability": 0.6, "fixed": True}
AGAINST = {"attack": True, "attack_steps": 5, "attack_eval_steps": 5}
LABELS = {"recipe": "mnist_labels", "meta_steps": 40, "eval_frequency": 40}
OLD = {  # inner models of up to 300 training steps
    "recipe": "mnist",
    "num_inner_models": 2,
    "inner_steps": 10,
    "meta_refresh_steps": 30,
    "inner_lr": 1e-3,
    "meta_steps": 100,
    "eval_frequency": 100,
}
HARD = {**AGAINST, "inner_attack": "pgd", "attack_eps": 0.3, "attack_step_size": 0.15}
BY_PGD = {
    "train_attack": "pgd",
    "attack": ("pgd", "autoattack"),
    "attack_eps": 0.3,
    "batch_size": 64,
    "lr": 3e-3,
}
CONTROLS = ("baseline", "random_drop", "trusted_only")
OWN = ("filtered", "trusted_kept")
RATED = ("filtered", "oracle")
FEW = ("baseline", "trusted_only", "filtered", "oracle", "outer_loss")


class Study(NamedTuple):
    "Raters, the pool that they rate, and what is made of their ratings."

    raters: dict[str, dict[str, Any]]  # name -> settings; the first is that of the controls
    methods: dict[str, tuple[str, ...]]  # rater -> methods
    corruption: dict[str, Any]
    plan: dict[str, Any]  # of the comparison
    steps: int  # of training
    trusted: int = 1_000  # of MNIST's 60,000 training images
    by_autoattack: tuple[str, ...] = ("baseline", "trusted_only", "filtered", "filtered_by_class")
    other_keep: float | None = None  # a second share to keep, for the ratings' own methods


def of_labels(
    wrong: float = 0.4,
    raters: tuple[str, ...] = ("clean",),
    arms: tuple[str, ...] = (*CONTROLS, *OWN, "oracle", "outer_loss"),
    **changes: Any,
) -> Study:
    "Adversarial training on labels of which a share is wrong."
    methods = {"clean": arms, "adversarial": ("filtered", "filtered_by_class")}
    settings = {"clean": LABELS, "adversarial": {**LABELS, **HARD}}
    corruption = {**WRONG, "corruption_probability": wrong}
    plan = {**BY_PGD, "discard_frac": wrong}
    chosen = {name: settings[name] for name in raters}
    by_autoattack = ("baseline", "trusted_only", "filtered")
    changes = {"steps": 600, "by_autoattack": by_autoattack, **changes}
    return Study(chosen, methods, corruption, plan, **changes)


def of_noise() -> Study:
    "Adversarial training on images of which half are damaged."
    corruption = {"kinds": ("pixel_noise",), "corruption_probability": 0.5, "fixed": True}
    plan = {**BY_PGD, "discard_frac": 0.5}
    return Study({"clean": OLD}, {"clean": FEW}, corruption, plan, steps=600, by_autoattack=())


def of_poison(kind: str) -> Study:
    "Plain training on a pool of clean, noisy and poisoned images."
    plan = {"discard_frac": 0.5, "attack": "pgd", "attack_eps": (0.05, 0.1)}
    attacked = {**OLD, **AGAINST, "attack_eps": 0.1, "attack_step_size": 0.05}
    methods = {"adversarial": (*CONTROLS, *OWN, "oracle"), "clean": ("filtered",)}
    corruption = {**POISON, "kinds": ("pixel_noise", f"poison:{kind}")}
    raters = {"adversarial": attacked, "clean": OLD}
    # half is more than the clean 40 %; who knows the share would keep as much as is clean
    return Study(raters, methods, corruption, plan, steps=375, other_keep=0.4)


def of_size(trusted: int) -> Study:
    "Plain training on 40 % wrong labels, with so many trusted images."
    methods = {"clean": ("baseline", "trusted_only", *OWN, "oracle")}
    corruption = {**WRONG, "corruption_probability": 0.4}
    batch = {"batch_size": 100} if trusted < 128 else {}
    return Study(
        {"clean": {**LABELS, **batch}},
        methods,
        corruption,
        {"discard_frac": 0.4, "batch_size": 128},
        steps=375,
        trusted=trusted,
    )


SIZES = (100, 300, 1_000, 3_000, 12_000)
STUDIES: dict[str, dict[str, Study]] = {  # name -> its parts
    "labels": {"": of_labels()},
    "labels_adversarial": {"": of_labels(raters=("adversarial",), by_autoattack=())},
    "labels_few": {"": of_labels(trusted=300, arms=FEW, by_autoattack=())},
    "labels_many": {"": of_labels(trusted=5_000, arms=FEW, by_autoattack=())},
    "labels_light": {"": of_labels(wrong=0.2, arms=FEW, by_autoattack=())},
    "labels_long": {"": of_labels(steps=2_400, arms=FEW)},
    "noise": {"": of_noise()},
    "poison": {"": of_poison("by_cnn")},
    "poison_mlp": {"": of_poison("by_mlp")},
    "trusted": {str(size): of_size(size) for size in SIZES},
}


def settings_of(study: Study, rater: str, seed: int, data_dir: str | None) -> dict[str, Any]:
    "Of a rater's run."
    return {
        **study.raters[rater],
        "corruption": {**study.corruption, "seed": seed},
        "train_split_ratio": 1 - study.trusted / 60_000,
        "seed": seed,
        "data_dir": data_dir,
        "device": "cpu",
        "log": False,
    }


def rows_of(study: Study, seed: int, data_dir: str | None) -> Iterator[dict[str, Any]]:
    "A row for each rater's methods."
    for rater in study.raters:
        with tempfile.TemporaryDirectory() as folder:
            config = DataRaterConfig(**settings_of(study, rater, seed, data_dir), output_dir=folder)
            run_dir = run_meta_training(config, progress=False).run_dir
            epochs = study.steps * study.plan.get("batch_size", 128) / (60_000 - study.trusted)
            plan = ComparisonPlan(
                runs=(str(run_dir),), epochs=epochs, data_dir=data_dir, **study.plan
            )
            given = prepare(plan, seed)
        damaged = given.task.fractions > 0
        found = detection_quality(given.ratings, damaged)
        arms = [(method, given.keep) for method in study.methods[rater]]
        if study.other_keep:
            arms += [(method, study.other_keep) for method, _ in arms if method in RATED]
        for method, keep in arms:
            judging = tuple(
                (attack, num)
                for attack, num in given.attacks.judging
                if attack.attack != "autoattack" or method in study.by_autoattack
            )
            attacks = given.attacks._replace(judging=judging)
            row = judge_method(method, given._replace(attacks=attacks, keep=keep))
            yield {"rater": rater, "auroc": round(found["auroc"], 4), "keep": round(keep, 4), **row}


def one_seed(job: tuple[str, int, str | None]) -> list[dict[str, Any]]:
    "All rows of a seed."
    name, seed, data_dir = job
    torch.set_num_threads(1)
    rows = []
    for part, study in STUDIES[name].items():
        for row in rows_of(study, seed, data_dir):
            of_part = {"part": part} if part else {}
            rows.append({"seed": seed, "commit": COMMIT, **of_part, **row})
            print(rows[-1], flush=True)
    return rows


def settings_in(study: Study) -> dict[str, Any]:
    "What decides its rows."
    return {name: value for name, value in study._asdict().items() if value is not None}


def known_rows(name: str, settings: dict[str, Any]) -> list[dict[str, Any]]:
    "The rows of a study that was begun with these settings."
    path = ROOT / "results" / f"robust_{name}.json"
    if not path.exists():
        return []
    content = json.loads(path.read_text())
    if content["study"] != json.loads(json.dumps(settings)):
        raise SystemExit(f"{path.name} holds a study with other settings: move it away")
    return content["rows"]


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--jobs", type=int, default=2, help="at a time, a thread each")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # as in the processes that do the work
    name = arguments.study
    parts = STUDIES[name]
    study = next(iter(parts.values()))
    settings = {part: settings_in(own) for part, own in parts.items()}
    rows = known_rows(name, settings)
    left = sorted(set(arguments.seeds) - {row["seed"] for row in rows})
    first = next(iter(study.raters))
    content = {
        "command": command_line(),
        "configuration": configuration(**settings_of(study, first, 0, arguments.data_dir)),
        "study": settings,
    }
    for seeds in groups_of(left, arguments.jobs):
        jobs = [(name, seed, arguments.data_dir) for seed in seeds]
        for found in side_by_side(one_seed, jobs, arguments.jobs):
            rows += found
        rows.sort(key=lambda row: row["seed"])  # what is done is written at once
        done = sorted({row["seed"] for row in rows})
        write_result(f"robust_{name}", {**content, "seeds": done, "rows": rows})


if __name__ == "__main__":
    main()
