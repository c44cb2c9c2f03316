"""What ratings find, and what attacks leave."""

from typing import TYPE_CHECKING

from ..support import lazy_names

if TYPE_CHECKING:  # for editors and type checkers: the names below, once more
    from .detection import (
        auroc_gain as auroc_gain,
        detection_by_kind as detection_by_kind,
        detection_by_strength as detection_by_strength,
        detection_quality as detection_quality,
        is_trained_on as is_trained_on,
        plot_detection_by_strength as plot_detection_by_strength,
        precision_at_known_rate as precision_at_known_rate,
        rating_quality as rating_quality,
    )
    from .diagnostics import (
        collapse_warning as collapse_warning,
        curves as curves,
        gradient_agreement as gradient_agreement,
        plot_curve as plot_curve,
        plot_dashboard as plot_dashboard,
        plot_rating_against_corruption as plot_rating_against_corruption,
        rating_autocorrelation as rating_autocorrelation,
        rating_summary as rating_summary,
        weight_entropy as weight_entropy,
    )
    from .robustness import (
        ATTACKS as ATTACKS,
        MIN_SAMPLES as MIN_SAMPLES,
        AttackPlan as AttackPlan,
        check_autoattack as check_autoattack,
        check_evaluation as check_evaluation,
        evaluate_robustness as evaluate_robustness,
        measure_robustness as measure_robustness,
    )
else:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        detection="""
            auroc_gain detection_by_kind detection_by_strength detection_quality is_trained_on
            plot_detection_by_strength precision_at_known_rate rating_quality
        """,
        diagnostics="""
            collapse_warning curves gradient_agreement plot_curve plot_dashboard
            plot_rating_against_corruption rating_autocorrelation rating_summary weight_entropy
        """,
        robustness="""
            ATTACKS MIN_SAMPLES AttackPlan check_autoattack check_evaluation evaluate_robustness
            measure_robustness
        """,
    )
