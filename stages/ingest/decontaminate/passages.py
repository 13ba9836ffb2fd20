"""Passages to cut: shared runs of words, merged, extended by their surroundings, and cut from a text.

Positions are word positions, so the arithmetic is the same in every script, and done for many texts at once. Characters
matter only at the end, when a cut is moved to the end of a line or sentence within the surroundings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewarm.stages.ingest.decontaminate.grams import word_spans
from rewarm.stages.ingest.settings import DecontaminateSettings

BREAK = re.compile(r"\n|[。！？｡]|[.!?…।۔](?=\s)")
SEAM = "\n\n"  # between two pieces that are kept
RARE = 2  # a passage is rare if this many times its rare words are at least a rare run
NONE = 2**62  # words: more than any passage has


@dataclass(frozen=True)
class Cut:
    """Cut of the words ``start`` to ``stop``, of which ``first`` to ``last`` are shared. Half-open ranges."""

    start: int
    first: int
    last: int
    stop: int


@dataclass(frozen=True)
class Runs:
    """Shared runs of several texts, by text and position; arrays of equal length, except the last."""

    text: np.ndarray  # int64: index of the text, ascending from 0 without gaps
    position: np.ndarray  # int64: the run's first word
    length: np.ndarray  # int64: its length in words
    needed: np.ndarray  # int64: words that a passage with this run must have to be cut; 0: boilerplate
    rare: np.ndarray  # bool: whether it is in few enough documents to be cut; others are cut with it if they touch
    words: np.ndarray  # int64 [texts]: number of words of each text


@dataclass(frozen=True)
class Cuts:
    """Cuts of several texts, by text and position; arrays of equal length, except the last."""

    text: np.ndarray  # int64
    start: np.ndarray  # int64; this and the following as in ``Cut``
    first: np.ndarray
    last: np.ndarray
    stop: np.ndarray
    whole: np.ndarray  # bool [texts]: whether the whole text is removed

    def num_words(self, words: np.ndarray) -> int:
        """Return the number of words cut from texts with ``words`` words each."""
        kept = ~self.whole[self.text]
        return int((self.stop - self.start)[kept].sum() + words[self.whole].sum())


@dataclass(frozen=True)
class Passages:
    """Merged runs that overlap or touch and are not boilerplate; arrays of equal length. Half-open ranges of words."""

    text: np.ndarray  # int64
    first: np.ndarray  # int64: its start, counted over all texts
    last: np.ndarray  # int64: its end, counted over all texts
    needed: np.ndarray  # int64: the smallest ``needed`` of its runs
    own: np.ndarray  # int64: its words that boilerplate does not cover
    shortest: np.ndarray  # int64: words of its shortest rare run
    rare: np.ndarray  # int64: its words that only rare runs cover


def plan_cuts(runs: Runs, settings: DecontaminateSettings) -> list[Cut] | None:
    """Return the cuts of the single text of ``runs``, in order; None if the whole text should be removed."""
    cuts = cuts_of(find_passages(runs), runs.words, settings)
    if cuts.whole[0]:
        return None
    columns = (cuts.start, cuts.first, cuts.last, cuts.stop)
    return [Cut(*edges) for edges in zip(*(column.tolist() for column in columns), strict=True)]


def find_passages(runs: Runs) -> Passages:
    """Return the passages of texts.

    Words covered by boilerplate do not count: if two licences happen to be followed by the same word, this is not a run
    of its own. Likewise, a passage is rare only if enough of its words are only in rare runs.
    """
    places = runs.position + beginnings(runs.words)[runs.text]
    common = runs.needed == 0
    ends = places + runs.length
    starts, stops = joined(places[~common], ends[~common])
    first, last = places[~common][starts], np.maximum.accumulate(ends[~common])[stops]
    if not len(starts):
        return Passages(*[starts] * 7)
    needed = np.minimum.reduceat(runs.needed[~common], starts)
    shortest = np.minimum.reduceat(np.where(runs.rare, runs.length, NONE)[~common], starts)
    own = last - first - covered(places[common], ends[common], first, last)
    rare = last - first - covered(places[~runs.rare], ends[~runs.rare], first, last)
    return Passages(runs.text[~common][starts], first, last, needed, own, shortest, rare)


def cuts_of(passages: Passages, words: np.ndarray, settings: DecontaminateSettings) -> Cuts:
    """Return the cuts for passages of texts with ``words`` words each; int64 [texts].

    A passage is cut with its surroundings if it is rare and long enough. A text is removed as a whole after too many
    cuts, or if no remaining piece is long enough.
    """
    begins = beginnings(words)
    ends = begins + words
    kept = (passages.own >= passages.needed) & (RARE * passages.rare >= passages.shortest)
    text, first, last = passages.text[kept], passages.first[kept], passages.last[kept]
    around = np.minimum(last - first, settings.surroundings)
    start, stop = np.maximum(begins[text], first - around), np.minimum(ends[text], last + around)
    heads, tails = joined(start, stop)
    stop = np.maximum.accumulate(stop)[tails]
    text, start, first, last = text[heads], start[heads], first[heads], last[tails]
    many = np.bincount(text, minlength=len(words)) > settings.max_cuts
    start = np.where(start - begins[text] < settings.min_piece, begins[text], start)
    stop = np.where(ends[text] - stop < settings.min_piece, ends[text], stop)
    apart = np.append(True, (text[1:] != text[:-1]) | (start[1:] - stop[:-1] >= settings.min_piece))[: len(text)]
    heads = np.flatnonzero(apart)
    tails = np.append(heads[1:], len(text))[: len(heads)] - 1
    text, start, first, last, stop = text[heads], start[heads], first[heads], last[tails], stop[tails]
    many[text[(start == begins[text]) & (stop == ends[text])]] = True
    begin = begins[text]
    return Cuts(text, start - begin, first - begin, last - begin, stop - begin, many)


def beginnings(words: np.ndarray) -> np.ndarray:
    """Return the start of each text if words are counted over all texts, with a gap of one between texts."""
    return np.concatenate(([0], np.cumsum(words + 1)))[:-1]


def joined(starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge ranges that overlap or touch; return the indices of the first and last of each; ``starts`` ascend."""
    ends = np.maximum.accumulate(stops)
    firsts = np.flatnonzero(np.append(True, starts[1:] > ends[:-1])[: len(starts)])
    return firsts, np.append(firsts[1:], len(starts))[: len(firsts)] - 1


