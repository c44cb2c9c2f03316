"""A recipe, run for real with several seeds.

    python benchmarks/recipe.py digits [--seeds 0 1 2]                  writes results/digits.json and the figure of the README
    python benchmarks/recipe.py mnist [--data_dir FOLDER]               writes results/mnist.json
    python benchmarks/recipe.py mnist_v1 --meta_steps 300               writes results/mnist_v1.json
    python benchmarks/recipe.py mnist_v1 --meta_steps 300 --attack      writes results/mnist_v1_attack.json: the original's full command, attack and trained inner models included

Every row of each run's metrics is kept. Meta-step 0 is the control: the same rater, untrained.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from provenance import ROOT, command_line, write_result
from runs import configuration, run_all, spread

from datarater.data import construct_dataset, get_dataset_loaders, show_images
from datarater.evaluation import plot_rating_against_corruption
from datarater.method import rate_many
from datarater.runs import (
    DataRaterConfig,
    MetaTrainingResult,
    make_evaluation_set,
    run_meta_training,
)

# as in the original's README
ATTACK = {
    "attack": True,
    "attack_eps": 0.031,
    "attack_steps": 10,
    "attack_eval_steps": 20,
    "attack_step_size": 0.007,
    "model_update": True,
}
COLUMNS = (
    "r2",
    "spearman",
    "auroc",
    "auroc_in_range",
    "average_precision",
    "precision",
    "inner_accuracy",
    "inner_robust_accuracy",
)


@torch.no_grad()
def draw_readme_figure(result: MetaTrainingResult, path: Path) -> None:
    """Best- and worst-rated images of one training batch, and rating against corruption on test
    images.
    """
    train, _, test = get_dataset_loaders(result.config)
    images, labels = train.dataset.batch(torch.arange(200))
    order = rate_many(result.rater, images, labels).argsort().numpy()
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, chosen, title in (
        (axes[0], order[::-1][:25], "25 best-rated of 200 training images"),
        (axes[1], order[:25], "25 worst-rated"),
    ):
        show_images(images[chosen.copy()], ax, num_columns=5).set_title(title, fontsize=10)
    data = make_evaluation_set(construct_dataset(result.config), test, result.config)
    ax = plot_rating_against_corruption(
        data.fractions, rate_many(result.rater, *data.corrupted).numpy(), axes[2]
    )
    ax.set_title("rating of corrupted test images", fontsize=10)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=85)  # keeps the file under 200 kB


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--meta_steps", type=int, default=None)
    parser.add_argument(
        "--attack",
        action="store_true",
        help="with the attack and the trained inner models of the original's full command",
    )
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, a thread each")
    arguments = parser.parse_args()

    settings = {
        "recipe": arguments.recipe,
        "device": "cpu",
        **({"meta_steps": arguments.meta_steps} if arguments.meta_steps else {}),
        **(ATTACK if arguments.attack else {}),
    }
    runs = run_all(
        [{**settings, "seed": seed, "data_dir": arguments.data_dir} for seed in arguments.seeds],
        arguments.jobs,
    )
    summary = {
        when: {name: spread([run["metrics"][row][name] for run in runs]) for name in COLUMNS}
        for when, row in (("untrained", 0), ("trained", -1))
    }
    content = {
        "command": command_line(),
        "configuration": configuration(**settings),
        "seeds": arguments.seeds,
        **summary,
        "runs": runs,
    }
    name = arguments.recipe + ("_attack" if arguments.attack else "")
    print(f"written: {write_result(name, DataRaterConfig(**settings).device, content).name}")
    if arguments.recipe == "digits" and not arguments.attack:
        draw_readme_figure(
            run_meta_training(
                DataRaterConfig(**settings, seed=arguments.seeds[0], log=False), progress=False
            ),
            ROOT / "nbs" / "images" / "digits.png",
        )


if __name__ == "__main__":
    main()
