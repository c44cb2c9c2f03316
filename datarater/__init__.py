"""Meta-learned ratings of training samples: which ones are worth training on."""
__version__ = "0.1.0"

# The names most people need, imported when first used: `import datarater` alone stays fast.
_MODULES = {
    "DataCorruptionConfig": "config", "DataRaterConfig": "config", "DataRaterError": "config",
    "register_corruption": "corruptions", "CorruptedSubset": "datasets", "DataRaterDataset": "datasets", "TensorDataRaterDataset": "datasets",
    "get_dataset_loaders": "datasets", "register_dataset": "datasets", "MNISTDataRaterDataset": "downloads",
    "construct_model": "models", "register_model": "models", "DataRater": "models", "ToyCNN": "models", "ReferenceDataRater": "reference",
    "fgsm": "attacks", "pgd": "attacks", "AttackPlan": "adversarial", "evaluate_robustness": "adversarial", "measure_robustness": "adversarial",
    "detection_by_kind": "detection", "detection_by_strength": "detection", "detection_quality": "detection", "plot_dashboard": "diagnostics",
    "Ratings": "curation", "curate": "curation", "rate_dataset": "curation", "BestOfBatchSampler": "curation", "sampling_weights": "curation", "show_best_and_worst": "curation",
    "read_ratings": "score_files", "write_ratings": "score_files", "score_run": "score_files", "open_rated": "score_files",
    "score_corpus": "corpus", "curate_corpus": "corpus",
    "ComparisonPlan": "downstream", "compare_downstream": "downstream", "describe_comparison": "downstream", "plot_comparison": "downstream",
    "sweep_discard": "compute", "choose_discard_frac": "compute", "keep_ledger": "compute",
    "ImageFolderDataRaterDataset": "own_data", "NpzDataRaterDataset": "own_data",
    "MetaTrainingError": "meta_training", "Stopped": "checkpoints", "resume_meta_training": "meta_training", "load_inner_model": "run_folder", "load_rater": "run_folder", "run_meta_training": "meta_training",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