def covered(starts: np.ndarray, stops: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Count the words of the ranges ``first`` to ``last`` covered by ranges (``starts`` ascend); int64 [len(first)]."""
    if not len(starts):
        return np.zeros(len(first), np.int64)
    heads, tails = joined(starts, stops)
    starts, stops = starts[heads], np.maximum.accumulate(stops)[tails]
    before = np.concatenate(([0], np.cumsum(stops - starts)))

    def up_to(place: np.ndarray) -> np.ndarray:
        range_at = np.searchsorted(starts, place, "right")
        last_one = np.maximum(range_at - 1, 0)
        over = np.where(range_at > 0, np.maximum(stops[last_one] - place, 0), 0)
        total: np.ndarray = before[range_at] - over
        return total

    within: np.ndarray = up_to(last) - up_to(first)
    return within


def cut_text(text: str, cuts: Sequence[Cut]) -> tuple[str, str]:
    """Return the kept pieces of a text, joined by an empty line, and the first shared passage."""
    starts, ends = word_spans(text)
    kept, end = [], 0
    for cut in cuts:
        left = 0 if cut.start == 0 else after_first_break(text, starts[cut.start], starts[cut.first])
        right = len(text) if cut.stop == len(starts) else after_last_break(text, ends[cut.last - 1], starts[cut.stop])
        kept.append(text[end:left])
        end = right
    kept.append(text[end:])
    pieces = [piece for piece in kept if piece.strip()]
    joined = [piece.rstrip() for piece in pieces[:-1]] + pieces[-1:]
    shared = text[starts[cuts[0].first] : ends[cuts[0].last - 1]]
    return SEAM.join([*joined[:1], *(piece.lstrip("\r\n") for piece in joined[1:])]), shared


def after_first_break(text: str, start: int, stop: int) -> int:
    """Return the end of the first line or sentence in a range of characters, or its start if there is none."""
    found = BREAK.search(text, start, stop)
    return found.end() if found else start


def after_last_break(text: str, start: int, stop: int) -> int:
    """Return the end of the last line or sentence in a range of characters, or its end if there is none."""
    ends = [found.end() for found in BREAK.finditer(text, start, stop)]
    return ends[-1] if ends else stop
