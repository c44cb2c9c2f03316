"""Meta-learned ratings of training samples: which ones are worth training on."""

__version__ = "0.1.0"

from typing import TYPE_CHECKING

from .support import lazy_names

if TYPE_CHECKING:  # for editors and type checkers: the names below, once more
    from . import (
        curation as curation,
        data as data,
        evaluation as evaluation,
        method as method,
        models as models,
        runs as runs,
        scale as scale,
    )
    from .curation import (
        Curator as Curator,
        Ratings as Ratings,
        curate as curate,
        open_rated as open_rated,
        rate_dataset as rate_dataset,
        score_run as score_run,
    )
    from .data import (
        CorruptedSubset as CorruptedSubset,
        DataCorruptionConfig as DataCorruptionConfig,
        DataRaterDataset as DataRaterDataset,
        MNISTDataRaterDataset as MNISTDataRaterDataset,
        TensorDataRaterDataset as TensorDataRaterDataset,
        register_corruption as register_corruption,
        register_dataset as register_dataset,
    )
    from .models import (
        DataRater as DataRater,
        ToyCNN as ToyCNN,
        construct_model as construct_model,
        register_model as register_model,
    )
    from .runs import (
        DataRaterConfig as DataRaterConfig,
        get_dataset_loaders as get_dataset_loaders,
        load_inner_model as load_inner_model,
        load_rater as load_rater,
        resume_meta_training as resume_meta_training,
        run_meta_training as run_meta_training,
    )
    from .support import DataRaterError as DataRaterError
else:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        "data models method evaluation runs curation scale",
        curation="Curator Ratings curate open_rated rate_dataset score_run",
        data="""
            CorruptedSubset DataCorruptionConfig DataRaterDataset MNISTDataRaterDataset
            TensorDataRaterDataset register_corruption register_dataset
        """,
        models="DataRater ToyCNN construct_model register_model",
        runs="""
            DataRaterConfig get_dataset_loaders load_inner_model load_rater resume_meta_training
            run_meta_training
        """,
        support="DataRaterError",
    )
