"""Losses of a causal model by document, each document read by itself: evaluation and selection both ask for them.

A document's first token is predicted from what opens it (BOS, or end-of-text: ``TokenFormat.opening``), and its last
target is the end-of-text that closes it. No other document is in its context, so neither the order of the documents nor
the kind of model (one that sees through a document mask, say) changes its loss. A document of more than ``seq_len``
tokens is read in windows of its own, as lm-eval's rolling likelihood does: each predicts ``seq_len`` tokens, the last
one those that are left, with as many of the tokens before them as fit.

Rows of similar length run together, filled up on the right. In a causal model nothing after a token changes its
prediction, so this needs no attention mask.

The one way a causal model is run over packed sequences here: training, validation and evaluation all call it.

The mask between packed documents is not built by hand: without an attention mask, transformers reads the packing off
position ids that restart (``masking_utils.find_packed_sequence_indices``), for every attention implementation.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from rewarm.stages.core.storage import Folder

if TYPE_CHECKING:
    import torch

    from rewarm.stages.data.tokens import TokenStream

VERSION = 2  # of how documents are read; losses of different versions do not compare (1: windows across documents)
# The work of one piece, in tokens. Fixed, so that sums do not depend on how many machines share them.
PIECE_TOKENS = 1 << 18
ROW_STEP = 16  # rows are filled up to a multiple of so many tokens: a function of the document alone, not of its batch
IGNORED = -100  # targets that fill a row up: cross_entropy's ignore_index


@dataclass(frozen=True)
class Row:
    """One window of a document: ``length`` inputs, of whose targets the last ``counted`` ones count.

    ``first`` is the number of the first target that counts, among the document's targets (its tokens, from 0).
    """

    document: int
    first: int
    counted: int
    length: int

    def padded(self, seq_len: int) -> int:
        """The length to which the row is filled up."""
        return min(seq_len, -(-self.length // ROW_STEP) * ROW_STEP)


def plan_pieces(ends: np.ndarray, piece_tokens: int = PIECE_TOKENS) -> list[tuple[int, int]]:
    """Runs of documents ``[first, last)`` of about ``piece_tokens`` tokens each; ``ends`` as of ``document_spans``."""
    owners = np.concatenate([[0], ends[:-1]])[: len(ends)] // piece_tokens
    cuts = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(ends)] if len(ends) else []
    return list(pairwise(cuts))


def rows_of(document: int, num_tokens: int, seq_len: int) -> list[Row]:
    """The windows of a document of ``num_tokens`` tokens, its end-of-text among them."""
    rows = []
    for first in range(0, num_tokens, seq_len):
        counted = min(seq_len, num_tokens - first)
        rows.append(Row(document, first, counted, seq_len if first else counted))
    return rows


def document_losses(
    model: "torch.nn.Module", stream: "TokenStream", documents: tuple[int, int], *, seq_len: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nats (float64) and targets (int64) of each of the documents ``[first, last)`` of a stream.

    A forward pass takes ``batch_size`` rows of ``seq_len`` tokens, or as many tokens in shorter rows.
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
    """Rows of one length at a time, in the order of the documents, and that length."""
    ordered = sorted(rows, key=lambda row: row.padded(seq_len))
    for length, group in groupby(ordered, key=lambda row: row.padded(seq_len)):
        members, size = list(group), max(1, batch_size * seq_len // length)
        for at in range(0, len(members), size):
            yield members[at : at + size], length


def _filled(stream: "TokenStream", starts: np.ndarray, rows: list[Row], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of rows (int64 ``[rows, length]``), filled up on the right."""
    assert stream.format is not None, "a stream of documents has a format"
    inputs = np.full((len(rows), length), stream.format.opening, dtype=np.int64)
    targets = np.full((len(rows), length), IGNORED, dtype=np.int64)
    for place, row in enumerate(rows):
        begin = row.first + row.counted - row.length  # the number of the row's first target; its input is one before
        before = min(begin, 1)  # the document's own token, or what opens it
        tokens = stream.read(int(starts[row.document]) + begin - before, row.length + before)
        targets[place, : row.length] = tokens[before:]
        inputs[place, 1 - before : row.length] = tokens[:-1]
    return inputs, targets


