"""Tokenize: the lineage's tokenizer, and the Arrow token shards of every dataset."""

from rewarm.stages.data.tokenizer import tokenizer_digest
from rewarm.stages.tokenize.export import ExportOutcome, export_megatron
from rewarm.stages.tokenize.make_tokenizer import import_tokenizer, source_digest, train_tokenizer
from rewarm.stages.tokenize.run import TokenizeOutcome, run
from rewarm.stages.tokenize.settings import TokenizerSettings, TokenizeSettings
from rewarm.stages.tokenize.verify import TokenMismatch, VerifyOutcome, verify

__all__ = [
    "ExportOutcome",
    "TokenMismatch",
    "TokenizeOutcome",
    "TokenizeSettings",
    "TokenizerSettings",
    "VerifyOutcome",
    "export_megatron",
    "import_tokenizer",
    "run",
    "source_digest",
    "tokenizer_digest",
    "train_tokenizer",
    "verify",
]
