"""Runs of n words as 64-bit numbers, equal wherever case, punctuation, blanks or the encoding of a letter differ.

A text is folded (Unicode NFKC, so that wide letters and ligatures are plain ones; then case-folded) and split into
words of letters and digits alone; every mark only parts words. In Chinese and Japanese each character is a word. In
Thai, Lao, Burmese and Khmer each letter is one here, so that a copy is found wherever it begins, but three letters
weigh as much as a word: a run of 13 words there has 39 letters.

A word's number is xxh3-64 of its UTF-8 bytes. A run's is the polynomial sum(word[i] * BASE**i) modulo 2**64, plus a
constant for each length. BASE is odd, so it has an inverse, and all runs follow from one running sum. Two different
runs meet with a chance of about 2**-64 a pair: ten million guarded runs against a trillion words, about one in two.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
import xxhash

from rewarm.stages.ingest.words import LETTERS_A_WORD, bare_words, has_spelled, is_spelled, patterns

GRAMS_VERSION = 2  # rises whenever the same text may give other numbers
BASE = 0x9E3779B97F4A7C15
INVERSE = pow(BASE, -1, 2**64)
LENGTH = 0xD6E8FEB86659FD93
BLANKS = re.compile(r"\s+|\S+")
JOINING = frozenset(map(chr, [*range(0x1160, 0x1200), 0xFF9E, 0xFF9F]))  # letters that compose with the one before


class WordHashes(dict[str, int]):
    """Each word's number, made when first asked for."""

    def __missing__(self, word: str) -> int:
        number: int = xxhash.xxh3_64_intdigest(word.encode())
        self[word] = number
        return number


def words_of(text: str) -> list[str]:
    """The words of a text, folded."""
    return bare_words(fold(text))


def fold(text: str) -> str:
    """A text in the form in which words are compared."""
    return unicodedata.normalize("NFKC", text).casefold()


def word_spans(text: str) -> tuple[list[int], list[int]]:
    """Where each of ``words_of(text)`` begins and ends in ``text``, in characters.

    Folding can change the number of characters, so a word is placed by the letters that it came from, each with the
    marks upon it. If they do not give the folded text one by one (some rare compositions), the words between two blanks
    share one place, or all words of the text.
    """
    folded = fold(text)
    if text.isascii():
        spans = [match.span() for match in patterns().bare_word.finditer(folded)]
        return [start for start, _ in spans], [end for _, end in spans]
    starts, ends = (
        folded_places(text, letters(text), folded)
        or folded_places(text, (match.span() for match in BLANKS.finditer(text)), folded)
        or ([0] * len(folded), [len(text)] * len(folded))
    )
    spans = [match.span() for match in patterns().bare_word.finditer(folded)]
    return [starts[start] for start, _ in spans], [ends[end - 1] for _, end in spans]


def letters(text: str) -> Iterator[tuple[int, int]]:
    """Characters with the marks that compose with them."""
    start = 0
    for place in range(1, len(text)):
        character = text[place]
        if unicodedata.category(character)[0] != "M" and character not in JOINING:
            yield start, place
            start = place
    if text:
        yield start, len(text)


def folded_places(text: str, parts: Iterable[tuple[int, int]], folded: str) -> tuple[list[int], list[int]] | None:
    """For each character of the folded text where its part of ``text`` begins and ends; None if the parts differ."""
    starts: list[int] = []
    ends: list[int] = []
    made = []
    for start, end in parts:
        made.append(fold(text[start:end]))
        starts += [start] * len(made[-1])
        ends += [end] * len(made[-1])
    return (starts, ends) if "".join(made) == folded else None


def word_hashes(words: list[str], table: WordHashes) -> np.ndarray:
    """The words' numbers; uint64 [num_words]. ``table`` saves work over many texts."""
    return np.fromiter(map(table.__getitem__, words), np.uint64, len(words))


def run_hashes(words: np.ndarray, lengths: Iterable[int]) -> list[np.ndarray]:
    """For each length n the numbers of all runs of n words; uint64 [max(0, num_words - n + 1)] each."""
    powers = geometric(BASE, len(words))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(words * powers)))
    back = geometric(INVERSE, len(words))
    return [
        (sums[n:] - sums[:-n]) * back[: len(words) - n + 1] + np.uint64(n * LENGTH % 2**64)
        if len(words) >= n
        else np.empty(0, np.uint64)
        for n in lengths
    ]


def weights_of(words: list[str]) -> np.ndarray | None:
    """What each word weighs, in thirds of a word (``LETTERS_A_WORD``); int64 [num_words], None where all weigh one."""
    if not has_spelled("".join(words)):
        return None
    return np.fromiter((1 if is_spelled(word) else LETTERS_A_WORD for word in words), np.int64, len(words))


def num_whole_words(words: list[str]) -> int:
    """How many words a text has by their weight, rounded down."""
    weights = weights_of(words)
    return len(words) if weights is None else int(weights.sum()) // LETTERS_A_WORD


def weighed_runs(words: np.ndarray, weights: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of all runs that weigh as much as ``length`` words, each the shortest from its place on, and how many
    of ``words`` each has; uint64 and int64 [runs].

    A run without letters of Thai and its like has the number that ``run_hashes`` gives.
    """
    before = np.concatenate(([0], np.cumsum(weights)))
    stops = np.searchsorted(before, before[:-1] + length * LETTERS_A_WORD)
    stops = stops[stops <= len(words)]
    starts = np.arange(len(stops))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(words * geometric(BASE, len(words)))))
    numbers = (sums[stops] - sums[starts]) * geometric(INVERSE, len(words))[starts]
    return numbers + np.uint64(length * LENGTH % 2**64), stops - starts


def geometric(base: int, count: int) -> np.ndarray:
    """1, base, base**2 … modulo 2**64; uint64 [count]."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)


def gram_hashes(text: str, n: int) -> np.ndarray:
    """The numbers of a text's runs of ``n`` words, in their order; uint64 [runs]."""
    words = words_of(text)
    return runs_of(words, n, WordHashes())


def runs_of(words: list[str], length: int, table: WordHashes) -> np.ndarray:
    """The same of a text given by its words."""
    numbers, weights = word_hashes(words, table), weights_of(words)
    return run_hashes(numbers, [length])[0] if weights is None else weighed_runs(numbers, weights, length)[0]
