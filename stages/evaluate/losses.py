"""Stored losses of a model on a validation split: one row per document, and their totals."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.stages.core.storage import Folder
from rewarm.stages.inference.losses import join_pieces

if TYPE_CHECKING:
    from rewarm.stages.data.tokens import TokenStream

LOSS_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("nats", pa.float64(), nullable=False),  # sum over the document's targets, end-of-text included
        pa.field("num_tokens", pa.int64(), nullable=False),  # targets: the document's tokens and end-of-text
        pa.field("num_bytes", pa.int64(), nullable=False),  # of the document's text in UTF-8
    ]
)


@dataclass(frozen=True)
class Totals:
    """Sums over a validation split: nats (float64), target tokens, and bytes of text."""

    nats: float
    num_tokens: int
    num_bytes: int

    @property
    def loss(self) -> float:
        """Return the mean nats per target token."""
        return self.nats / self.num_tokens

    @property
    def bits_per_byte(self) -> float:
        """Return ``nats / ln 2 / bytes``: all targets, end-of-text included, over the UTF-8 bytes of all texts."""
        return self.nats / math.log(2) / self.num_bytes if self.num_bytes else math.nan


def write_losses(out: Folder, name: str, stream: "TokenStream", pieces: Folder, names: list[str]) -> None:
    """Join the pieces into a file with one row per document."""
    ends, sizes = stream.document_spans()
    nats, counts = join_pieces(pieces, names, len(ends))
    table = pa.table([stream.document_ids(), nats, counts, sizes], schema=LOSS_SCHEMA)
    with out.writing(name) as scratch:
        pq.write_table(table, scratch, compression="zstd")


def read_totals(out: Folder, name: str) -> Totals:
    """Sum a file that ``write_losses`` wrote."""
    with out.filesystem()[0].open_input_file(f"{out.filesystem()[1]}/{name}") as source:
        table = pq.read_table(source)
    nats = math.fsum(table.column("nats").to_numpy())
    tokens, size = (int(table.column(column).to_numpy().sum()) for column in ("num_tokens", "num_bytes"))
    return Totals(nats, tokens, size)
