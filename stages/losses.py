"""Loss of a causal model on a whole token stream, document by document: evaluation and selection both ask for it.

The stream of ``n`` tokens has ``n - 1`` targets (its very first token is only context). They are cut into windows of
``seq_len`` from the beginning on, as in training, and the tail makes one shorter window, so every target counts once.
A document that does not end in the window where it begins goes on in the next one without the context it had.
"""

import io
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from stages.storage import Folder

if TYPE_CHECKING:
    import torch

    from stages.tokens import TokenStream, Window

# The work of one piece, in tokens. Fixed, so that sums do not depend on how many machines share them.
PIECE_TOKENS = 1 << 18


def plan_pieces(num_tokens: int, seq_len: int, piece_tokens: int = PIECE_TOKENS) -> list[tuple[int, int]]:
    """Spans of inputs ``[start, stop)`` that cover a stream, each a whole number of windows but for the tail."""
    step = max(1, piece_tokens // seq_len) * seq_len
    return [(start, min(start + step, num_tokens - 1)) for start in range(0, num_tokens - 1, step)]


def target_losses(
    model: "torch.nn.Module",
    stream: "TokenStream",
    span: tuple[int, int],
    *,
    seq_len: int,
    document_mask: bool,
    batch_size: int,
) -> np.ndarray:
    """Nats of each target of the inputs ``[start, stop)``, that is of the tokens ``start + 1 .. stop``; float64."""
    import torch

    from stages.causal import collate, token_losses

    device = next(model.parameters()).device
    losses = np.empty(span[1] - span[0], dtype=np.float64)
    filled = 0
    with torch.inference_mode():
        for batch in _batches(stream, span, seq_len, batch_size):
            tokens, positions = collate(batch, device, document_mask)
            values = token_losses(model, tokens, positions).flatten().double().cpu().numpy()
            losses[filled : filled + len(values)] = values
            filled += len(values)
    return losses


def _batches(stream: "TokenStream", span: tuple[int, int], seq_len: int, size: int) -> "Iterator[list[Window]]":
    """The windows of a span, ``size`` at a time; a shorter last window goes alone."""
    start, stop = span
    whole = (stop - start) // seq_len
    windows = (stream.window(start + index * seq_len, seq_len) for index in range(whole))
    while batch := list(islice(windows, size)):
        yield batch
    tail = start + whole * seq_len
    if tail < stop:
        yield [stream.window(tail, stop - tail)]


def sum_documents(losses: np.ndarray, start: int, ends: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Sum the losses of the targets ``start + 1 …`` by document.

    ``ends`` are the documents' ends in the stream (exclusive). Returns the first document's number, and for it and
    those that follow the nats (float64, added in the order of the stream) and the count of targets (int64).
    """
    documents = np.searchsorted(ends, np.arange(start + 1, start + 1 + len(losses)), side="right")
    first = int(documents[0])
    return first, np.bincount(documents - first, weights=losses), np.bincount(documents - first).astype(np.int64)


def write_piece(folder: Folder, name: str, first: int, nats: np.ndarray, counts: np.ndarray) -> None:
    """Keep what ``sum_documents`` gave for one piece."""
    buffer = io.BytesIO()
    np.savez(buffer, first=np.int64(first), nats=nats, counts=counts)
    folder.write(name, buffer.getvalue())


def add_pieces(pieces: Folder, names: list[str], num_documents: int) -> tuple[np.ndarray, np.ndarray]:
    """Add pieces up, in their order: nats (float64) and counted targets (int64) of each document of the stream."""
    nats, counts = np.zeros(num_documents), np.zeros(num_documents, dtype=np.int64)
    for name in names:
        with np.load(io.BytesIO(pieces.read(name))) as arrays:
            span = slice(int(arrays["first"]), int(arrays["first"]) + len(arrays["nats"]))
            nats[span] += arrays["nats"]
            counts[span] += arrays["counts"]
    return nats, counts
