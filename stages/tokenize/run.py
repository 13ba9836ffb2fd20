"""The tokenize stage: document shards (contract 1) to token shards (contract 2), one to one, as one Ray Data job.

The task of one shard reads and encodes its documents, appends end-of-text, counts and writes.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import xxhash

from rewarm.stages.core.digests import FileDigest, digest_file, hash_stream, write_table
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.ray_data import map_shards
from rewarm.stages.core.resources import find_room
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import Definition, load_definition
from rewarm.stages.data.tokens import TokenFormat, write_shard
from rewarm.stages.tokenize.backends import Encoder, Reference, choose_backend, encoder_of
from rewarm.stages.tokenize.files import SPLITS, DocumentShard, format_of, shards_of, token_batches
from rewarm.stages.tokenize.settings import TokenizeOutcome, TokenizeSettings

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class TokenizeShard:
    """Ray task of one shard: everything except the tokenizer, which each process loads once."""

    tokenizer: str  # folder
    backend: str
    token_format: TokenFormat
    batch_documents: int
    batch_bytes: int
    threads: int = 1  # as many as the CPUs that its task requests

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Tokenize the shard ``{source, target, name, …}`` unless it exists; return its counts and file digest."""
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
    """Convert documents (``doc_id``, ``text``, ``num_bytes``) to a batch of contract 2, each ended by end-of-text."""
    ids, offsets = encoder.encode(documents.column("text").to_pylist())
    schema = token_format.schema()
    tokens_type = schema.field("tokens").type
    dtype = np.dtype(tokens_type.value_type.to_pandas_dtype())
    # Joined as bytes: several times faster than writing through a mask of document ends.
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
    """Map ``work`` over items with ``threads`` threads, results in order, at most two items per thread in flight."""
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
    """Counts and digest of a shard, updated by batch; the digest does not depend on batch boundaries."""

    def __init__(self) -> None:
        self.num_tokens = self.num_documents = self.num_bytes = 0
        self._hashes = [xxhash.xxh3_128() for _ in range(3)]  # of ids, of (length, bytes), of tokens

    def counting(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the batches and count each."""
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
        """Return counts and digest as JSON types."""
        digest = xxhash.xxh3_128_hexdigest(b"".join(part.digest() for part in self._hashes))
        counts = {"tokens": self.num_tokens, "documents": self.num_documents, "bytes": self.num_bytes}
        return {**counts, "digest": digest}


SAMPLED_SHARDS = 16  # shards from which the sample for the comparison of backends is drawn
# The reference is about forty times slower than the fast encoder, and documents compress to a quarter: at one character
# per hundred compressed bytes the comparison adds about a tenth to the run time.
SAMPLED_SHARE = 1 / 100
LEAST_SAMPLED, MOST_SAMPLED = 1 << 20, 8 << 20  # characters
FEW_CHARACTERS = 1 << 18  # of the sample, encoded to find unknown tokens


def run(
    dataset: Folder, tokenizer: Folder, out: Folder, settings: TokenizeSettings, progress: Progress
) -> TokenizeOutcome:
    """Write ``out/train`` and ``out/validation`` from ``dataset/documents`` and ``dataset/validation``.

    Every document is encoded as by the tokenizer itself (BOS, if it adds one, is recorded in the shards' metadata) and
    ended by end-of-text; a special token in a text stays text. An existing shard is kept: it is complete, because
    shards are written atomically. Raises ``UsageError`` for invalid input or output folders, and ``StageError`` for a
    shard that cannot be read.
    """
    definition = load_definition(tokenizer)
    token_format = format_of(definition)
    shards = [shard for split in SPLITS for shard in shards_of(dataset, out, split)]
    if not any(shard["split"] == "train" for shard in shards):
        raise UsageError(
            f"{dataset / SPLITS['train']}: contains no document shards (*.parquet); ingest the dataset first"
        )
    sample = _sample(shards, settings.verify_documents, sampled_characters(shards))
    backend, reason = choose_backend(definition, settings.backend, sample)
    progress.note(f"tokenizing with {backend}: {reason}")
    if remark := on_unknown(definition, sample):
        progress.note(remark)
    threads = threads_for(shards, *cluster_cpus())
    work = TokenizeShard(tokenizer.uri, backend, token_format, settings.batch_documents, settings.batch_bytes, threads)
    accounts = map_shards(work, shards, progress, "tokenizing", advance="bytes", num_cpus=threads)
    write_table(out, dict(_file_digest(shard, account) for shard, account in zip(shards, accounts, strict=True)))
    outcome = TokenizeOutcome(0, 0, 0, 0, 0, 0, backend, reason, definition.digest, _total_digest(shards, accounts))
    for shard, account in zip(shards, accounts, strict=True):
        outcome = _added(outcome, shard["split"], account)
    return outcome


def on_unknown(definition: Definition, sample: list[str]) -> str | None:
    """Report the share of a sample that becomes the unknown token; None if there is none, as with byte-level models."""
    unknown = definition.unknown_id
    if unknown is None:
        return None
    ends = np.cumsum([len(text) for text in sample])
    sample = sample[: 1 + int(np.searchsorted(ends, FEW_CHARACTERS))]
    ids, offsets = Reference(definition).encode(sample)
    found = ids == unknown
    if not found.any():
        return None
    texts = sum(bool(found[start:stop].any()) for start, stop in pairwise(offsets.tolist()))
    return (
        f"the tokenizer cannot represent all of the text: in {texts} of {len(sample)} sampled documents "
        f"{int(found.sum())} of {len(ids)} tokens ({found.mean():.1%}) are the unknown token, and are trained as such"
    )


def threads_for(shards: list[dict[str, Any]], cpus: float, largest_node: float) -> int:
    """Return the threads of each shard's task, so that no CPU idles if there are fewer shards (by size) than CPUs."""
    sizes: list[int] = [shard["bytes"] for shard in shards]
    fair = math.floor(cpus * max(sizes) / max(1, sum(sizes)) + 0.5)
    return max(1, min(fair, math.floor(largest_node)))


def cluster_cpus() -> tuple[float, float]:
    """Return the available CPUs of the Ray cluster, and those of its largest node, the limit of one task."""
    cpus = find_room().cpus
    return sum(cpus), max(cpus, default=0.0)


def sampled_characters(shards: list[dict[str, Any]]) -> int:
    """Return the number of characters to compare the backends on, in proportion to the data."""
    wanted = int(SAMPLED_SHARE * sum(shard["bytes"] for shard in shards))
    return min(MOST_SAMPLED, max(LEAST_SAMPLED, wanted))


def _sample(shards: list[dict[str, Any]], num_documents: int, characters: int) -> list[str]:
    """Return texts to compare the backends on: the first of shards spread over the data, within ``characters``."""
    chosen = shards[:: -(-len(shards) // SAMPLED_SHARDS)]
    texts: list[str] = []
    size = 0
    for number, shard in enumerate(chosen):
        quota = -(-(num_documents - len(texts)) // (len(chosen) - number))
        if not quota:
            break
        share = characters * (number + 1) // len(chosen)
        for text in _first_texts(shard, quota):
            if size >= share:
                break
            texts.append(text[: characters - size])
            size += len(texts[-1])
    return texts


def _first_texts(shard: dict[str, Any], count: int) -> Iterator[str]:
    with DocumentShard(shard["source"], shard["name"]) as documents:
        for batch in documents.batches(rows=64, size=LEAST_SAMPLED):
            for scalar in batch.column("text").slice(0, count):
                yield scalar.as_py()
            count -= min(count, batch.num_rows)
            if not count:
                return


def _added(outcome: TokenizeOutcome, split: str, account: dict[str, Any]) -> TokenizeOutcome:
    if split == "train":
        return replace(
            outcome,
            num_tokens=outcome.num_tokens + account["tokens"],
            num_documents=outcome.num_documents + account["documents"],
            num_bytes=outcome.num_bytes + account["bytes"],
        )
    return replace(
        outcome,
        validation_tokens=outcome.validation_tokens + account["tokens"],
        validation_documents=outcome.validation_documents + account["documents"],
        validation_bytes=outcome.validation_bytes + account["bytes"],
    )


def _file_digest(shard: dict[str, Any], account: dict[str, Any]) -> tuple[str, FileDigest]:
    """Return a shard's path and digest, with the counts that locate its tokens in the split's stream."""
    counts = {name: account[name] for name in ("tokens", "documents")}
    return f"{shard['split']}/{shard['name']}.arrow", FileDigest(**account["file"], counts=counts)


def _total_digest(shards: list[dict[str, Any]], accounts: list[dict[str, Any]]) -> str:
    lines = [
        f"{shard['split']}/{shard['name']} {account['digest']}\n"
        for shard, account in zip(shards, accounts, strict=True)
    ]
    return str(xxhash.xxh3_128_hexdigest("".join(lines).encode()))
