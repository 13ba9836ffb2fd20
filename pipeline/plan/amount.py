"""Size of an arrival, extrapolated from the part that was read, with its margin of error."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rewarm.pipeline.plan.sample import Sample
from rewarm.stages.data.split import SplitSize, expected_share, worth_of
from rewarm.stages.data.tokens import TokenStream

NORMAL_95 = 1.96  # standard errors either side that hold 95 % of a normal distribution


@dataclass(frozen=True)
class Amount:
    """Estimated size of the whole arrival, from the part that was read."""

    file_bytes: int
    read_bytes: int  # of the files
    complete: bool  # whether that is all of them
    documents: int  # new ones: neither repeated nor in earlier data; the validation split included
    text_bytes: int  # of those
    tokens: int  # of those that will be trained: in the training split, without what overlaps; end-of-text included
    tokens_margin: int | None  # half the 95 % interval; null if only one piece of a large arrival was read
    validation_tokens: int
    duplicates: float  # share of the records read that repeat another
    held_out: float  # share of the new text that overlaps with earlier validation splits, so it is not trained
    refused: int  # records that could not be read
    sample_documents: int
    sample_tokens: int
    token_bytes: int  # bytes of one token in a shard
    stored_share: float  # bytes of a document shard over those of its text


def extrapolate(
    sample: Sample,
    known: npt.NDArray[np.bool_],
    stream: TokenStream,
    stored: float,
    validation: SplitSize,
    held_out: float,
    file_bytes: int,
) -> Amount:
    """Extrapolate the part that was read to the whole arrival.

    Text: new text per byte of the pieces read, times the bytes of all files. Tokens: tokens per byte of text in the
    sample, times that. The margin joins the two ratios' standard errors, over documents and over pieces.
    """
    new = first_of_each(sample.hashes) & ~known
    by_piece = np.bincount(sample.places[new], sample.sizes[new], len(sample.pieces))
    density, density_error = ratio(np.asarray(by_piece, np.float64), sample.pieces)
    ends, sizes = stream.document_spans()
    lengths = np.diff(ends, prepend=0).astype(np.float64)
    per_byte, per_byte_error = ratio(lengths, sizes.astype(np.float64))
    if sample.complete:
        density_error = 0.0
    scale = file_bytes / sample.pieces.sum()
    text_bytes = density * file_bytes
    tokens = text_bytes * per_byte
    worth_each = worth_of(sample.sizes[new]) / max(1, int(new.sum()))
    validation_share = expected_share(validation, float(new.sum() * scale), worth_each)
    trained = (1 - validation_share) * (1 - held_out)
    error = None if density_error is None else math.hypot(density_error, per_byte_error or 0.0)
    return Amount(
        file_bytes=file_bytes,
        read_bytes=round(sample.pieces.sum()),
        complete=sample.complete,
        documents=round(new.sum() * scale),
        text_bytes=round(text_bytes),
        tokens=round(tokens * trained),
        tokens_margin=None if error is None else round(NORMAL_95 * error * tokens * trained),
        validation_tokens=round(tokens * validation_share),
        duplicates=float(1 - first_of_each(sample.hashes).mean()),
        held_out=held_out,
        refused=sample.refused,
        sample_documents=stream.num_documents,
        sample_tokens=stream.num_tokens,
        token_bytes=4 if stream.format is not None and stream.format.dtype == "uint32" else 2,
        stored_share=stored,
    )


def first_of_each(hashes: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows that are the first with their hash."""
    first = np.zeros(len(hashes), bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    return first


def ratio(parts: npt.NDArray[np.float64], wholes: npt.NDArray[np.float64]) -> tuple[float, float | None]:
    """``Σ parts / Σ wholes`` and its relative standard error by linearisation (Cochran 1977, section 6.4).

    The error is None for a single unit, or if the ratio is 0.
    """
    value = float(parts.sum() / wholes.sum())
    if len(parts) < 2 or value == 0:
        return value, None
    residuals = parts - value * wholes
    error = math.sqrt(float((residuals**2).sum()) * len(parts) / (len(parts) - 1)) / float(wholes.sum())
    return value, error / value
