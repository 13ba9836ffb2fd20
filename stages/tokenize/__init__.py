"""Text to tokens: the lineage's tokenizer, and the Arrow token shards of every dataset."""

from stages.tokenize.export import ExportOutcome, export_megatron
from stages.tokenize.importing import import_tokenizer, source_digest
from stages.tokenize.run import TokenizeOutcome, run
from stages.tokenize.settings import TokenizerSettings, TokenizeSettings
from stages.tokenize.training import train_tokenizer
from stages.tokenize.verify import TokenMismatch, VerifyOutcome, verify
from stages.tokenizer_folder import tokenizer_digest

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
