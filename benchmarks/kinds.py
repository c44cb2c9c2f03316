"""Each built-in corruption of images, alone and mixed: does it do harm, and is it found?

    python benchmarks/kinds.py --rater_seeds 0 1 2 [--data_dir FOLDER]   writes results/kinds.json
    python benchmarks/kinds.py --light [--data_dir FOLDER]         writes results/kinds_light.json

The second command measures only the harm, when every image is damaged a little. Raters are those of
the recipe `mnist`.
"""

import argparse
from typing import Any

import torch
import torch.nn.functional as F
from provenance import command_line, parser_of, write_result
from runs import configuration, groups_of, run_all, side_by_side, spread, whole

from datarater import get_dataset_loaders
from datarater.data import BatchStream
from datarater.models import construct_model, fit_classifier, logits_of
from datarater.runs import DataRaterConfig

KINDS = ("pixel_noise", "gaussian_noise", "gaussian_blur", "occlusion")
PROBABILITIES = (0.1, 0.5)
HARM_STEPS = 150  # training steps of the models that show what a corruption costs
LIGHT = (0.0, 0.2)


def settings_of(
    kinds: tuple[str, ...],
    probability: float,
    fraction_range: tuple[float, float] = (0.1, 0.9),
    **settings: Any,
) -> dict[str, Any]:
    corruption = {
        "kinds": kinds,
        "corruption_probability": probability,
        "corruption_fraction_range": fraction_range,
    }
    return dict(recipe="mnist", device="cpu", log=False, corruption=corruption, **settings)


def harm(
    job: tuple[tuple[str, ...], float, tuple[float, float], int, str | None],
) -> dict[str, float]:
    "Loss and accuracy, on clean test images, of a model trained on corrupted ones."
    kinds, probability, fraction_range, seed, data_dir = job
    torch.set_num_threads(1)
    settings = settings_of(kinds, probability, fraction_range, seed=seed, data_dir=data_dir)
    train, _, test = get_dataset_loaders(DataRaterConfig(**settings))
    model = construct_model("ToyCNN", seed=seed)
    fit_classifier(model, BatchStream(train, device="cpu").one, HARM_STEPS)
    x, y = whole(test)
    logits = logits_of(model, x)
    return {
        "loss": F.cross_entropy(logits, y).item(),
        "accuracy": (logits.argmax(-1) == y).double().mean().item(),
    }


def measure_harm(
    cases: list[tuple[tuple[str, ...], float]],
    fraction_range: tuple[float, float],
    arguments: argparse.Namespace,
) -> list[dict[str, Any]]:
    "`harm` of each case, over seeds."
    seeds = arguments.seeds
    jobs = [(*case, fraction_range, seed, arguments.data_dir) for case in cases for seed in seeds]
    trained = side_by_side(harm, jobs, arguments.jobs)
    rows = []
    for (kinds, probability), own in zip(cases, groups_of(trained, len(seeds)), strict=True):
        row = {"kinds": kinds if probability else ["none"], "probability": probability}
        rows.append(row | {name: spread([run[name] for run in own]) for name in own[0]})
        print(rows[-1], flush=True)
    return rows


UNDAMAGED = (("pixel_noise",), 0.0)
COLUMNS = ("auroc", "auroc_in_range", "r2", "spearman", "average_precision", "precision")


def light(arguments: argparse.Namespace) -> None:
    "The harm alone, when every image is damaged a little."
    cases = [UNDAMAGED, *(((kind,), 1.0) for kind in KINDS)]
    content = {
        "command": command_line(),
        "fraction_range": LIGHT,
        "harm_seeds": arguments.seeds,
        "harm_steps": HARM_STEPS,
        "harm": measure_harm(cases, LIGHT, arguments),
    }
    write_result("kinds_light", content)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rater_seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--meta_steps", type=int, default=100)
    parser.add_argument("--light", action="store_true")
    arguments = parser.parse_args()
    if arguments.light:
        light(arguments)
        return

    mixtures = [*((kind,) for kind in KINDS), KINDS]
    harmed = [(kinds, share) for kinds in mixtures for share in (*PROBABILITIES, 1.0)]
    harms = measure_harm([UNDAMAGED, *harmed], (0.1, 0.9), arguments)
    common = {
        "meta_steps": arguments.meta_steps,
        "eval_frequency": 50,
        "data_dir": arguments.data_dir,
    }
    cases = [(kinds, probability) for kinds in mixtures for probability in PROBABILITIES]
    seeds = arguments.rater_seeds
    jobs = [settings_of(*case, **common, seed=seed) for case in cases for seed in seeds]
    groups = groups_of(run_all(jobs, arguments.jobs), len(seeds))
    table = []
    for (kinds, probability), own in zip(cases, groups, strict=True):
        last = [run["metrics"][-1] for run in own]
        table.append(
            {
                "kinds": kinds,
                "probability": probability,
                "untrained_auroc": spread([run["metrics"][0]["auroc"] for run in own]),
                **{name: spread([row[name] for row in last]) for name in COLUMNS},
                "runs": own,
            }
        )
    content = {
        "command": command_line(),
        "configuration": configuration(**settings_of(KINDS, 0.5, meta_steps=arguments.meta_steps)),
        "seeds": seeds,
        "harm_seeds": arguments.seeds,
        "harm_steps": HARM_STEPS,
        "harm": harms,
        "detection": table,
    }
    write_result("kinds", content)


if __name__ == "__main__":
    main()
