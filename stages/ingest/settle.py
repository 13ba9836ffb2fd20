"""Pass 3 of ingest: writes staged documents as validation or training documents, according to their fates.

Validation is written first, because passages that training text shares with it are cut.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, QUARANTINE_SCHEMA, document_id
from rewarm.stages.data.split import DROP, TRAIN, VALIDATE, Hashes, digest_parts
from rewarm.stages.ingest.account import Account
from rewarm.stages.ingest.decontaminate import DecontaminateSettings, Guards
from rewarm.stages.ingest.decontaminate.grams import words_of
from rewarm.stages.ingest.decontaminate.overlaps import Guarded, cut_matches, opened
from rewarm.stages.ingest.decontaminate.passages import cut_text, plan_cuts
from rewarm.stages.ingest.decontaminate.rule import Rule, Shared
from rewarm.stages.ingest.dedup.columns import WIDE, read_columns, write_columns
from rewarm.stages.ingest.dedup.decide import Fate
from rewarm.stages.ingest.dedup.index import read_fates
from rewarm.stages.ingest.dedup.staged import Staged
from rewarm.stages.ingest.passes import ShardSink, add_rows, staged_rows
from rewarm.stages.ingest.records import EXCERPT

OVERLAP = "overlaps with"
CUT = "passage cut for"
CONTAMINATED = "decontaminate"
RENAMED = pa.schema(  # documents that lost a passage: their rows and new ids
    [pa.field("row", pa.int64(), nullable=False), pa.field("id", WIDE, nullable=False)]
)


@dataclass(frozen=True)
class Decontamination:
    """Inputs of decontamination: the guards, the rule, and the settings for cutting passages."""

    guarded: Sequence[Guarded]
    counts: str  # digest of the arrival's table of counts
    rule: Rule
    settings: DecontaminateSettings


def settle_validation(shard: dict[str, Any], out: Folder, staging: Folder) -> dict[str, Any]:
    """Write one shard's validation documents, and count its documents and bytes by fate; the account marks it done."""
    name = f"{shard['number']:05d}"
    if staging.exists(f"{name}.validation.json"):
        done: dict[str, Any] = staging.read_json(f"{name}.validation.json")
        return done
    documents, num_bytes = np.zeros(len(Fate), np.int64), np.zeros(len(Fate), np.int64)
    with ShardSink(out / "validation", f"{name}.parquet", DOCUMENT_SCHEMA) as validation:
        for batch, fates in staged_rows(staging, name):
            documents += np.bincount(fates, minlength=len(Fate))
            np.add.at(num_bytes, fates, batch["num_bytes"].to_numpy())
            chosen = batch.filter(pa.array(fates == VALIDATE)).select(DOCUMENT_SCHEMA.names)
            validation.add(chosen.cast(DOCUMENT_SCHEMA))
    account = {"documents": documents.tolist(), "bytes": num_bytes.tolist()}
    staging.write_json(f"{name}.validation.json", account)
    return account


def settle_training(
    shard: dict[str, Any], out: Folder, staging: Folder, decontamination: Decontamination | None
) -> dict[str, Any]:
    """Write one shard's training documents without passages of guarded text; the account marks it done.

    The resulting fates are written to ``NAME.settled``, next to those decided in pass 2; the new ids of documents that
    lost a passage to ``NAME.renamed``.
    """
    name = f"{shard['number']:05d}"
    if staging.exists(f"{name}.settled.json"):
        done: dict[str, Any] = staging.read_json(f"{name}.settled.json")
        return done
    account, touched, removed, cut = Account.of([]), Counter[str](), Counter[str](), Counter[str]()
    counts = Counter(dict.fromkeys(("entered", "entered_bytes", "documents", "bytes", "cut", "cuts", "cut_bytes"), 0))
    settled, renamed = [np.empty(0, np.uint8)], dict[int, str]()
    matches = cut_matches(name, staging, decontamination.counts, decontamination.rule) if decontamination else None
    guards = opened(decontamination.guarded) if decontamination and matches and len(matches.row) else None
    first = 0
    with (
        ShardSink(out / "documents", f"{name}.parquet", DOCUMENT_SCHEMA, always=True) as documents,
        ShardSink(out / "quarantine", f"{name}-overlap.parquet", QUARANTINE_SCHEMA) as quarantine,
    ):
        for batch, decided in staged_rows(staging, name):
            fates, rows = decided.copy(), list[dict[str, Any]]()
            sizes = batch["num_bytes"].to_numpy()
            counts.update(entered=int((fates == TRAIN).sum()), entered_bytes=int(sizes[fates == TRAIN].sum()))
            changed: dict[int, dict[str, Any]] = {}
            if decontamination is not None and matches is not None and guards is not None:
                for row, shared in matches.rows(first, first + len(fates)):
                    (document,) = batch.slice(row - first, 1).to_pylist()
                    kept, note = cut_document(document, shared, guards, decontamination)
                    if note is None:
                        continue
                    touched.update(note.guards)
                    rows.append(note.row)
                    counts.update(cut=kept is not None, cuts=note.cuts, cut_bytes=note.num_bytes)
                    if kept is None:
                        fates[row - first] = DROP
                        removed[note.row["reason"]] += 1
                    else:
                        changed[row - first] = kept
                        cut[note.row["reason"]] += 1
                        renamed[row] = kept["doc_id"]
            add_rows(quarantine, rows)
            kept_rows = with_changes(batch.select(DOCUMENT_SCHEMA.names), changed).filter(pa.array(fates == TRAIN))
            written = kept_rows.cast(DOCUMENT_SCHEMA)
            counts.update(documents=written.num_rows, bytes=int(written["num_bytes"].to_numpy().sum()))
            account.describe(described(written))
            documents.add(written)
            settled.append(fates)
            first += len(fates)
    staging.write(f"{name}.settled", np.concatenate(settled).tobytes())
    ids = np.frombuffer(bytes.fromhex("".join(renamed.values())), "S16")
    write_columns(staging, f"{name}.renamed", RENAMED, [np.array(list(renamed), np.int64), ids])
    made = {
        **counts,
        "removed": dict(removed),
        "cut_for": dict(cut),
        "guards": dict(touched),
        "account": account.to_json(),
    }
    staging.write_json(f"{name}.settled.json", made)
    return made


