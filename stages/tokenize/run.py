"""The tokenize stage: document shards (contract 1) to token shards (contract 2), one to one, as one Ray Data job."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import xxhash

from stages.digests import FileDigest, write_table
from stages.errors import UsageError
from stages.progress import Progress
from stages.room import find_room
from stages.shards import map_shards
from stages.storage import Folder
from stages.tokenize.backends import choose_backend
from stages.tokenize.files import SPLITS, DocumentShard, format_of, shards_of
from stages.tokenize.settings import TokenizeSettings
from stages.tokenize.shard import TokenizeShard
from stages.tokenizer_folder import load_definition

SAMPLED_SHARDS = 16  # the sample for the comparison of backends is spread over so many shards
# The reference takes some forty times as long for a text as the fast encoder, and documents compress to a fourth: at
# one character for every hundred compressed bytes the comparison adds about a tenth to the work.
SAMPLED_SHARE = 1 / 100
LEAST_SAMPLED, MOST_SAMPLED = 1 << 20, 8 << 20  # characters


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

    Every document is encoded as the tokenizer itself does (BOS, if it adds one, is kept in the shards' metadata) and
    closed by end-of-text; a special token in a text stays text. A shard already there is kept: it is
    complete, since it appeared in one step. Raises ``UsageError`` for input or output that cannot be right, and
    ``StageError`` for a shard that cannot be read.
    """
    definition = load_definition(tokenizer)
    token_format = format_of(definition)
    shards = [shard for split in SPLITS for shard in shards_of(dataset, out, split)]
    if not any(shard["split"] == "train" for shard in shards):
        raise UsageError(f"{dataset / SPLITS['train']}: no document shards (*.parquet) in it; ingest the dataset first")
    sample = _sample(shards, settings.verify_documents, sampled_characters(shards))
    backend, reason = choose_backend(definition, settings.backend, sample)
    progress.note(f"tokenizing with {backend}: {reason}")
    threads = threads_for(shards, *cluster_cpus())
    work = TokenizeShard(tokenizer.uri, backend, token_format, settings.batch_documents, settings.batch_bytes, threads)
    accounts = map_shards(work, shards, progress, "tokenizing", advance="bytes", num_cpus=threads)
    write_table(out, dict(_file_digest(shard, account) for shard, account in zip(shards, accounts, strict=True)))
    outcome = TokenizeOutcome(0, 0, 0, 0, 0, 0, backend, reason, definition.digest, _total_digest(shards, accounts))
    for shard, account in zip(shards, accounts, strict=True):
        outcome = _added(outcome, shard["split"], account)
    return outcome


def threads_for(shards: list[dict[str, Any]], cpus: float, largest_node: float) -> int:
    """Threads for each shard's task, so that no CPU idles where there are fewer shards (by size) than CPUs."""
    sizes: list[int] = [shard["bytes"] for shard in shards]
    fair = math.floor(cpus * max(sizes) / max(1, sum(sizes)) + 0.5)
    return max(1, min(fair, math.floor(largest_node)))


def cluster_cpus() -> tuple[float, float]:
    """CPUs of the Ray cluster that can be had, and of its largest node, beyond which no task can ask."""
    cpus = find_room().cpus
    return sum(cpus), max(cpus, default=0.0)


def sampled_characters(shards: list[dict[str, Any]]) -> int:
    """How much text is worth a comparison of the backends, given how much is to be tokenized."""
    wanted = int(SAMPLED_SHARE * sum(shard["bytes"] for shard in shards))
    return min(MOST_SAMPLED, max(LEAST_SAMPLED, wanted))


def _sample(shards: list[dict[str, Any]], num_documents: int, characters: int) -> list[str]:
    """Texts to compare the backends on: the first ones of shards spread over the data, within ``characters``."""
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
    """A shard's path and digest; its counts say, without the shard, which part of the split's stream it holds."""
    counts = {name: account[name] for name in ("tokens", "documents")}
    return f"{shard['split']}/{shard['name']}.arrow", FileDigest(**account["file"], counts=counts)


def _total_digest(shards: list[dict[str, Any]], accounts: list[dict[str, Any]]) -> str:
    lines = [
        f"{shard['split']}/{shard['name']} {account['digest']}\n"
        for shard, account in zip(shards, accounts, strict=True)
    ]
    return str(xxhash.xxh3_128_hexdigest("".join(lines).encode()))
