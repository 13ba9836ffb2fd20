"""The distill stage: a model generates documents until enough are kept, and they become a normal dataset.

    actors ──write──▶ staging shards ──decide (in order)──▶ fates ──settle──▶ documents, validation, quarantine, index

Shard ``n`` always holds the same documents, whichever actor writes it, and the decision goes over the shards in order,
so the result does not depend on the number or timing of actors. Written shards stay in the staging folder, so an
interrupted run resumes with the next one.
"""

import math
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from rewarm.stages.core.copies import Recorded
from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, QUARANTINE_SCHEMA, shard_writer
from rewarm.stages.data.model_folder import longest_sequence
from rewarm.stages.data.split import DROP, TRAIN, VALIDATE, content_digest, read_index, split_documents, write_index
from rewarm.stages.distill.filters import (
    DUPLICATE,
    KEEP,
    KNOWN,
    LARGEST,
    REFUSE,
    SURPLUS,
    UNLIKELY,
    Decision,
    Drafts,
    Reason,
    decide,
)
from rewarm.stages.distill.prompts import Prompts
from rewarm.stages.distill.settings import NAME, DistillOutcome, DistillSettings
from rewarm.stages.distill.writer import Writing, read_drafts, shard_name, written_in_order

VERSION = 3  # of the output for the same model and settings: part of a step's fingerprint
STAGING = ".staging"
PLAN = "plan.json"
EXCERPT = 256  # bytes of a refused document that are kept for inspection


@dataclass(frozen=True)
class Author:
    """The model that writes: its Hugging Face folder and digest, and the lineage's tokenizer.

    Documents begin and end as tokenized ones do. ``recorded`` verifies the machines' copies of a model in a bucket.
    """

    model: Folder
    weights: str
    tokenizer: Folder
    recorded: Recorded = field(default_factory=Recorded)


@dataclass(frozen=True)
class Wanted:
    """The text to write: at least ``tokens`` generated tokens are kept, in whole documents."""

    tokens: int
    seq_len: int
    validation_share: float
    seed: int


@dataclass(frozen=True)
class Duplicates:
    """Index folders: of the ``earlier`` datasets, whose documents are dropped here, and the one to write."""

    earlier: list[Folder]
    index: Folder


@dataclass(frozen=True)
class Actors:
    """The actors that write; each uses one CPU, and one GPU with ``gpus``."""

    count: int
    gpus: bool


def check_model(model: Path, settings: DistillSettings, seq_len: int) -> None:
    """Refuse lengths that the settings or the model do not allow, before any work."""
    length = settings.length(seq_len)
    bound = longest_sequence(model)
    if bound is not None and length > bound[0]:
        raise UsageError(f"distill.max_tokens {length} is greater than the model's {bound[1]} {bound[0]}")
    if settings.min_tokens > length:
        raise UsageError(f"distill.min_tokens {settings.min_tokens} is greater than a document's {length} (max_tokens)")
    if settings.prompts is not None and settings.prompt_tokens + settings.min_tokens > length:
        raise UsageError(
            f"distill.prompt_tokens {settings.prompt_tokens} and min_tokens {settings.min_tokens} do not fit in a "
            f"document of {length} (max_tokens)"
        )


