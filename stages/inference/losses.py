"""Losses of a causal model by document, each document read by itself, for evaluation and selection.

A document's first token is predicted from the token that opens it (BOS, or end-of-text: ``TokenFormat.opening``), and
its last target is the end-of-text that closes it. Its context contains no other document, so its loss depends neither
on the order of the documents nor on the type of model (such as one that ignores the document mask). A document of more
than ``seq_len`` tokens is read in windows, as in lm-eval's rolling likelihood: each predicts ``seq_len`` tokens, and
the last one predicts the rest, with as many preceding tokens as fit.

Rows of similar length are batched together and padded on the right. In a causal model later tokens do not change a
prediction, so no attention mask is needed.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np

from rewarm.stages.core.storage import Folder

if TYPE_CHECKING:
    import torch

    from rewarm.stages.data.tokens import TokenStream

VERSION = 2  # of the reading of documents; losses of different versions do not compare (1: windows across documents)
# Tokens of one piece of work. Fixed, so that sums do not depend on the number of machines.
PIECE_TOKENS = 1 << 18
ROW_STEP = 16  # rows are padded to a multiple of this many tokens, so the length depends on the document alone
IGNORED = -100  # padding targets: cross_entropy's ignore_index


@dataclass(frozen=True)
class Row:
    """One window of a document: ``length`` inputs, of whose targets the last ``counted`` count.

    ``first`` is the index of the first target that counts, among the document's targets (its tokens, from 0).
    """

    document: int
    first: int
    counted: int
    length: int

    def padded(self, seq_len: int) -> int:
        """Return the length to which the row is padded."""
        return min(seq_len, -(-self.length // ROW_STEP) * ROW_STEP)


def plan_pieces(ends: np.ndarray, piece_tokens: int = PIECE_TOKENS) -> list[tuple[int, int]]:
    """Return runs ``[first, last)`` of documents of about ``piece_tokens`` tokens; ``ends``: see ``document_spans``."""
    owners = np.concatenate([[0], ends[:-1]])[: len(ends)] // piece_tokens
    cuts = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(ends)] if len(ends) else []
    return list(pairwise(cuts))


def rows_of(document: int, num_tokens: int, seq_len: int) -> list[Row]:
    """Return the windows of a document of ``num_tokens`` tokens, end-of-text included."""
    rows = []
    for first in range(0, num_tokens, seq_len):
        counted = min(seq_len, num_tokens - first)
        rows.append(Row(document, first, counted, seq_len if first else counted))
    return rows


def document_losses(
    model: "torch.nn.Module", stream: "TokenStream", documents: tuple[int, int], *, seq_len: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nats (float64) and target counts (int64) of each of the documents ``[first, last)`` of a stream.

    A forward pass runs ``batch_size`` rows of ``seq_len`` tokens, or as many tokens in shorter rows.
    """
    first, last = documents
    ends = stream.document_spans()[0][:last]
    starts = np.concatenate([[0], ends[:-1]])[first:]
    counts = (ends[first:] - starts).astype(np.int64)
    rows = [row for number, count in enumerate(counts.tolist()) for row in rows_of(number, count, seq_len)]
    losses = np.empty(int(counts.sum()), dtype=np.float64)
    offsets = np.cumsum(counts) - counts
    for batch, length in _batches(rows, seq_len, batch_size):
        inputs, targets = _filled(stream, starts, batch, length)
        values = _forward(model, inputs, targets)
        for row, found in zip(batch, values, strict=True):
            place = int(offsets[row.document]) + row.first
            losses[place : place + row.counted] = found[row.length - row.counted : row.length]
    owners = np.repeat(np.arange(len(counts)), counts)
    return np.bincount(owners, weights=losses, minlength=len(counts)), counts


def _batches(rows: list[Row], seq_len: int, batch_size: int) -> Iterator[tuple[list[Row], int]]:
    """Yield batches of rows of equal length, in document order, with that length."""
    ordered = sorted(rows, key=lambda row: row.padded(seq_len))
    for length, group in groupby(ordered, key=lambda row: row.padded(seq_len)):
        members, size = list(group), max(1, batch_size * seq_len // length)
        for at in range(0, len(members), size):
            yield members[at : at + size], length


def _filled(stream: "TokenStream", starts: np.ndarray, rows: list[Row], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets of rows (int64 ``[rows, length]``), padded on the right."""
    assert stream.format is not None, "a stream of documents has a format"
    inputs = np.full((len(rows), length), stream.format.opening, dtype=np.int64)
    targets = np.full((len(rows), length), IGNORED, dtype=np.int64)
    for place, row in enumerate(rows):
        begin = row.first + row.counted - row.length  # index of the row's first target; its input is one before
        before = min(begin, 1)  # 1: the first input is the document's own token; 0: the opening token
        tokens = stream.read(int(starts[row.document]) + begin - before, row.length + before)
        targets[place, : row.length] = tokens[before:]
        inputs[place, 1 - before : row.length] = tokens[:-1]
    return inputs, targets


def _forward(model: "torch.nn.Module", inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the loss of every target in nats, float64 ``[rows, length]``; 0 for padding."""
    import torch

    from rewarm.stages.inference.causal import losses_of

    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(inputs).to(device), use_cache=False).logits
        values: np.ndarray = losses_of(logits.float(), torch.from_numpy(targets).to(device)).double().cpu().numpy()
    return values


def write_piece(folder: Folder, name: str, first: int, nats: np.ndarray, counts: np.ndarray) -> None:
    """Write the result of ``document_losses`` for one piece, whose first document is number ``first``."""
    buffer = io.BytesIO()
    np.savez(buffer, first=np.int64(first), nats=nats, counts=counts)
    folder.write(name, buffer.getvalue())


def join_pieces(pieces: Folder, names: list[str], num_documents: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nats (float64) and target counts (int64) of each document of the stream, from all pieces."""
    nats, counts = np.zeros(num_documents), np.zeros(num_documents, dtype=np.int64)
    for name in names:
        with np.load(io.BytesIO(pieces.read(name))) as arrays:
            span = slice(int(arrays["first"]), int(arrays["first"]) + len(arrays["nats"]))
            nats[span] = arrays["nats"]
            counts[span] = arrays["counts"]
    return nats, counts


if TYPE_CHECKING:
    pass
