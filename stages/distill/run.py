"""The distill stage: a model writes documents until enough are kept, and they become a dataset like any other.

    actors ──write──▶ staging shards ──decide (in order)──▶ fates ──settle──▶ documents, validation, quarantine, index

Shard ``n`` holds the documents of the same numbers whoever writes it, and what is kept is decided over the shards in
their order; so the result does not depend on the number of actors, nor on which was first. The staging folder
remembers the shards that are written: a run that died goes on with the next.
"""

import math
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
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
from rewarm.stages.distill.settings import DistillSettings
from rewarm.stages.distill.writer import Writing, read_drafts, shard_name, written_in_order

VERSION = 2  # of what distill makes of the same model and settings: part of a step's fingerprint
NAME = "distilled"  # of the dataset, and of the source of its documents
STAGING = ".staging"
PLAN = "plan.json"
EXCERPT = 256  # bytes of a refused document that are kept to look at


@dataclass(frozen=True)
class DistillOutcome:
    """What became of the drafts; each is counted once, as document, quarantined, duplicate or surplus."""

    documents: int  # for training
    num_bytes: int  # of their text in UTF-8
    validation_documents: int
    validation_bytes: int
    quarantined: int
    reasons: dict[str, int]  # quarantined drafts by reason
    duplicates: int  # drafts whose text an earlier draft has
    duplicates_earlier: int  # drafts whose text an earlier dataset has
    surplus: int  # good drafts of the last shard, written after enough were kept
    digest: str  # xxh3-128 over the ids of the documents, then of the validation documents, in order
    shards: int
    kept_tokens: int  # that the model wrote, of training and validation documents
    written_tokens: int  # of all drafts
    unfinished: int  # kept documents that were cut before the model ended them
    perplexity: float  # of what was kept, under the model itself: exp of the mean nats per token
    perplexity_limit: float  # above it drafts were too unlikely


def check_model(model: Path, settings: DistillSettings, seq_len: int) -> None:
    """Refuse, before anything is spent, lengths that the settings or the model do not allow."""
    length = settings.length(seq_len)
    bound = longest_sequence(model)
    if bound is not None and length > bound[0]:
        raise UsageError(f"distill.max_tokens {length} is more than the model's {bound[1]} {bound[0]}")
    if settings.min_tokens > length:
        raise UsageError(f"distill.min_tokens {settings.min_tokens} is more than a document's {length} (max_tokens)")
    if settings.prompts is not None and settings.prompt_tokens + settings.min_tokens > length:
        raise UsageError(
            f"distill.prompt_tokens {settings.prompt_tokens} and min_tokens {settings.min_tokens} do not fit into a "
            f"document of {length} (max_tokens)"
        )


def run(
    model: Folder,
    weights: str,
    tokenizer: Folder,
    prompts: Folder | None,
    out: Folder,
    settings: DistillSettings,
    earlier: list[Folder],
    index: Folder,
    *,
    tokens: int,
    seq_len: int,
    validation_share: float,
    seed: int,
    num_actors: int,
    gpus: bool,
    progress: Progress,
    recorded: Recorded | None = None,
) -> DistillOutcome:
    """Have ``model`` write ``out/{documents,validation,quarantine}/NNNNN.parquet``; Ray must be initialised.

    ``model`` is a Hugging Face folder, ``weights`` its digest, ``tokenizer`` the lineage's: its documents begin and end
    as those that are tokenized do. ``prompts`` are document shards to continue the documents of. At least ``tokens``
    tokens that the model wrote are kept, in whole documents. ``index`` receives the content hashes; ``earlier`` are the
    index folders of earlier datasets, whose documents are dropped here. Each of ``num_actors`` actors takes one CPU,
    and one GPU with ``gpus``. The caller writes the manifest, then calls ``discard_drafts``: until that is there, hours
    of writing hang on the drafts.

    Raises ``UsageError`` where the model or the prompts cannot be used, ``StageError`` where too little of what the
    model writes can be kept, or the actors failed.
    """
    staging = prepare(out, settings, weights, prompts, seq_len, seed)
    chosen = None if prompts is None else Prompts.of(prompts)
    work = Writing(
        model, tokenizer, chosen, staging, settings, settings.length(seq_len), seed, gpus, recorded or Recorded()
    )
    known = [read_index(folder) for folder in earlier]
    drafts, decision, shards = Drafts.none(), None, 0
    progress.begin("distilling", tokens, "tokens")
    with closing(written_in_order(work, num_actors, progress)) as numbers:
        for number in numbers:
            written = read_drafts(staging, number)
            drafts, shards = drafts + written, number + 1
            progress.advance(int(written.tokens[~written.refused].sum()), kept=float((~drafts.refused).mean()))
            decision = decide(drafts, known, settings.drop_unlikely, tokens)
            if decision is not None:
                break
            refuse_rubbish(drafts, shards, staging, settings, tokens)
    assert decision is not None, "shards come until enough is kept, or too many were tried"
    return settle(drafts, decision, shards, staging, out, index, settings, validation_share)


