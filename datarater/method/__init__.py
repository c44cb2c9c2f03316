"""The method: weights, meta-gradients, a population that learns."""

from ..support import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "attacks": ["Adversary", "NORMS", "check_attack", "fgsm", "pgd", "random_start"],
        "engines": ["Compiler", "Recorded", "resolve_engine", "work_per_tensor"],
        "inner_loop": [
            "Adam",
            "Batch",
            "ESTIMATORS",
            "EXECUTIONS",
            "INNER_OPTIMIZERS",
            "LOSSES",
            "LossFunction",
            "MetaGradient",
            "OptimizerState",
            "Params",
            "SGD",
            "batch_weights",
            "detached",
            "effective_sample_size",
            "meta_gradient",
            "model_loss",
            "population_weight_gradient",
            "rate_many",
            "resolve_loss_type",
            "stack_trees",
        ],
        "meta_training": ["MetaOptimizer", "Population", "global_norms"],
    },
)
