"""How far an arrival lies from what the model knows: measures of it, and when they add up to a strong shift."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.planner.settings import PlanSettings

Strength = Literal["weak", "strong"]
UNKNOWN = "unknown"
LANGUAGE_CHARACTERS = 4000  # of a document, to tell its language by
MIN_LETTERS = 40  # fewer say nothing of a language
WORDS = 0.6  # of what stands between spaces is words in prose; in code and tables it is less
KNOWN_SHARE = 0.02  # of earlier text: a language below it is new
PUNCTUATION = ".,;:!?()\"'«»“”"
FREQUENT = 500  # types of token, among which frequencies are compared
SHINGLE = 13  # tokens, as in GPT-3's overlap analysis (Brown et al. 2020, appendix C)
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Reference:
    """What an earlier dataset (or all of them together) is like, and how the trunk does on it."""

    name: str
    divergence: float  # of its token frequencies and the arrival's, nats
    loss: float | None  # the trunk's on its validation split, nats per token
    bits_per_byte: float | None


@dataclass(frozen=True)
class Shift:
    """The measures and their verdict."""

    strength: Strength
    because: list[str]
    arrival_loss: float | None  # the trunk's, nats per token
    base_loss: float | None  # the trunk's on the nearest earlier dataset's validation split
    arrival_bits_per_byte: float | None
    base_bits_per_byte: float | None
    loss_margin: float | None  # half the 95 % interval of arrival_loss, from the sample's documents
    divergence: float | None  # Jensen–Shannon, nats, from the nearest earlier dataset
    nearest: str | None
    divergences: dict[str, float] = field(default_factory=dict)
    languages: dict[str, float] = field(default_factory=dict)  # shares of the arrival's text
    earlier_languages: dict[str, float] = field(default_factory=dict)
    new_languages: float | None = None  # share of the arrival in languages that earlier data hardly holds
    overlap: float = 0.0  # share of the arrival's documents that are in earlier data
    shingle_overlap: float | None = None  # share of its runs of 13 tokens that a sample of earlier data holds


def judge(
    references: Sequence[Reference],
    arrival_bits: float | None,
    new_languages: float | None,
    settings: PlanSettings,
) -> tuple[Strength, Reference | None, list[str]]:
    """Weak or strong, the nearest earlier data, and every figure beside its threshold.

    The nearest is the reference of the least divergence. One measure at or above its threshold makes a shift strong.
    Without anything to compare with, the shift counts as strong: too much replay costs the new data little (German
    at 405M parameters: 1.13 nats at 5 %, 1.16 at 25 %), too little costs the old much (2.57 against 2.33; Ibrahim et
    al. 2024, section 6.2).
    """
    nearest = min(references, key=lambda one: one.divergence, default=None)
    if nearest is None:
        return "strong", None, ["there is no earlier data to compare with, so the cautious choice is made"]
    figures = [(nearest.divergence, settings.strong_divergence, f"token divergence from {nearest.name}", "nats")]
    if arrival_bits is not None and nearest.bits_per_byte:
        ratio = arrival_bits / nearest.bits_per_byte
        figures.append((ratio, settings.strong_loss, f"the trunk's bits per byte over those on {nearest.name}", "×"))
    if new_languages is not None:
        figures.append((new_languages, settings.new_languages, "text in new languages", ""))
    over = [figure for figure in figures if figure[0] >= figure[1]]
    because = [
        f"{what} {value:.3g}{' ' + unit if unit else ''}, {'at or above' if value >= limit else 'below'} {limit:g}"
        for value, limit, what, unit in (over or figures)
    ]
    return ("strong" if over else "weak"), nearest, because


# -- token frequencies -------------------------------------------------------------------------------------------


def frequencies(documents: Iterable[npt.NDArray[np.int64]], size: int) -> npt.NDArray[np.int64]:
    """Counts (int64 ``[size]``) of every token id."""
    counts = np.zeros(size, np.int64)
    for tokens in documents:
        counts += np.bincount(tokens, minlength=size)
    return counts


def merged(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], types: int = FREQUENT
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both weights over the ``types`` most frequent tokens of the two together, and one entry for all other tokens.

    A larger vocabulary cuts the same text into rarer tokens and so finds more divergence; over the most frequent tokens
    alone, vocabularies of 1,024 to 32,768 agree far better.
    """
    top = np.argsort(-(first / first.sum() + second / second.sum()), kind="stable")[:types]
    cut_first, cut_second = (np.append(one[top], max(0.0, one.sum() - one[top].sum())) for one in (first, second))
    return cut_first, cut_second