@dataclass(frozen=True)
class Note:
    """Record of a cut in, or the removal of, a document that overlaps with guarded text."""

    guards: tuple[str, ...]
    cuts: int  # 0 if the whole document was removed
    num_bytes: int  # cut from a document that is kept
    row: dict[str, Any]  # for the quarantine


def cut_document(
    document: dict[str, Any], shared: Shared, guards: Guards, decontamination: Decontamination
) -> tuple[dict[str, Any] | None, Note | None]:
    """Return the kept part of a staged document (None if removed) and the note of the cut (None if unchanged)."""
    rule = decontamination.rule
    cut = rule.cuts(shared)
    plan = plan_cuts(rule.runs(shared), rule.applied(decontamination.settings))
    if plan == []:
        return document, None
    text, runs = document["text"], shared.chosen(cut)
    grams = np.unique(runs.gram)
    names = guards.names_of(guards.holding(grams))
    first = words_of(text)[int(runs.position[0]) :][: int(runs.length[0])]
    such = f"{len(grams)} shared word sequences with {', '.join(names)}, such as: {' '.join(first)}"
    row = {"file": document["file"], "location": document["location"], "step": CONTAMINATED}
    if plan is None:
        row |= {"reason": f"{OVERLAP} {names[0]}", "value": float(len(grams)), "detail": such}
        return None, Note(names, 0, 0, {**row, "excerpt": text.encode()[:EXCERPT]})
    left, shared_text = cut_text(text, plan)
    lost = document["num_bytes"] - len(left.encode())
    row |= {"reason": f"{CUT} {names[0]}", "value": float(lost), "detail": f"{lost} bytes in {len(plan)} cuts: {such}"}
    kept = {**document, "text": left, "doc_id": document_id(left), "num_bytes": len(left.encode())}
    return kept, Note(names, len(plan), lost, {**row, "excerpt": shared_text.encode()[:EXCERPT]})


def with_changes(batch: pa.RecordBatch, changed: dict[int, dict[str, Any]]) -> pa.RecordBatch:
    """Return a batch with changed values in some rows."""
    if not changed:
        return batch
    columns = [
        pa.array(
            [changed[row][name] if row in changed else value for row, value in enumerate(batch[name].to_pylist())],
            batch.schema.field(name).type,
        )
        if name in ("doc_id", "text", "num_bytes")
        else batch[name]
        for name in batch.schema.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def described(batch: pa.RecordBatch) -> Iterator[tuple[str | None, str | None, int, float | None]]:
    """Yield the language, URL, bytes and quality of documents, for the account."""
    columns = (batch[name].to_pylist() for name in ("language", "url", "num_bytes", "quality"))
    yield from zip(*columns, strict=True)


def renamed_ids(staging: Folder, name: str) -> tuple[npt.NDArray[np.int64], Hashes]:
    """Return the rows of a shard that lost a passage, and their new ids."""
    rows, ids = read_columns(staging, f"{name}.renamed", RENAMED)
    return rows, ids


def settled_digest(staging: Folder, names: Sequence[str]) -> str:
    """Return the content digest of the documents as written."""

    def parts() -> Iterator[tuple[Hashes, npt.NDArray[np.uint8]]]:
        for number, name in enumerate(names):
            hashes = Staged(staging, tuple(names), ()).hashes(number).copy()
            rows, ids = renamed_ids(staging, name)
            hashes[rows] = ids
            yield hashes, read_fates(staging, name)

    return digest_parts(parts)
