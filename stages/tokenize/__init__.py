"""Tokenize: the lineage's tokenizer, and the Arrow token shards of every dataset."""

from typing import TYPE_CHECKING

from rewarm.stages.core.lazy import import_lazily

if TYPE_CHECKING:
    from rewarm.stages.data.tokenizer import tokenizer_digest
    from rewarm.stages.tokenize.export import ExportOutcome, export_megatron
    from rewarm.stages.tokenize.make_tokenizer import import_tokenizer, source_digest, train_tokenizer
    from rewarm.stages.tokenize.run import run
    from rewarm.stages.tokenize.settings import TokenizeOutcome, TokenizerSettings, TokenizeSettings
    from rewarm.stages.tokenize.verify import TokenMismatch, VerifyOutcome, verify
else:
    import_lazily(__name__)

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
