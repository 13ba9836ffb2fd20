"""The verification of a dataset: every text against its id, every id and token against the manifests' digests."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import xxhash
from pydantic import TypeAdapter

from rewarm.pipeline.lineage.verify.findings import Findings
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import DatasetPart, UpdateRecord
from rewarm.stages import ingest
from rewarm.stages.core.digests import fingerprint
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.shapes import Manifest, read_as, stage_manifest
from rewarm.stages.core.storage import MANIFEST, Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.data.split import TRAIN, VALIDATE, Hashes, contains, digest_parts, read_index
from rewarm.stages.data.tokenizer import Definition
from rewarm.stages.ingest.account import AccountRecord
from rewarm.stages.tokenize.files import SPLITS, format_of, token_batches
from rewarm.stages.tokenize.run import Account

RESTORE = "restore the file from a copy of the workspace"
ROWS = 256
ACCOUNTS = TypeAdapter(AccountRecord)


@dataclass
class Split:
    """The contents of one split's document shards."""

    names: list[str] = field(default_factory=list)  # names of the shards
    ids: Hashes = field(default_factory=lambda: np.empty(0, "S16"))
    num_bytes: int = 0
    whole: bool = True  # whether every shard could be read


def checked_manifest(folder: Folder, findings: Findings, remedy: str = RESTORE) -> Manifest | None:
    """Return a folder's manifest after checking its fingerprint; None if there is none or it cannot be read."""
    name = findings.name(folder, MANIFEST)
    if not folder.committed():
        findings.add(name, "the manifest of a finished stage", "no such file", remedy)
        return None
    manifest: Manifest | None = None
    with findings.reading(name, "a manifest as a stage writes it", remedy):
        manifest = stage_manifest(folder)
        findings.checked["manifests"] += 1
        findings.compare(name, "fingerprint", fingerprint(manifest["identity"]), manifest["fingerprint"], remedy)
    return manifest


