"""The ledger of a lineage, for ``rewarm trace``: the documents that each update trained on, new or replayed.

It is computed from the updates' mixtures and not stored. It covers the trunks only: documents that an annealed branch
reads again are not counted. Replayed documents are counted by dataset and source, or listed one by one in a file.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.optimizer import TRUNK_RUN
from rewarm.pipeline.record import UpdateRecord
from rewarm.stages import replay, train
from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.shapes import understood
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import read_shards
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet, TokenStream, read_selection

SPLITS = {"train": "documents", "validation": "validation"}  # of tokens: of documents
COVERS = "the trunks, without steps that were skipped or left out; what an annealed branch reads is not counted"
MOST = 100  # documents that one call traces
EXCERPT = 120  # characters of a document that are shown
SHORTEST = 6  # digits of an id by which documents are looked up


@dataclass(frozen=True)
class Trained:
    """How an update's trunk trained a document."""

    update: str
    role: str  # "new" or "replayed"
    times: int  # reads of the part of it that was read most often
    steps: list[int]  # of the update, from 0
    lineage_tokens: list[int]  # tokens that the lineage had trained when each of these steps was done


@dataclass(frozen=True)
class Traced:
    """A document, its origin and the updates that read it."""

    doc_id: str
    dataset: str
    split: str  # "train" or "validation"
    row: int  # among the split's documents
    shard: str  # the document shard, relative to the workspace
    num_tokens: int
    source: str | None
    url: str | None
    timestamp: str | None
    excerpt: str
    trained: list[Trained] = field(default_factory=list)


@dataclass(frozen=True)
class Trunk:
    """An update's mixture and what its sources read."""

    update: UpdateRecord
    mixture: Mixture
    sets: dict[str, TokenSet]  # by key of the source

    @property
    def start(self) -> int:
        """Tokens that the lineage had trained before."""
        return self.update.position - self.mixture.steps * self.mixture.tokens_per_step

    @property
    def left_out(self) -> list[int]:
        """Steps (from 0) that changed nothing: their documents were not trained."""
        decisions = self.update.train.decisions if self.update.train else []
        return [step - 1 for step in train.steps_without_effect(decisions)]

    def stream(self, number: int) -> TokenStream:
        """Open a source's tokens; raise ``StageError`` if they are not those the mixture was made for."""
        source = self.mixture.sources[number]
        stream = self.sets[source.key].open()
        if (found := stream.num_sequences(self.mixture.seq_len)) != source.num_sequences:
            raise StageError(
                f"{stream.folder}: holds {found} sequences, update {self.update.id} was made for "
                f"{source.num_sequences}. The token shards changed since; restore them."
            )
        return stream

    def rows(self, number: int) -> np.ndarray | None:
        """Which documents of its dataset a source reads; null: all."""
        selection = self.sets[self.mixture.sources[number].key].selection
        return None if selection is None else read_selection(selection)


def trunks(lineage: Lineage, name: str | None) -> list[Trunk]:
    """The updates that trained the lineage's trunk, or the one that is named."""
    updates = [lineage.read(entry.id) for entry in lineage.learned] if name is None else [lineage.find(name)]
    found = []
    for update in updates:
        folder = lineage.workspace.update(update.id) / "mixture"
        if folder.exists(replay.MIXTURE):
            with understood(f"{folder}/{replay.MIXTURE}"):
                mixture = Mixture.from_json(folder.read_json(replay.MIXTURE))
            sets = replay.token_sets(folder, mixture, lineage.workspace.train_tokens)
            found.append(Trunk(update, mixture, sets))
    return found


# -- documents ---------------------------------------------------------------------------------------------------


