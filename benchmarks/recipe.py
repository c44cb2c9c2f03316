"""A recipe, run for real with several seeds.

    python benchmarks/recipe.py digits [--seeds 0 1 2]
    python benchmarks/recipe.py mnist [--data_dir FOLDER]
    python benchmarks/recipe.py mnist_v1 --meta_steps 300
    python benchmarks/recipe.py mnist_v1 --meta_steps 300 --attack

write results/RECIPE.json; `digits` also draws the README's figure. With `--attack`, the original's
full command with its attack and its trained inner models, the file is results/RECIPE_attack.json.
Every row of each run's metrics is kept. Meta-step 0 is the control: the same rater, untrained.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from provenance import ROOT, command_line, parser_of, write_result
from runs import configuration, run_all, spread

from datarater import get_dataset_loaders
from datarater.data import show_images
from datarater.evaluation import plot_rating_against_corruption
from datarater.method import rate_many
from datarater.runs import (
    DataRaterConfig,
    MetaTrainingResult,
    dataset_of,
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
    "Best- and worst-rated of 200 training images; rating against corruption of test images."
    train, _, test = get_dataset_loaders(result.config)
    images, labels = train.dataset.batch(torch.arange(200))
    order = rate_many(result.rater, images, labels).argsort().numpy()
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots(1, 3)
    best, worst = order[::-1][:25].copy(), order[:25].copy()
    show_images(images[best], axes[0], num_columns=5)
    axes[0].set_title("25 best-rated of 200 training images", fontsize=10)
    show_images(images[worst], axes[1], num_columns=5)
    axes[1].set_title("25 worst-rated", fontsize=10)
    data = make_evaluation_set(dataset_of(result.config), test, result.config)
    ratings = rate_many(result.rater, *data.corrupted).numpy()
    plot_rating_against_corruption(data.fractions, ratings, axes[2])
    axes[2].set_title("rating of corrupted test images", fontsize=10)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=85)  # keeps the file under 200 kB


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--meta_steps", type=int, default=None)
    about = "with the attack and the trained inner models of the original's full command"
    parser.add_argument("--attack", action="store_true", help=about)
    arguments = parser.parse_args()

    settings = {"recipe": arguments.recipe, "device": "cpu"}
    if arguments.meta_steps:
        settings["meta_steps"] = arguments.meta_steps
    if arguments.attack:
        settings |= ATTACK
    jobs = [{**settings, "seed": seed, "data_dir": arguments.data_dir} for seed in arguments.seeds]
    runs = run_all(jobs, arguments.jobs)
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
    write_result(name, content)
    if arguments.recipe == "digits" and not arguments.attack:
        config = DataRaterConfig(**settings, seed=arguments.seeds[0], log=False)
        result = run_meta_training(config, progress=False)
        draw_readme_figure(result, ROOT / "nbs" / "images" / "digits.png")


if __name__ == "__main__":
    main()
