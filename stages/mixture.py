"""Contract 3: the mixture. Which sequence of which dataset stands at which place of a training run: a pure function.

Nothing here holds a position: a run that resumes, on however many workers, asks for the next step and gets the
sequences that an undisturbed run would have got. Replay writes a mixture, training and annealing read it.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import xxhash

FEISTEL_ROUNDS = 6
MAX_DENOMINATOR = 1_000_000  # of the share of replay: products with a position stay far inside 64 bits
PERIOD = 100_000  # turns after which sources of one group repeat their order: weights are kept to 0.001 % of the group


@dataclass(frozen=True)
class Source:
    """A dataset's own order of sequences, and where in it this mixture begins to read."""

    dataset: str
    num_sequences: int  # of ``seq_len`` tokens, in its training shards
    order_seed: int  # decides the order; kept from the update in which the dataset was new
    start: int = 0  # position in that order; past ``num_sequences`` a next epoch begins, in another order
    weight: int = 1  # its part among the new (or the replayed) sources, relative to the other weights; at least 1
    view: str = ""  # the selection of its documents that is read, by name; "": all of them

    @property
    def key(self) -> str:
        """Names what is read: the dataset, or a selection of it."""
        return f"{self.dataset}@{self.view}" if self.view else self.dataset

    def sequences(self, positions: np.ndarray) -> np.ndarray:
        """Indices of sequences (int64) at the given positions, counted from ``start``."""
        epochs, places = np.divmod(positions + self.start, self.num_sequences)
        found = np.empty_like(places)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            found[chosen] = permute(
                places[chosen], self.num_sequences, order_key(self.order_seed, self.key, int(epoch))
            )
        return found


