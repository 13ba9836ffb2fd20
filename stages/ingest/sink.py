"""Writes one Parquet shard: in row groups of a bounded size, whole or not at all."""

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from stages.documents import QUARANTINE_SCHEMA, shard_writer
from stages.ingest.records import Refusal
from stages.storage import Folder

GROUP_ROWS = 8192
GROUP_BYTES = 32 * 2**20


def quarantine_rows(refused: Sequence[tuple[str, Refusal]]) -> pa.RecordBatch:
    """Rows of the quarantine, of file names and refusals; made by columns, as a broken arrival has millions."""
    columns = {
        "file": [file for file, _ in refused],
        "location": [refusal.location for _, refusal in refused],
        "step": [refusal.step for _, refusal in refused],
        "reason": [str(refusal.reason) for _, refusal in refused],
        "value": [refusal.value for _, refusal in refused],
        "detail": [refusal.detail for _, refusal in refused],
        "excerpt": [refusal.excerpt for _, refusal in refused],
    }
    return pa.record_batch(columns, schema=QUARANTINE_SCHEMA)


class ShardSink:
    """A shard that takes its place when the block succeeds. Without rows it is written only if ``always``."""

    def __init__(self, folder: Folder, name: str, schema: pa.Schema, always: bool = False) -> None:
        self.folder, self.name, self.schema, self.always = folder, name, schema, always
        self.rows = 0
        self.held: list[pa.RecordBatch] = []
        self.held_rows = self.held_bytes = 0
        self.writer: pq.ParquetWriter | None = None
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def add(self, batch: pa.RecordBatch) -> None:
        """Append rows; the sizes of the batches leave no trace in the groups beyond where one ends."""
        self.rows += batch.num_rows
        self.held.append(batch)
        self.held_rows += batch.num_rows
        self.held_bytes += batch.nbytes
        if self.held_rows >= GROUP_ROWS or self.held_bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the held rows as one group."""
        if self.writer is None:
            scratch = self.stack.enter_context(self.folder.writing(self.name))
            self.writer = self.stack.enter_context(shard_writer(scratch, self.schema))
        if self.held_rows:
            self.writer.write_table(pa.Table.from_batches(self.held, self.schema), row_group_size=self.held_rows)
        self.held, self.held_rows, self.held_bytes = [], 0, 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is None and (self.held_rows or self.always):
            self.flush()
        return self.stack.__exit__(kind, error, trace)
