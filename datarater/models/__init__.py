"""Inner models and raters."""

from typing import TYPE_CHECKING

from ..support import lazy_names

if TYPE_CHECKING:  # for editors and type checkers: the names below, once more
    from .label_evidence import (
        ReferenceDataRater as ReferenceDataRater,
        evaluating as evaluating,
        fit_classifier as fit_classifier,
        logits_of as logits_of,
    )
    from .lean_layers import LeanLayers as LeanLayers
    from .networks import (
        MODELS as MODELS,
        DataRater as DataRater,
        LabelAwareDataRater as LabelAwareDataRater,
        RegressionDataRater as RegressionDataRater,
        ToyCNN as ToyCNN,
        ToyMLP as ToyMLP,
        at_label as at_label,
        check_model as check_model,
        check_targets as check_targets,
        construct_model as construct_model,
        data_sizes as data_sizes,
        model_name as model_name,
        rate as rate,
        rater_sizes as rater_sizes,
        register_model as register_model,
    )
    from .parameters import (
        call_with as call_with,
        check_outputs as check_outputs,
        check_trainable as check_trainable,
        copy_with_same_tensors as copy_with_same_tensors,
        own_copy as own_copy,
        state_with as state_with,
        warn_of_probabilities as warn_of_probabilities,
    )
else:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        label_evidence="ReferenceDataRater evaluating fit_classifier logits_of",
        lean_layers="LeanLayers",
        networks="""
            MODELS DataRater LabelAwareDataRater RegressionDataRater ToyCNN ToyMLP at_label
            check_model check_targets construct_model data_sizes model_name rate rater_sizes
            register_model
        """,
        parameters="""
            call_with check_outputs check_trainable copy_with_same_tensors own_copy state_with
            warn_of_probabilities
        """,
    )