def trace_documents(
    lineage: Lineage, ids: Sequence[str], text: str | None, update: str | None, progress: Progress
) -> list[Traced]:
    """Documents by id (or its first digits) or by a text they hold, and every read of them.

    Raises ``UsageError`` for an id that no dataset has, or if more than ``MOST`` documents match.
    """
    runs = trunks(lineage, update)
    documents = list(find_documents(lineage, [one.lower() for one in ids], text, progress))
    documents.sort(key=lambda one: (one.dataset, one.split, one.row))
    progress.begin("reading mixtures", sum(run.mixture.steps * run.mixture.global_batch for run in runs), "sequences")
    for run in runs:
        wanted, members = wanted_of(run, documents)
        for found in replay.find_reads(run.mixture, wanted, progress, run.left_out):
            role = "new" if found.source < len(run.mixture.new) else "replayed"
            tokens = [run.start + (step + 1) * run.mixture.tokens_per_step for step in found.steps]
            reads = Trained(run.update.id, role, found.times, found.steps, tokens)
            members[found.source][found.place].trained.append(reads)
    return documents


def wanted_of(run: Trunk, documents: Sequence[Traced]) -> tuple[dict[int, replay.Wanted], dict[int, list[Traced]]]:
    """Which of the documents each source of a mixture reads, and the sequences they are in."""
    wanted, members = {}, {}
    for number, source in enumerate(run.mixture.sources):
        inside = [one for one in documents if (one.dataset, one.split) == (source.dataset, "train")]
        if inside:
            stream, rows = run.stream(number), run.rows(number)
            places = np.array([one.row for one in inside], dtype=np.int64)
            if rows is not None:
                at = np.minimum(np.searchsorted(rows, places), len(rows) - 1)
                inside = [one for one, hit in zip(inside, rows[at] == places, strict=True) if hit]
                places = at[rows[at] == places]
            members[number] = inside
            wanted[number] = replay.Wanted.of(stream.document_spans()[0], places)
    return wanted, members


def find_documents(lineage: Lineage, prefixes: Sequence[str], text: str | None, progress: Progress) -> Iterator[Traced]:
    """The documents whose ids begin so, or that hold the text."""
    for prefix in prefixes:
        if not SHORTEST <= len(prefix) <= 32 or not set(prefix) <= set("0123456789abcdef"):
            raise UsageError(f"{prefix}: expected an id of 32 hex digits, or at least its first {SHORTEST} are needed")
    places = [(dataset, split) for dataset in lineage.ingested() for split in SPLITS]
    progress.begin("looking for documents", len(places), "splits")
    met: set[str] = set()
    count = 0
    for dataset, split in places:
        folder = lineage.workspace.dataset(dataset)
        rows = (
            matching_text(folder / SPLITS[split], text) if text is not None else matching_ids(folder, split, prefixes)
        )
        count += len(rows)
        if count > MOST:
            raise UsageError(
                f"more than {MOST} documents are meant, in {dataset} and before; give longer ids, a rarer text, or "
                "write the whole ledger with --to"
            )
        for document in describe(folder, split, rows):
            met.update(prefix for prefix in prefixes if document.doc_id.startswith(prefix))
            yield document
        progress.advance()
    if missing := [prefix for prefix in prefixes if prefix not in met]:
        raise UsageError(
            f"no document {', '.join(missing)} in {', '.join(lineage.ingested()) or 'a workspace without data'}; ids "
            "are in the doc_id column of datasets/<name>/documents, and --text finds documents by their text"
        )
    if text is not None and not count:
        raise UsageError(f"no document of {', '.join(lineage.ingested()) or 'the workspace'} holds {text!r}")


def matching_ids(folder: Folder, split: str, prefixes: Sequence[str]) -> list[int]:
    """Rows of a split whose ids begin with one of the prefixes."""
    import pyarrow.compute as pc

    rows: list[int] = []
    first = 0
    for ids in TokenStream(folder / "tokens" / split).id_batches():
        hit = np.zeros(len(ids), dtype=bool)
        for prefix in prefixes:
            hit |= pc.starts_with(ids, prefix).to_numpy(zero_copy_only=False)
        rows += (np.flatnonzero(hit) + first).tolist()
        first += len(ids)
    return rows


