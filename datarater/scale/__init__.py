"""Corpora that lie in many files."""

from typing import TYPE_CHECKING

from ..support import lazy_names

if TYPE_CHECKING:  # for editors and type checkers: the names below, once more
    from .corpus import (
        CORPUS_RULES as CORPUS_RULES,
        ENGINES as ENGINES,
        CorpusSettings as CorpusSettings,
        curate_corpus as curate_corpus,
        open_corpus as open_corpus,
        rating_keys as rating_keys,
        score_corpus as score_corpus,
        score_corpus_of_run as score_corpus_of_run,
    )
    from .shards import ShardColumns as ShardColumns
else:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        corpus="""
            CORPUS_RULES ENGINES CorpusSettings curate_corpus open_corpus rating_keys score_corpus
            score_corpus_of_run
        """,
        shards="ShardColumns",
    )