def divergence(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """The Jensen–Shannon divergence of two distributions given as weights: 0 for equal ones, ln 2 for disjoint ones.

    ``H(M) − (H(P) + H(Q)) / 2`` with ``M = (P + Q) / 2``, in nats (Lin 1991, section IV).
    """
    p, q = first / first.sum(), second / second.sum()
    value = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    return min(max(value, 0.0), math.log(2))


def entropy(distribution: npt.NDArray[np.float64]) -> float:
    """Nats."""
    positive = distribution[distribution > 0]
    return float(-(positive * np.log(positive)).sum())


def sampling_bias(types: int, first: int, second: int) -> float:
    """What ``divergence`` finds, on average, between samples of ``first`` and ``second`` tokens of one distribution.

    ``(K − 1) / 8 · (1/n + 1/m)`` for K types of token: the leading term of the plug-in entropies' bias (Miller 1955).
    """
    return (types - 1) / 8 * (1 / first + 1 / second)


# -- runs of tokens ----------------------------------------------------------------------------------------------


def shingles(documents: Iterable[npt.NDArray[np.int64]], length: int = SHINGLE) -> npt.NDArray[np.uint64]:
    """Hashes (uint64, sorted, unique) of all runs of ``length`` tokens inside documents, end-of-text left out."""
    parts = [np.empty(0, np.uint64)]
    for tokens in documents:
        words = tokens[:-1].astype(np.uint64) + np.uint64(1)
        if len(words) < length:
            continue
        hashes = np.zeros(len(words) - length + 1, np.uint64)
        for place in range(length):
            hashes = (hashes + words[place : place + len(hashes)]) * MULTIPLIER
            hashes ^= hashes >> np.uint64(29)
        parts.append(hashes)
    return np.unique(np.concatenate(parts))


def contained(wanted: npt.NDArray[np.uint64], known: npt.NDArray[np.uint64]) -> float:
    """Share of the wanted hashes that are known; 0 where nothing is wanted."""
    return float(np.isin(wanted, known, assume_unique=True).mean()) if len(wanted) else 0.0


# -- languages ---------------------------------------------------------------------------------------------------


def languages(texts: Iterable[str]) -> dict[str, float]:
    """Share of the characters in each language, the largest first; ``unknown``: code, tables, too short."""
    characters: Counter[str] = Counter()
    for text in texts:
        characters[language(text)] += len(text)
    total = max(1, characters.total())
    return {name: count / total for name, count in characters.most_common()}


def language(text: str) -> str:
    """The language of a text by its code, such as ``en``; ``unknown`` for code and tables.

    The detector names a language for anything, and the rank it gives with it does not tell code from prose (measured on
    the demo's corpora), so what is not mostly words is not asked about; scripts other than Latin may have no spaces.
    """
    from resiliparse.parse.lang import detect_fast

    beginning = unicodedata.normalize("NFC", text[:LANGUAGE_CHARACTERS])
    letters = [character for character in beginning if character.isalpha()]
    if len(letters) < MIN_LETTERS:
        return UNKNOWN
    latin = sum(character.isascii() for character in letters) > len(letters) / 2
    pieces = beginning.split()
    words = sum(piece.strip(PUNCTUATION).isalpha() for piece in pieces)
    if latin and words < WORDS * len(pieces):
        return UNKNOWN
    return str(detect_fast(beginning)[0])


def new_share(arrival: Mapping[str, float], earlier: Mapping[str, float]) -> float:
    """Share of the arrival in languages that make up less than ``KNOWN_SHARE`` of earlier text."""
    known = {name for name, share in earlier.items() if share >= KNOWN_SHARE}
    return sum(share for name, share in arrival.items() if name != UNKNOWN and name not in known)
