"""From ratings to a better dataset, and whether it is one."""

from typing import TYPE_CHECKING

from ..support import lazy_names

if TYPE_CHECKING:  # for editors and type checkers: the names below, once more
    from .baselines import (
        BaselineData as BaselineData,
        TrainingPlan as TrainingPlan,
        cleanlab_quality as cleanlab_quality,
        knn_shapley as knn_shapley,
        sample_losses as sample_losses,
        small_loss as small_loss,
    )
    from .comparison import (
        Comparison as Comparison,
        comparison_figure as comparison_figure,
        describe_comparison as describe_comparison,
        plot_comparison as plot_comparison,
    )
    from .contents import (
        Samples as Samples,
        contents_of as contents_of,
        digest_of as digest_of,
        read_samples as read_samples,
    )
    from .cost import (
        DISCARD_FRACTIONS as DISCARD_FRACTIONS,
        KEEPS as KEEPS,
        Ledger as Ledger,
        check_ledger as check_ledger,
        choose_discard_frac as choose_discard_frac,
        describe_ledgers as describe_ledgers,
        keep_ledger as keep_ledger,
        plot_sweep as plot_sweep,
        sweep_discard as sweep_discard,
    )
    from .curator import (
        CleanSettings as CleanSettings,
        Curator as Curator,
        agreement_of_seeds as agreement_of_seeds,
        clean_dataset as clean_dataset,
        describe_cleaning as describe_cleaning,
    )
    from .diagnosis import (
        agreement as agreement,
        damaged_copies as damaged_copies,
        describe_diagnosis as describe_diagnosis,
        describe_faults as describe_faults,
        detection_of_copies as detection_of_copies,
    )
    from .downstream import (
        DEFAULT_METHODS as DEFAULT_METHODS,
        METHODS as METHODS,
        ComparisonPlan as ComparisonPlan,
        check_runs as check_runs,
        compare_downstream as compare_downstream,
        judge_method as judge_method,
        prepare as prepare,
    )
    from .hardening import (
        AttackChoice as AttackChoice,
        Attacks as Attacks,
        attacks_of as attacks_of,
        robustness_of as robustness_of,
    )
    from .ratings import (
        KEEP_RULES as KEEP_RULES,
        BestOfBatchSampler as BestOfBatchSampler,
        CurateSettings as CurateSettings,
        Kept as Kept,
        Ratings as Ratings,
        acceptance_probability as acceptance_probability,
        curate as curate,
        imitated_batch as imitated_batch,
        lowest_kept as lowest_kept,
        num_to_keep as num_to_keep,
        rate_batches as rate_batches,
        rate_dataset as rate_dataset,
        rate_samples as rate_samples,
        rating_quantiles as rating_quantiles,
        ratings_by as ratings_by,
        sampling_weights as sampling_weights,
        show_best_and_worst as show_best_and_worst,
    )
    from .repeats import RowFolder as RowFolder, side_by_side as side_by_side
    from .report import (
        report_rows as report_rows,
        shares_by_class as shares_by_class,
        suspected_labels as suspected_labels,
        write_report as write_report,
    )
    from .score_files import (
        SPLITS as SPLITS,
        ScoreJob as ScoreJob,
        ScoreSettings as ScoreSettings,
        as_notes as as_notes,
        check_types as check_types,
        config_of_run as config_of_run,
        dataset_to_rate as dataset_to_rate,
        interruptible as interruptible,
        open_rated as open_rated,
        parquet_writer as parquet_writer,
        parts_folder as parts_folder,
        read_notes as read_notes,
        read_ratings as read_ratings,
        reading as reading,
        schema_of as schema_of,
        score_run as score_run,
        score_to_file as score_to_file,
        write_ratings as write_ratings,
    )
    from .statistics import (
        as_records as as_records,
        equivalence as equivalence,
        holm as holm,
        paired_difference as paired_difference,
    )
else:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        baselines="""
            BaselineData TrainingPlan cleanlab_quality knn_shapley sample_losses small_loss
        """,
        comparison="Comparison comparison_figure describe_comparison plot_comparison",
        contents="Samples contents_of digest_of read_samples",
        cost="""
            DISCARD_FRACTIONS KEEPS Ledger check_ledger choose_discard_frac describe_ledgers
            keep_ledger plot_sweep sweep_discard
        """,
        curator="CleanSettings Curator agreement_of_seeds clean_dataset describe_cleaning",
        diagnosis="agreement damaged_copies describe_diagnosis describe_faults detection_of_copies",
        downstream="""
            DEFAULT_METHODS METHODS ComparisonPlan check_runs compare_downstream judge_method
            prepare
        """,
        hardening="AttackChoice Attacks attacks_of robustness_of",
        ratings="""
            KEEP_RULES BestOfBatchSampler CurateSettings Kept Ratings acceptance_probability curate
            imitated_batch lowest_kept num_to_keep rate_batches rate_dataset rate_samples
            rating_quantiles ratings_by sampling_weights show_best_and_worst
        """,
        repeats="RowFolder side_by_side",
        report="report_rows shares_by_class suspected_labels write_report",
        score_files="""
            SPLITS ScoreJob ScoreSettings as_notes check_types config_of_run dataset_to_rate
            interruptible open_rated parquet_writer parts_folder read_notes read_ratings reading
            schema_of score_run score_to_file write_ratings
        """,
        statistics="as_records equivalence holm paired_difference",
    )
