"""Reader of documents that are already tokenized: Megatron's and datatrove's files, and columns in Arrow and Parquet.

They are decoded and ingested as text, so that duplicates, decontamination, the validation split and quarantine apply to
them as to any other document; the tokenize stage encodes them again. For every document it is verified that the ids
survive this round trip: ids that their text does not encode to (cut inside a character, special tokens, another
tokenizer) are refused. End-of-text and tokens that the tokenizer adds around a text (BOS) are not part of a document.

Token files are recognised when an arrival is listed, and refused immediately if another tokenizer produced them.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.token_files import TokenDocuments, TokenFileError, open_datatrove, open_megatron
from rewarm.stages.data.tokenizer import Definition, load_definition
from rewarm.stages.ingest.format import Format, Piece, Records, Sampling
from rewarm.stages.ingest.locations import InputFile, locate
from rewarm.stages.ingest.records import EXCERPT, Document, Refusal, make_document, storable
from rewarm.stages.ingest.settings import IngestSettings, TokenInputSettings

DESCRIPTIVE = ("url", "timestamp", "language", "source", "title")  # copied if they exist
ROWS = 256  # per batch of Parquet


class TokenColumn:
    """An Arrow (file or stream) or Parquet file with a column of lists of integers: the first of ``names`` that exists.

    Raises ``TokenFileError`` if none exists, and Arrow's exceptions for an unreadable file.
    """

    def __init__(self, file: Path, names: tuple[str, ...]) -> None:
        self.file = file
        self.parquet = file.suffix == ".parquet"
        self.schema = self._read_schema()
        found = [name for name in names if name in self.schema.names and holds_ids(self.schema.field(name).type)]
        if not found:
            wanted = " or ".join(names)
            raise TokenFileError(
                f"{file}: expected a column {wanted} with lists of integers, found: {', '.join(self.schema.names)}"
            )
        self.name = found[0]

    def num_rows(self) -> int:
        """Number of rows."""
        if self.parquet:
            return int(pq.read_metadata(self.file).num_rows)
        with opened(self.file) as batches:
            return sum(batch.num_rows for batch in batches)

    def rows(self, start: int, stop: int | None) -> Iterator[tuple[np.ndarray | None, dict[str, Any]]]:
        """Yield ids (None if they are or contain null) and descriptive fields of the rows before ``stop``."""
        seen = 0
        for batch in self._batches():
            low, high = max(start - seen, 0), batch.num_rows if stop is None else min(stop - seen, batch.num_rows)
            seen += batch.num_rows
            if low < high:
                yield from self._batch_rows(batch.slice(low, high - low))
            if stop is not None and seen >= stop:
                return

    def _batch_rows(self, batch: pa.RecordBatch) -> Iterator[tuple[np.ndarray | None, dict[str, Any]]]:
        described = batch.select([name for name in DESCRIPTIVE if name in batch.schema.names]).to_pylist()
        for scalar, fields in zip(batch.column(self.name), described, strict=True):
            values = scalar.values
            yield None if values is None or values.null_count else values.to_numpy(zero_copy_only=False), fields

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if not self.parquet:
            with opened(self.file) as batches:
                yield from batches
            return
        names = [self.name, *(name for name in DESCRIPTIVE if name in self.schema.names)]
        with pq.ParquetFile(self.file) as parquet:
            yield from parquet.iter_batches(batch_size=ROWS, columns=names, use_threads=False)

    def _read_schema(self) -> pa.Schema:
        if self.parquet:
            return pq.read_schema(self.file)
        with opened(self.file) as batches:
            return batches.schema


class Batches:
    """The record batches of an Arrow file or stream."""

    def __init__(self, reader: pa.RecordBatchFileReader | pa.RecordBatchStreamReader) -> None:
        self.reader, self.schema = reader, reader.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if isinstance(self.reader, pa.RecordBatchFileReader):
            return (self.reader.get_batch(number) for number in range(self.reader.num_record_batches))
        return iter(self.reader)


@contextmanager
def opened(file: Path) -> Iterator[Batches]:
    """An Arrow file or stream, memory-mapped."""
    with pa.memory_map(str(file)) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:  # without the magic bytes: a stream, or not an Arrow file
            source.seek(0)
            reader = pa.ipc.open_stream(source)
        with reader:
            yield Batches(reader)


def holds_ids(kind: pa.DataType) -> bool:
    """Return whether a column's rows are lists of integers."""
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and pa.types.is_integer(kind.value_type))


# Reasons of this module's refusals.
UNREADABLE = "unreadable token file"
NOT_CANONICAL = "tokens not canonical"
OUT_OF_RANGE = "token id out of range"
NOT_IDS = "tokens not whole numbers"

