"""Inner models and raters."""

from ..support import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    label_evidence="ReferenceDataRater fit_classifier logits_of",
    lean_layers="LeanLayers",
    networks="""
        DataRater LabelAwareDataRater MODELS RegressionDataRater ToyCNN ToyMLP at_label check_model
        check_targets construct_model data_sizes model_name rate rater_sizes
        register_model
    """,
)
