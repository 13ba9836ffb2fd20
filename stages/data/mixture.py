"""Contract 3, the mixture: a pure function from a position of a training run to a sequence of a dataset.

A mixture holds no read position: a resumed run, on any number of workers, requests its next step and receives the
sequences of an uninterrupted run. Replay writes a mixture; training and annealing read it.

The order is versioned, and each mixture records its version. Version 2: weights are exact, however large; every second
pass cuts a dataset at different boundaries; a pass continues after ``train.seq_len`` changes. Mixtures without a
version were made by version 1 and keep its order.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from rewarm.stages.core.errors import StageError
from rewarm.stages.data.order import Grid, Order, Pass, Read, order_key

ORDER_VERSION = 2
MAX_DENOMINATOR = 1_000_000  # of the share of replay: products with a position stay well within 64 bits
PERIOD = 100_000  # maximum number of turns computed at a time


@dataclass(frozen=True)
class Source:
    """Source of a mixture: a dataset's own order of sequences, from a position."""

    dataset: str
    num_sequences: int  # of ``seq_len`` tokens, in its training shards
    order_seed: int  # decides the order; fixed by the update that introduced the dataset
    start: int = 0  # sequences of this length read before; after the end of a pass the next one begins
    weight: int = 1  # among the new (or the replayed) sources, relative to the other weights; at least 1
    view: str = ""  # name of the selection of its documents to read; "": all documents
    num_tokens: int = 0  # in its training shards; 0 (version 1): all passes use the same boundaries
    passes: int = 0  # complete passes before the one that ``start`` counts from
    read: Read = ()  # reads of that pass before ``start`` in sequences of other lengths

    @property
    def key(self) -> str:
        """Name of the dataset, or of a selection of it."""
        return f"{self.dataset}@{self.view}" if self.view else self.dataset

    def begun(self, seq_len: int, later: int = 0) -> Pass:
        """Return the pass that ``start`` counts from, after ``read``; or the pass ``later`` passes after it."""
        number, read = self.passes + later, () if later else self.read
        if not self.num_tokens:
            return Grid(seq_len, self.num_sequences, order_key(self.order_seed, self.key, number))
        return Order(self.num_tokens, self.order_seed, self.key).begun(number, read, seq_len)

    def locate(self, positions: np.ndarray, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the pass of positions (0: that of ``start``), and the place in the pass (int64 both)."""
        places = positions + self.start
        left = self.begun(seq_len).count
        later, inside = np.divmod(places - left, self.num_sequences)
        return np.where(places < left, 0, later + 1), np.where(places < left, places, inside)

    def starts(self, positions: np.ndarray, seq_len: int) -> np.ndarray:
        """Return the first tokens (int64, positions in the dataset's stream) of sequences at positions from ``start``.

        A sequence is ``seq_len`` inputs and their targets, so ``seq_len + 1`` tokens from its start.
        """
        later, places = self.locate(positions, seq_len)
        found = np.empty_like(places)
        for number in np.unique(later).tolist():
            chosen = later == number
            found[chosen] = self.begun(seq_len, number).starts(places[chosen])
        return found


@dataclass(frozen=True)
class Mixture:
    """Data of ``steps`` global batches of ``global_batch`` sequences: a share replayed, the rest new."""

    new: tuple[Source, ...]
    replayed: tuple[Source, ...]
    share: str  # of replay, as a fraction "p/q": exact, also in JSON
    seq_len: int
    global_batch: int
    steps: int
    carried: int = 0  # replay owed by earlier updates, in q-ths of a sequence
    version: int = ORDER_VERSION

    @property
    def sources(self) -> tuple[Source, ...]:
        """The new datasets, then the replayed ones, as numbered by ``batch``."""
        return (*self.new, *self.replayed)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one global batch."""
        return self.seq_len * self.global_batch

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return source numbers and first tokens of a step's sequences (both int64 ``[global_batch]``), in order."""
        places = np.arange(step * self.global_batch, (step + 1) * self.global_batch, dtype=np.int64)
        numbers, positions = self.assign(places)
        starts = np.empty_like(positions)
        for number in np.unique(numbers):
            chosen = numbers == number
            starts[chosen] = self.sources[number].starts(positions[chosen], self.seq_len)
        return numbers, starts

    def assign(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the source number of each place of the run, and the position in that source's reads.

        The first ``n`` places hold ``floor(share * n + carried / q)`` replayed sequences, so the share is exact to
        within one sequence at every point. Among the new and among the replayed ones, the sources take turns, each
        within one sequence of its weight at every point (for more than ``PERIOD`` turns see ``Cycle``). The order of
        the new sequences does not depend on the share.
        """
        replayed, positions = split(places, Fraction(self.share), self.carried)
        numbers = np.zeros_like(places)
        for group, members, first in ((self.new, ~replayed, 0), (self.replayed, replayed, len(self.new))):
            if group and members.any():
                turn, positions[members] = self._cycle(group).assign(positions[members])
                numbers[members] = turn + first
        return numbers, positions

    def count(self, first: int, steps: int) -> list[int]:
        """Return the sequences read from each source, in ``sources`` order, in ``steps`` steps from ``first``."""
        ends = (first * self.global_batch, (first + steps) * self.global_batch)
        low, high = (self._taken(places) for places in ends)
        return [after - before for before, after in zip(low, high, strict=True)]

    def _taken(self, places: int) -> list[int]:
        share = Fraction(self.share)
        replayed = (places * share.numerator + self.carried) // share.denominator
        taken: list[int] = []
        for group, total in ((self.new, places - replayed), (self.replayed, replayed)):
            if group:
                taken += self._cycle(group).taken(total)
        return taken

    def _cycle(self, group: tuple[Source, ...]) -> "Cycle":
        return cycle_of(tuple(source.weight for source in group), self.version)

    def to_json(self) -> dict[str, Any]:
        """Return the mixture as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Mixture":
        """Read what ``to_json`` wrote; ``StageError`` if its version is not supported."""
        version = value.get("version", 1)
        if version not in range(1, ORDER_VERSION + 1):
            raise StageError(
                f"mixture: its order has version {version}, this program supports up to {ORDER_VERSION}; use the "
                "version of rewarm that made it, or a later one"
            )
        groups = {name: tuple(read_source(source) for source in value[name]) for name in ("new", "replayed")}
        return cls(**{**value, **groups, "version": version})


def read_source(value: dict[str, Any]) -> Source:
    """Read a source from JSON types."""
    return Source(**{**value, "read": tuple((length, count) for length, count in value.get("read", ()))})


def steps_for(available: int, budget: int | None, global_batch: int, passes: int = 1) -> int:
    """Return the steps of an update on ``available`` sequences: what the budget (sequences) fills, else all of them.

    Without a budget the last batch is completed from the next pass. 0 if there is less than one batch.
    """
    if not available:
        return 0
    if budget is not None:
        return budget // global_batch
    return -(-passes * available // global_batch) if passes * available >= global_batch else 0


def branch_steps(trunk: int, share: Fraction) -> int:
    """Return the steps of a branch that is ``share`` (below 1) of an update whose trunk has ``trunk`` steps."""
    return round(trunk * share / (1 - share))


def trunk_steps(total: int, share: Fraction) -> int:
    """Return the longest trunk that fits ``total`` steps together with its branch (``branch_steps``).

    The two may leave one of the steps unused, because both are whole.
    """
    steps = min(total, math.ceil(total * (1 - share)) + 1)
    while steps + branch_steps(steps, share) > total:
        steps -= 1
    return steps


# -- turns -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cycle:
    """Cycle of sources that take turns, ``weights[i]`` times each per cycle; exact at the end of each cycle.

    A cycle of more than ``PERIOD`` turns is made of rounds: in the first ``b`` of ``r`` rounds source ``i`` has had
    ``floor(b * weights[i] / r)`` turns. Only one round is computed at a time. Within such a cycle a source is less than
    two turns behind its weight, and ahead of it by at most one turn for each other source.
    """

    weights: tuple[int, ...]

    @cached_property
    def length(self) -> int:
        """Number of turns."""
        return sum(self.weights)

    @cached_property
    def rounds(self) -> int:
        """Number of rounds in the cycle."""
        return 1 if self.length <= PERIOD else -(-2 * self.length // PERIOD)

    def had(self, rounds: int) -> list[int]:
        """Return the turns of each source in the first ``rounds`` rounds."""
        of = self.rounds
        return [rounds * weight // of for weight in self.weights]

    def assign(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the source of each position, and the number of turns it had before (int64 both)."""
        cycles, slots = np.divmod(positions, self.length)
        numbers, ranks = np.empty_like(slots), np.empty_like(slots)
        for begin, end, number in self._rounds_of(slots):
            chosen = (slots >= begin) & (slots < end)
            before = np.array(self.had(number), dtype=np.int64)
            members, table = self._round(number)
            counts, order, earlier = table
            periods, inside = np.divmod(slots[chosen] - begin, len(order))
            turn = order[inside]
            numbers[chosen] = members[turn]
            ranks[chosen] = before[members[turn]] + periods * counts[turn] + earlier[inside]
        return numbers, ranks + cycles * np.array(self.weights, dtype=np.int64)[numbers]

    def taken(self, total: int) -> list[int]:
        """Return the turns of each source in the first ``total`` positions."""
        cycles, slots = divmod(total, self.length)
        number = self._find(slots)
        taken = [cycles * weight + had for weight, had in zip(self.weights, self.had(number), strict=True)]
        members, (counts, order, _) = self._round(number)
        periods, inside = divmod(slots - sum(self.had(number)), len(order))
        rest = np.bincount(order[:inside], minlength=len(counts))
        for member, count, more in zip(members.tolist(), counts.tolist(), rest.tolist(), strict=True):
            taken[member] += periods * count + more
        return taken

    def _find(self, slot: int) -> int:
        """Return the round of a slot."""
        low, high = 0, self.rounds - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if sum(self.had(middle)) <= slot else (low, middle - 1)
        return low

    def _rounds_of(self, slots: np.ndarray) -> Iterator[tuple[int, int, int]]:
        """Yield first slot, end and number of each round that holds one of the slots."""
        left = slots
        while len(left):
            number = self._find(int(left.min()))
            begin, end = sum(self.had(number)), sum(self.had(number + 1))
            yield begin, end, number
            left = left[left >= end]

    def _round(self, number: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return the sources with turns in a round, and the order of their turns."""
        counts = [after - before for before, after in zip(self.had(number), self.had(number + 1), strict=True)]
        members = [place for place, count in enumerate(counts) if count]
        return np.array(members, dtype=np.int64), turns(tuple(counts[member] for member in members))


@lru_cache(maxsize=16)
def cycle_of(weights: tuple[int, ...], version: int) -> Cycle:
    """Return the cycle of sources with these weights; version 1 rounded them to ``1 / PERIOD`` of the total."""
    if version == 1:
        return Cycle(apportion([Fraction(weight) for weight in weights]))
    divisor = math.gcd(*weights)
    return Cycle(tuple(weight // divisor for weight in weights))


def apportion(weights: Sequence[Fraction]) -> tuple[int, ...]:
    """Return integers (at least 1, in total at most ``PERIOD``) in proportion to ``weights``, which are above 0.

    Exact if the proportions have a common denominator of at most ``PERIOD``, else rounded to ``1 / PERIOD`` of the
    total by largest remainders. Applying it to its own result changes nothing.
    """
    total = sum(weights)
    shares = [weight / total for weight in weights]
    whole = math.lcm(*(share.denominator for share in shares))
    if whole <= PERIOD:
        return tuple(int(share * whole) for share in shares)
    exact = [share * PERIOD for share in shares]
    counts = [max(1, math.floor(quota)) for quota in exact]
    for _ in range(sum(counts) - PERIOD):  # the smallest were raised to 1, at the cost of the largest
        counts[counts.index(max(counts))] -= 1
    by_remainder = sorted(range(len(counts)), key=lambda number: counts[number] - exact[number])
    for number in by_remainder[: max(0, PERIOD - sum(counts))]:
        counts[number] += 1
    divisor = math.gcd(*counts)
    return tuple(count // divisor for count in counts)


@lru_cache(maxsize=16)
def turns(weights: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of turns: turns per source in a period, the source of each slot, and its earlier turns (int64).

    After ``n`` slots every source has had ``floor`` or ``ceil`` of its exact part of ``n``: with the part ``w``, its
    turn ``j`` is due between ``floor(j / w)`` and ``ceil((j + 1) / w)``, and among eligible sources the one with the
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


def split(places: np.ndarray, share: Fraction, carried: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Assign places to two streams, the second with ``share`` of them; return its mask and positions in the streams.

    Place ``n`` goes to the second stream if ``f(n + 1) > f(n)`` (Bresenham's line), where ``f(n)`` is
    ``floor(share * n + carried / q)`` and ``q`` the share's denominator; ``carried`` is below ``q``.
    """
    before = times(places, share, carried)
    second = times(places + 1, share, carried) > before
    return second, np.where(second, before, places - before)


def times(places: np.ndarray, share: Fraction, carried: int = 0) -> np.ndarray:
    """Return ``floor(places * share + carried / q)`` in integers, without overflow up to ``MAX_DENOMINATOR``."""
    whole, part = np.divmod(places, share.denominator)
    found: np.ndarray = whole * share.numerator + (part * share.numerator + carried) // share.denominator
    return found


__all__ = [
    "MAX_DENOMINATOR",
    "ORDER_VERSION",
    "PERIOD",
    "Cycle",
    "Mixture",
    "Source",
    "apportion",
    "branch_steps",
    "split",
    "steps_for",
    "trunk_steps",
    "turns",
]
