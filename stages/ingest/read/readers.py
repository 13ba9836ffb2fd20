"""The records of one piece of a file of any accepted format, streaming."""

from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from stages.errors import UsageError
from stages.ingest.files.locations import locate
from stages.ingest.files.opening import open_random, open_raw, require_unchanged
from stages.ingest.files.pieces import Piece
from stages.ingest.read.arrow import read_arrow
from stages.ingest.read.jsonl import read_jsonl, read_jsonl_part
from stages.ingest.read.oversized import fit
from stages.ingest.read.parquet import read_parquet
from stages.ingest.read.tables import read_table, read_table_part
from stages.ingest.read.text import read_text, read_whole
from stages.ingest.records import Document, Refusal
from stages.ingest.settings import IngestSettings
from stages.storage import Folder


def read_piece(
    piece: Piece, settings: IngestSettings, passed: Counter[str] | None = None
) -> Iterator[Document | Refusal]:
    """The records of a piece in their order; what cannot be one is a refusal, and so is the rest of a broken file.

    Raises ``OSError`` where disk or network fail (call it again), and ``StageError`` where the file is no more what it
    was when it was listed; what was given before that is not to be used. ``passed`` counts what is neither a document
    nor missed, once all is read.
    """
    if locate(piece.file.path).is_local:  # elsewhere it is asked once, afterwards, as every answer takes its time
        require_unchanged(piece.file)
    yield from fit(records_of(piece, settings, passed), settings)
    require_unchanged(piece.file)


def records_of(piece: Piece, settings: IngestSettings, passed: Counter[str] | None) -> Iterator[Document | Refusal]:
    """The records of a piece by its format."""
    file, start = piece.file, piece.start or 0
    if file.format in ("megatron", "datatrove", "tokens"):
        yield from tokens_of(piece, settings)
        return
    if file.format == "parquet":
        with open_random(file) as stream:
            yield from read_parquet(stream, settings, start, piece.stop)
    elif file.format == "arrow":
        with open_random(file) as stream:
            yield from read_arrow(stream, settings, start, piece.stop)
    elif file.format == "jsonl" and start:
        with open_raw(file, start - 1) as stream:
            yield from read_jsonl_part(stream, start, file.size if piece.stop is None else piece.stop, settings)
    elif file.format in ("csv", "tsv") and start:
        stop = file.size if piece.stop is None else piece.stop
        with open_raw(file) as head, open_raw(file, start) as stream:
            yield from read_table_part(head, stream, file.format, start, stop, settings)
    else:
        with open_raw(file) as stream:
            yield from read_stream(stream, piece, settings, passed)


def tokens_of(piece: Piece, settings: IngestSettings) -> Iterator[Document | Refusal]:
    """The documents of a file of tokens, by the tokenizer that made them."""
    from stages.ingest.files.token_inputs import TOKENS
    from stages.ingest.read.megatron import read_tokens

    path, choices, kind = piece.file.path, settings.tokens, TOKENS[piece.file.format]
    if not locate(path).is_local:
        raise UsageError(f"{path}: files of tokens are read from a disk; copy them first")
    if choices.tokenizer is None:
        raise UsageError(
            f"{path}: tokens can only be read with the tokenizer that made them; a base needs text to train one, or "
            "tokenizer.path and ingest.tokens.tokenizer"
        )
    tokenizer = Folder(choices.tokenizer)
    yield from read_tokens(path, kind, tokenizer, settings, choices)


def read_stream(
    stream: BinaryIO, piece: Piece, settings: IngestSettings, passed: Counter[str] | None
) -> Iterator[Document | Refusal]:
    """The records of a file that is read from its beginning; ``stream`` gives its bytes as stored."""
    file = piece.file
    if file.format == "jsonl":
        yield from read_jsonl(stream, file.compression, settings, piece.stop)
    elif file.format in ("csv", "tsv"):
        yield from read_table(stream, file.format, file.compression, settings, piece.stop)
    elif file.format == "text":
        yield read_text(stream, file.name, file.compression, settings)
    elif file.format == "html":
        from stages.ingest.read.html import read_html

        data = read_whole(stream, file.compression, settings)
        yield data if isinstance(data, Refusal) else read_html(data, file.name, settings)
    else:
        from stages.ingest.read.warc import read_warc

        yield from read_warc(stream, file.compression, settings, passed)
