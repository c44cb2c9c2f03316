"""From ratings to a better dataset, and whether it is one."""

from ..support import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    baselines="""
        BaselineData TrainingPlan cleanlab_quality knn_shapley label_log_probability small_loss
    """,
    cost="""
        DISCARD_FRACTIONS KEEPS Ledger choose_discard_frac describe_ledgers keep_ledger
        plot_sweep sweep_discard
    """,
    curator="CleanSettings Curator agreement_of_seeds clean_dataset describe_cleaning",
    diagnosis="agreement damaged_copies describe_diagnosis detection_of_copies",
    downstream="""
        Comparison ComparisonPlan DEFAULT_METHODS METHODS as_records check_runs compare_downstream
        describe_comparison paired_difference plot_comparison
    """,
    ratings="""
        BestOfBatchSampler CurateSettings KEEP_RULES Kept Ratings Samples acceptance_probability
        curate
        imitated_batch num_to_keep rate_batches rate_dataset rate_samples rating_quantiles
        ratings_by read_samples sampling_weights show_best_and_worst
    """,
    report="report_rows shares_by_class suspected_labels write_report",
    score_files="""
        SPLITS ScoreJob ScoreSettings as_notes check_output config_of_run dataset_to_rate digest_of
        new_folder open_rated parquet_writer parts_folder read_notes read_ratings reading schema_of
        score_run score_to_file write_ratings
    """,
)
