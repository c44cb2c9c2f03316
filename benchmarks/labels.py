"""Finding wrong labels: raters of the recipe `mnist_labels`, and what people try first.

    pip install -e ".[rivals]"
    python benchmarks/labels.py [--seeds 0 1 2] [--data_dir FOLDER]     writes results/labels.json

Every method rates all training samples, whose wrong labels are known. The clean outer set has
12,000, 1,000 or 100 samples. Methods that use no clean data (per-sample loss, cleanlab) run for the
largest only.

The baselines are those of `datarater.curation.baselines`. The recorded results are older: batches
were drawn with replacement (now in epochs, without), initial weights, batches and folds came from
other seeds, and KNN-Shapley used the first 2,000 outer samples (now 2,000 drawn by the seed).
"""

import tempfile
from dataclasses import replace
from typing import Any

import torch
from provenance import command_line, parser_of, write_result
from runs import configuration, records, side_by_side, spread, whole

from datarater import get_dataset_loaders
from datarater.curation import (
    BaselineData,
    TrainingPlan,
    cleanlab_quality,
    knn_shapley,
    sample_losses,
    small_loss,
)
from datarater.evaluation import detection_quality
from datarater.method import rate_many
from datarater.runs import DataRaterConfig, run_meta_training

# clean samples -> train_split_ratio of MNIST's 60,000
OUTER_SIZES = {12_000: 0.8, 1_000: 59 / 60, 100: 599 / 600}
# the last sees images only: the control
RATERS = ("ReferenceDataRater", "LabelAwareDataRater", "DataRater")
COLUMNS = ("auroc", "average_precision", "precision")


def settings_of(
    outer_size: int, seed: int, data_dir: str | None, meta_steps: int | None
) -> dict[str, Any]:
    "Of a run with that many clean samples."
    batch_size = {"batch_size": 100} if outer_size < 128 else {}
    steps = {"meta_steps": meta_steps} if meta_steps else {}
    return dict(
        recipe="mnist_labels",
        device="cpu",
        data_rater_model_class=RATERS[0],
        train_split_ratio=OUTER_SIZES[outer_size],
        seed=seed,
        data_dir=data_dir,
        log=False,
        **batch_size,
        **steps,
    )


def compare(job: tuple[int, int, str | None, int | None]) -> dict[str, Any]:
    "For one outer size and seed, how well each method finds the wrong labels of the training data."
    outer_size, seed, data_dir, meta_steps = job
    torch.set_num_threads(1)
    config = DataRaterConfig(**settings_of(outer_size, seed, data_dir, meta_steps))
    train, val, _ = get_dataset_loaders(config)
    x, y = whole(train)
    outer_x, outer_y = whole(val)
    is_wrong = torch.tensor([kind != "clean" for kind in train.dataset.ground_truth().kinds])
    found, curves = {}, {}
    for name in RATERS if outer_size == max(OUTER_SIZES) else RATERS[:1]:
        with tempfile.TemporaryDirectory() as folder:
            changes = {"data_rater_model_class": name, "output_dir": folder}
            result = run_meta_training(replace(config, **changes), progress=False)
        with torch.no_grad():
            found[name] = rate_many(result.rater, x, y)
        curves[name] = records(result.metrics[["meta_step", *COLUMNS, "inner_accuracy"]])
        if name == "ReferenceDataRater":
            found["loss of its reference alone"] = -sample_losses(result.rater.reference, x, y)
    data = BaselineData(x, y, outer_x, outer_y, TrainingPlan(num_steps=len(x) // 128))  # one epoch
    found["KNN-Shapley"] = knn_shapley(data, seed, max_outer=2_000)
    if outer_size == max(OUTER_SIZES):
        found["per-sample loss"] = small_loss(data, seed)
        of_folds = TrainingPlan(num_steps=len(x) * 3 // 4 // 128)  # one epoch of three folds
        found["cleanlab"] = cleanlab_quality(data._replace(training=of_folds), seed)
    quality = {}
    for name, ratings in found.items():
        measured = detection_quality(ratings.numpy(), is_wrong.numpy())
        quality[name] = {key: round(value, 4) for key, value in measured.items()}
    aurocs = {name: values["auroc"] for name, values in quality.items()}
    print(f"{outer_size} clean samples, seed {seed}: {aurocs}", flush=True)
    return {"outer_size": outer_size, "seed": seed, "quality": quality, "curves": curves}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--meta_steps", type=int, default=None)
    arguments = parser.parse_args()

    jobs = [
        (size, seed, arguments.data_dir, arguments.meta_steps)
        for size in OUTER_SIZES
        for seed in arguments.seeds
    ]
    runs = side_by_side(compare, jobs, arguments.jobs)
    table = {}
    for size in OUTER_SIZES:
        own = [run["quality"] for run in runs if run["outer_size"] == size]
        table[str(size)] = {
            name: {key: spread([quality[name][key] for quality in own]) for key in COLUMNS}
            for name in own[0]
        }
    content = {
        "command": command_line(),
        "configuration": configuration(
            **settings_of(12_000, 0, arguments.data_dir, arguments.meta_steps)
        ),
        "seeds": arguments.seeds,
        "outer_sizes": list(OUTER_SIZES),
        "knn_shapley": "10 neighbours, pixels, at most 2,000 outer samples",
        "table": table,
        "runs": runs,
    }
    write_result("labels", content)


if __name__ == "__main__":
    main()
