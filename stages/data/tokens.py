"""Contract 2, token shards: uncompressed Arrow IPC, memory-mapped; written by tokenize, read by training.

A row is a document: its id, its tokens with end-of-text as the last one, and the bytes of its text. All rows of all
shards, in order, make one stream of tokens. Sequence ``i`` of ``seq_len`` tokens has inputs ``stream[i*seq_len :
(i+1)*seq_len]`` and the same shifted by one as targets, so the length is chosen when training, not when writing.

Between two documents in a sequence, one position has two roles: as a target it is end-of-text, the last token to
predict of the old document; as an input it is the token that opens the new one. That is the first id that the tokenizer
itself adds before a text (BOS), or end-of-text if it adds none. Every token of a document is thus predicted once, from
its own document alone, and BOS uses no position: the opening token is metadata of the shards, so their tokens and the
sequence boundaries are the same with and without it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.shapes import understood
from rewarm.stages.core.storage import Folder

FORMAT_VERSION = 1
FRAMED_VERSION = 2  # of shards with BOS around their documents, say: a reader that knows version 1 alone must refuse


@dataclass(frozen=True)
class TokenFormat:
    """Format shared by all shards of a folder, stored in each shard's schema metadata."""

    tokenizer: str  # digest of the tokenizer
    end_of_text: int  # token id
    dtype: str  # "uint16" or "uint32"
    prefix: tuple[int, ...] = ()  # ids that the tokenizer puts before a text; all but the first are in the rows
    suffix: tuple[int, ...] = ()  # ids that it puts after a text, before end-of-text

    @property
    def opening(self) -> int:
        """The id that every document's first token is predicted from: BOS, or end-of-text without a prefix."""
        return self.prefix[0] if self.prefix else self.end_of_text

    def around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids before and after those of the text in every row."""
        return self.prefix[1:], (*self.suffix, self.end_of_text)

    def schema(self) -> pa.Schema:
        """The Arrow schema with the metadata."""
        values = pa.uint16() if self.dtype == "uint16" else pa.uint32()
        fields = [
            pa.field("doc_id", pa.string(), nullable=False),
            pa.field("tokens", pa.large_list(pa.field("item", values, nullable=False)), nullable=False),
            pa.field("num_bytes", pa.int64(), nullable=False),
        ]
        metadata = {
            "rewarm.format": str(FRAMED_VERSION if self.prefix or self.suffix else FORMAT_VERSION),
            "rewarm.tokenizer": self.tokenizer,
            "rewarm.end_of_text": str(self.end_of_text),
        }
        around = {"rewarm.prefix": self.prefix, "rewarm.suffix": self.suffix}
        metadata |= {name: ",".join(map(str, tokens)) for name, tokens in around.items() if tokens}
        return pa.schema(fields, metadata=metadata)

    @classmethod
    def of(cls, schema: pa.Schema, file: str) -> "TokenFormat":
        """Read the metadata of a shard; ``UsageError`` if it is not a shard of this format."""
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        if (found := metadata.get("rewarm.format", "none")) not in {str(FORMAT_VERSION), str(FRAMED_VERSION)}:
            raise UsageError(
                f"{file}: token shard of format {FORMAT_VERSION} or {FRAMED_VERSION} expected, found {found}"
            )
        values = schema.field("tokens").type.value_type
        prefix, suffix = (
            tuple(int(token) for token in metadata.get(name, "").split(",") if token)
            for name in ("rewarm.prefix", "rewarm.suffix")
        )
        return cls(metadata["rewarm.tokenizer"], int(metadata["rewarm.end_of_text"]), str(values), prefix, suffix)


def write_shard(path: Path, token_format: TokenFormat, batches: Iterable[pa.RecordBatch]) -> None:
    """Write one shard. The batches hold ``doc_id``, ``tokens`` (end-of-text last) and ``num_bytes``."""
    schema = token_format.schema()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema) if batch.schema != schema else batch)


@dataclass(frozen=True)
class Window:
    """Section of the stream: ``inputs`` and ``targets`` (int64) and ``starts`` (bool), each of length ``n``.

    Target ``p`` is predicted from the inputs up to ``p`` of its own document. ``starts[p]`` says that input ``p`` opens
    a document (``TokenFormat.opening``), or is the first input of the window.
    """

    inputs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray

    def position_ids(self) -> np.ndarray:
        """Return positions (int64, length ``n``) that restart at each document, which encode the packing."""
        index = np.arange(len(self.starts))
        return index - np.maximum.accumulate(np.where(self.starts, index, 0))


SELECTION = "documents.npy"  # in a selection's folder: rows of a split's documents, int64, ascending


@dataclass(frozen=True)
class TokenSet:
    """Token shards with an optional selection of their documents."""

    folder: Folder
    selection: Folder | None = None

    def open(self) -> "TokenStream":
        """Open the stream of these documents."""
        rows = None if self.selection is None else read_selection(self.selection)
        return TokenStream(self.folder, rows)


def write_selection(out: Folder, rows: np.ndarray) -> None:
    """Write a selection of a split's documents: their rows over all shards in order (int64, ascending)."""
    with out.writing(SELECTION) as scratch, scratch.open("wb") as sink:
        np.save(sink, np.asarray(rows, dtype=np.int64), allow_pickle=False)


