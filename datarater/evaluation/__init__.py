"""What ratings find, and what attacks leave."""

from ..support import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    detection="""
        detection_by_kind detection_by_strength detection_quality is_trained_on
        plot_detection_by_strength precision_at_known_rate rating_quality
    """,
    diagnostics="""
        collapse_warning curves gradient_agreement plot_curve plot_dashboard
        plot_rating_against_corruption rating_autocorrelation rating_summary weight_entropy
    """,
    robustness="ATTACKS AttackPlan check_evaluation evaluate_robustness measure_robustness",
)
