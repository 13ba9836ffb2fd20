"""Filters for generated text: each document is judged by itself, then all documents together, in order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Self

import numpy as np
import numpy.typing as npt

from rewarm.stages.data.split import Hashes, contains
from rewarm.stages.distill.settings import DistillSettings

LARGEST = 700.0  # nats whose exponential a double holds
REPLACEMENT = "\ufffd"  # a decoder's substitute for invalid UTF-8
KEEP, REFUSE, UNLIKELY, DUPLICATE, KNOWN, SURPLUS = range(6)  # outcomes of a draft; only the first is kept


class Reason(StrEnum):
    """Reason why a draft was refused, a fixed name for counts."""

    TOO_SHORT = "too short"
    UNDECODABLE = "no valid UTF-8"
    REPETITIVE = "repetitive"
    TOO_LIKELY = "perplexity too low"
    TOO_UNLIKELY = "perplexity too high"


def readable(text: str, ended: bool) -> str:
    """Return the text of a draft, without a character that was cut in two."""
    return text if ended else text.rstrip(REPLACEMENT)


def repetition(tokens: Sequence[int], size: int) -> float:
    """Return the share of tokens in n-grams of ``size`` tokens that occurred earlier in the document; 0 to 1."""
    if len(tokens) < size:
        return 0.0
    seen: set[tuple[int, ...]] = set()
    covered = np.zeros(len(tokens), dtype=bool)
    for first in range(len(tokens) - size + 1):
        ngram = tuple(tokens[first : first + size])
        if ngram in seen:
            covered[first : first + size] = True
        seen.add(ngram)
    return float(covered.mean())


def judge(
    text: str, tokens: Sequence[int], written: int, mean_nats: float, settings: DistillSettings
) -> tuple[Reason, str] | None:
    """Return the reason to refuse a draft, independently of others, with value and limit; None if it passes."""
    if written < settings.min_tokens or not text.strip():
        return Reason.TOO_SHORT, f"{written} tokens; the minimum is {settings.min_tokens}"
    if REPLACEMENT in text:
        return Reason.UNDECODABLE, f"the tokens are not valid UTF-8 at character {text.index(REPLACEMENT)}"
    repeated = repetition(tokens, settings.repetition_ngram)
    if repeated > settings.max_repetition:
        return Reason.REPETITIVE, f"{repeated:.3f} of the tokens repeat; the maximum is {settings.max_repetition}"
    perplexity = math.exp(min(mean_nats, LARGEST))
    if settings.min_perplexity is not None and perplexity < settings.min_perplexity:
        return Reason.TOO_LIKELY, f"{perplexity:.2f}; the minimum is {settings.min_perplexity}"
    if settings.max_perplexity is not None and perplexity > settings.max_perplexity:
        return Reason.TOO_UNLIKELY, f"{perplexity:.2f}; the maximum is {settings.max_perplexity}"
    return None


@dataclass(frozen=True)
class Drafts:
    """Figures of all drafts so far, in order, one row each: the basis of the decision."""

    hashes: Hashes
    folded: Hashes  # of the folded texts, by which duplicates are found
    tokens: npt.NDArray[np.int64]  # generated
    nats: npt.NDArray[np.float64]  # mean per sampled token
    ended: npt.NDArray[np.bool_]  # by end-of-text, which was also sampled
    num_bytes: npt.NDArray[np.int64]
    refused: npt.NDArray[np.bool_]  # by ``judge``

    @classmethod
    def none(cls) -> Self:
        """Return an empty set of drafts."""
        return cls(
            np.empty(0, "S16"),
            np.empty(0, "S16"),
            np.empty(0, np.int64),
            np.empty(0),
            np.empty(0, bool),
            np.empty(0, np.int64),
            np.empty(0, bool),
        )

    def __add__(self, later: "Drafts") -> "Drafts":
        return Drafts(*(np.concatenate([getattr(self, f.name), getattr(later, f.name)]) for f in fields(Drafts)))

    def __len__(self) -> int:
        return len(self.hashes)


@dataclass(frozen=True)
class Decision:
    """Outcome of every draft, and the largest mean nats per token that was kept."""

    fates: npt.NDArray[np.uint8]
    limit: float


def decide(drafts: Drafts, earlier: Sequence[Hashes], drop_unlikely: float, wanted: int) -> Decision | None:
    """Keep drafts in order until they hold ``wanted`` tokens; return None if there are too few so far.

    Of the drafts that pass individually, the share ``drop_unlikely`` with the highest nats per token is dropped, then
    duplicates of an earlier draft or of a document of an earlier dataset (``earlier``: sorted hashes), in any normal
    form, as in ingest; once enough is kept, the rest is surplus. A function of the drafts alone, so it does not
    depend on which actor wrote them first.
    """
    left = np.flatnonzero(~drafts.refused)
    if drafts.tokens[left].sum() < wanted:
        return None
    fates = np.full(len(drafts), REFUSE, np.uint8)
    limit = float(np.quantile(drafts.nats[left], 1 - drop_unlikely, method="inverted_cdf"))
    fates[left] = UNLIKELY
    left = left[drafts.nats[left] <= limit]
    fates[left] = DUPLICATE
    left = left[np.sort(np.unique(drafts.folded[left], return_index=True)[1])]
    known = np.zeros(len(left), bool)
    for index in earlier:
        known |= contains(index, drafts.folded[left]) | contains(index, drafts.hashes[left])
    fates[left] = np.where(known, KNOWN, SURPLUS)
    left = left[~known]
    reached = np.cumsum(drafts.tokens[left])
    if not len(left) or reached[-1] < wanted:
        return None
    fates[left[: np.searchsorted(reached, wanted) + 1]] = KEEP
    return Decision(fates, limit)