@dataclass(frozen=True)
class Mixture:
    """``steps`` global batches of ``global_batch`` sequences; a share of them replayed, the rest new."""

    new: tuple[Source, ...]
    replayed: tuple[Source, ...]
    share: str  # of replay, as a fraction "p/q": exact, and the same in JSON
    seq_len: int
    global_batch: int
    steps: int

    @property
    def sources(self) -> tuple[Source, ...]:
        """The new datasets, then the replayed ones: the numbering that ``batch`` uses."""
        return (*self.new, *self.replayed)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one global batch."""
        return self.seq_len * self.global_batch

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Source numbers and sequence indices (both int64 ``[global_batch]``) of a step, in the order of the batch."""
        places = np.arange(step * self.global_batch, (step + 1) * self.global_batch, dtype=np.int64)
        numbers, positions = self.assign(places)
        indices = np.empty_like(positions)
        for number in np.unique(numbers):
            chosen = numbers == number
            indices[chosen] = self.sources[number].sequences(positions[chosen])
        return numbers, indices

    def assign(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source number and position in that source's reading, places counted from the run's first.

        The first ``n`` places hold ``floor(share * n)`` replayed sequences, so the share is exact to within one
        sequence at every point. Within the new and within the replayed ones, the sources take turns, each exact to
        within one sequence of its weight at every point. What the new ones read does not depend on the share.
        """
        replayed, positions = split(places, Fraction(self.share))
        numbers = np.zeros_like(places)
        for group, members, first in ((self.new, ~replayed, 0), (self.replayed, replayed, len(self.new))):
            if group:
                weights, order, ranks = turns(tuple(source.weight for source in group))
                periods, slots = np.divmod(positions[members], len(order))
                numbers[members] = order[slots] + first
                positions[members] = periods * weights[order[slots]] + ranks[slots]
        return numbers, positions

    def count(self, first: int, steps: int) -> list[int]:
        """Sequences taken from each source (in the order of ``sources``) in ``steps`` steps from ``first`` on."""
        ends = (first * self.global_batch, (first + steps) * self.global_batch)
        low, high = (self._taken(places) for places in ends)
        return [after - before for before, after in zip(low, high, strict=True)]

    def _taken(self, places: int) -> list[int]:
        share = Fraction(self.share)
        replayed = places * share.numerator // share.denominator
        taken: list[int] = []
        for group, total in ((self.new, places - replayed), (self.replayed, replayed)):
            if group:
                weights, order, _ = turns(tuple(source.weight for source in group))
                periods, slots = divmod(total, len(order))
                rest = np.bincount(order[:slots], minlength=len(group))
                taken += [periods * int(weight) + int(more) for weight, more in zip(weights, rest, strict=True)]
        return taken

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Mixture":
        """Read what ``to_json`` wrote."""
        groups = {name: tuple(Source(**source) for source in value[name]) for name in ("new", "replayed")}
        return cls(**{**value, **groups})


def apportion(weights: Sequence[Fraction]) -> tuple[int, ...]:
    """Whole numbers (1 and up, at most ``PERIOD`` together) in proportion to ``weights``, which are above 0.

    Exact where the proportions have so small a common denominator, else rounded to ``1 / PERIOD`` of the whole by
    largest remainders. What comes out comes out the same when it is put in again.
    """
    total = sum(weights)
    shares = [weight / total for weight in weights]
    whole = math.lcm(*(share.denominator for share in shares))
    if whole <= PERIOD:
        return tuple(int(share * whole) for share in shares)
    exact = [share * PERIOD for share in shares]
    counts = [max(1, math.floor(quota)) for quota in exact]
    for _ in range(sum(counts) - PERIOD):  # the smallest were lifted to 1, at the cost of the largest
        counts[counts.index(max(counts))] -= 1
    by_remainder = sorted(range(len(counts)), key=lambda number: counts[number] - exact[number])
    for number in by_remainder[: max(0, PERIOD - sum(counts))]:
        counts[number] += 1
    divisor = math.gcd(*counts)
    return tuple(count // divisor for count in counts)


@lru_cache(maxsize=16)
def turns(weights: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How sources of these weights take turns: how many each has in a period, whose turn each slot of the period is,
    and how many turns that source had before (int64 all).

    After ``n`` slots every source has had ``floor`` or ``ceil`` of its exact part of ``n``: with the part ``w``, its
    turn ``j`` is due between ``floor(j / w)`` and ``ceil((j + 1) / w)``, and of those that may go the one with the
    earliest deadline goes first (Baruah et al. 1996, "Proportionate progress: a notion of fairness in resource
    allocation"; on one processor the earliest deadline keeps every window).
    """
    counts = apportion([Fraction(weight) for weight in weights])
    period = sum(counts)
    had = [0] * len(counts)
    order, ranks = np.empty((2, period), dtype=np.int64)
    ready = [(-(-period // count), number) for number, count in enumerate(counts)]
    later: list[tuple[int, int]] = []
    heapq.heapify(ready)
    for slot in range(period):
        while later and later[0][0] <= slot:
            number = heapq.heappop(later)[1]
            heapq.heappush(ready, (-(-(had[number] + 1) * period // counts[number]), number))
        number = heapq.heappop(ready)[1]
        order[slot], ranks[slot] = number, had[number]
        had[number] += 1
        heapq.heappush(later, (had[number] * period // counts[number], number))
    return np.array(counts, dtype=np.int64), order, ranks


def split(places: np.ndarray, share: Fraction) -> tuple[np.ndarray, np.ndarray]:
    """Which places go to the second of two streams, holding ``share`` of them, and their positions there.

    Place ``n`` goes to the second stream where ``floor(share * (n + 1)) > floor(share * n)`` (Bresenham's line).
    """
    before = times(places, share)
    second = times(places + 1, share) > before
    return second, np.where(second, before, places - before)


def times(places: np.ndarray, share: Fraction) -> np.ndarray:
    """``floor(places * share)`` in integers, without overflow for denominators up to ``MAX_DENOMINATOR``."""
    whole, part = np.divmod(places, share.denominator)
    found: np.ndarray = whole * share.numerator + part * share.numerator // share.denominator
    return found


def order_key(seed: int, dataset: str, epoch: int) -> int:
    """The 64-bit key of a dataset's order in an epoch; independent of every other dataset and of the share."""
    return int(xxhash.xxh3_64_intdigest(f"{seed}/{dataset}/{epoch}".encode()))


def permute(places: np.ndarray, size: int, key: int) -> np.ndarray:
    """A pseudo-random permutation of ``range(size)``, evaluated at ``places`` only: no table, whatever the size.

    A Feistel network over the next power of four, walked on where it leaves the range (Black and Rogaway 2002,
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
    """SplitMix64's finaliser (Steele et al. 2014): every bit of the input reaches every bit of the result."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed
