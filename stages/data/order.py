"""Order of a dataset: the sequences of each pass over it, as a pure function of the position in the pass.

A pass cuts the dataset's tokens into sequences and reads them in a pseudo-random order. Every second pass uses other
boundaries, so that a tail shorter than a sequence is not omitted from all passes. If ``train.seq_len`` changes within a
pass, its unread tokens are cut again (``Rest``): nothing is read twice before everything was read once.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xxhash

FEISTEL_ROUNDS = 6

Read = tuple[tuple[int, int], ...]
"""Reads of a pass, in order: (sequence length in tokens, number of sequences)."""


@dataclass(frozen=True)
class Grid:
    """Complete pass: consecutive sequences from token ``first``, in the order of ``key``."""

    seq_len: int
    count: int
    key: int
    first: int = 0

    def starts(self, places: np.ndarray) -> np.ndarray:
        """Return the first tokens (int64) of the sequences at places of the pass."""
        return self.first + permute(places, self.count, self.key) * self.seq_len


@dataclass(frozen=True, eq=False)
class Rest:
    """Remainder of a pass that has read sequences of other lengths.

    First the sequences that fit in the unread gaps, then those over pieces shorter than a sequence, which also read
    neighbouring tokens again. Memory: about 24 bytes for each sequence that the pass has read.
    """

    seq_len: int
    gaps: np.ndarray  # int64: first tokens of the stretches that hold a sequence
    before: np.ndarray  # int64 [gaps + 1]: sequences in the gaps before each; last: in all of them
    pieces: np.ndarray  # int64: first tokens of the sequences over what is shorter
    key: int

    @property
    def count(self) -> int:
        """Sequences."""
        return int(self.before[-1]) + len(self.pieces)

    def starts(self, places: np.ndarray) -> np.ndarray:
        """Return the first tokens (int64) of the sequences at places of the remainder."""
        whole = int(self.before[-1])
        found = np.empty_like(places)
        fits = places < whole
        numbers = permute(places[fits], whole, self.key)
        gaps = np.searchsorted(self.before, numbers, side="right") - 1
        found[fits] = self.gaps[gaps] + (numbers - self.before[gaps]) * self.seq_len
        found[~fits] = self.pieces[permute(places[~fits] - whole, len(self.pieces), self.key)]
        return found


Pass = Grid | Rest


@dataclass(frozen=True)
class Order:
    """Passes over a stream of ``num_tokens`` tokens, reading every token that has a successor to predict."""

    num_tokens: int
    seed: int
    key: str  # of the source; with the seed, decides the order

    def num_sequences(self, seq_len: int) -> int:
        """Return the sequences of a complete pass."""
        return max(0, (self.num_tokens - 1) // seq_len)

    def begun(self, number: int, read: Read, seq_len: int) -> Pass:
        """Return the remainder of pass ``number`` in sequences of ``seq_len``, after ``read``."""
        return _begun(self, number, read, seq_len)

    def advance(self, position: "Position", seq_len: int, count: int) -> "Position":
        """Return the position after ``count`` more sequences of ``seq_len``."""
        passes, read = position.passes, position.read
        while count:
            same = bool(read) and read[-1][0] == seq_len
            before, had = (read[:-1], read[-1][1]) if same else (read, 0)
            left = self.begun(passes, before, seq_len).count - had
            if count < left:
                return Position(passes, (*before, (seq_len, had + count)))
            passes, read, count = passes + 1, (), count - left
            whole = self.num_sequences(seq_len)
            passes, count = passes + count // whole, count % whole
        return Position(passes, read)


@dataclass(frozen=True)
class Position:
    """Position in a dataset's order: complete passes, and the reads of the next one."""

    passes: int = 0
    read: Read = ()


@lru_cache(maxsize=8192)  # more than the datasets of a lineage: computing a remainder takes seconds
def _begun(order: Order, number: int, read: Read, seq_len: int) -> Pass:
    count, key = order.num_sequences(seq_len), order_key(order.seed, order.key, number)
    if not read:
        tail = order.num_tokens - 1 - count * seq_len
        return Grid(seq_len, count, key, tail if number % 2 else 0)
    windows = []
    for length, (before, had) in zip([one for one, _ in read], prefixes(read), strict=True):
        starts = _begun(order, number, before, length).starts(np.arange(had, dtype=np.int64))
        windows.append(np.stack([starts, starts + length]))
    low, high = unread(np.concatenate(windows, axis=1), order.num_tokens - 1)
    whole = (high - low) // seq_len
    ends, holds = low + whole * seq_len, whole > 0
    pieces = cover(ends, high, seq_len, order.num_tokens - 1 - seq_len)
    key = order_key(order.seed, f"{order.key}/{read}", number)
    return Rest(seq_len, low[holds], np.concatenate([[0], np.cumsum(whole[holds])]), pieces, key)


def prefixes(read: Read) -> list[tuple[Read, int]]:
    """Return the reads before each part of ``read``, and the sequences of that part."""
    return [(read[:number], count) for number, (_, count) in enumerate(read)]


def unread(windows: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and ends (int64) of the gaps in ``range(total)`` that no window (``[2, n]``) covers."""
    windows = windows[:, np.argsort(windows[0], kind="stable")]
    low = np.concatenate([[0], np.maximum.accumulate(windows[1])])
    high = np.concatenate([windows[0], [total]])
    free = high > low
    return low[free], high[free]


def cover(low: np.ndarray, high: np.ndarray, length: int, last: int) -> np.ndarray:
    """Return the starts of the fewest windows of ``length`` that cover shorter pieces; none starts after ``last``.

    The pieces are given in order; some may be empty.
    """
    starts = []
    covered = 0
    for begin, end in zip(low.tolist(), high.tolist(), strict=True):
        if end > max(begin, covered):
            starts.append(min(max(begin, covered), last))
            covered = starts[-1] + length
    return np.array(starts, dtype=np.int64)


def order_key(seed: int, dataset: str, number: int) -> int:
    """Return the 64-bit key of a dataset's order in a pass, independent of other datasets and of the share."""
    return int(xxhash.xxh3_64_intdigest(f"{seed}/{dataset}/{number}".encode()))


def permute(places: np.ndarray, size: int, key: int) -> np.ndarray:
    """Evaluate a pseudo-random permutation of ``range(size)`` at ``places`` only, without a table.

    A Feistel network over the next power of four, with cycle walking outside the range (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains", section 4).
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys = [np.uint64(xxhash.xxh3_64_intdigest(f"{key}/{turn}".encode())) for turn in range(FEISTEL_ROUNDS)]
    values = places.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & mask
        for turn in keys:
            left, right = right, left ^ (scramble(right ^ turn) & mask)
        values[outside] = (left << half) | right
        outside[outside] = values[outside] >= size
    return values.astype(np.int64)


def scramble(values: np.ndarray) -> np.ndarray:
    """Apply SplitMix64's finaliser (Steele et al. 2014): every input bit affects every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed
