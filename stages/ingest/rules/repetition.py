"""Runs of n words that a document repeats (Rae et al. 2021, arXiv 2112.11446, appendix A1.1, "Repetition Removal").

Exact, without hashing: a run of n words is known by its first and its last n - 1 words, so the numbers of longer runs
follow from those of shorter ones. Only runs that occur at least twice are carried on, because no longer run is more
frequent than its parts; in prose few are left after three or four words.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Runs:
    """The runs of n words that occur at least twice."""

    places: np.ndarray  # int64 [k]: where each begins, ascending
    ids: np.ndarray  # int64 [k]: a number that only equal runs share, from 0 and below len(counts)
    counts: np.ndarray  # int64: how often the run of each number occurs


class Repeats:
    """Repeated runs of a document's words, given as numbers (int64 [N], from 0, below N) and lengths in characters."""

    def __init__(self, words: np.ndarray, lengths: np.ndarray) -> None:
        self._ends = np.concatenate(([0], np.cumsum(lengths)))
        counts = np.bincount(words, minlength=1)
        places = np.flatnonzero(counts[words] > 1)
        self._runs = [Runs(places, words[places], counts)]

    def runs(self, n: int) -> Runs:
        """The runs of ``n`` words, ``n >= 1``."""
        while len(self._runs) < n:
            self._runs.append(longer(self._runs[-1]))
        return self._runs[n - 1]

    def top_characters(self, n: int) -> int:
        """Characters of the most frequent run of ``n`` words, with one blank between words, times its occurrences.

        Of several that are as frequent, the one that begins first. 0 where no run occurs twice.
        """
        runs = self.runs(n)
        if not len(runs.places):
            return 0
        most = int(runs.counts.max())
        place = runs.places[np.argmax(runs.counts[runs.ids] == most)]
        return int(self._ends[place + n] - self._ends[place] + n - 1) * most

    def duplicate_characters(self, n: int) -> int:
        """Characters of words in runs of ``n`` words that were read before, none counted twice.

        The document is read from left to right. A run that was read before counts, and reading goes on behind it; else
        the run counts as read, and reading goes on one word further.
        """
        runs = self.runs(n)
        read: set[int] = set()
        characters = behind = 0
        for place, run in zip(runs.places.tolist(), runs.ids.tolist(), strict=True):
            if place < behind:
                continue
            if run in read:
                behind = place + n
                characters += int(self._ends[behind] - self._ends[place])
            else:
                read.add(run)
        return characters


def longer(runs: Runs) -> Runs:
    """The repeated runs of n + 1 words from those of n words: both their first and their last n words repeat."""
    follow = np.flatnonzero(np.diff(runs.places) == 1)
    pairs = runs.ids[follow] * len(runs.counts) + runs.ids[follow + 1]
    return repeated_only(runs.places[follow], pairs)


def repeated_only(places: np.ndarray, keys: np.ndarray) -> Runs:
    """The places whose key occurs at least twice, with keys replaced by numbers from 0."""
    if not len(keys):
        nothing = np.empty(0, np.int64)
        return Runs(nothing, nothing, nothing)
    order = np.argsort(keys)
    ranked = keys[order]
    first = np.concatenate(([True], ranked[1:] != ranked[:-1]))
    counts = np.diff(np.append(np.flatnonzero(first), len(keys)))
    kept = counts > 1
    number = np.where(kept, np.cumsum(kept) - 1, -1)  # of each different key; -1: occurs once
    ids = np.empty(len(keys), np.int64)
    ids[order] = number[np.cumsum(first) - 1]
    twice = ids >= 0
    return Runs(places[twice], ids[twice], counts[kept])
