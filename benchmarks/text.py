"""Documents: is damage found, and which domains of a pool help a model of prose?

    python benchmarks/text.py damage
    python benchmarks/text.py alone
    python benchmarks/text.py domains
    python benchmarks/text.py sweep
    python benchmarks/text.py ledger

each write results/text_NAME.json:

    damage    half of `python_prose` is damaged in four ways; AUROC in this pool, kind by kind,
              before meta-training and after; and what a classifier of n-grams finds that is told
              the truth
    alone     documents of 256 bytes and one kind of damage at a time: characters replaced, and
              words shuffled, some of them or all
    domains   the pool of `python_domains` is prose, code and tables, what is trusted is prose: loss
              on prose of models that trained on the third that each method keeps
    sweep     of the same pool: ρ chosen on ToyTransformer, used for a larger model
    ledger    of the same pool: FLOPs spent and saved, for both models

`damage` is for both raters of documents, `alone` and `domains` for the one that starts from
n-grams, `sweep` and `ledger` for the paper's, TextDataRater. So is `domains --rater=TextDataRater`,
which writes results/text_domains_transformer.json. Each repeat has a rater of its own. Models train
for as many steps as one epoch of the whole pool has, whatever is kept. `--runs FOLDER` stores the
raters there, and reuses those it finds.
"""

import tempfile
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from downstream import ledger, sweep, train
from provenance import command_line, parser_of, write_result
from runs import configuration, records, side_by_side
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from datarater.curation import ComparisonPlan, compare_downstream, paired_difference
from datarater.curation.downstream import load_task
from datarater.curation.perplexity import PERPLEXITY_FILTERS
from datarater.evaluation import detection_quality
from datarater.method import rate_many
from datarater.models.text_models import ToyTransformer
from datarater.runs import (
    DataRaterConfig,
    MetaTrainingResult,
    get_dataset_loaders,
    run_meta_training,
)

RATERS = ("TextEvidenceDataRater", "TextDataRater")
DAMAGE = {"recipe": "text"}
ALONE = (  # kind, and the least and largest share of a document that is damaged
    ("character_noise", (0.2, 1.0)),
    ("word_shuffle", (0.2, 1.0)),
    ("word_shuffle", (1.0, 1.0)),
)
DOMAINS = {"recipe": "documents", "dataset_name": "python_domains"}
OF_PAPER = {**DOMAINS, "data_rater_model_class": "TextDataRater"}
NUM_SEEDS = {"damage": 3, "alone": 3, "domains": 5, "sweep": 3, "ledger": 3}
METHODS = (
    *("baseline", "filtered", "filtered_by_chance", "filtered_batch"),
    *("random_drop", "oracle", "trusted_only"),
    *PERPLEXITY_FILTERS,
)
DISCARDED = 2 / 3  # of three domains, two are not prose


class LargerTransformer(ToyTransformer):
    "Four times as many weights in a layer, and half as many layers more."

    def __init__(self, vocab_size: int = 257, length: int = 256):
        super().__init__(vocab_size, length, width=64, num_blocks=3, num_heads=4)


MODELS = ("ToyTransformer", "text:LargerTransformer")


def damaged_by(kind: str, strengths: tuple[float, float] | None = None) -> dict[str, Any]:
    "Settings of a run on prose with one kind of damage."
    corruption = {**asdict(DataRaterConfig(**DAMAGE).corruption), "kinds": (kind,)}
    if strengths:
        corruption["corruption_fraction_range"] = strengths
    return {**DAMAGE, "corruption": corruption}


def rival_with_truth(job: tuple[int, str]) -> dict[str, Any]:
    """How well logistic regression on n-grams of bytes finds one kind of damage, across folds,
    when it is told what is damaged: a point of reference, no bound.
    """
    seed, kind = job
    config = DataRaterConfig(**damaged_by(kind), seed=seed, device="cpu")
    task = load_task(config, damage_seed=seed)
    is_damaged = task.fractions > 0
    texts = [
        bytes(token for token in row if token < 256).decode("latin1") for row in task.x.tolist()
    ]
    ngrams = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 5), min_df=2, sublinear_tf=True, lowercase=False
    )
    x = ngrams.fit_transform(texts)
    fit = LogisticRegression(C=10, max_iter=500)
    odds = cross_val_predict(fit, x, is_damaged, cv=4, method="decision_function")
    return {"seed": seed, "kind": kind, "auroc": detection_quality(-odds, is_damaged)["auroc"]}


def found_in_pool(result: MetaTrainingResult) -> list[dict[str, Any]]:
    "AUROC of each kind of damage in the pool, before meta-training and after."
    pool = get_dataset_loaders(result.config)[0].dataset
    x, y, codes, fractions = pool.batch_with_truth(torch.arange(len(pool)))
    names = np.array(["clean" if f == 0 else pool.kinds[c] for c, f in zip(codes, fractions)])
    rows = []
    for stage, rater in (("untrained", result.untrained), ("trained", result.rater)):
        with torch.no_grad():
            ratings = rate_many(rater, x, y).numpy()
        for kind in (*result.config.corruption.kinds, "all"):
            is_bad = names != "clean" if kind == "all" else names == kind
            shown = is_bad | (names == "clean")
            auroc = detection_quality(ratings[shown], is_bad[shown])["auroc"]
            rows.append({"stage": stage, "kind": kind, "auroc": float(f"{auroc:.5g}")})
    return rows


