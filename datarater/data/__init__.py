"""What models train on: samples, damage made on purpose, loaders."""

from typing import TYPE_CHECKING

from ..support import lazy_names

if TYPE_CHECKING:  # for editors and type checkers: the names below, once more
    from .corruptions import (
        CORRUPTIONS as CORRUPTIONS,
        CorruptionContext as CorruptionContext,
        CorruptionPlan as CorruptionPlan,
        DataCorruptionConfig as DataCorruptionConfig,
        read_digits as read_digits,
        register_corruption as register_corruption,
        show_images as show_images,
    )
    from .datasets import (
        DATASETS as DATASETS,
        READING as READING,
        WRONG_TARGET as WRONG_TARGET,
        CorruptedSubset as CorruptedSubset,
        DataRaterDataset as DataRaterDataset,
        DigitsDataRaterDataset as DigitsDataRaterDataset,
        SplitDataRaterDataset as SplitDataRaterDataset,
        TensorDataRaterDataset as TensorDataRaterDataset,
        absolute_if_path as absolute_if_path,
        construct_dataset as construct_dataset,
        is_path as is_path,
        known_faults_of as known_faults_of,
        make_loaders as make_loaders,
        register_dataset as register_dataset,
    )
    from .files import (
        BoundedFile as BoundedFile,
        check_name as check_name,
        data_files as data_files,
        find_tables as find_tables,
        is_hidden as is_hidden,
        open_array as open_array,
        without_copies as without_copies,
    )
    from .keys import fold_in as fold_in, seeded_generator as seeded_generator
    from .loading import (
        BatchDataset as BatchDataset,
        BatchLoader as BatchLoader,
        BatchStream as BatchStream,
        IndexedDataset as IndexedDataset,
        ItemDataset as ItemDataset,
        TensorPairs as TensorPairs,
        as_plain as as_plain,
        checked_batch as checked_batch,
        digest as digest,
        fetch_batch as fetch_batch,
        first_samples as first_samples,
        original_indices as original_indices,
        scale_bytes as scale_bytes,
        seeded_globally as seeded_globally,
    )
    from .objects import (
        USUAL_NAMES as USUAL_NAMES,
        PoolsDataRaterDataset as PoolsDataRaterDataset,
        Reading as Reading,
        SampleForm as SampleForm,
        as_pool as as_pool,
        form_of as form_of,
    )
    from .own_data import (
        ImageFolderDataRaterDataset as ImageFolderDataRaterDataset,
        MNISTDataRaterDataset as MNISTDataRaterDataset,
        NpzDataRaterDataset as NpzDataRaterDataset,
        data_folder as data_folder,
        find_mnist as find_mnist,
        is_own_data as is_own_data,
        read_image as read_image,
    )
    from .splits import stratified_order as stratified_order
    from .tables import ParquetDataRaterDataset as ParquetDataRaterDataset
    from .text import (
        Documents as Documents,
        documents_of as documents_of,
        to_tokens as to_tokens,
    )
    from .text_corruptions import (
        NUM_BYTES as NUM_BYTES,
        text_kinds as text_kinds,
    )
    from .text_files import (
        find_texts as find_texts,
        read_json_lines as read_json_lines,
    )
else:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        corruptions="""
            CORRUPTIONS CorruptionContext CorruptionPlan DataCorruptionConfig read_digits
            register_corruption show_images
        """,
        datasets="""
            DATASETS READING WRONG_TARGET CorruptedSubset DataRaterDataset DigitsDataRaterDataset
            SplitDataRaterDataset TensorDataRaterDataset absolute_if_path construct_dataset is_path
            known_faults_of make_loaders register_dataset
        """,
        files="""
            BoundedFile check_name data_files find_tables is_hidden open_array without_copies
        """,
        keys="fold_in seeded_generator",
        loading="""
            BatchDataset BatchLoader BatchStream IndexedDataset ItemDataset TensorPairs as_plain
            checked_batch digest fetch_batch first_samples original_indices scale_bytes
            seeded_globally
        """,
        objects="USUAL_NAMES PoolsDataRaterDataset Reading SampleForm as_pool form_of",
        own_data="""
            ImageFolderDataRaterDataset MNISTDataRaterDataset NpzDataRaterDataset data_folder
            find_mnist is_own_data read_image
        """,
        splits="stratified_order",
        tables="ParquetDataRaterDataset",
        text="Documents documents_of to_tokens",
        text_corruptions="NUM_BYTES text_kinds",
        text_files="find_texts read_json_lines",
    )
