"""Runs of n words (n-grams) as 64-bit hashes that ignore case, punctuation, blanks and the encoding of letters.

A text is folded (Unicode NFKC, which replaces wide letters and ligatures by plain ones; without invisible characters
and vowel points; then case-folded) and split into words of only letters and digits; marks separate words. In Chinese
and Japanese each character is a word. In Thai, Lao, Burmese and Khmer each letter is a word here, so that a copy is
found wherever it begins, but three letters weigh as much as one word: a run of 13 words has 39 letters.

The hash of a word is xxh3-64 of its UTF-8 bytes. The hash of a run is the polynomial sum(word[i] * BASE**i) modulo
2**64, plus a constant for each length. BASE is odd, so it has an inverse, and all runs follow from one running sum. Two
different runs collide with a probability of about 2**-64: for ten million guarded runs and a trillion words, the
probability of any collision is about one half.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
import xxhash

from rewarm.stages.data.normal_forms import fold_letters
from rewarm.stages.ingest.words import LETTERS_A_WORD, bare_words, has_spelled, is_spelled, patterns

GRAMS_VERSION = 2  # incremented when the same text may give other numbers
BASE = 0x9E3779B97F4A7C15
INVERSE = pow(BASE, -1, 2**64)
LENGTH = 0xD6E8FEB86659FD93
BLANKS = re.compile(r"\s+|\S+")
JOINING = frozenset(map(chr, [*range(0x1160, 0x1200), 0xFF9E, 0xFF9F]))  # letters that compose with the previous one


class WordHashes(dict[str, int]):
    """Hashes of words, computed on first use."""

    def __missing__(self, word: str) -> int:
        number: int = xxhash.xxh3_64_intdigest(word.encode())
        self[word] = number
        return number


def words_of(text: str) -> list[str]:
    """Return the folded words of a text."""
    return bare_words(fold(text))


def fold(text: str) -> str:
    """Return a text in the form in which words are compared.

    Guards written when invisible characters and spellings still counted hold other runs of the few texts with them.
    """
    return text.lower() if text.isascii() else fold_letters(text).casefold()


def word_spans(text: str) -> tuple[list[int], list[int]]:
    """Return the start and end of each of ``words_of(text)`` in ``text``, in characters.

    Folding can change the number of characters, so a word is located by its original letters, each with its marks. If
    these do not give the folded text one by one (some rare compositions), all words between two blanks, or all words of
    the text, share one range.
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
    """Yield the ranges of characters with the marks that compose with them."""
    start = 0
    for place in range(1, len(text)):
        character = text[place]
        if unicodedata.category(character)[0] != "M" and character not in JOINING:
            yield start, place
            start = place
    if text:
        yield start, len(text)


def folded_places(text: str, parts: Iterable[tuple[int, int]], folded: str) -> tuple[list[int], list[int]] | None:
    """Return start and end in ``text`` for each character of the folded text; None if the parts differ."""
    starts: list[int] = []
    ends: list[int] = []
    made = []
    for start, end in parts:
        made.append(fold(text[start:end]))
        starts += [start] * len(made[-1])
        ends += [end] * len(made[-1])
    return (starts, ends) if "".join(made) == folded else None


def word_hashes(words: list[str], table: WordHashes) -> np.ndarray:
    """Return the words' hashes; uint64 [num_words]. ``table`` caches them across texts."""
    return np.fromiter(map(table.__getitem__, words), np.uint64, len(words))


def run_hashes(words: np.ndarray, lengths: Iterable[int]) -> list[np.ndarray]:
    """Return for each length n the hashes of all runs of n words; uint64 [max(0, num_words - n + 1)] each."""
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
    """Return each word's weight in thirds of a word (``LETTERS_A_WORD``); int64 [num_words], None if all weigh one."""
    if not has_spelled("".join(words)):
        return None
    return np.fromiter((1 if is_spelled(word) else LETTERS_A_WORD for word in words), np.int64, len(words))


def num_whole_words(words: list[str]) -> int:
    """Return the total weight of a text in whole words, rounded down."""
    weights = weights_of(words)
    return len(words) if weights is None else int(weights.sum()) // LETTERS_A_WORD


def weighed_runs(words: np.ndarray, weights: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of all shortest runs that weigh at least ``length`` words, and their lengths in ``words``.

    uint64 and int64 [runs]. A run without letters of Thai and the like has the same hash as in ``run_hashes``.
    """
    before = np.concatenate(([0], np.cumsum(weights)))
    stops = np.searchsorted(before, before[:-1] + length * LETTERS_A_WORD)
    stops = stops[stops <= len(words)]
    starts = np.arange(len(stops))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(words * geometric(BASE, len(words)))))
    numbers = (sums[stops] - sums[starts]) * geometric(INVERSE, len(words))[starts]
    return numbers + np.uint64(length * LENGTH % 2**64), stops - starts


def geometric(base: int, count: int) -> np.ndarray:
    """Return 1, base, base**2 … modulo 2**64; uint64 [count]."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)


def gram_hashes(text: str, n: int) -> np.ndarray:
    """Return the hashes of a text's runs of ``n`` words, in order; uint64 [runs]."""
    words = words_of(text)
    return runs_of(words, n, WordHashes())


def runs_of(words: list[str], length: int, table: WordHashes) -> np.ndarray:
    """Return the hashes of the runs of a text given by its words; uint64 [runs]."""
    numbers, weights = word_hashes(words, table), weights_of(words)
    return run_hashes(numbers, [length])[0] if weights is None else weighed_runs(numbers, weights, length)[0]
