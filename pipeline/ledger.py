"""The ledger of replay: which documents an update replayed, counted by dataset and source, or one by one in a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lineage import Lineage
from pipeline.trace import Trunk, trunks
from stages import replay
from stages.errors import UsageError
from stages.progress import Progress
from stages.storage import Folder
from stages.tokens import TokenStream

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
        """Write what is held."""
        self.writer.write_table(pa.Table.from_batches(self.held, LEDGER))
        self.held = []


def read_ledger(
    lineage: Lineage, update: str | None, progress: Progress, to: Path | None = None
) -> list[dict[str, Any]]:
    """Per update (or for the one named): share of replay, and the documents replayed, by dataset and source.

    With ``to``, every replayed document is written there as a row of ``LEDGER``. Raises ``UsageError`` where that file
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
        found.append({"update": run.update.id, "share": run.update.replay.achieved, "replayed": rows})
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
