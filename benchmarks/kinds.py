"""Every built-in corruption of images, one at a time and mixed: does it do harm, and does the recipe's rater find it?

python benchmarks/kinds.py --rater_seeds 0 1 2 [--data_dir FOLDER]     writes results/kinds.json
python benchmarks/kinds.py --light [--data_dir FOLDER]                 writes results/kinds_light.json: only the harm, when every image has a little of it
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
import torch.nn.functional as F
from provenance import command_line, write_result
from runs import configuration, run_all, spread, whole

from datarater.data import BatchStream, get_dataset_loaders
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
    train, _, test = get_dataset_loaders(
        DataRaterConfig(
            **settings_of(kinds, probability, fraction_range, seed=seed, data_dir=data_dir)
        )
    )
    stream, model = BatchStream(train, device="cpu"), construct_model("ToyCNN", seed=seed)
    fit_classifier(model, stream.one, HARM_STEPS)
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
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        trained = list(
            pool.map(
                harm,
                [
                    (*case, fraction_range, seed, arguments.data_dir)
                    for case in cases
                    for seed in arguments.seeds
                ],
            )
        )
    rows = []
    for i, (kinds, probability) in enumerate(cases):
        own = trained[i * len(arguments.seeds) : (i + 1) * len(arguments.seeds)]
        rows.append(
            {
                "kinds": kinds if probability else ["none"],
                "probability": probability,
                **{name: spread([run[name] for run in own]) for name in ("loss", "accuracy")},
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the models that show the harm"
    )
    parser.add_argument("--rater_seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--meta_steps", type=int, default=100)
    parser.add_argument("--light", action="store_true")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, a thread each")
    arguments = parser.parse_args()

    cases = [((kind,), probability) for kind in KINDS for probability in PROBABILITIES] + [
        (KINDS, probability) for probability in PROBABILITIES
    ]
    if arguments.light:
        harms = measure_harm(
            [(("pixel_noise",), 0.0), *(((kind,), 1.0) for kind in KINDS)], LIGHT, arguments
        )
        content = {
            "command": command_line(),
            "fraction_range": LIGHT,
            "harm_seeds": arguments.seeds,
            "harm_steps": HARM_STEPS,
            "harm": harms,
        }
        print(
            "written: "
            f"{write_result('kinds_light', DataRaterConfig(recipe='mnist').device, content).name}"
        )
        return
    harms = measure_harm(
        [(("pixel_noise",), 0.0)]
        + [
            (kinds, probability) for kinds, _ in cases[::2] for probability in (*PROBABILITIES, 1.0)
        ],
        (0.1, 0.9),
        arguments,
    )
    common = {
        "meta_steps": arguments.meta_steps,
        "eval_frequency": 50,
        "data_dir": arguments.data_dir,
    }
    runs = run_all(
        [
            settings_of(*case, **common, seed=seed)
            for case in cases
            for seed in arguments.rater_seeds
        ],
        arguments.jobs,
    )
    table = []
    for i, (kinds, probability) in enumerate(cases):
        own = runs[i * len(arguments.rater_seeds) : (i + 1) * len(arguments.rater_seeds)]
        last = {
            name: spread([run["metrics"][-1][name] for run in own])
            for name in (
                "auroc",
                "auroc_in_range",
                "r2",
                "spearman",
                "average_precision",
                "precision",
            )
        }
        table.append(
            {
                "kinds": kinds,
                "probability": probability,
                "untrained_auroc": spread([run["metrics"][0]["auroc"] for run in own]),
                **last,
                "runs": own,
            }
        )
    content = {
        "command": command_line(),
        "configuration": configuration(**settings_of(KINDS, 0.5, meta_steps=arguments.meta_steps)),
        "seeds": arguments.rater_seeds,
        "harm_seeds": arguments.seeds,
        "harm_steps": HARM_STEPS,
        "harm": harms,
        "detection": table,
    }
    print(f"written: {write_result('kinds', DataRaterConfig(recipe='mnist').device, content).name}")


if __name__ == "__main__":
    main()
