"""A run: settings, a folder, checkpoints, several processes."""

from ..support import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    checkpoints="Interruption Stopped load_checkpoint locked",
    config="""
        AttackSettings DataRaterConfig OWN_DATA RECIPES config_from_yaml config_to_yaml
        default_device overlaid
    """,
    distributed="Ranks call_on_all is_launched joined_ranks",
    evaluate="""
        EvaluationSet MAX_EVALUATION_SAMPLES MIN_GAIN compare_raters evaluate evaluation_set_of
        findings_of_run make_evaluation_set
    """,
    folder="""
        RunLog existing load_classifier load_inner_model load_model load_rater read_form
        save_run_files
        single_figure write_figure
    """,
    setup="RunData RunObjects dataset_of differentiate_with get_dataset_loaders set_up",
    steps="CheckedSteps MetaTrainingError",
    training="""
        MetaTrainingResult Run config_to_resume resume_meta_training run_meta_training train_rater
    """,
)
