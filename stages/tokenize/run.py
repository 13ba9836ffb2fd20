"""The tokenize stage: document shards (contract 1) to token shards (contract 2), one to one, as one Ray Data job."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from stages.errors import StageError, UsageError
from stages.progress import Progress
from stages.shards import map_shards
from stages.storage import Folder
from stages.tokenize.backends import Encoder, choose_backend, encoder_of
from stages.tokenize.settings import TokenizeSettings
from stages.tokenize.tokenizer import load_definition
from stages.tokens import TokenFormat, write_shard

COLUMNS = ["doc_id", "text", "num_bytes"]
SPLITS = {"train": "documents", "validation": "validation"}  # token folder: document folder
SAMPLED_SHARDS = 16  # the sample for the comparison of backends is spread over so many shards
SAMPLED_CHARACTERS = 8 << 20  # some seconds of the reference's work


@dataclass(frozen=True)
class TokenizeOutcome:
    """What came out. ``num_bytes`` is of the text in UTF-8, ``num_tokens`` counts the end-of-text tokens too."""

    num_tokens: int
    num_documents: int
    num_bytes: int
    validation_tokens: int
    validation_documents: int
    validation_bytes: int
    backend: str
    backend_reason: str
    tokenizer: str  # digest of the tokenizer
    digest: str  # of the contents of all shards, in order: whatever the workers, the batches or the backend


def run(
    dataset: Folder, tokenizer: Folder, out: Folder, settings: TokenizeSettings, progress: Progress
) -> TokenizeOutcome:
    """Write ``out/train`` and ``out/validation`` from ``dataset/documents`` and ``dataset/validation``.

    Every document is closed by end-of-text; a special token in a text stays text. A shard already there is kept: it is
    complete, since it appeared in one step. Raises ``UsageError`` for input or output that cannot be right, and
    ``StageError`` for a shard that cannot be read.
    """
    definition = load_definition(tokenizer)
    token_format = TokenFormat(definition.digest, definition.end_of_text_id, definition.dtype)
    shards = [shard for split in SPLITS for shard in _shards_of(dataset, out, split)]
    if not any(shard["split"] == "train" for shard in shards):
        raise UsageError(f"{dataset / SPLITS['train']}: no document shards (*.parquet) in it; ingest the dataset first")
    sample = _sample(shards, settings.verify_documents)
    backend, reason = choose_backend(definition, settings.backend, sample)
    progress.note(f"tokenizing with {backend}: {reason}")
    work = TokenizeShard(tokenizer.uri, backend, token_format, settings.batch_documents)
    accounts = map_shards(work, shards, progress, "tokenizing", advance="bytes")
    outcome = TokenizeOutcome(0, 0, 0, 0, 0, 0, backend, reason, definition.digest, _total_digest(shards, accounts))
    for shard, account in zip(shards, accounts, strict=True):
        outcome = _added(outcome, shard["split"], account)
    return outcome


@dataclass(frozen=True)
class TokenizeShard:
    """The work on one shard, as it travels to Ray: everything but the tokenizer, which each process loads once."""

    tokenizer: str  # folder
    backend: str
    token_format: TokenFormat
    batch_documents: int

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Tokenize the shard ``{source, target, name, …}`` unless it is there; returns its account."""
        target, name = Folder(shard["target"]), f"{shard['name']}.arrow"
        account = Account()
        if target.exists(name):
            for batch in _written(target, name, self.token_format):
                account.add(batch)
            return account.as_dict()
        encoder = encoder_of(Folder(self.tokenizer), self.token_format.tokenizer, self.backend)
        schema = self.token_format.schema()

        def batches() -> Iterator[pa.RecordBatch]:
            for documents in _documents(shard, self.batch_documents):
                batch = tokenized(documents, encoder, self.token_format.end_of_text, schema)
                account.add(batch)
                yield batch

        with target.writing(name) as scratch:
            write_shard(scratch, self.token_format, batches())
        return account.as_dict()


