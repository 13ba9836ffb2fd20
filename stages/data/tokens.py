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


class TokenStream:
    """All token shards of a folder as one memory-mapped stream. Opening reads the offsets of each batch.

    With ``rows`` (documents counted over all shards in order, ascending) the stream contains those documents only, as
    if the shards held no others. Nothing is copied in either case.
    """

    def __init__(self, folder: Folder, rows: np.ndarray | None = None) -> None:
        self.folder = folder
        self._values: list[np.ndarray] = []  # a view of each batch's tokens
        self._batches: list[tuple[pa.RecordBatch, np.ndarray]] = []  # with the rows that are read
        pieces, ends, formats = [_NO_PIECES], [np.empty(0, np.int64)], set()
        position, seen = 0, 0
        for name in folder.files(".arrow"):
            with understood(f"{folder}/{name}"):
                reader = pa.ipc.open_file(pa.memory_map(str(folder.local(name))))
                formats.add(TokenFormat.of(reader.schema, f"{folder}/{name}"))
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                chosen = _chosen(rows, seen, batch.num_rows)
                seen += batch.num_rows
                lists = batch.column("tokens")
                offsets = lists.offsets.to_numpy(zero_copy_only=True)
                lengths = np.diff(offsets)[chosen]
                if not lengths.sum():
                    continue
                first = np.flatnonzero(np.diff(chosen, prepend=-2) != 1)  # of each run of documents that lie together
                starts = position + np.cumsum(lengths) - lengths
                place = np.full(len(first), len(self._values), dtype=np.int64)
                pieces.append(np.stack([starts[first], place, offsets[chosen[first]].astype(np.int64)]))
                ends.append(starts + lengths)
                self._values.append(lists.values.to_numpy(zero_copy_only=True))
                self._batches.append((batch, chosen))
                position += int(lengths.sum())
        if len(formats) > 1:
            raise UsageError(f"{folder}: token shards of different tokenizers lie in one folder: {formats}")
        self.format: TokenFormat | None = next(iter(formats), None)
        self._starts, self._places, self._offsets = np.concatenate(pieces, axis=1)
        self._ends = np.concatenate(ends)  # of every document, in positions of the stream
        self.num_tokens = position
        self.num_documents = len(self._ends)

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
        tokens = self.read(start, length + 1)
        inputs, starts = tokens[:-1].copy(), np.zeros(length, dtype=bool)
        low, high = np.searchsorted(self._ends, [start + 1, start + length + 1])
        opens = self._ends[low:high] - 1 - start  # where a document is closed, the next one is opened
        starts[opens] = True
        starts[0] = True
        if self.format is not None and self.format.prefix:
            inputs[opens] = self.format.opening
        return Window(inputs, tokens[1:], starts)

    def read(self, start: int, count: int) -> np.ndarray:
        """Return the ``count`` tokens (int64) from position ``start`` as stored; ``IndexError`` past the end."""
        if start < 0 or start + count > self.num_tokens:
            raise IndexError(f"{self.folder}: tokens {start}..{start + count - 1} asked for, {self.num_tokens} there")
        tokens = np.empty(count, dtype=np.int64)
        piece = int(np.searchsorted(self._starts, start, side="right")) - 1
        filled = 0
        while filled < count:
            inside = start + filled - int(self._starts[piece])
            stop = self._starts[piece + 1] if piece + 1 < len(self._starts) else self.num_tokens
            taken = min(count - filled, int(stop) - start - filled)
            offset = int(self._offsets[piece]) + inside
            tokens[filled : filled + taken] = self._values[self._places[piece]][offset : offset + taken]
            filled += taken
            piece += 1
        return tokens

    def document_spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the end positions of all documents in the stream, and the bytes of their texts (int64 both)."""
        sizes = [batch.column("num_bytes").to_numpy(zero_copy_only=True)[rows] for batch, rows in self._batches]
        return self._ends, np.concatenate([np.empty(0, np.int64), *sizes])

    def id_batches(self) -> Iterator[pa.Array]:
        """Yield the ids of all documents in stream order, batch by batch."""
        for batch, rows in self._batches:
            ids = batch.column("doc_id")
            yield ids if len(rows) == len(ids) else ids.take(rows)

    def ids_of(self, documents: Sequence[int]) -> list[str]:
        """Return the ids of some documents, by their numbers in the stream."""
        counts = np.cumsum([len(rows) for _, rows in self._batches], dtype=np.int64)
        ids = []
        for document in documents:
            place = int(np.searchsorted(counts, document, side="right"))
            batch, rows = self._batches[place]
            row = rows[document - (int(counts[place - 1]) if place else 0)]
            ids.append(str(batch.column("doc_id")[int(row)].as_py()))
        return ids

    def document_ids(self) -> list[str]:
        """Return the ids of all documents in stream order."""
        return [value for ids in self.id_batches() for value in ids.to_pylist()]


_NO_PIECES = np.empty((3, 0), dtype=np.int64)


def _chosen(rows: np.ndarray | None, seen: int, count: int) -> np.ndarray:
    """Return the rows of a batch that are read, counted from its first."""
    if rows is None:
        return np.arange(count, dtype=np.int64)
    low, high = np.searchsorted(rows, [seen, seen + count])
    return np.asarray(rows[low:high] - seen)