def read_selection(selection: Folder) -> np.ndarray:
    """Read the rows that ``write_selection`` wrote."""
    rows: np.ndarray = np.load(selection.local(SELECTION), mmap_mode="r", allow_pickle=False)
    return rows


@dataclass(frozen=True)
class Batch:
    """Record batch of a stream, with the documents that are read. Holds no memory of its own per document."""

    records: pa.RecordBatch
    offsets: np.ndarray  # of its documents in ``values``, one more than documents; memory-mapped
    values: np.ndarray  # tokens, memory-mapped
    position: int  # of its first token in the stream
    chosen: np.ndarray | None  # documents of the selection, counted over all shards, memory-mapped; None: all
    first: int  # number of its first document, counted in the same way

    def rows(self) -> np.ndarray:
        """Return the rows that are read."""
        if self.chosen is None:
            return np.arange(self.records.num_rows, dtype=np.int64)
        return np.asarray(self.chosen - self.first)

    def num_documents(self) -> int:
        """Return the number of documents that are read."""
        return self.records.num_rows if self.chosen is None else len(self.chosen)

    def runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return first token and number of tokens of each run of adjacent documents, as offsets in ``values``."""
        if self.chosen is None:
            return self.offsets[:1], self.offsets[-1:] - self.offsets[:1]
        rows = self.rows()
        if not len(rows):
            return self.offsets[:0], self.offsets[:0]
        edges = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        begins, ends = self.offsets[rows[edges]], self.offsets[rows[np.append(edges[1:], len(rows)) - 1] + 1]
        return begins, ends - begins

    def ends(self) -> np.ndarray:
        """Return the ends of the documents that are read, in positions of the stream."""
        lengths = np.diff(self.offsets)
        return self.position + np.cumsum(lengths if self.chosen is None else lengths[self.rows()])


class TokenStream:
    """All token shards of a folder as one memory-mapped stream. Opening reads the edges of each batch.

    With ``rows`` (documents counted over all shards in order, ascending) the stream contains those documents only, as
    if the shards held no others. Nothing is copied in either case; memory grows with the batches and with the runs of
    adjacent documents in a selection, not with the documents.
    """

    def __init__(self, folder: Folder, rows: np.ndarray | None = None) -> None:
        self.folder = folder
        self._batches: list[Batch] = []
        pieces, formats, position, seen = [_NO_PIECES], set(), 0, 0
        for name in folder.files(".arrow"):
            with understood(f"{folder}/{name}"):
                reader = pa.ipc.open_file(pa.memory_map(str(folder.local(name))))
                formats.add(TokenFormat.of(reader.schema, f"{folder}/{name}"))
            for number in range(reader.num_record_batches):
                batch = batch_of(reader.get_batch(number), position, rows, seen)
                seen += batch.records.num_rows
                begins, lengths = batch.runs()
                if not lengths.sum():
                    continue
                starts = position + np.cumsum(lengths) - lengths
                pieces.append(np.stack([starts, np.full(len(starts), len(self._batches)), begins]))
                self._batches.append(batch)
                position += int(lengths.sum())
        if len(formats) > 1:
            raise UsageError(f"{folder}: token shards of different tokenizers lie in one folder: {formats}")
        self.format: TokenFormat | None = next(iter(formats), None)
        self._starts, self._places, self._offsets = np.concatenate(pieces, axis=1)
        self.num_tokens = position
        self.num_documents = sum(batch.num_documents() for batch in self._batches)

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the documents' text."""
        return int(self.document_spans()[1].sum())

    def num_sequences(self, seq_len: int) -> int:
        """Return the number of complete sequences (of ``seq_len`` inputs and their targets) in the stream."""
        return max(0, (self.num_tokens - 1) // seq_len)

    def sequence(self, index: int, seq_len: int) -> Window:
        """Return sequence ``index``: ``seq_len + 1`` tokens from ``index * seq_len``."""
        return self.window(index * seq_len, seq_len)

    def window(self, start: int, length: int) -> Window:
        """Return ``length`` inputs from position ``start``, and their targets; raises ``IndexError`` past the end."""
        tokens, starts = np.empty(length + 1, dtype=np.int64), np.zeros(length, dtype=bool)
        opening = []
        for place, batch, low, high in self._spans(start, length + 1):
            tokens[place : place + high - low] = batch.values[low:high]
            first, last = batch.offsets.searchsorted((low + 1, high + 1))
            opening.append(batch.offsets[first:last] + (place - low - 1))  # where one document ends, the next one opens
        opens = opening[0] if len(opening) == 1 else np.concatenate(opening)
        inputs, opens = tokens[:-1].copy(), opens[opens < length]
        starts[opens] = True
        starts[0] = True
        if self.format is not None and self.format.prefix:
            inputs[opens] = self.format.opening
        return Window(inputs, tokens[1:], starts)

    def read(self, start: int, count: int) -> np.ndarray:
        """Return the ``count`` tokens (int64) from position ``start`` as stored; ``IndexError`` past the end."""
        tokens = np.empty(count, dtype=np.int64)
        for place, batch, low, high in self._spans(start, count):
            tokens[place : place + high - low] = batch.values[low:high]
        return tokens

    def _spans(self, start: int, count: int) -> Iterator[tuple[int, Batch, int, int]]:
        """Yield the parts of ``count`` tokens from ``start``: place in them, batch, and range in the batch's values."""
        if start < 0 or start + count > self.num_tokens:
            raise IndexError(f"{self.folder}: tokens {start}..{start + count - 1} asked for, {self.num_tokens} there")
        piece = int(self._starts.searchsorted(start, side="right")) - 1
        filled = 0
        while filled < count:
            begins = int(self._starts[piece])
            stop = int(self._starts[piece + 1]) if piece + 1 < len(self._starts) else self.num_tokens
            taken = min(count - filled, stop - start - filled)
            low = int(self._offsets[piece]) + start + filled - begins
            yield filled, self._batches[self._places[piece]], low, low + taken
            filled += taken
            piece += 1

    def document_spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the end positions of all documents in the stream, and the bytes of their texts (int64 both)."""
        ends, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for batch in self._batches:
            ends.append(batch.ends())
            sizes.append(batch.records.column("num_bytes").to_numpy(zero_copy_only=True)[batch.rows()])
        return np.concatenate(ends), np.concatenate(sizes)

    def id_batches(self) -> Iterator[pa.Array]:
        """Yield the ids of all documents in stream order, batch by batch."""
        for batch in self._batches:
            ids = batch.records.column("doc_id")
            yield ids if batch.chosen is None else ids.take(batch.rows())

    def ids_of(self, documents: Sequence[int]) -> list[str]:
        """Return the ids of some documents, by their numbers in the stream."""
        counts = np.cumsum([batch.num_documents() for batch in self._batches], dtype=np.int64)
        ids = []
        for document in documents:
            place = int(np.searchsorted(counts, document, side="right"))
            batch, inside = self._batches[place], document - (int(counts[place - 1]) if place else 0)
            row = inside if batch.chosen is None else int(batch.chosen[inside]) - batch.first
            ids.append(str(batch.records.column("doc_id")[row].as_py()))
        return ids

    def document_ids(self) -> list[str]:
        """Return the ids of all documents in stream order."""
        return [value for ids in self.id_batches() for value in ids.to_pylist()]


_NO_PIECES = np.empty((3, 0), dtype=np.int64)


def batch_of(records: pa.RecordBatch, position: int, rows: np.ndarray | None, seen: int) -> Batch:
    """Return a record batch as part of a stream, in which ``seen`` documents of all shards come before it."""
    lists = records.column("tokens")
    offsets, values = (part.to_numpy(zero_copy_only=True) for part in (lists.offsets, lists.values))
    chosen = None
    if rows is not None:
        low, high = np.searchsorted(rows, [seen, seen + records.num_rows])
        chosen = rows[low:high]
    return Batch(records, offsets, values, position, chosen, seen)