DIGEST = b"rewarm.tokenizer"  # in the metadata of token shards
BAD_FILE = (TokenFileError, pa.ArrowException)


def token_kind(path: str, settings: IngestSettings, choices: TokenInputSettings) -> str | None:
    """Return the kind of a token file: "megatron" (``.bin``), "datatrove" or "columns"; None for other files.

    Decided by the name, and for Parquet and Arrow by the columns: one with ids, none with text. Raises ``OSError``.
    """
    file = Path(path)
    if file.suffix == ".bin":
        return "megatron" if file.with_suffix(".idx").is_file() else None
    if file.suffix not in (".parquet", ".arrow", ".feather", ".ipc"):
        return {".ds": "datatrove"}.get(file.suffix)
    try:
        return None if settings.text in TokenColumn(file, choices.columns).schema.names else "columns"
    except BAD_FILE:
        return None
    except OSError as error:
        if error.errno is not None:
            raise
        return None  # Arrow's way to say that a stream is none


def check_tokens(path: str, kind: str, tokenizer: Folder, choices: TokenInputSettings) -> int:
    """Return the number of rows of a token file. Raises ``UsageError`` if it is not from this tokenizer.

    Reads only headers.
    """
    try:
        if kind != "columns":
            return len(_open(path, kind))
        column = TokenColumn(Path(path), choices.columns)
        rows = column.num_rows()
    except BAD_FILE as error:
        raise UsageError(f"{path}: not a token file rewarm can read: {error}") from error
    found = (column.schema.metadata or {}).get(DIGEST, b"").decode()
    expected = load_definition(tokenizer).digest
    if found not in {"", expected}:
        raise UsageError(
            f"{path}: tokens of the tokenizer {found}, but the lineage's is {expected}; decode them with their own "
            "tokenizer and ingest the text"
        )
    return rows


