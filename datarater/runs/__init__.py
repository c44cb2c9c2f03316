"""A run: settings, a folder, checkpoints, several processes."""

from typing import TYPE_CHECKING

from ..support import lazy_names

if TYPE_CHECKING:  # for editors and type checkers: the names below, once more
    from .checkpoints import (
        Interruption as Interruption,
        Stopped as Stopped,
        Termination as Termination,
        load_checkpoint as load_checkpoint,
    )
    from .config import (
        OWN_DATA as OWN_DATA,
        RECIPES as RECIPES,
        SETTINGS_GROUPS as SETTINGS_GROUPS,
        AttackSettings as AttackSettings,
        DataRaterConfig as DataRaterConfig,
        config_from_yaml as config_from_yaml,
        config_to_yaml as config_to_yaml,
        default_device as default_device,
        overlaid as overlaid,
    )
    from .distributed import (
        Ranks as Ranks,
        call_on_all as call_on_all,
        end_with_parent as end_with_parent,
        is_launched as is_launched,
        joined_ranks as joined_ranks,
    )
    from .evaluate import (
        MAX_EVALUATION_SAMPLES as MAX_EVALUATION_SAMPLES,
        MIN_GAIN as MIN_GAIN,
        EvaluationSet as EvaluationSet,
        attack_plan as attack_plan,
        compare_raters as compare_raters,
        evaluate_run as evaluate_run,
        evaluation_set_of as evaluation_set_of,
        findings_of_run as findings_of_run,
        make_evaluation_set as make_evaluation_set,
        mixed_samples as mixed_samples,
    )
    from .flags import (
        SWITCH as SWITCH,
        HelpFormatter as HelpFormatter,
        described_error as described_error,
        find_own_modules as find_own_modules,
        fit_output as fit_output,
        is_cut_off as is_cut_off,
        names_of as names_of,
        nearest as nearest,
        print_warning as print_warning,
        settings_parser as settings_parser,
        with_current_names as with_current_names,
        with_files_read as with_files_read,
    )
    from .folder import (
        RunLog as RunLog,
        existing as existing,
        load_classifier as load_classifier,
        load_inner_model as load_inner_model,
        load_model as load_model,
        load_rater as load_rater,
        read_form as read_form,
        save_run_files as save_run_files,
        single_figure as single_figure,
        write_figure as write_figure,
    )
    from .setup import (
        RunData as RunData,
        RunObjects as RunObjects,
        dataset_of as dataset_of,
        fit_batch as fit_batch,
        get_dataset_loaders as get_dataset_loaders,
        set_up as set_up,
    )
    from .steps import CheckedSteps as CheckedSteps, MetaTrainingError as MetaTrainingError
    from .training import (
        MetaTrainingResult as MetaTrainingResult,
        Run as Run,
        config_to_resume as config_to_resume,
        describe_result as describe_result,
        resume_meta_training as resume_meta_training,
        run_meta_training as run_meta_training,
        train_rater as train_rater,
    )
else:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        checkpoints="Interruption Stopped Termination load_checkpoint",
        config="""
            OWN_DATA RECIPES SETTINGS_GROUPS AttackSettings DataRaterConfig config_from_yaml
            config_to_yaml default_device overlaid
        """,
        distributed="Ranks call_on_all end_with_parent is_launched joined_ranks",
        evaluate="""
            MAX_EVALUATION_SAMPLES MIN_GAIN EvaluationSet attack_plan compare_raters evaluate_run
            evaluation_set_of findings_of_run make_evaluation_set mixed_samples
        """,
        flags="""
            SWITCH HelpFormatter described_error find_own_modules fit_output is_cut_off names_of
            nearest print_warning settings_parser with_current_names with_files_read
        """,
        folder="""
            RunLog existing load_classifier load_inner_model load_model load_rater read_form
            save_run_files single_figure write_figure
        """,
        setup="""
            RunData RunObjects dataset_of fit_batch get_dataset_loaders set_up
        """,
        steps="CheckedSteps MetaTrainingError",
        training="""
            MetaTrainingResult Run config_to_resume describe_result resume_meta_training
            run_meta_training train_rater
        """,
    )