def prepare(
    out: Folder, settings: DistillSettings, weights: str, prompts: Folder | None, seq_len: int, seed: int
) -> Folder:
    """Keep the drafts that a run with the same plan left in ``out``; clear what any other left."""
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
    """32 hex digits over a document shard's ids, in order."""
    column = pq.read_table(folder.local(name), columns=["doc_id"]).column(0)
    return str(xxhash.xxh3_128_hexdigest("".join(column.to_pylist()).encode()))


def discard_drafts(out: Folder) -> None:
    """Delete the staging folder, its plan first: without a plan nothing in it is trusted."""
    (out / STAGING).delete(PLAN)
    (out / STAGING).delete()


def refuse_rubbish(drafts: Drafts, shards: int, staging: Folder, settings: DistillSettings, wanted: int) -> None:
    """Give up where so many tokens were written that it will not become better; empty drafts count, too."""
    spent = int(np.maximum(drafts.tokens, settings.min_tokens).sum())
    if spent < settings.max_tries * wanted:
        return
    reasons = Counter(reason for number in range(shards) for reason in own_reasons(staging, number) if reason)
    listing = ", ".join(f"{count} × {reason}" for reason, count in reasons.most_common()) or "none refused by itself"
    raise StageError(
        f"distill: the model wrote {len(drafts)} documents of {int(drafts.tokens.sum()):,} tokens, and what can be "
        f"kept does not reach the {wanted:,} wanted ({listing}; the rest repeats others, or is among the "
        f"{settings.drop_unlikely:.0%} of highest perplexity). Mend what most of them fail (distill.min_tokens, "
        "distill.max_repetition, distill.prompts), raise distill.max_tries, or give data that stands for what the "
        "model was trained on (--data NAME=PATH)."
    )


def own_reasons(staging: Folder, number: int) -> list[str | None]:
    """Why each draft of a shard was refused by itself."""
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
    """Write what was decided, shard by shard, and the index."""
    kept = np.flatnonzero(decision.fates == KEEP)
    split = split_documents(drafts.hashes[kept], [], validation_share)
    parts = np.full(len(drafts), DROP, np.uint8)
    parts[kept] = split.fates
    limit = f"{math.exp(decision.limit):.2f} is that of the likeliest {1 - settings.drop_unlikely:.0%} of the others"
    reasons = Counter[str]()
    for number in range(shards):
        rows = slice(number * settings.shard_documents, (number + 1) * settings.shard_documents)
        reasons += settle_shard(staging, out, number, decision.fates[rows], parts[rows], limit)
    write_index(index, split.kept)
    train, validation = parts == TRAIN, parts == VALIDATE
    chosen = drafts.tokens[kept] + drafts.ended[kept]  # end-of-text is chosen, too
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
    """Write one shard's documents, validation documents and quarantine; the refused ones by reason."""
    drafts = pq.read_table(staging.local(shard_name(number))).to_pylist()
    for part, name in ((TRAIN, "documents"), (VALIDATE, "validation")):
        chosen = [document_row(drafts[place]) for place in np.flatnonzero(parts == part)]
        write_rows(out / name, number, chosen, DOCUMENT_SCHEMA)
    places = np.flatnonzero((fates == REFUSE) | (fates == UNLIKELY))
    refused = [quarantine_row(drafts[place], f"shard {number}, draft {place}", limit) for place in places]
    write_rows(out / "quarantine", number, refused, QUARANTINE_SCHEMA)
    return Counter(row["reason"] for row in refused)


def write_rows(folder: Folder, number: int, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """One shard of the rows, if there are any."""
    if rows:
        with folder.writing(shard_name(number)) as scratch, shard_writer(scratch, schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def document_row(draft: dict[str, Any]) -> dict[str, Any]:
    """A row of contract 1."""
    known = {name: draft[name] for name in ("doc_id", "text", "num_bytes")}
    return {**dict.fromkeys(DOCUMENT_SCHEMA.names), **known, "source": NAME}


def quarantine_row(draft: dict[str, Any], location: str, limit: str) -> dict[str, Any]:
    """A row of the quarantine: refused by itself, or among the least likely of the others."""
    return {
        "file": NAME,
        "location": location,
        "step": NAME,
        "value": None,
        "reason": draft["reason"] or str(Reason.TOO_UNLIKELY),
        "detail": draft["detail"] or f"{math.exp(min(draft['nats'], LARGEST)):.2f}; {limit}",
        "excerpt": draft["text"].encode()[:EXCERPT],
    }