def run(
    author: Author,
    prompts: Folder | None,
    duplicates: Duplicates,
    out: Folder,
    settings: DistillSettings,
    wanted: Wanted,
    actors: Actors,
    progress: Progress,
) -> DistillOutcome:
    """Generate documents into ``out/{documents,validation,quarantine}/NNNNN.parquet``.

    Ray must be initialised. ``prompts`` are document shards whose documents are continued. The caller writes the
    manifest, then calls ``discard_drafts``: until the manifest exists, the drafts are the only record of hours of
    generation.

    Raises ``UsageError`` if the model or the prompts cannot be used, ``StageError`` if too little of the generated text
    can be kept, or the actors failed.
    """
    staging = prepare(out, settings, author.weights, prompts, wanted.seq_len, wanted.seed)
    length, chosen = settings.length(wanted.seq_len), None if prompts is None else Prompts.of(prompts)
    work = Writing(
        author.model, author.tokenizer, chosen, staging, settings, length, wanted.seed, actors.gpus, author.recorded
    )
    known = [read_index(folder) for folder in duplicates.earlier]
    drafts, decision, shards = Drafts.none(), None, 0
    progress.begin("distilling", wanted.tokens, "tokens")
    with closing(written_in_order(work, actors.count, progress)) as numbers:
        for number in numbers:
            written = read_drafts(staging, number)
            drafts, shards = drafts + written, number + 1
            progress.advance(int(written.tokens[~written.refused].sum()), kept=float((~drafts.refused).mean()))
            decision = decide(drafts, known, settings.drop_unlikely, wanted.tokens)
            if decision is not None:
                break
            refuse_rubbish(drafts, shards, staging, settings, wanted.tokens)
    assert decision is not None, "shards are written until enough is kept, or too many were tried"
    return settle(drafts, decision, shards, staging, out, duplicates.index, settings, wanted.validation_share)


def prepare(
    out: Folder, settings: DistillSettings, weights: str, prompts: Folder | None, seq_len: int, seed: int
) -> Folder:
    """Keep the drafts of an earlier run with the same plan in ``out``; delete those of any other plan."""
    given = None if prompts is None else [[name, digest_file(prompts, name)] for name in prompts.files(".parquet")]
    plan = xxhash.xxh3_128_hexdigest(
        orjson.dumps([VERSION, settings.identity(), weights, given, settings.length(seq_len), seed])
    )
    staging = out / STAGING
    if not staging.exists(PLAN) or staging.read_json(PLAN) != plan:
        discard_drafts(out)
        for name in ("documents", "validation", "quarantine"):
            out.delete(name)
        staging.write_json(PLAN, plan)
    return staging


def digest_file(folder: Folder, name: str) -> str:
    """Return 32 hex digits over a document shard's ids, in order."""
    column = pq.read_table(folder.local(name), columns=["doc_id"]).column(0)
    return str(xxhash.xxh3_128_hexdigest("".join(column.to_pylist()).encode()))


def discard_drafts(out: Folder) -> None:
    """Delete the staging folder, its plan first: without a plan its contents are not used."""
    (out / STAGING).delete(PLAN)
    (out / STAGING).delete()


def refuse_rubbish(drafts: Drafts, shards: int, staging: Folder, settings: DistillSettings, wanted: int) -> None:
    """Raise ``StageError`` once ``max_tries`` times the wanted tokens were generated; empty drafts count too."""
    spent = int(np.maximum(drafts.tokens, settings.min_tokens).sum())
    if spent < settings.max_tries * wanted:
        return
    reasons = Counter(reason for number in range(shards) for reason in own_reasons(staging, number) if reason)
    listing = ", ".join(f"{count} × {reason}" for reason, count in reasons.most_common()) or "none refused individually"
    raise StageError(
        f"distill: the model generated {len(drafts)} documents of {int(drafts.tokens.sum()):,} tokens, but fewer than "
        f"the {wanted:,} wanted tokens can be kept ({listing}; the rest are duplicates, or among the "
        f"{settings.drop_unlikely:.0%} of highest perplexity). Adjust the limit that most of them fail "
        "(distill.min_tokens, distill.max_repetition, distill.prompts), raise distill.max_tries, or provide data that "
        "is representative of the model's training data (--data NAME=PATH)."
    )


def own_reasons(staging: Folder, number: int) -> list[str | None]:
    """Return the reason why each draft of a shard was refused individually, or None."""
    reasons: list[str | None] = pq.read_table(staging.local(shard_name(number)), columns=["reason"])[0].to_pylist()
    return reasons


# -- settle ------------------------------------------------------------------------------------------------------


