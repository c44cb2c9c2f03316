"""Corpora that lie in many files."""

from ..support import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    corpus="""
        CORPUS_RULES CorpusSettings ENGINES curate_corpus open_corpus rating_keys score_corpus
        score_corpus_of_run
    """,
    shards="ShardColumns",
)
