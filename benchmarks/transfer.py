"""Does a rater trained with one inner architecture serve another?

    python benchmarks/transfer.py [--meta_steps 100] [--seeds 0 1 2] [--data_dir FOLDER]

writes results/transfer.json. Raters are trained with a CNN or an MLP inside; CNNs and MLPs are
trained on what they keep. Half of MNIST's training images are corrupted (`pixel_noise`, fractions
0.1 to 0.9, the same ones in every epoch), and each rater keeps the best-rated half. Every
downstream model is trained for the same number of steps, from the same initialisation: on
everything, on that half, on a random half and on the clean half (the oracle).
"""

import tempfile
from typing import Any

import torch
from provenance import command_line, parser_of, write_result
from runs import batches, configuration, side_by_side, spread, whole
from scipy.stats import spearmanr
from torch import Tensor

from datarater import get_dataset_loaders
from datarater.evaluation import detection_quality
from datarater.method import rate_many
from datarater.models import ToyMLP, construct_model, fit_classifier, logits_of, register_model
from datarater.runs import DataRaterConfig, run_meta_training

DOWNSTREAM_STEPS = 375  # one epoch of the whole training set


@register_model
class ImageMLP(ToyMLP):
    "One hidden layer of 64 units on pixels."

    def __init__(self):
        super().__init__(in_features=784, hidden=64, out_features=10)


INNER_MODELS = ("ToyCNN", "ImageMLP")


def settings_of(inner_model: str, **settings: Any) -> dict[str, Any]:
    "Of a run with that inner model."
    return dict(
        recipe="mnist",
        device="cpu",
        inner_model_class=inner_model,
        corruption={"corruption_probability": 0.5, "fixed": True},
        log=False,
        **settings,
    )


def accuracy(
    name: str, x: Tensor, y: Tensor, chosen: Tensor, test: tuple[Tensor, Tensor], seed: int
) -> float:
    "Test accuracy of a model trained on the chosen samples."
    model = construct_model(name, seed=seed)
    fit_classifier(model, batches(x[chosen], y[chosen], seed), DOWNSTREAM_STEPS)
    return (logits_of(model, test[0]).argmax(-1) == test[1]).double().mean().item()


def compare(job: tuple[int, str | None, int]) -> dict[str, Any]:
    "Both raters, and everything trained on what they keep, for one seed."
    seed, data_dir, meta_steps = job
    torch.set_num_threads(1)
    settings = dict(seed=seed, data_dir=data_dir, meta_steps=meta_steps)
    train, _, test = get_dataset_loaders(DataRaterConfig(**settings_of("ToyCNN", **settings)))
    x, y = whole(train)
    test_pair = whole(test)
    is_clean = torch.tensor([kind == "clean" for kind in train.dataset.ground_truth().kinds])
    half = len(x) // 2
    ratings, quality = {}, {}
    chosen = {
        "everything": torch.arange(len(x)),
        "random half": torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:half],
        "clean half": is_clean.nonzero().flatten(),
    }
    for inner_model in INNER_MODELS:
        with tempfile.TemporaryDirectory() as folder:
            config = DataRaterConfig(**settings_of(inner_model, **settings), output_dir=folder)
            rater = run_meta_training(config, progress=False).rater
        with torch.no_grad():
            rated = rate_many(rater, x, y)
        ratings[inner_model] = rated
        quality[inner_model] = detection_quality(rated.numpy(), ~is_clean.numpy())
        chosen[f"kept by rater of {inner_model}"] = rated.argsort(descending=True)[:half]
    accuracies = {
        model: {
            name: accuracy(model, x, y, indices, test_pair, seed)
            for name, indices in chosen.items()
        }
        for model in INNER_MODELS
    }
    correlation = spearmanr(ratings["ToyCNN"], ratings["ImageMLP"]).statistic
    aurocs = {name: round(value["auroc"], 4) for name, value in quality.items()}
    print(f"seed {seed}: {aurocs} {accuracies}", flush=True)
    return {
        "seed": seed,
        "detection": quality,
        "correlation_of_ratings": float(correlation),
        "accuracy": accuracies,
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--meta_steps", type=int, default=100)
    arguments = parser.parse_args()

    jobs = [(seed, arguments.data_dir, arguments.meta_steps) for seed in arguments.seeds]
    runs = side_by_side(compare, jobs, arguments.jobs)
    names = list(runs[0]["accuracy"]["ToyCNN"])
    content = {
        "command": command_line(),
        "configuration": configuration(**settings_of("ToyCNN", meta_steps=arguments.meta_steps)),
        "seeds": arguments.seeds,
        "downstream_steps": DOWNSTREAM_STEPS,
        "accuracy": {
            model: {name: spread([run["accuracy"][model][name] for run in runs]) for name in names}
            for model in INNER_MODELS
        },
        "auroc": {
            model: spread([run["detection"][model]["auroc"] for run in runs])
            for model in INNER_MODELS
        },
        "correlation_of_ratings": spread([run["correlation_of_ratings"] for run in runs]),
        "runs": runs,
    }
    write_result("transfer", content)


if __name__ == "__main__":
    main()
