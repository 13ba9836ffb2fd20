"""Text to tokens: the lineage's tokenizer, and the Arrow token shards of every dataset."""

from stages.tokenize.run import TokenizeOutcome, run
from stages.tokenize.settings import TokenizerSettings, TokenizeSettings
from stages.tokenize.tokenizer import import_tokenizer, tokenizer_digest
from stages.tokenize.training import train_tokenizer

__all__ = [
    "TokenizeOutcome",
    "TokenizeSettings",
    "TokenizerSettings",
    "import_tokenizer",
    "run",
    "tokenizer_digest",
    "train_tokenizer",
]