class DatasetCheck:
    """The check of one dataset; keeps its ids and the datasets it was deduplicated against for later checks.

    Texts are verified by their ids, ids by the manifest's digest. Other columns (address, language, time …) are only
    read here: the digests of the shards' files cover them (``check_files``), except in datasets of earlier versions.
    """

    def __init__(self, workspace: Workspace, name: str, findings: Findings) -> None:
        self.name, self.folder, self.index = name, workspace.dataset(name), workspace.dedup(name)
        self.findings = findings
        self.splits = {part: Split() for part in SPLITS.values()}
        self.earlier: list[str] = []

    def run(self, update: UpdateRecord, definition: Definition | None, progress: Progress) -> None:
        """Check everything; ``update`` is the update in which the dataset was new."""
        if not self.folder.exists():
            self.findings.add(
                self.findings.name(self.folder), f"the dataset of update {update.id}", "no such folder", RESTORE
            )
            return
        progress.begin(f"verifying dataset {self.name}", self.folder.size(), "bytes")
        documents = self.check_documents(update.data.get(self.name), progress)
        self.check_tokens(update.data.get(self.name), documents, definition, progress)
        self.check_index()
        self.check_account()
        self.findings.checked["datasets"] += 1

    def check_documents(self, record: DatasetPart | None, progress: Progress) -> str | None:
        """Check document shards against their manifest, and the manifest against the record; returns its digest."""
        manifest = checked_manifest(self.folder, self.findings)
        for split in self.splits:
            self.read_documents(split, progress)
        if manifest is None:
            return None
        outcome, file = manifest["outcome"], self.findings.name(self.folder, MANIFEST)
        self.earlier = list(manifest["identity"]["inputs"].get("earlier", []))
        self.check_outcome(file, (record.distill or record.ingest) if record else None, outcome)
        training, validation = self.splits["documents"], self.splits["validation"]
        if training.whole and validation.whole:
            counts = {
                "documents": len(training.ids),
                "num_bytes": training.num_bytes,
                "validation_documents": len(validation.ids),
                "validation_bytes": validation.num_bytes,
            }
            agree = [
                self.findings.compare(self.findings.name(self.folder), name, outcome[name], count, RESTORE)
                for name, count in counts.items()
            ]
            if all(agree):
                digest = digest_of(training.ids, validation.ids)
                what = "documents of digest"
                self.findings.compare(self.findings.name(self.folder), what, outcome["digest"], digest, RESTORE)
        return str(outcome["digest"])

    def read_documents(self, part: str, progress: Progress) -> None:
        """Check each text in a split's shards against its id."""
        folder, split = self.folder / part, self.splits[part]
        parts = [split.ids]
        for name in folder.files(".parquet"):
            file, problems = self.findings.name(folder, name), len(self.findings.problems)
            with self.findings.reading(file, "a document shard", RESTORE):
                wrong: list[str] = []
                for ids, texts, sizes in document_batches(folder, name):
                    wrong += [doc_id for doc_id, text in zip(ids, texts, strict=True) if document_id(text) != doc_id]
                    parts.append(np.frombuffer(bytes.fromhex("".join(ids)), "S16"))
                    split.num_bytes += sizes
                    self.findings.checked["documents"] += len(ids)
                if wrong:
                    self.findings.add(
                        file,
                        "texts whose hash is their doc_id",
                        f"{len(wrong)} others, the first {wrong[0]}",
                        RESTORE,
                    )
            split.whole &= len(self.findings.problems) == problems
            split.names.append(name.removesuffix(".parquet"))
            progress.advance(folder.size(name))
        split.ids = np.concatenate(parts)

    def check_outcome(self, file: str, recorded: object, outcome: dict[str, Any]) -> None:
        """Check that the outcome in a manifest is the one in the update's record."""
        with self.findings.reading(file, "an outcome as the stage writes it", RESTORE):
            found = None if recorded is None else type(recorded)(**outcome)
            self.findings.compare(file, "the outcome in update.json", recorded, found, RESTORE)

    def check_tokens(
        self, record: DatasetPart | None, documents: str | None, definition: Definition | None, progress: Progress
    ) -> None:
        """Check token shards against their manifest: ids, lengths and every token."""
        folder = self.folder / "tokens"
        manifest = checked_manifest(folder, self.findings)
        if manifest is None or definition is None:
            return
        outcome, file = manifest["outcome"], self.findings.name(folder, MANIFEST)
        self.check_outcome(file, record.tokenize if record else None, outcome)
        if documents is not None:
            made = manifest["identity"]["inputs"]["documents"]
            self.findings.compare(file, "made of documents of digest", documents, made, RESTORE)
        self.findings.compare(file, "made by the tokenizer", definition.digest, outcome["tokenizer"], RESTORE)
        expected = format_of(definition)
        problems = len(self.findings.problems)
        lines: list[str] = []
        for split, part in SPLITS.items():
            shards, names = folder / split, self.splits[part].names
            there = [name.removesuffix(".arrow") for name in shards.files(".arrow")]
            self.findings.compare(self.findings.name(shards), "the shards", names, there, RESTORE)
            for name in sorted(set(names) & set(there)):
                with self.findings.reading(self.findings.name(shards, f"{name}.arrow"), "a token shard", RESTORE):
                    account = Account()
                    for batch in token_batches(shards, f"{name}.arrow", expected):
                        batch.validate(full=True)  # damaged offsets would point outside the file
                        account.add(batch)
                    lines.append(f"{split}/{name} {account.as_dict()['digest']}\n")
                    self.findings.checked["tokens"] += account.num_tokens
                progress.advance(shards.size(f"{name}.arrow"))
        if len(self.findings.problems) == problems:
            found = str(xxhash.xxh3_128_hexdigest("".join(lines).encode()))
            self.findings.compare(self.findings.name(folder), "tokens of digest", outcome["digest"], found, RESTORE)

    def check_index(self) -> None:
        """Check that the dedup index, which later arrivals are compared with, has all documents."""
        file = self.findings.name(self.index)
        with self.findings.reading(file, "the index of the dataset's documents", RESTORE):
            known = read_index(self.index)
            for part, split in self.splits.items():
                if missing := int((~contains(known, split.ids)).sum()):
                    self.findings.add(file, f"all documents of {part}", f"{missing} are missing", RESTORE)

    def check_account(self) -> None:
        """Check that the quarantine and its account can be read."""
        if self.folder.exists(ingest.ACCOUNT):
            with self.findings.reading(self.findings.name(self.folder, ingest.ACCOUNT), "an account", RESTORE):
                read_as(self.folder, ingest.ACCOUNT, ACCOUNTS)
        refused = self.folder / "quarantine"
        for name in refused.files(".parquet"):
            with (
                self.findings.reading(self.findings.name(refused, name), "refused records", RESTORE),
                pq.ParquetFile(refused.local(name)) as shard,
            ):
                self.findings.checked["quarantined"] += sum(batch.num_rows for batch in shard.iter_batches(ROWS))


def document_batches(folder: Folder, name: str) -> Iterator[tuple[list[str], list[str], int]]:
    """Yield ids, texts and total bytes of batches of a document shard; all columns are read."""
    with pq.ParquetFile(folder.local(name)) as shard:
        for batch in shard.iter_batches(batch_size=ROWS):
            texts: list[str] = batch.column("text").to_pylist()
            yield batch.column("doc_id").to_pylist(), texts, sum(batch.column("num_bytes").to_pylist())


def digest_of(training: Hashes, validation: Hashes) -> str:
    """Return the digest of these documents, as ingest and distill compute it."""
    parts = [
        (training, np.full(len(training), TRAIN, np.uint8)),
        (validation, np.full(len(validation), VALIDATE, np.uint8)),
    ]
    return digest_parts(lambda: iter(parts))


def check_apart(checks: dict[str, DatasetCheck], findings: Findings) -> None:
    """Check that no validation document of a dataset is trained in it, or in a dataset deduplicated against it."""
    for check in checks.values():
        held, trained = check.splits["validation"].ids, check.splits["documents"].ids
        findings.checked["validation documents"] += len(held)
        pairs = [(check.name, held, check.name, trained)]
        for other in (checks[name] for name in check.earlier if name in checks):
            pairs.append((other.name, other.splits["validation"].ids, check.name, trained))
            pairs.append((check.name, held, other.name, other.splits["documents"].ids))
        for validating, ids, training, others in pairs:
            if shared := int(contains(np.sort(ids), others).sum()):
                findings.add(
                    f"datasets/{validating}/validation",
                    f"no document that {training} trains on",
                    f"{shared} documents",
                    f"losses on {validating} cannot be trusted; ingest the data again in another workspace",
                )