def run_on_pool(settings: dict[str, Any]) -> dict[str, Any]:
    "One run on one thread, and what is found of the damage that its pool has."
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = run_meta_training(DataRaterConfig(**settings, output_dir=folder), progress=False)
    config = result.config
    return {
        "rater": config.data_rater_model_class,
        "kinds": config.corruption.kinds,
        "strengths": config.corruption.corruption_fraction_range,
        "document_length": config.document_length,
        "seed": config.seed,
        "in_pool": found_in_pool(result),
        "metrics": records(result.metrics),
    }


def of_raters(
    settings: dict[str, Any], seeds: list[int], raters: tuple[str, ...] = RATERS
) -> list[dict[str, Any]]:
    "The settings for each rater and seed, which draws the damage, too."
    own = asdict(DataRaterConfig(**settings).corruption)
    return [
        {
            **settings,
            "data_rater_model_class": rater,
            "seed": seed,
            "corruption": {**own, "seed": seed},
        }
        for rater in raters
        for seed in seeds
    ]


def damage(settings: dict[str, Any], seeds: list[int], jobs: int) -> dict[str, Any]:
    "Runs, with their tables by kind, and what could be known."
    runs = side_by_side(run_on_pool, of_raters(settings, seeds), jobs)
    kinds = DataRaterConfig(**DAMAGE).corruption.kinds
    told = side_by_side(rival_with_truth, [(seed, kind) for seed in seeds for kind in kinds], jobs)
    return {"runs": runs, "told_the_truth": told}


def alone(settings: dict[str, Any], seeds: list[int], jobs: int) -> dict[str, Any]:
    "Runs of each kind."
    todo = [
        one
        for kind, strengths in ALONE
        for one in of_raters(
            {**settings, **damaged_by(kind, strengths), "document_length": 256}, seeds, RATERS[:1]
        )
    ]
    return {"runs": side_by_side(run_on_pool, todo, jobs)}


def trained_raters(settings: dict[str, Any], seeds: list[int], jobs: int) -> list[str]:
    "Folders of runs, one for each seed."
    return side_by_side(train, [{**settings, "seed": seed} for seed in seeds], jobs)


def domains(plan: ComparisonPlan, jobs: int) -> dict[str, Any]:
    "Loss of each method's models, and of the rater's less each other's, in pairs."
    rows = compare_downstream(replace(plan, methods=METHODS), jobs).rows
    wide = rows.pivot(index="seed", columns="method", values="loss")
    less = {
        name: paired_difference(wide["filtered"].to_numpy(), wide[name].to_numpy())
        for name in METHODS
        if name != "filtered"
    }
    return {"rows": records(rows), "filtered_less": less}


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("experiment", choices=NUM_SEEDS)
    parser.add_argument("--rater", choices=RATERS, default=RATERS[0], help="of domains")
    parser.add_argument("--num_seeds", type=int, default=None)
    parser.add_argument("--meta_steps", type=int, default=None, help="default: the recipe's")
    parser.add_argument("--runs", default=None, help="folder that keeps the raters' runs")
    parser.add_argument("--jobs", type=int, default=2, help="at a time, a thread each")
    arguments = parser.parse_args()

    name = arguments.experiment
    settings = {
        **{"damage": DAMAGE, "alone": DAMAGE, "domains": DOMAINS}.get(name, OF_PAPER),
        "device": "cpu",
        "log": False,
    }
    if name == "domains":
        settings["data_rater_model_class"] = arguments.rater
    if arguments.meta_steps:
        settings["meta_steps"] = arguments.meta_steps
    seeds, jobs = list(range(arguments.num_seeds or NUM_SEEDS[name])), arguments.jobs
    content = {
        "command": command_line(),
        "configuration": configuration(**settings),  # what runs differ in stands beside them
        "seeds": seeds,
    }
    if name in ("damage", "alone"):
        found = {"damage": damage, "alone": alone}[name](settings, seeds, jobs)
    else:
        with tempfile.TemporaryDirectory() as folder:
            settings["output_dir"] = arguments.runs or folder
            plan = ComparisonPlan(
                runs=tuple(trained_raters(settings, seeds, jobs)),
                num_seeds=len(seeds),
                discard_frac=DISCARDED,
                lr=3e-3,
            )
            content |= {"discard_frac": DISCARDED, "epochs": plan.epochs, "lr": plan.lr}
            if name == "domains":
                found = domains(plan, jobs)
            elif name == "sweep":
                found = sweep(plan, jobs, MODELS, "loss")
            else:
                found = ledger(plan, jobs, MODELS)
    ending = "_transformer" if arguments.rater != RATERS[0] else ""
    write_result(f"text_{name}{ending}", {**content, **found})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
