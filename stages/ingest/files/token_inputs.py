"""Files of tokens among an arrival: told apart, and refused at once where another tokenizer made them."""

from dataclasses import replace
from pathlib import Path

from stages.ingest.files.inputs import InputFile
from stages.ingest.files.locations import locate
from stages.ingest.read.megatron import check_tokens, token_kind
from stages.ingest.settings import IngestSettings
from stages.storage import Folder

TOKENS = {"megatron": "megatron", "datatrove": "datatrove", "tokens": "columns"}  # formats, and how they are read
COMPANIONS = {"megatron": ".idx", "datatrove": ".ds.index"}  # what lies beside a file, in the place of its suffix


def recognise_tokens(file: InputFile, settings: IngestSettings) -> InputFile:
    """The file with its format put right: a table with a column of ids and none of text holds tokens.

    Raises ``UsageError`` where a file of tokens is none, or of another tokenizer than the one that is known.
    """
    if not locate(file.path).is_local:
        return file
    if settings.format == "auto" and file.format in ("parquet", "arrow"):
        tokens = token_kind(file.path, settings, settings.tokens) == "columns"
        file = replace(file, format="tokens") if tokens else file
    if file.format in TOKENS and settings.tokens.tokenizer is not None:
        check_tokens(file.path, TOKENS[file.format], Folder(settings.tokens.tokenizer), settings.tokens)
    return file


def companion(file: InputFile) -> Path | None:
    """The file that a local one cannot be read without."""
    suffix = COMPANIONS.get(file.format)
    return Path(file.path).with_suffix(suffix) if suffix else None
