"""Runs of words that repeat, against the definition spelled out."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.stages.ingest.filters.measures import Repeats


def repeats(words: list[str]) -> Repeats:
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return Repeats(np.array([numbers[word] for word in words], np.int64), np.array([*map(len, words)], np.int64))


def plain_top(words: list[str], n: int) -> int:
    counts = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
    run, most = max(counts.items(), key=lambda item: item[1], default=((), 0))  # the first of several
    return len(" ".join(run)) * most if most > 1 else 0


def plain_duplicates(words: list[str], n: int) -> int:
    read: set[tuple[str, ...]] = set()
    place = characters = 0
    while place + n <= len(words):
        run = tuple(words[place : place + n])
        if run in read:
            characters += sum(map(len, run))
            place += n
        else:
            read.add(run)
            place += 1
    return characters


# Few different words, so that runs repeat and overlap; several lengths, so that ties and characters matter.
WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "dd", "e", "ab", "c"]), max_size=60)
# Whole phrases again, as in boilerplate: long runs repeat.
PHRASES = st.lists(
    st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=1, max_size=12), min_size=1, max_size=4
).flatmap(
    lambda phrases: st.lists(st.sampled_from(phrases), max_size=12).map(
        lambda parts: [word for part in parts for word in part]
    )
)


@settings(deadline=None)
@given(WORDS | PHRASES)
def test_equal_to_the_definition(words: list[str]) -> None:
    ours = repeats(words)
    for n in range(1, 12):
        assert ours.top_characters(n) == plain_top(words, n), n
        assert ours.duplicate_characters(n) == plain_duplicates(words, n), n


@pytest.mark.parametrize(
    ("text", "n", "top", "duplicate"),
    [
        ("one two three four five", 2, 0, 0),
        ("to be or not to be", 2, 2 * len("to be"), len("tobe")),
        ("x x x x", 2, 3 * len("x x"), len("xx")),  # the third pair lies behind the second, which was counted
        ("a b a b c d c d", 2, 2 * len("a b"), 2 * len("ab")),  # a tie: the run that begins first
        ("a", 2, 0, 0),
    ],
)
def test_by_hand(text: str, n: int, top: int, duplicate: int) -> None:
    ours = repeats(text.split())
    assert (ours.top_characters(n), ours.duplicate_characters(n)) == (top, duplicate)
