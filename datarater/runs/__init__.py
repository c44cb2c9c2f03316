"""A run: settings, a folder, checkpoints, several processes."""

from ..support import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "checkpoints": ["Interruption", "Stopped", "load_checkpoint", "locked"],
        "config": [
            "ATTACK_NORMS",
            "AttackSettings",
            "DataRaterConfig",
            "META_UPDATES",
            "RECIPES",
            "REFRESH",
            "check_reach",
            "config_from_yaml",
            "config_to_yaml",
            "default_device",
        ],
        "distributed": ["is_launched", "joined_ranks"],
        "folder": [
            "RunLog",
            "existing",
            "load_classifier",
            "load_inner_model",
            "load_model",
            "load_rater",
            "single_figure",
            "write_figure",
        ],
        "setup": [
            "EvaluationSet",
            "MAX_EVALUATION_SAMPLES",
            "Parts",
            "make_evaluation_set",
            "set_up",
        ],
        "training": [
            "MetaTrainingError",
            "MetaTrainingResult",
            "Run",
            "config_to_resume",
            "evaluate",
            "restore_run",
            "resume_meta_training",
            "run_meta_training",
            "take_meta_step",
        ],
    },
)
