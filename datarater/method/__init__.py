"""The method: weights, meta-gradients, a population that learns."""

from ..support import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    attacks="""
        NORMS PGDSettings adversarial_loss adversarial_view check_reach fgsm member_starts pgd
        random_start
    """,
    engines="""
        Compiled ESTIMATORS EXECUTIONS Recorded exact_kernels lean_loss make_engine rate_many
        resolve_engine work_per_tensor
    """,
    inner_loop="""
        Adam Batch Engine INNER_OPTIMIZERS InnerTask LOSSES LossFunction Member MetaGradient
        OptimizerState Params SGD Unrolled batch_weights detached effective_sample_size
        meta_gradient model_loss resolve_loss_type stack_trees
    """,
    meta_training="""
        Callback Learner META_UPDATES MetaOptimizer MetaStep Population REFRESH global_norms
        meta_train take_meta_step
    """,
)
