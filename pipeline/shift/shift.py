"""Measures of how far an arrival is from what the model knows; ``judgement.py`` decides when a shift is strong."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rewarm.pipeline.shift.judgement import Measure, Strength

UNKNOWN = "unknown"
LANGUAGE_CHARACTERS = 4000  # of a document from which its language is detected
MIN_LETTERS = 40  # with fewer, no language is detected
WORDS = 0.6  # share of space-separated pieces that are words in prose; lower in code and tables
KNOWN_SHARE = 0.02  # of earlier text: a language below it is new
PUNCTUATION = ".,;:!?()\"'«»“”"
FREQUENT = 500  # types of token, among which frequencies are compared
SHINGLE = 13  # tokens, as in GPT-3's overlap analysis (Brown et al. 2020, appendix C)
DRAWS = 40  # of earlier documents, to see what as few documents diverge by from their own kind
MOST_DRAWN = 300  # documents of a draw: more diverge by nothing that matters
MOST_HELD = 3000  # earlier documents that draws are made from
TYPES = 2000  # commonest tokens that are counted by document; the measure looks at ``FREQUENT`` of them
SEED = 11  # of the draws
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Reference:
    """Statistics of an earlier dataset (or all of them together), with the trunk's losses on it."""

    name: str
    divergence: float  # of its token frequencies and the arrival's, nats
    loss: float | None  # the trunk's on its validation split, nats per token
    bits_per_byte: float | None
    parts: tuple[str, ...] = ()  # the datasets it is made of


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
    measures: list[Measure] = field(default_factory=list)  # what the verdict rests on
    documents: int = 0  # that were compared
    worth: float = 0.0  # how many of equal length those are worth


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


def divergence_beyond_chance(
    arrival: Sequence[npt.NDArray[np.int64]],
    earlier: Sequence[npt.NDArray[np.int64]],
    weights: npt.NDArray[np.float64],
    size: int,
) -> tuple[float, float]:
    """The divergence of an arrival's documents from earlier ones beyond that of as many earlier ones, and its error.

    ``weights`` are the probabilities of the earlier documents, ``size`` the vocabulary's. Few documents diverge from
    any corpus, their own too, as words of a topic come in bursts: what ``DRAWS`` draws of earlier documents diverge by
    from the rest is taken off. The standard error is made of theirs and of the arrival's own documents, resampled; with
    fewer than two earlier documents, of which nothing can be drawn, it is the measure's whole range.
    """
    rng = np.random.default_rng(SEED)
    compared = [arrival[place] for place in rng.permutation(len(arrival))[:MOST_DRAWN]]
    kept = rng.choice(len(earlier), min(len(earlier), MOST_HELD), replace=False, p=weights)
    classes = token_classes(frequencies(compared, size) + frequencies((earlier[place] for place in kept), size))
    ours, theirs = (
        np.stack([np.bincount(classes[tokens], minlength=TYPES + 1) for tokens in documents]).astype(np.float64)
        for documents in (compared, [earlier[place] for place in kept])
    )
    theirs *= (weights[kept] / np.maximum(theirs.sum(axis=1), 1.0))[:, None]  # each by its own weight
    whole = theirs.sum(axis=0)
    if len(theirs) < 2:
        return divergence(*merged(whole, ours.sum(axis=0))), math.log(2)
    number, most = len(ours), len(theirs) // 2
    chance, again = [], []
    for _ in range(DRAWS):
        part = theirs[rng.choice(len(theirs), min(number, most), replace=False)].sum(axis=0)
        chance.append(divergence(*merged(np.maximum(whole - part, 0.0), part)))
        again.append(divergence(*merged(whole, ours[rng.integers(0, number, number)].sum(axis=0))))
    found, by_chance = divergence(*merged(whole, ours.sum(axis=0))), float(np.std(chance))
    own = float(np.std(again)) if number > 1 else 0.0
    return max(0.0, found - float(np.mean(chance))), math.hypot(by_chance, max(own, by_chance))


def token_classes(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The class of every token id: a number of its own for the ``TYPES`` commonest, one more for all others."""
    classes = np.full(len(counts), TYPES, np.int64)
    top = np.argsort(-counts, kind="stable")[:TYPES]
    classes[top] = np.arange(len(top))
    return classes


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
    """Return the share of the wanted hashes that are known; 0 if there are none."""
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