def matching_text(documents: Folder, text: str) -> list[int]:
    """Rows of document shards whose text holds ``text``; more than ``MOST`` are not looked for."""
    import pyarrow.compute as pc

    rows: list[int] = []
    first = 0
    for batch in read_shards(documents, ["text"]):
        hit = pc.match_substring(batch.column("text"), text).to_numpy(zero_copy_only=False)
        rows += (np.flatnonzero(hit) + first).tolist()
        first += batch.num_rows
        if len(rows) > MOST:
            break
    return rows


def describe(folder: Folder, split: str, rows: Iterable[int]) -> Iterator[Traced]:
    """Documents by row (ascending), from their shards."""
    stream = TokenStream(folder / "tokens" / split)
    lengths = np.diff(stream.document_spans()[0], prepend=0)
    shards = folder / SPLITS[split]
    left = list(rows)
    first = 0
    for name in shards.files(".parquet"):
        with understood(f"{shards}/{name}"), pq.ParquetFile(shards.local(name)) as shard:
            for group in range(shard.num_row_groups):
                count = shard.metadata.row_group(group).num_rows
                inside = [row for row in left if first <= row < first + count]
                if inside:
                    table = shard.read_row_group(group, ["doc_id", "text", "url", "source", "timestamp"])
                    for row in inside:
                        values = table.slice(row - first, 1).to_pylist()[0]
                        yield Traced(
                            doc_id=values["doc_id"],
                            dataset=folder.name,
                            split=split,
                            row=row,
                            shard=f"datasets/{folder.name}/{shards.name}/{name}",
                            num_tokens=int(lengths[row]),
                            source=values["source"],
                            url=values["url"],
                            timestamp=values["timestamp"].isoformat() if values["timestamp"] else None,
                            excerpt=" ".join(values["text"][: 2 * EXCERPT].split())[:EXCERPT],
                        )
                first += count


