"""Every built-in corruption of images, one at a time and mixed: does it do harm, and does the recipe's rater find it?

    python benchmarks/kinds.py [--meta_steps 100] [--data_dir FOLDER]      writes results/kinds.json
"""
import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
import torch.nn.functional as F
from provenance import command_line, write_result
from runs import configuration, logits_of, run_all, spread, whole

from datarater.config import DataRaterConfig
from datarater.datasets import BatchStream, get_dataset_loaders
from datarater.models import construct_model
from datarater.reference import fit_classifier

KINDS = ("pixel_noise", "gaussian_noise", "gaussian_blur", "occlusion")
PROBABILITIES = (0.1, 0.5)
HARM_STEPS = 150  # training steps of the models that show what a corruption costs


def settings_of(kinds: tuple[str, ...], probability: float, **settings: Any) -> dict[str, Any]:
    return dict(recipe="mnist", device="cpu", log=False, corruption={"kinds": kinds, "corruption_probability": probability}, **settings)


def harm(job: tuple[tuple[str, ...], float, int, str | None]) -> dict[str, float]:
    "Loss and accuracy, on clean test images, of a model trained on corrupted ones."
    kinds, probability, seed, data_dir = job
    torch.set_num_threads(1)
    train, _, test = get_dataset_loaders(DataRaterConfig(**settings_of(kinds, probability, seed=seed, data_dir=data_dir)))
    stream, model = BatchStream(train, device="cpu"), construct_model("ToyCNN", seed=seed)
    fit_classifier(model, lambda: tuple(part[0] for part in stream.next(1)), HARM_STEPS)
    x, y = whole(test)
    logits = logits_of(model, x)
    return {"loss": F.cross_entropy(logits, y).item(), "accuracy": (logits.argmax(-1) == y).double().mean().item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the models that show the harm")
    parser.add_argument("--rater_seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--meta_steps", type=int, default=100)
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, a thread each")
    arguments = parser.parse_args()

    cases = [((kind,), probability) for kind in KINDS for probability in PROBABILITIES] + [(KINDS, probability) for probability in PROBABILITIES]
    harm_cases = [(("pixel_noise",), 0.0)] + [(kinds, probability) for kinds, _ in cases[::2] for probability in (*PROBABILITIES, 1.0)]
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        trained = list(pool.map(harm, [(*case, seed, arguments.data_dir) for case in harm_cases for seed in arguments.seeds]))
    harms = []
    for i, (kinds, probability) in enumerate(harm_cases):
        own = trained[i * len(arguments.seeds) : (i + 1) * len(arguments.seeds)]
        harms.append({"kinds": kinds if probability else ["none"], "probability": probability, **{name: spread([run[name] for run in own]) for name in ("loss", "accuracy")}})
        print(harms[-1], flush=True)
    common = {"meta_steps": arguments.meta_steps, "eval_frequency": 50, "data_dir": arguments.data_dir}
    runs = run_all([settings_of(*case, **common, seed=seed) for case in cases for seed in arguments.rater_seeds], arguments.jobs)
    table = []
    for i, (kinds, probability) in enumerate(cases):
        own = runs[i * len(arguments.rater_seeds) : (i + 1) * len(arguments.rater_seeds)]
        last = {name: spread([run["metrics"][-1][name] for run in own]) for name in ("auroc", "auroc_in_range", "r2", "spearman", "average_precision", "precision")}
        table.append({"kinds": kinds, "probability": probability, "untrained_auroc": spread([run["metrics"][0]["auroc"] for run in own]), **last, "runs": own})
    content = {
        "command": command_line(), "configuration": configuration(**settings_of(KINDS, 0.5, meta_steps=arguments.meta_steps)),
        "seeds": arguments.rater_seeds, "harm_seeds": arguments.seeds, "harm_steps": HARM_STEPS, "harm": harms, "detection": table,
    }
    print(f"written: {write_result('kinds', DataRaterConfig(recipe='mnist').device, content).name}")


if __name__ == "__main__":
    main()
