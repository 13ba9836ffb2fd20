"""Ledger of a mixture: the documents that it trains, how often and at which steps.

The ledger is not stored, because a mixture is a pure function of the position: this module inverts it, from the
sequences that are read to the documents in them. A document is trained if one of its tokens is a target: the sequence
at ``start`` predicts positions ``start + 1`` to ``start + seq_len`` of its stream. (An end-of-text that is only the
first input of a sequence opens the next document and counts for neither.) Spans are given by the positions of the
inputs: ``[start, start + seq_len)``.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rewarm.stages.core.progress import Progress
from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.data.order import Grid

CHUNK = 1 << 18  # positions held in memory at a time


@dataclass(frozen=True)
class Coverage:
    """Read count of each position of a stream: ``reads[i]`` from ``at[i]`` up to ``at[i + 1]``; 0 after the last.

    Both are int64; ``at`` starts at 0 and is ascending.
    """

    at: np.ndarray
    reads: np.ndarray

    @classmethod
    def of(cls, low: np.ndarray, high: np.ndarray) -> "Coverage":
        """Return the coverage by spans (starts and ends, int64), given in any order."""
        low, high = np.sort(low), np.sort(high)
        at = np.unique(np.concatenate([np.zeros(1, np.int64), low, high]))
        return cls(at, np.searchsorted(low, at, side="right") - np.searchsorted(high, at, side="right"))

    def below(self, places: np.ndarray) -> np.ndarray:
        """Return the total number of reads of all positions below each of ``places``."""
        sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.reads[:-1] * np.diff(self.at))])
        step = np.searchsorted(self.at, places, side="right") - 1
        found: np.ndarray = sums[step] + self.reads[step] * (places - self.at[step])
        return found

    def most(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return the highest read count within each span (spans in order); 0 for an empty span."""
        first = np.searchsorted(self.at, low, side="right") - 1
        last = np.maximum(np.searchsorted(self.at, high, side="left"), first + 1)
        base = int(first[0])
        reads = np.append(self.reads[base : int(last.max())], 0)
        bounds = np.stack([first, last], axis=1).ravel() - base
        return np.where(high > low, np.maximum.reduceat(reads, bounds)[::2], 0)

    def less(self, other: "Coverage") -> "Coverage":
        """Return the coverage without the reads of ``other``, which are some of its own."""
        at = np.union1d(self.at, other.at)
        mine, theirs = (each.reads[np.searchsorted(each.at, at, side="right") - 1] for each in (self, other))
        return Coverage(at, mine - theirs)


@dataclass(frozen=True)
class Reads:
    """Read counts of some of a stream's documents, in order."""

    times: np.ndarray  # int64: highest read count within the document; 0: no token of it was read
    tokens: np.ndarray  # int64: tokens of the document trained, over all reads


def source_reads(source: Source, count: int, seq_len: int, progress: Progress) -> Coverage:
    """Return the coverage of the first ``count`` sequences read from a source.

    Memory: 16 bytes for each sequence of a partial pass. Progress counts the sequences of partial passes; complete
    passes cost nothing.
    """
    low, high = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    position = 0
    while position < count:
        later, place = (int(part[0]) for part in source.locate(np.array([position]), seq_len))
        reading = source.begun(seq_len, later)
        left = reading.count - place
        if place == 0 and count - position >= left and isinstance(reading, Grid):
            low.append(np.array([reading.first]))
            high.append(np.array([reading.first + reading.count * seq_len]))
            taken = left
        else:
            taken = min(left, count - position, CHUNK)
            low.append(reading.starts(np.arange(place, place + taken, dtype=np.int64)))
            high.append(low[-1] + seq_len)
        position += taken
        progress.advance(taken)
    return Coverage.of(np.concatenate(low), np.concatenate(high))


def step_reads(mixture: Mixture, number: int, steps: Collection[int]) -> Coverage:
    """Return the coverage of the sequences that some steps (from 0) read from a source, by its number."""
    starts = [np.empty(0, np.int64)]
    for step in steps:
        numbers, begun = mixture.batch(step)
        starts.append(begun[numbers == number])
    low = np.concatenate(starts)
    return Coverage.of(low, low + mixture.seq_len)