def _forward(model: "torch.nn.Module", inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Loss of every target in nats, float64 ``[rows, length]``; 0 where a row is filled up."""
    import torch

    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(inputs).to(device), use_cache=False).logits
        values: np.ndarray = losses_of(logits.float(), torch.from_numpy(targets).to(device)).double().cpu().numpy()
    return values


def write_piece(folder: Folder, name: str, first: int, nats: np.ndarray, counts: np.ndarray) -> None:
    """Keep what ``document_losses`` gave for one piece, whose first document is number ``first``."""
    buffer = io.BytesIO()
    np.savez(buffer, first=np.int64(first), nats=nats, counts=counts)
    folder.write(name, buffer.getvalue())


def join_pieces(pieces: Folder, names: list[str], num_documents: int) -> tuple[np.ndarray, np.ndarray]:
    """Nats (float64) and counted targets (int64) of each document of the stream, from all pieces."""
    nats, counts = np.zeros(num_documents), np.zeros(num_documents, dtype=np.int64)
    for name in names:
        with np.load(io.BytesIO(pieces.read(name))) as arrays:
            span = slice(int(arrays["first"]), int(arrays["first"]) + len(arrays["nats"]))
            nats[span] = arrays["nats"]
            counts[span] = arrays["counts"]
    return nats, counts


if TYPE_CHECKING:
    from rewarm.stages.data.tokens import Window


class Packed(NamedTuple):
    """A batch of packed sequences, each tensor int64 ``[batch, seq_len]`` on the model's device."""

    inputs: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor


def collate(windows: "list[Window]", device: torch.device, document_mask: bool) -> Packed:
    """Inputs, targets and position ids of a list of windows.

    Without ``document_mask`` positions run through and a sequence attends across its documents (plain packing, as in
    the papers' code).
    """
    inputs = torch.from_numpy(np.stack([window.inputs for window in windows]))
    targets = torch.from_numpy(np.stack([window.targets for window in windows]))
    if document_mask:
        positions = torch.from_numpy(np.stack([window.position_ids() for window in windows]))
    else:
        positions = torch.arange(inputs.shape[1]).expand(len(windows), -1)
    return Packed(*(tensor.to(device, non_blocking=True) for tensor in (inputs, targets, positions)))


def token_logits(model: torch.nn.Module, inputs: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Logits of what follows every input, float32 ``[batch, seq_len, vocabulary]``."""
    return predict(model, inputs, positions).logits


class Prediction(NamedTuple):
    """A forward pass: float32 ``[batch, seq_len, vocabulary]``, and what its routers add to the loss (a scalar)."""

    logits: torch.Tensor
    router_loss: torch.Tensor | None


def predict(model: torch.nn.Module, inputs: torch.Tensor, positions: torch.Tensor) -> Prediction:
    """Logits of what follows every input, and the load-balancing loss of a mixture of experts.

    The latter is the term that the model adds to its own loss when it is given labels: its coefficient times the
    routers' auxiliary loss (Shazeer et al. 2017; Fedus et al. 2021). None without routers, or where the configuration
    (``output_router_logits``) leaves it out.
    """
    output = model(input_ids=inputs, position_ids=positions, use_cache=False)
    auxiliary = output.get("aux_loss")
    coefficient = router_coefficient(model) if isinstance(auxiliary, torch.Tensor) else 0.0
    return Prediction(output.logits.float(), coefficient * auxiliary.float() if coefficient else None)


def router_coefficient(model: torch.nn.Module) -> float:
    """The weight that a mixture of experts gives to its routers' auxiliary loss; 0 if it names none."""
    model = getattr(model, "module", model)  # an engine's
    config = getattr(model, "config", None)
    places = (model, config, getattr(config, "text_config", None))
    found = [getattr(place, name, None) for place in places for name in ("router_aux_loss_coef", "aux_loss_coef")]
    return float(next((value for value in found if value is not None), 0.0))


def losses_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Loss of every target in nats, float32 ``[batch, seq_len]``: ``-log p(targets[:, i] | its document so far)``."""
    flat = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def token_losses(
    model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """``losses_of`` the model's ``token_logits``."""
    return losses_of(token_logits(model, inputs, positions), targets)


def divergences(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """KL(teacher ‖ student) at every place in nats, float32 ``[batch, seq_len]``, of ``[batch, seq_len, vocabulary]``.

    ``Σ_v p_t(v) · (log p_t(v) − log p_s(v))`` over the vocabulary: 0 where both predict the same.
    """
    given, found = teacher.log_softmax(dim=-1), student.log_softmax(dim=-1)
    return functional.kl_div(found, given, reduction="none", log_target=True).sum(dim=-1)
