"""Contract 2: token shards. Uncompressed Arrow IPC, memory-mapped; written by tokenize, read by whoever trains.

A row is a document: its id, its tokens with end-of-text as the last one, and the bytes of its text. All rows of all
shards, in order, make one stream of tokens. Sequence ``i`` of ``seq_len`` tokens has inputs ``stream[i*seq_len :
(i+1)*seq_len]`` and the same shifted by one as targets, so the length is chosen when training, not when writing.

Where documents meet in a sequence, the end-of-text token that closes one document opens the next: as a target it is
the last thing to predict of the old one, as an input it is the first context of the new one. Every token is thus
predicted once, from its own document alone, and the first one from end-of-text, as lm-eval's rolling likelihood does.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.errors import UsageError
from stages.storage import Folder

FORMAT_VERSION = 1


@dataclass(frozen=True)
class TokenFormat:
    """What every shard of a folder shares, kept in each shard's schema metadata."""

    tokenizer: str  # digest of the tokenizer
    end_of_text: int  # token id
    dtype: str  # "uint16" or "uint32"

    def schema(self) -> pa.Schema:
        """The Arrow schema with the metadata."""
        values = pa.uint16() if self.dtype == "uint16" else pa.uint32()
        fields = [
            pa.field("doc_id", pa.string(), nullable=False),
            pa.field("tokens", pa.large_list(pa.field("item", values, nullable=False)), nullable=False),
            pa.field("num_bytes", pa.int64(), nullable=False),
        ]
        metadata = {
            "rewarm.format": str(FORMAT_VERSION),
            "rewarm.tokenizer": self.tokenizer,
            "rewarm.end_of_text": str(self.end_of_text),
        }
        return pa.schema(fields, metadata=metadata)

    @classmethod
    def of(cls, schema: pa.Schema, file: str) -> "TokenFormat":
        """Read the metadata of a shard; ``UsageError`` where it is not a shard of this format."""
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        if metadata.get("rewarm.format") != str(FORMAT_VERSION):
            found = metadata.get("rewarm.format", "none")
            raise UsageError(f"{file}: token shard of format {FORMAT_VERSION} expected, found {found}")
        values = schema.field("tokens").type.value_type
        return cls(metadata["rewarm.tokenizer"], int(metadata["rewarm.end_of_text"]), str(values))


def write_shard(path: Path, token_format: TokenFormat, batches: Iterable[pa.RecordBatch]) -> None:
    """Write one shard. The batches hold ``doc_id``, ``tokens`` (end-of-text last) and ``num_bytes``."""
    schema = token_format.schema()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema) if batch.schema != schema else batch)


@dataclass(frozen=True)
class Window:
    """A piece of the stream: ``tokens`` (int64, length ``n + 1``) and ``starts`` (bool, length ``n``).

    ``starts[p]`` says that input ``p`` opens a document: it is the first input of the window, or the end-of-text
    token that closed the document before.
    """

    tokens: np.ndarray
    starts: np.ndarray

    def position_ids(self) -> np.ndarray:
        """Positions (int64, length ``n``) that restart where a document opens: the packing is read off them."""
        index = np.arange(len(self.starts))
        return index - np.maximum.accumulate(np.where(self.starts, index, 0))


class TokenStream:
    """All token shards of a folder as one memory-mapped stream. Opening costs one look at each batch's offsets."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._values: list[np.ndarray] = []  # a view of each batch's tokens
        self._ends: list[np.ndarray] = []  # each batch's document ends, in positions of the stream
        self._batches: list[pa.RecordBatch] = []
        starts, documents, position, num_bytes, formats = [0], [0], 0, 0, set()
        for name in folder.files(".arrow"):
            reader = pa.ipc.open_file(pa.memory_map(str(folder.local(name))))
            formats.add(TokenFormat.of(reader.schema, f"{folder}/{name}"))
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                lists = batch.column("tokens")
                offsets = lists.offsets.to_numpy(zero_copy_only=True)
                values = lists.values.to_numpy(zero_copy_only=True)[offsets[0] : offsets[-1]]
                if not len(values):
                    continue
                self._batches.append(batch)
                self._values.append(values)
                self._ends.append(offsets[1:] - offsets[0] + position)
                position += len(values)
                starts.append(position)
                documents.append(documents[-1] + batch.num_rows)
                num_bytes += int(batch.column("num_bytes").to_numpy(zero_copy_only=True).sum())
        if len(formats) > 1:
            raise UsageError(f"{folder}: token shards of different tokenizers lie in one folder: {formats}")
        self.format: TokenFormat | None = next(iter(formats), None)
        self._starts = np.array(starts, dtype=np.int64)
        self._documents = np.array(documents, dtype=np.int64)
        self.num_tokens = position
        self.num_bytes = num_bytes
        self.num_documents = int(self._documents[-1])

    def num_sequences(self, seq_len: int) -> int:
        """How many whole sequences (of ``seq_len`` inputs and their targets) the stream holds."""
        return max(0, (self.num_tokens - 1) // seq_len)

    def sequence(self, index: int, seq_len: int) -> Window:
        """Sequence ``index``: ``seq_len + 1`` tokens from ``index * seq_len`` on."""
        return self.window(index * seq_len, seq_len)

    def window(self, start: int, length: int) -> Window:
        """``length`` inputs from position ``start``, and their targets; raises ``IndexError`` past the end."""
        if start < 0 or start + length + 1 > self.num_tokens:
            raise IndexError(f"{self.folder}: tokens {start}..{start + length} asked for, {self.num_tokens} there")
        tokens = np.empty(length + 1, dtype=np.int64)
        starts = np.zeros(length, dtype=bool)
        starts[0] = True
        batch = int(np.searchsorted(self._starts, start, side="right")) - 1
        filled = 0
        while filled <= length:
            offset = start + filled - int(self._starts[batch])
            piece = self._values[batch][offset : offset + length + 1 - filled]
            tokens[filled : filled + len(piece)] = piece
            filled += len(piece)
            opens = self._ends[batch] - 1 - start  # the end-of-text that closes a document opens the next
            low, high = np.searchsorted(opens, [0, length])
            starts[opens[low:high]] = True
            batch += 1
        return Window(tokens, starts)

    def document_spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of all documents in positions of the stream (int64), and the bytes of each one's text (int64)."""
        if not self._ends:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        sizes = [batch.column("num_bytes").to_numpy(zero_copy_only=True) for batch in self._batches]
        return np.concatenate(self._ends), np.concatenate(sizes)

    def document_ids(self) -> list[str]:
        """Ids of all documents in the order of the stream."""
        return [value for batch in self._batches for value in batch.column("doc_id").to_pylist()]
