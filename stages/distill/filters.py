"""What of a model's own text is kept: each document judged by itself, then all of them together, in their order."""

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
REPLACEMENT = "\ufffd"  # what a decoder puts where bytes are no UTF-8
KEEP, REFUSE, UNLIKELY, DUPLICATE, KNOWN, SURPLUS = range(6)  # a draft's fate; the first is the only good one


class Reason(StrEnum):
    """Why a draft was refused: fixed names to count by."""

    TOO_SHORT = "too short"
    UNDECODABLE = "no valid UTF-8"
    REPETITIVE = "repetitive"
    TOO_LIKELY = "perplexity too low"
    TOO_UNLIKELY = "perplexity too high"


def readable(text: str, ended: bool) -> str:
    """The text of a draft; a character that the cut went through is left out."""
    return text if ended else text.rstrip(REPLACEMENT)


def repetition(tokens: Sequence[int], size: int) -> float:
    """Share of the tokens that lie in an n-gram of ``size`` tokens that stood earlier in the document; 0 to 1."""
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
    """Why a draft is refused whatever the others are, and its value beside the limit; None where it is not."""
    if written < settings.min_tokens or not text.strip():
        return Reason.TOO_SHORT, f"{written} tokens; at least {settings.min_tokens} are asked for"
    if REPLACEMENT in text:
        return Reason.UNDECODABLE, f"the tokens are no UTF-8 at character {text.index(REPLACEMENT)}"
    repeated = repetition(tokens, settings.repetition_ngram)
    if repeated > settings.max_repetition:
        return Reason.REPETITIVE, f"{repeated:.3f} of the tokens repeat; at most {settings.max_repetition} may"
    perplexity = math.exp(min(mean_nats, LARGEST))
    if settings.min_perplexity is not None and perplexity < settings.min_perplexity:
        return Reason.TOO_LIKELY, f"{perplexity:.2f}; at least {settings.min_perplexity} is asked for"
    if settings.max_perplexity is not None and perplexity > settings.max_perplexity:
        return Reason.TOO_UNLIKELY, f"{perplexity:.2f}; at most {settings.max_perplexity} is allowed"
    return None


@dataclass(frozen=True)
class Drafts:
    """What is decided by, of all drafts so far in their order; one row each."""

    hashes: Hashes
    tokens: npt.NDArray[np.int64]  # that the model wrote
    nats: npt.NDArray[np.float64]  # mean per token that it chose
    ended: npt.NDArray[np.bool_]  # by end-of-text, which it chose too
    num_bytes: npt.NDArray[np.int64]
    refused: npt.NDArray[np.bool_]  # by ``judge``

    @classmethod
    def none(cls) -> Self:
        """No drafts."""
        return cls(
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
    """The fate of every draft, and the largest mean nats per token that was kept."""

    fates: npt.NDArray[np.uint8]
    limit: float


def decide(drafts: Drafts, earlier: Sequence[Hashes], drop_unlikely: float, wanted: int) -> Decision | None:
    """Keep drafts in their order until they hold ``wanted`` tokens; None where they do not yet.

    Of those not refused by themselves, the share ``drop_unlikely`` of the highest nats per token goes; then what
    repeats an earlier draft or a document of an earlier dataset (``earlier``: sorted hashes); the rest, once enough is
    kept, is surplus. A function of the drafts alone, so whoever wrote them first does not matter.
    """
    left = np.flatnonzero(~drafts.refused)
    if drafts.tokens[left].sum() < wanted:
        return None
    fates = np.full(len(drafts), REFUSE, np.uint8)
    limit = float(np.quantile(drafts.nats[left], 1 - drop_unlikely, method="inverted_cdf"))
    fates[left] = UNLIKELY
    left = left[drafts.nats[left] <= limit]
    fates[left] = DUPLICATE
    left = left[np.sort(np.unique(drafts.hashes[left], return_index=True)[1])]
    known = np.zeros(len(left), bool)
    for index in earlier:
        known |= contains(index, drafts.hashes[left])
    fates[left] = np.where(known, KNOWN, SURPLUS)
    left = left[~known]
    reached = np.cumsum(drafts.tokens[left])
    if not len(left) or reached[-1] < wanted:
        return None
    fates[left[: np.searchsorted(reached, wanted) + 1]] = KEEP
    return Decision(fates, limit)
