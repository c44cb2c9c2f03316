"""What models train on: samples, damage made on purpose, loaders."""

from ..support import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    corruptions="""
        CORRUPTIONS CorruptionContext CorruptionPlan DataCorruptionConfig fold_in read_digits
        register_corruption
        seeded_generator show_images
    """,
    datasets="""
        CorruptedSubset DATASETS DataRaterDataset DigitsDataRaterDataset SplitDataRaterDataset
        TensorDataRaterDataset absolute_if_path construct_dataset is_path make_loaders
        register_dataset
    """,
    loading="""
        BatchDataset BatchLoader BatchStream ItemDataset TensorPairs checked_batch digest
        fetch_batch
        first_samples original_indices scale_bytes seeded_globally
    """,
    objects="PoolsDataRaterDataset Reading SampleForm USUAL_NAMES as_pool form_of",
    own_data="""
        ImageFolderDataRaterDataset MNISTDataRaterDataset NpzDataRaterDataset data_folder find_mnist
        is_own_data read_image
    """,
)
