"""The ledger: which documents a mixture trains, how often and at which steps.

Nothing of it is stored, for a mixture is a pure function of the position: this module reads it backwards, from the
sequences that are read to the documents in them. A document is trained where a token of it is a target: sequence
``i`` predicts the positions ``i * seq_len + 1`` to ``(i + 1) * seq_len`` of its stream. (Where a document's
end-of-text is only the first input of a sequence, it opens the next document and counts for neither.)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from stages.mixture import Mixture, Source
from stages.progress import Progress

CHUNK = 1 << 18  # places held at a time


@dataclass(frozen=True)
class Reads:
    """How often documents were read: a part of a stream's documents, in order."""

    times: np.ndarray  # int64: reads of that part of the document that was read most often; 0: none of it was read
    tokens: np.ndarray  # int64: of the document, trained in all of these reads


def sequence_reads(source: Source, count: int, progress: Progress) -> np.ndarray:
    """How often each sequence is read in the first ``count`` readings of a source (int32 ``[num_sequences]``).

    Memory: four bytes a sequence. Progress moves by the sequences of started passes; whole passes cost nothing.
    """
    size = source.num_sequences
    reads = np.zeros(size, dtype=np.int32)
    position = 0
    while position < count:
        left = size - (source.start + position) % size  # to the end of the pass
        if left == size and count - position >= size:
            reads += 1
            taken = size
        else:
            taken = min(left, count - position, CHUNK)
            reads[source.sequences(np.arange(position, position + taken, dtype=np.int64))] += 1  # once in a pass
        position += taken
        progress.advance(taken)
    return reads


def document_reads(reads: np.ndarray, ends: np.ndarray, seq_len: int, first: int, last: int) -> Reads:
    """The reads of documents ``first`` to ``last - 1`` of a stream, from those of its sequences.

    ``ends`` (int64) are the ends of all its documents in positions of the stream.
    """
    stops = ends[first:last] - 1  # targets are counted from position 1
    starts = np.maximum(np.append(ends[first - 1] if first else 0, stops[:-1] + 1) - 1, 0)
    low, high = starts // seq_len, (stops - 1) // seq_len  # first and last sequence that predicts a token of it
    base, limit = int(low[0]), int(max(low[-1], high[-1])) + 2
    window = np.zeros(limit - base, dtype=np.int64)  # what lies past the last whole sequence is never read
    part = reads[base:limit]
    window[: len(part)] = part
    bounds = np.stack([low, np.maximum(low, high) + 1], axis=1).ravel() - base
    times = np.where(stops > starts, np.maximum.reduceat(window, bounds)[::2], 0)
    shift = base * seq_len
    tokens = targets_before(stops - shift, window, seq_len) - targets_before(starts - shift, window, seq_len)
    return Reads(times, tokens)


def targets_before(targets: np.ndarray, reads: np.ndarray, seq_len: int) -> np.ndarray:
    """How many targets were trained below each target's number, with sequences read so often."""
    below = np.concatenate([[0], np.cumsum(reads)]) * seq_len
    whole, rest = np.divmod(targets, seq_len)
    found: np.ndarray = below[whole] + reads[whole] * rest
    return found


@dataclass(frozen=True)
class Wanted:
    """Documents of one source whose reads are looked for, as the sequences that predict their tokens."""

    low: np.ndarray  # int64 [documents]: first …
    high: np.ndarray  # … and last sequence of each

    @classmethod
    def of(cls, ends: np.ndarray, documents: np.ndarray, seq_len: int) -> "Wanted":
        """From the numbers of the documents in the stream; ``ends`` as for ``document_reads``."""
        starts = np.where(documents > 0, ends[documents - 1], 1) - 1
        return cls(starts // seq_len, (ends[documents] - 2) // seq_len)

    def sequences(self) -> np.ndarray:
        """All of them, once and ascending."""
        ranges = [np.arange(low, high + 1) for low, high in zip(self.low, self.high, strict=True)]
        return np.unique(np.concatenate([np.empty(0, np.int64), *ranges]))


@dataclass(frozen=True)
class Found:
    """One of the wanted documents, and when it is read."""

    source: int  # number of the source
    place: int  # of the document in ``Wanted``
    times: int  # as in ``Reads``
    steps: list[int]  # at which a sequence of it is read, ascending


def find_reads(mixture: Mixture, wanted: Mapping[int, Wanted], progress: Progress) -> Iterator[Found]:
    """Go through the whole mixture for documents of some sources (by number), and leave out what is never read."""
    places = mixture.steps * mixture.global_batch
    looked_for = {number: one.sequences() for number, one in wanted.items()}
    hits: dict[int, list[np.ndarray]] = {number: [np.empty((2, 0), np.int64)] for number in wanted}
    for first in range(0, places, CHUNK):
        chunk = np.arange(first, min(first + CHUNK, places), dtype=np.int64)
        numbers, positions = mixture.assign(chunk)
        for number, sequences in looked_for.items():
            chosen = numbers == number
            read = mixture.sources[number].sequences(positions[chosen])
            found = np.isin(read, sequences)
            hits[number].append(np.stack([read[found], chunk[chosen][found] // mixture.global_batch]))
        progress.advance(len(chunk))
    for number, one in wanted.items():
        read, steps = np.concatenate(hits[number], axis=1)
        for place, (low, high) in enumerate(zip(one.low, one.high, strict=True)):
            inside = (read >= low) & (read <= high)
            if inside.any():
                times = int(np.bincount(read[inside] - low).max())
                yield Found(number, place, times, np.unique(steps[inside]).tolist())