LEDGER = pa.schema(
    [
        pa.field("update", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # of the document, as ingested; "unnamed" without one
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("times", pa.int64(), nullable=False),  # reads of the part of it that was replayed most often
        pa.field("tokens", pa.int64(), nullable=False),  # of the document, replayed in all of these reads
    ]
)
GROUP_ROWS = 1 << 17


class LedgerFile:
    """Writes rows of ``LEDGER``, in groups of at least ``GROUP_ROWS``."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self.writer = writer
        self.held: list[pa.RecordBatch] = []

    def add(self, rows: pa.RecordBatch) -> None:
        """Append rows."""
        self.held.append(rows)
        if sum(part.num_rows for part in self.held) >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write buffered rows."""
        self.writer.write_table(pa.Table.from_batches(self.held, LEDGER))
        self.held = []


def read_ledger(
    lineage: Lineage, update: str | None, progress: Progress, to: Path | None = None
) -> list[dict[str, Any]]:
    """Per update (or for the one named): share of replay, and the documents replayed, by dataset and source.

    With ``to``, every replayed document is written there as a row of ``LEDGER``. Raises ``UsageError`` if that file
    exists.
    """
    if to is None:
        return count_updates(lineage, update, progress, None)
    if to.exists():
        raise UsageError(f"{to}: exists; name a new file")
    with Folder(to.absolute().parent).writing(to.name) as scratch, pq.ParquetWriter(scratch, LEDGER) as writer:
        file = LedgerFile(writer)
        found = count_updates(lineage, update, progress, file)
        file.flush()
    return found


def count_updates(
    lineage: Lineage, update: str | None, progress: Progress, file: LedgerFile | None
) -> list[dict[str, Any]]:
    """``read_ledger`` with its file open."""
    found = []
    for run in trunks(lineage, update):
        counts = run.mixture.count(0, run.mixture.steps)
        first = len(run.mixture.new)
        progress.begin(f"reading the mixture of {run.update.id}", sum(counts[first:]), "sequences")
        rows = []
        for number in range(first, len(counts)):
            documents = lineage.workspace.dataset(run.mixture.sources[number].dataset) / "documents"
            rows += count_documents(run, number, counts[number], documents, progress, file)
        row = {"update": run.update.id, "share": run.update.replay.achieved, "replayed": rows}
        found.append(row | ({"left_out": len(run.left_out)} if run.left_out else {}))
    return found


def count_documents(
    run: Trunk, number: int, count: int, documents: Folder, progress: Progress, file: LedgerFile | None
) -> list[dict[str, Any]]:
    """What the first ``count`` sequences of a source replay of its documents, by the documents' source."""
    source, stream, rows = run.mixture.sources[number], run.stream(number), run.rows(number)
    domains = replay.read_domains(documents, TokenStream(stream.folder))
    codes = domains.codes if rows is None else domains.codes[rows]
    names = pa.array(domains.names, pa.string())
    reads = replay.source_reads(source, count, run.mixture.seq_len, progress)
    if run.left_out:
        reads = reads.less(replay.step_reads(run.mixture, number, run.left_out))
    ends, _ = stream.document_spans()
    sums = np.zeros((4, len(domains.names)), dtype=np.int64)
    first = 0
    for ids in stream.id_batches():
        part = replay.document_reads(reads, ends, first, first + len(ids))
        code = codes[first : first + len(ids)]
        figures = (np.ones(len(ids)), part.times > 0, part.times, part.tokens)
        sums += np.stack([np.bincount(code, figure, len(domains.names)) for figure in figures]).astype(np.int64)
        if file is not None:
            kept = np.flatnonzero(part.times)
            sources = names.take(pa.array(code[kept]))
            columns = [
                pa.repeat(run.update.id, len(kept)),
                pa.repeat(source.dataset, len(kept)),
                sources,
                ids.take(kept),
                pa.array(part.times[kept]),
                pa.array(part.tokens[kept]),
            ]
            file.add(pa.RecordBatch.from_arrays(columns, schema=LEDGER))
        first += len(ids)
    fields = ("of", "documents", "times", "tokens")
    counted = zip(domains.names, sums.T.tolist(), strict=True)
    return [
        {"dataset": source.dataset, "source": name, **dict(zip(fields, values, strict=True))}
        for name, values in counted
        if values[0]
    ]


# -- steps -------------------------------------------------------------------------------------------------------


def trace_step(lineage: Lineage, name: str | None, step: int) -> dict[str, Any]:
    """The documents that a step of an update's trunk reads, by dataset; ``step`` counts from 1, as in its curve.

    ``name`` is an update, by default the unfinished one, else the last; ``left_out`` is the reason if the step was not
    applied. Raises ``UsageError`` for a step that the update does not have.
    """
    update = name_of_trained(lineage, name)
    folder = lineage.workspace.update(update) / "mixture"
    if not folder.exists(replay.MIXTURE):
        raise UsageError(
            f"{folder}/{replay.MIXTURE}: no such file: update {update} has no trunk of its own, or not yet"
        )
    with understood(f"{folder}/{replay.MIXTURE}"):
        mixture = Mixture.from_json(folder.read_json(replay.MIXTURE))
    if not 1 <= step <= mixture.steps:
        raise UsageError(f"--step {step}: update {update} has the steps 1 to {mixture.steps}")
    sets = replay.token_sets(folder, mixture, lineage.workspace.train_tokens)
    documents = train.documents_read(mixture, sets, step - 1)
    because = next((each for each in decisions_of(lineage, update) if step in each.steps), None)
    found = {"update": update, "step": step, "documents": documents}
    return found | ({} if because is None else {"left_out": f"{because.kind}: {because.because}"})


def decisions_of(lineage: Lineage, update: str) -> list[train.Decision]:
    """The decisions about bad steps of an update's trunk; of one that is not finished, those so far."""
    if update == lineage.unfinished:
        return train.decisions_so_far(lineage.workspace.update(update) / "checkpoints", TRUNK_RUN)
    training = lineage.find(update).train
    return training.decisions if training else []


def name_of_trained(lineage: Lineage, name: str | None) -> str:
    """The update that is named, also one that is not finished; by default that one, else the last."""
    if lineage.unfinished is not None and name in (None, lineage.unfinished):
        return lineage.unfinished
    if name is None and lineage.latest is not None:
        return lineage.latest.id
    return lineage.find(name).id
