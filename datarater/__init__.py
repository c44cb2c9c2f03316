"""Meta-learned ratings of training samples: which ones are worth training on."""

__version__ = "0.1.0"

from .support import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    data="""
        DataCorruptionConfig register_corruption CorruptedSubset DataRaterDataset
        TensorDataRaterDataset register_dataset MNISTDataRaterDataset ImageFolderDataRaterDataset
        NpzDataRaterDataset
    """,
    runs="""
        DataRaterConfig get_dataset_loaders MetaTrainingError Stopped resume_meta_training
        load_inner_model load_rater run_meta_training
    """,
    support="DataRaterError",
    models="construct_model register_model DataRater ToyCNN ReferenceDataRater",
    method="fgsm pgd",
    evaluation="""
        AttackPlan evaluate_robustness measure_robustness detection_by_kind detection_by_strength
        detection_quality plot_dashboard
    """,
    curation="""
        Curator Ratings curate rate_dataset BestOfBatchSampler sampling_weights show_best_and_worst
        read_ratings write_ratings score_run open_rated ComparisonPlan compare_downstream
        describe_comparison plot_comparison sweep_discard choose_discard_frac keep_ledger
    """,
    scale="score_corpus curate_corpus",
)
