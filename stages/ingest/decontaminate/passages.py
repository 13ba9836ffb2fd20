"""Passages to cut: shared runs of words joined, widened by their surroundings, and cut out of a text.

Positions are those of words, so the plan is the same arithmetic in every script, done for many texts at once;
characters come in last, when a cut is moved to the end of a line or a sentence where one lies within the surroundings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewarm.stages.ingest.decontaminate.grams import word_spans
from rewarm.stages.ingest.settings import DecontaminateSettings

BREAK = re.compile(r"\n|[。！？｡]|[.!?…।۔](?=\s)")
SEAM = "\n\n"  # between two pieces that are kept
RARE = 2  # a passage is rare if so many times its rare words make a rare run
NONE = 2**62  # words: no passage has so many


@dataclass(frozen=True)
class Cut:
    """Words ``start`` to ``stop`` go; of these ``first`` to ``last`` are shared. Half-open ranges."""

    start: int
    first: int
    last: int
    stop: int


@dataclass(frozen=True)
class Runs:
    """Shared runs of several texts, by text and position; arrays of one length, but for the last."""

    text: np.ndarray  # int64: which text, ascending from 0, none left out
    position: np.ndarray  # int64: the run's first word
    length: np.ndarray  # int64: its words
    needed: np.ndarray  # int64: words that a passage with this run must have to be cut; 0: boilerplate
    rare: np.ndarray  # bool: whether so few documents hold it that it is cut; others are cut with it, where they touch
    words: np.ndarray  # int64 [texts]: those of each text


@dataclass(frozen=True)
class Cuts:
    """The cuts of several texts, by text and position; arrays of one length, but for the last."""

    text: np.ndarray  # int64
    start: np.ndarray  # int64, and so on: as in ``Cut``
    first: np.ndarray
    last: np.ndarray
    stop: np.ndarray
    whole: np.ndarray  # bool [texts]: of which nothing should be kept

    def num_words(self, words: np.ndarray) -> int:
        """How many words go of texts that have so many."""
        kept = ~self.whole[self.text]
        return int((self.stop - self.start)[kept].sum() + words[self.whole].sum())


@dataclass(frozen=True)
class Passages:
    """Runs that overlap or touch and are no boilerplate, as one; arrays of one length. Ranges of words, half-open."""

    text: np.ndarray  # int64
    first: np.ndarray  # int64: its place, counted through all texts
    last: np.ndarray  # int64: its end, counted so
    needed: np.ndarray  # int64: the least that any of its runs asks for
    own: np.ndarray  # int64: its words that no boilerplate covers
    shortest: np.ndarray  # int64: words of its shortest rare run
    rare: np.ndarray  # int64: its words that only rare runs cover


def plan_cuts(runs: Runs, settings: DecontaminateSettings) -> list[Cut] | None:
    """The cuts of the one text that ``runs`` are of, in order; None where nothing of it should be kept."""
    cuts = cuts_of(find_passages(runs), runs.words, settings)
    if cuts.whole[0]:
        return None
    columns = (cuts.start, cuts.first, cuts.last, cuts.stop)
    return [Cut(*edges) for edges in zip(*(column.tolist() for column in columns), strict=True)]


def find_passages(runs: Runs) -> Passages:
    """The passages of texts.

    Words that boilerplate covers do not count: where two licences happen to be followed by the same word, that makes no
    run of its own. In the same way a passage is rare only if enough of its words are in no run that is not.
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


def cuts_of(found: Passages, words: np.ndarray, settings: DecontaminateSettings) -> Cuts:
    """The cuts for passages of texts that have so many words; int64 [texts].

    A passage goes with its surroundings if it is rare and has the words that it needs. A text goes as a whole after
    too many cuts, or where no piece that remains is long enough.
    """
    begins = beginnings(words)
    ends = begins + words
    kept = (found.own >= found.needed) & (RARE * found.rare >= found.shortest)
    text, first, last = found.text[kept], found.first[kept], found.last[kept]
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
    """Where each text begins if words are counted through all of them, one place left free between two."""
    return np.concatenate(([0], np.cumsum(words + 1)))[:-1]


def joined(starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranges that overlap or touch, as one: the places of the first and the last of each; ``starts`` ascend."""
    ends = np.maximum.accumulate(stops)
    firsts = np.flatnonzero(np.append(True, starts[1:] > ends[:-1])[: len(starts)])
    return firsts, np.append(firsts[1:], len(starts))[: len(firsts)] - 1


def covered(starts: np.ndarray, stops: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """How many words of the ranges ``first`` to ``last`` some ranges (``starts`` ascend) cover; int64 [len(first)]."""
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
    """What is kept of a text, its pieces joined by an empty line, and the first passage that was shared."""
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
    """Where the first line or sentence ends in a range of characters; its start where none does."""
    found = BREAK.search(text, start, stop)
    return found.end() if found else start


def after_last_break(text: str, start: int, stop: int) -> int:
    """Where the last line or sentence ends in a range of characters; its end where none does."""
    ends = [found.end() for found in BREAK.finditer(text, start, stop)]
    return ends[-1] if ends else stop
