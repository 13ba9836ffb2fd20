"""Passages to cut: shared runs of words joined, widened by their surroundings, and cut out of a text.

Positions are those of words, so the plan is the same arithmetic in every script; characters come in last, when a cut is
moved to the end of a line or a sentence where one lies within the surroundings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewarm.stages.ingest.decontaminate.grams import word_spans
from rewarm.stages.ingest.settings import DecontaminateSettings

BREAK = re.compile(r"\n|[。！？｡]|[.!?…।۔](?=\s)")
SEAM = "\n\n"  # between two pieces that are kept


@dataclass(frozen=True)
class Cut:
    """Words ``start`` to ``stop`` go; of these ``first`` to ``last`` are shared. Half-open ranges."""

    start: int
    first: int
    last: int
    stop: int


def plan_cuts(
    positions: np.ndarray, lengths: np.ndarray, common: np.ndarray, num_words: int, settings: DecontaminateSettings
) -> list[Cut] | None:
    """The cuts of a text of ``num_words`` words, in order; None where nothing of it should be kept.

    ``positions`` (ascending) and ``lengths`` are those of its shared runs, in words, and ``common`` says which of them
    are boilerplate; int, int and bool [num_runs]. Words that boilerplate covers do not count: if a passage has too few
    others to make a run, as where two licences happen to be followed by the same word, it is not cut.
    """
    own = ~common
    if not own.any():
        return []
    covered = num_covered(positions[common], lengths[common], num_words)
    cuts: list[Cut] = []
    for first, last, shortest in passages(positions[own], lengths[own]):
        if last - first - int(covered[last] - covered[first]) < shortest:
            continue
        around = min(last - first, settings.surroundings)
        start, stop = max(0, first - around), min(num_words, last + around)
        if cuts and start <= cuts[-1].stop:
            cuts[-1] = Cut(cuts[-1].start, cuts[-1].first, last, max(stop, cuts[-1].stop))
        else:
            cuts.append(Cut(start, first, last, stop))
    if len(cuts) > settings.max_cuts:
        return None
    return cuts and without_short_pieces(cuts, num_words, settings.min_piece)


def passages(positions: np.ndarray, lengths: np.ndarray) -> list[tuple[int, int, int]]:
    """Runs that overlap or touch, as one: half-open ranges of words, and the words of the shortest run of each."""
    ends = np.maximum.accumulate(positions + lengths)
    starts = np.flatnonzero(np.append(True, positions[1:] > ends[:-1]))
    stops = np.append(starts[1:], len(positions)) - 1
    shortest = np.minimum.reduceat(lengths, starts)
    return list(zip(positions[starts].tolist(), ends[stops].tolist(), shortest.tolist(), strict=True))


def num_covered(positions: np.ndarray, lengths: np.ndarray, num_words: int) -> np.ndarray:
    """How many of the words before each place some runs cover; int64 [num_words + 1]."""
    edges = np.zeros(num_words + 1, np.int64)
    np.add.at(edges, positions, 1)
    np.subtract.at(edges, positions + lengths, 1)
    covered = np.cumsum(edges)[:-1] > 0
    return np.concatenate(([0], np.cumsum(covered)))


def without_short_pieces(cuts: Sequence[Cut], num_words: int, min_piece: int) -> list[Cut] | None:
    """The cuts (at least one) with what is too short between them; None where no piece remains."""
    merged: list[Cut] = []
    for cut in cuts:
        before = merged[-1].stop if merged else 0
        if cut.start - before >= min_piece:
            merged.append(cut)
        elif merged:
            merged[-1] = Cut(merged[-1].start, merged[-1].first, cut.last, cut.stop)
        else:
            merged.append(Cut(0, cut.first, cut.last, cut.stop))
    if num_words - merged[-1].stop < min_piece:
        last = merged[-1]
        merged[-1] = Cut(last.start, last.first, last.last, num_words)
    return None if merged[0].start == 0 and merged[0].stop == num_words else merged


def words_cut(cuts: Sequence[Cut] | None, num_words: int) -> int:
    """How many of a text's words a plan takes."""
    return num_words if cuts is None else sum(cut.stop - cut.start for cut in cuts)


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