def tokenized(documents: pa.RecordBatch, encoder: Encoder, end_of_text: int, schema: pa.Schema) -> pa.RecordBatch:
    """Documents (``doc_id``, ``text``, ``num_bytes``) to a batch of contract 2, end-of-text closing every document."""
    ids, offsets = encoder.encode(documents.column("text").to_pylist())
    closed = offsets + np.arange(len(offsets))  # each document grows by one token
    values_type = schema.field("tokens").type
    values = np.empty(closed[-1], dtype=values_type.value_type.to_pandas_dtype())
    ends = closed[1:] - 1
    inside = np.ones(len(values), dtype=bool)
    inside[ends] = False
    values[inside] = ids
    values[ends] = end_of_text
    tokens = pa.LargeListArray.from_arrays(pa.array(closed, pa.int64()), pa.array(values), type=values_type)
    columns = [documents.column("doc_id").cast(pa.string()), tokens, documents.column("num_bytes").cast(pa.int64())]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class Account:
    """Counts and digest of a shard, batch by batch; the digest does not depend on where batches end."""

    def __init__(self) -> None:
        self.num_tokens = self.num_documents = self.num_bytes = 0
        self._hashes = [xxhash.xxh3_128() for _ in range(3)]  # of ids, of (length, bytes), of tokens

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
        ids.update("".join(f"{doc_id}\n" for doc_id in batch.column("doc_id").to_pylist()).encode())
        lengths.update(np.stack([np.diff(offsets), sizes], axis=1).astype("<i8").tobytes())
        contents.update(values.tobytes())

    def as_dict(self) -> dict[str, Any]:
        """The account as JSON types."""
        digest = xxhash.xxh3_128_hexdigest(b"".join(part.digest() for part in self._hashes))
        counts = {"tokens": self.num_tokens, "documents": self.num_documents, "bytes": self.num_bytes}
        return {**counts, "digest": digest}


def _shards_of(dataset: Folder, out: Folder, split: str) -> list[dict[str, Any]]:
    """Records of one split's shards, in order; ``UsageError`` where ``out`` holds shards of something else."""
    source, target = dataset / SPLITS[split], out / split
    names = [name.removesuffix(".parquet") for name in source.files(".parquet")]
    strangers = sorted({name.removesuffix(".arrow") for name in target.files(".arrow")} - set(names))
    if strangers:
        raise UsageError(
            f"{target}/{strangers[0]}.arrow: no shard of that name in {source}; choose an empty folder for the tokens"
        )
    if not names:
        return []
    filesystem, path = source.filesystem()
    infos = filesystem.get_file_info([f"{path}/{name}.parquet" for name in names])
    return [
        {"split": split, "source": source.uri, "target": target.uri, "name": name, "bytes": info.size}
        for name, info in zip(names, infos, strict=True)
    ]


def _documents(shard: dict[str, Any], batch_documents: int) -> Iterator[pa.RecordBatch]:
    """The rows of a document shard, ``batch_documents`` at a time, streamed and never copied to the disk."""
    filesystem, path = Folder(shard["source"]).filesystem()
    file = f"{path}/{shard['name']}.parquet"
    try:
        with pq.ParquetFile(file, filesystem=filesystem) as documents:
            missing = set(COLUMNS) - set(documents.schema_arrow.names)
            if missing:
                raise UsageError(
                    f"{file}: not a document shard: no column {', '.join(sorted(missing))}; ingest the dataset again"
                )
            yield from documents.iter_batches(batch_size=batch_documents, columns=COLUMNS)
    except (pa.ArrowException, OSError) as error:
        raise StageError(
            f"{file}: the document shard cannot be read: {error}; check the disk, or ingest the dataset again"
        ) from error


def _written(target: Folder, name: str, expected: TokenFormat) -> Iterator[pa.RecordBatch]:
    """The batches of a token shard that is already there; ``UsageError`` where another tokenizer made it."""
    filesystem, path = target.filesystem()
    file = f"{path}/{name}"
    try:
        with filesystem.open_input_file(file) as source, pa.ipc.open_file(source) as shard:
            found = TokenFormat.of(shard.schema, file)
            if found != expected:
                raise UsageError(
                    f"{file}: made as {found}, but {expected} is asked for; choose an empty folder for the tokens"
                )
            for number in range(shard.num_record_batches):
                yield shard.get_batch(number)
    except (pa.ArrowException, OSError) as error:
        raise StageError(
            f"{file}: the token shard cannot be read: {error}; remove it and run the same again"
        ) from error


def _sample(shards: list[dict[str, Any]], num_documents: int, characters: int = SAMPLED_CHARACTERS) -> list[str]:
    """Texts to compare the backends on: the first ones of shards spread over the data, within ``characters``."""
    chosen = shards[:: -(-len(shards) // SAMPLED_SHARDS)]
    texts: list[str] = []
    size = 0
    for number, shard in enumerate(chosen):
        quota = -(-(num_documents - len(texts)) // (len(chosen) - number))
        if not quota:
            break
        share = characters * (number + 1) // len(chosen)
        batch = next(_documents(shard, quota), None)
        for scalar in batch.column("text") if batch is not None else []:
            if size >= share:
                break
            texts.append(scalar.as_py()[: characters - size])
            size += len(texts[-1])
    return texts


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


def _total_digest(shards: list[dict[str, Any]], accounts: list[dict[str, Any]]) -> str:
    lines = [
        f"{shard['split']}/{shard['name']} {account['digest']}\n"
        for shard, account in zip(shards, accounts, strict=True)
    ]
    return str(xxhash.xxh3_128_hexdigest("".join(lines).encode()))