def sequences_of_steps(mixture: Mixture, steps: Collection[int]) -> list[int]:
    """Return the number of sequences that some steps (from 0) read from each source."""
    counts = np.zeros(len(mixture.sources), np.int64)
    for step in steps:
        counts += np.bincount(mixture.batch(step)[0], minlength=len(counts))
    return [int(count) for count in counts]


def document_places(ends: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the span of each document: the positions whose target is one of its tokens.

    ``ends`` (int64) are the end positions of all documents of the stream; ``documents`` selects some by number.
    """
    low = np.where(documents > 0, ends[documents - 1], 1) - 1
    return low, ends[documents] - 1


def document_reads(reads: Coverage, ends: np.ndarray, first: int, last: int) -> Reads:
    """Return the reads of documents ``first`` to ``last - 1`` of a stream; ``ends`` as for ``document_places``."""
    low, high = document_places(ends, np.arange(first, last))
    return Reads(reads.most(low, high), reads.below(high) - reads.below(low))


@dataclass(frozen=True)
class Wanted:
    """Spans of the documents of one source whose reads are searched for."""

    low: np.ndarray  # int64 [documents]
    high: np.ndarray  # int64 [documents]

    @classmethod
    def of(cls, ends: np.ndarray, documents: np.ndarray) -> "Wanted":
        """Build it from document numbers in the stream; ``ends`` as for ``document_places``."""
        return cls(*document_places(ends, documents))

    def hit(self, starts: np.ndarray, seq_len: int) -> np.ndarray:
        """Return a mask of the sequences that read a token of one of the documents."""
        kept = np.flatnonzero(self.high > self.low)
        if not len(kept):
            return np.zeros(len(starts), dtype=bool)
        kept = kept[np.argsort(self.low[kept])]
        place = np.searchsorted(self.high[kept], starts, side="right")  # the first that ends after the sequence begins
        found: np.ndarray = np.append(self.low[kept], np.iinfo(np.int64).max)[place] < starts + seq_len
        return found


@dataclass(frozen=True)
class Found:
    """One of the wanted documents, and the steps that read it."""

    source: int  # index of the source
    place: int  # index of the document in ``Wanted``
    times: int  # as in ``Reads``
    steps: list[int]  # that read a sequence of it, ascending


def find_reads(
    mixture: Mixture, wanted: Mapping[int, Wanted], progress: Progress, without: Collection[int] = ()
) -> Iterator[Found]:
    """Search the whole mixture for documents of some sources (by number); documents never read are omitted.

    ``without`` are steps (from 0) that do not count.
    """
    ignored = np.array(sorted(without), np.int64)
    places, seq_len = mixture.steps * mixture.global_batch, mixture.seq_len
    hits: dict[int, list[np.ndarray]] = {number: [np.empty((2, 0), np.int64)] for number in wanted}
    for first in range(0, places, CHUNK):
        chunk = np.arange(first, min(first + CHUNK, places), dtype=np.int64)
        numbers, positions = mixture.assign(chunk)
        counted = ~np.isin(chunk // mixture.global_batch, ignored)
        for number, one in wanted.items():
            chosen = (numbers == number) & counted
            starts = mixture.sources[number].starts(positions[chosen], seq_len)
            found = one.hit(starts, seq_len)
            hits[number].append(np.stack([starts[found], chunk[chosen][found] // mixture.global_batch]))
        progress.advance(len(chunk))
    for number, one in wanted.items():
        starts, steps = np.concatenate(hits[number], axis=1)
        for place, (low, high) in enumerate(zip(one.low, one.high, strict=True)):
            inside = (starts < high) & (starts + seq_len > low) if high > low else np.zeros(len(starts), dtype=bool)
            if inside.any():
                spans = np.clip([starts[inside], starts[inside] + seq_len], low, high)
                times = int(Coverage.of(*spans).reads.max())
                yield Found(number, place, times, np.unique(steps[inside]).tolist())