def settle(
    drafts: Drafts,
    decision: Decision,
    shards: int,
    staging: Folder,
    out: Folder,
    index: Folder,
    settings: DistillSettings,
    validation_share: float,
) -> DistillOutcome:
    """Write the decision's documents and quarantine, shard by shard, and the index."""
    kept = np.flatnonzero(decision.fates == KEEP)
    split = split_documents(drafts.hashes[kept], [], validation_share)
    parts = np.full(len(drafts), DROP, np.uint8)
    parts[kept] = split.fates
    limit = (
        f"{math.exp(decision.limit):.2f} is the limit of the likeliest {1 - settings.drop_unlikely:.0%} of the others"
    )
    reasons = Counter[str]()
    for number in range(shards):
        rows = slice(number * settings.shard_documents, (number + 1) * settings.shard_documents)
        reasons += settle_shard(staging, out, number, decision.fates[rows], parts[rows], limit)
    write_index(index, np.unique(np.concatenate([drafts.hashes[kept], drafts.folded[kept]])), folded=True)
    train, validation = parts == TRAIN, parts == VALIDATE
    chosen = drafts.tokens[kept] + drafts.ended[kept]  # end-of-text is sampled, too
    return DistillOutcome(
        documents=int(train.sum()),
        num_bytes=int(drafts.num_bytes[train].sum()),
        validation_documents=int(validation.sum()),
        validation_bytes=int(drafts.num_bytes[validation].sum()),
        quarantined=reasons.total(),
        reasons=dict(sorted(reasons.items())),
        duplicates=int((decision.fates == DUPLICATE).sum()),
        duplicates_earlier=int((decision.fates == KNOWN).sum()),
        surplus=int((decision.fates == SURPLUS).sum()),
        digest=content_digest(drafts.hashes, parts),
        shards=shards,
        kept_tokens=int(drafts.tokens[kept].sum()),
        written_tokens=int(drafts.tokens.sum()),
        unfinished=int((~drafts.ended[kept]).sum()),
        perplexity=math.exp(float((drafts.nats[kept] * chosen).sum() / chosen.sum())),
        perplexity_limit=math.exp(decision.limit),
    )


def settle_shard(
    staging: Folder,
    out: Folder,
    number: int,
    fates: npt.NDArray[np.uint8],
    parts: npt.NDArray[np.uint8],
    limit: str,
) -> Counter[str]:
    """Write one shard's documents, validation documents and quarantine; return the refused counts by reason."""
    drafts = pq.read_table(staging.local(shard_name(number))).to_pylist()
    for part, name in ((TRAIN, "documents"), (VALIDATE, "validation")):
        chosen = [document_row(drafts[place]) for place in np.flatnonzero(parts == part)]
        write_rows(out / name, number, chosen, DOCUMENT_SCHEMA)
    places = np.flatnonzero((fates == REFUSE) | (fates == UNLIKELY))
    refused = [quarantine_row(drafts[place], f"shard {number}, draft {place}", limit) for place in places]
    write_rows(out / "quarantine", number, refused, QUARANTINE_SCHEMA)
    return Counter(row["reason"] for row in refused)


def write_rows(folder: Folder, number: int, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Write one shard of rows, if there are any."""
    if rows:
        with folder.writing(shard_name(number)) as scratch, shard_writer(scratch, schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def document_row(draft: dict[str, Any]) -> dict[str, Any]:
    """Return a row of contract 1."""
    known = {name: draft[name] for name in ("doc_id", "text", "num_bytes")}
    return {**dict.fromkeys(DOCUMENT_SCHEMA.names), **known, "source": NAME}


def quarantine_row(draft: dict[str, Any], location: str, limit: str) -> dict[str, Any]:
    """Return a row of the quarantine: refused individually, or among the least likely of the others."""
    return {
        "file": NAME,
        "location": location,
        "step": NAME,
        "value": None,
        "reason": draft["reason"] or str(Reason.TOO_UNLIKELY),
        "detail": draft["detail"] or f"{math.exp(min(draft['nats'], LARGEST)):.2f}; {limit}",
        "excerpt": draft["text"].encode()[:EXCERPT],
    }
