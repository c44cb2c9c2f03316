"""The method: weights, meta-gradients, a population that learns."""

from typing import TYPE_CHECKING

from ..support import lazy_names

if TYPE_CHECKING:  # for editors and type checkers: the names below, once more
    from .attacks import (
        NORMS as NORMS,
        PGDSettings as PGDSettings,
        adversarial_loss as adversarial_loss,
        adversarial_view as adversarial_view,
        attacked_in_training as attacked_in_training,
        check_reach as check_reach,
        fgsm as fgsm,
        member_starts as member_starts,
        pgd as pgd,
        pgd_poison as pgd_poison,
        random_start as random_start,
    )
    from .engines import (
        ESTIMATORS as ESTIMATORS,
        EXECUTIONS as EXECUTIONS,
        Compiled as Compiled,
        Recorded as Recorded,
        alternatives as alternatives,
        differentiate_with as differentiate_with,
        exact_kernels as exact_kernels,
        first_that_works as first_that_works,
        lean_loss as lean_loss,
        make_engine as make_engine,
        rate_many as rate_many,
        resolve_engine as resolve_engine,
        shared_out as shared_out,
        work_per_tensor as work_per_tensor,
    )
    from .inner_loop import (
        INNER_OPTIMIZERS as INNER_OPTIMIZERS,
        LOSSES as LOSSES,
        SGD as SGD,
        Adam as Adam,
        Batch as Batch,
        Engine as Engine,
        InnerTask as InnerTask,
        LossFunction as LossFunction,
        Member as Member,
        MetaGradient as MetaGradient,
        OptimizerState as OptimizerState,
        Params as Params,
        Unrolled as Unrolled,
        batch_weights as batch_weights,
        detached as detached,
        effective_sample_size as effective_sample_size,
        meta_gradient as meta_gradient,
        model_loss as model_loss,
        resolve_loss_type as resolve_loss_type,
        stack_trees as stack_trees,
    )
    from .meta_training import (
        META_UPDATES as META_UPDATES,
        REFRESH as REFRESH,
        Callback as Callback,
        Learner as Learner,
        MetaOptimizer as MetaOptimizer,
        MetaStep as MetaStep,
        Population as Population,
        global_norms as global_norms,
        meta_train as meta_train,
        take_meta_step as take_meta_step,
    )
else:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        attacks="""
            NORMS PGDSettings adversarial_loss adversarial_view attacked_in_training check_reach
            fgsm member_starts pgd pgd_poison random_start
        """,
        engines="""
            ESTIMATORS EXECUTIONS Compiled Recorded alternatives differentiate_with exact_kernels
            first_that_works lean_loss make_engine rate_many resolve_engine shared_out
            work_per_tensor
        """,
        inner_loop="""
            INNER_OPTIMIZERS LOSSES SGD Adam Batch Engine InnerTask LossFunction Member MetaGradient
            OptimizerState Params Unrolled batch_weights detached effective_sample_size
            meta_gradient model_loss resolve_loss_type stack_trees
        """,
        meta_training="""
            META_UPDATES REFRESH Callback Learner MetaOptimizer MetaStep Population global_norms
            meta_train take_meta_step
        """,
    )