def read_tokens(
    path: str,
    kind: str,
    tokenizer: Folder,
    settings: IngestSettings,
    choices: TokenInputSettings,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[Document | Refusal]:
    """Yield the documents of a token file in order, from row ``start`` to before ``stop`` (None: the end).

    ``kind`` is the result of ``token_kind``. A row with end-of-text inside is several documents; empty ones are
    skipped. An unreadable file ends with one refusal. Raises ``OSError`` if the disk fails, and ``UsageError`` if
    ``tokenizer`` is not a tokenizer's folder.
    """
    decoder = Decoder(load_definition(tokenizer), settings, choices)
    row = start
    try:
        for ids, fields in _rows(path, kind, choices, start, stop):
            yield from decoder.documents(f"document {row}", ids, fields)
            row += 1
    except BAD_FILE as error:
        place = f"document {row} and after" if row > start else "file"
        yield Refusal(place, UNREADABLE, storable(str(error).splitlines()[0]), b"")


class Decoder:
    """Decoder of ids into documents or refusals."""

    def __init__(self, definition: Definition, settings: IngestSettings, choices: TokenInputSettings) -> None:
        self.tokenizer = definition.tokenizer
        self.end_of_text, self.num_ids = definition.end_of_text_id, definition.num_ids
        self.prefix, self.suffix = (np.array(ids, np.int64) for ids in definition.affixes)
        self.settings, self.choices = settings, choices

    def documents(self, place: str, ids: np.ndarray | None, fields: dict[str, Any]) -> Iterator[Document | Refusal]:
        """Yield the documents of one row of ids; None is a row with other contents."""
        if ids is None:
            yield Refusal(place, NOT_IDS, "expected a list of integers, found null or a list with null", b"")
            return
        cuts = [-1, *np.flatnonzero(ids == self.end_of_text).tolist(), len(ids)]
        parts = [part for low, high in pairwise(cuts) if len(part := self._text(ids[low + 1 : high]))]
        for number, part in enumerate(parts):
            where = f"{place}, part {number}" if len(parts) > 1 else place
            yield self._refusal(where, part) or self._document(where, part.tolist(), fields)

    def _text(self, ids: np.ndarray) -> np.ndarray:
        """Return a document's ids without those that the tokenizer adds around a text: all of them, or all but BOS
        (which rewarm's own shards store separately)."""
        for before in (self.prefix, self.prefix[1:]):
            if len(before) and np.array_equal(ids[: len(before)], before):
                ids = ids[len(before) :]
                break
        after = self.suffix
        return ids[: len(ids) - len(after)] if len(after) and np.array_equal(ids[-len(after) :], after) else ids

    def _refusal(self, place: str, ids: np.ndarray) -> Refusal | None:
        wrong = np.flatnonzero((ids < 0) | (ids >= self.num_ids))
        if not len(wrong):
            return None
        found = int(ids[wrong[0]])
        detail = f"expected ids from 0 to {self.num_ids - 1}, found {found} at token {wrong[0]}"
        return Refusal(place, OUT_OF_RANGE, detail, ids.tobytes()[:EXCERPT], value=float(found))

    def _document(self, place: str, ids: list[int], fields: dict[str, Any]) -> Document | Refusal:
        text = self.tokenizer.decode(ids, skip_special_tokens=False)
        if self.choices.canonical:
            again = self.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
            if again != ids:
                both = zip(again, ids, strict=False)
                at = next((place for place, (a, b) in enumerate(both) if a != b), min(len(again), len(ids)))
                detail = (
                    f"the text encodes to different ids from token {at} of {len(ids)}: "
                    f"expected {again[at : at + 4]}, found {ids[at : at + 4]}"
                )
                return Refusal(place, NOT_CANONICAL, detail, text.encode()[:EXCERPT], value=float(at))
        return make_document(place, text, fields, self.settings)


def _rows(
    path: str, kind: str, choices: TokenInputSettings, start: int, stop: int | None
) -> Iterator[tuple[np.ndarray | None, dict[str, Any]]]:
    if kind == "columns":
        yield from TokenColumn(Path(path), choices.columns).rows(start, stop)
        return
    for ids in _open(path, kind).read(start, stop):
        yield ids, {}


def _open(path: str, kind: str) -> TokenDocuments:
    return open_datatrove(Path(path)) if kind == "datatrove" else open_megatron(Path(path).with_suffix(""))


KINDS = {"megatron": "megatron", "datatrove": "datatrove", "tokens": "columns"}  # by format


def read(piece: Piece, settings: IngestSettings, passed: Counter[str] | None = None) -> Records:
    """Yield the documents of a token file, decoded by the tokenizer that produced it."""
    path, choices = piece.file.path, settings.tokens
    tokenizer = required_tokenizer(path, choices)
    yield from read_tokens(path, KINDS[piece.file.format], tokenizer, settings, choices, piece.start or 0, piece.stop)


def sample(file: InputFile, wanted: Sampling, settings: IngestSettings) -> list[tuple[Piece, float]]:
    """Return the documents at some bytes of a file, as if all were of one size."""
    tokenizer = required_tokenizer(file.path, settings.tokens)
    count = check_tokens(file.path, KINDS[file.format], tokenizer, settings.tokens)
    starts = sorted({offset * count // file.size for offset in wanted.offsets})
    step = max(1, wanted.size * count // file.size)
    return [(Piece(file, start, start + step), step * file.size / max(1, count)) for start in starts]


def required_tokenizer(path: str, choices: TokenInputSettings) -> Folder:
    """Return the tokenizer of a token file. Raises ``UsageError`` if there is none, or if the file is remote."""
    if not locate(path).is_local:
        raise UsageError(f"{path}: token files can only be read from a disk; copy the file first")
    if choices.tokenizer is None:
        raise UsageError(
            f"{path}: tokens can only be read with the tokenizer that produced them; a base needs text to train a "
            "tokenizer, or tokenizer.path and ingest.tokens.tokenizer"
        )
    return Folder(choices.tokenizer)


MEGATRON = Format(
    "megatron",
    "Megatron's tokens",
    (".bin",),
    read,
    sample=sample,
    compressible=False,
    sequential=False,
    companion=".idx",
)
DATATROVE = Format(
    "datatrove",
    "datatrove's tokens",
    (".ds",),
    read,
    sample=sample,
    compressible=False,
    sequential=False,
    companion=".ds.index",
)
TOKENS = Format("tokens", "tokens in columns", (), read, sample=sample, compressible=False, sequential=False)
COMPANIONS = {known.name: known.companion for known in (MEGATRON, DATATROVE)}


def recognise_tokens(file: InputFile, settings: IngestSettings) -> InputFile:
    """Return the file with its format corrected: a table with a column of ids and no text column contains tokens.

    Raises ``UsageError`` if a token file is invalid, or comes from another tokenizer than the lineage's.
    """
    if not locate(file.path).is_local:
        return file
    if settings.format == "auto" and file.format in ("parquet", "arrow"):
        tokens = token_kind(file.path, settings, settings.tokens) == "columns"
        file = replace(file, format="tokens") if tokens else file
    if file.format in KINDS and settings.tokens.tokenizer is not None:
        check_tokens(file.path, KINDS[file.format], Folder(settings.tokens.tokenizer), settings.tokens)
    return file


def companion(file: InputFile) -> Path | None:
    """Return the index file that a local token file requires, or None."""
    suffix = COMPANIONS.get(file.format)
    return Path(file.path).with_suffix(suffix) if suffix else None
