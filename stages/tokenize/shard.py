"""The work on one document shard: read, encode, close every document, count, write."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import xxhash

from stages.digests import digest_file, hash_stream
from stages.storage import Folder
from stages.tokenize.backends import Encoder, encoder_of
from stages.tokenize.files import DocumentShard, token_batches
from stages.tokens import TokenFormat, write_shard

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class TokenizeShard:
    """The work on one shard, as it travels to Ray: everything but the tokenizer, which each process loads once."""

    tokenizer: str  # folder
    backend: str
    token_format: TokenFormat
    batch_documents: int
    batch_bytes: int
    threads: int = 1  # as many as the CPUs that its task asks for

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Tokenize the shard ``{source, target, name, …}`` unless it is there; its account, and its file's digest."""
        target, name = Folder(shard["target"]), f"{shard['name']}.arrow"
        account = Account()
        if target.exists(name):
            for batch in token_batches(target, name, self.token_format):
                account.add(batch)
            return {**account.as_dict(), "file": digest_file(target, name).to_json()}
        with DocumentShard(shard["source"], shard["name"]) as documents, target.writing(name) as scratch:
            write_shard(scratch, self.token_format, account.counting(self._tokenized(documents)))
            with scratch.open("rb", buffering=0) as stream:
                written = hash_stream(stream)
        return {**account.as_dict(), "file": written.to_json()}

    def _tokenized(self, documents: DocumentShard) -> Iterator[pa.RecordBatch]:
        encoder = encoder_of(Folder(self.tokenizer), self.token_format.tokenizer, self.backend)

        def work(batch: pa.RecordBatch) -> pa.RecordBatch:
            return tokenized(batch, encoder, self.token_format)

        return in_order(work, documents.batches(self.batch_documents, self.batch_bytes), self.threads)


def tokenized(documents: pa.RecordBatch, encoder: Encoder, token_format: TokenFormat) -> pa.RecordBatch:
    """Documents (``doc_id``, ``text``, ``num_bytes``) to a batch of contract 2, end-of-text closing every document."""
    ids, offsets = encoder.encode(documents.column("text").to_pylist())
    schema = token_format.schema()
    tokens_type = schema.field("tokens").type
    dtype = np.dtype(tokens_type.value_type.to_pandas_dtype())
    # Joined as bytes: several times faster than writing through a mask of where the documents end.
    data = np.ascontiguousarray(ids, dtype=dtype).data.cast("B")
    ends = (offsets * dtype.itemsize).tolist()
    pieces = [data[start:end] for start, end in pairwise(ends)]
    before, after = token_format.around()
    opening, closing = (np.array(tokens, dtype=dtype).tobytes() for tokens in (before, after))
    closed = b"".join([opening, (closing + opening).join(pieces), closing]) if pieces else b""
    values = pa.Array.from_buffers(tokens_type.value_type, len(closed) // dtype.itemsize, [None, pa.py_buffer(closed)])
    bounds = pa.array(offsets + np.arange(len(offsets)) * (len(before) + len(after)), pa.int64())
    tokens = pa.LargeListArray.from_arrays(bounds, values, type=tokens_type)
    columns = [documents.column("doc_id").cast(pa.string()), tokens, documents.column("num_bytes").cast(pa.int64())]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """``work`` over the items by so many threads, results in the items' order, at most two per thread under way."""
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[R]] = deque()
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


class Account:
    """Counts and digest of a shard, batch by batch; the digest does not depend on where batches end."""

    def __init__(self) -> None:
        self.num_tokens = self.num_documents = self.num_bytes = 0
        self._hashes = [xxhash.xxh3_128() for _ in range(3)]  # of ids, of (length, bytes), of tokens

    def counting(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches as they pass, each one counted."""
        for batch in batches:
            self.add(batch)
            yield batch

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch of contract 2."""
        tokens = batch.column("tokens")
        offsets = tokens.offsets.to_numpy()
        sizes = batch.column("num_bytes").to_numpy()
        values = tokens.values.to_numpy()[offsets[0] : offsets[-1]]
        self.num_tokens += len(values)
        self.num_documents += batch.num_rows
        self.num_bytes += int(sizes.sum())
        ids, lengths, contents = self._hashes
        ids.update("\n".join([*batch.column("doc_id").to_pylist(), ""]).encode())
        lengths.update(np.stack([np.diff(offsets), sizes], axis=1).astype("<i8").data)
        contents.update(values.data)

    def as_dict(self) -> dict[str, Any]:
        """The account as JSON types."""
        digest = xxhash.xxh3_128_hexdigest(b"".join(part.digest() for part in self._hashes))
        counts = {"tokens": self.num_tokens, "documents": self.num_documents, "bytes": self.num_bytes}
        return {**counts, "digest": digest}
