"""Replay over a lineage: what each dataset is still owed, and the place in its own order at which replay stopped.

An update replays whole sequences, a dataset's part of it rarely is one. What rounding gave too little or too much is
carried to the next update, so a dataset's total stays within two sequences of the sum of its parts however many
datasets there are. Nothing of it is stored apart: it follows from the parts that the updates' records list.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from rewarm.stages.data.order import Order, Position

Runs = tuple[tuple[int, int], ...]
"""What was read of an order since its beginning: the length of the sequences (tokens), and how many, in turn."""


@dataclass(frozen=True)
class Carried:
    """What earlier updates leave to the next one, by the key of a source (a dataset, or ``dataset@domain``)."""

    owed: dict[str, Fraction] = field(default_factory=dict)  # tokens; below 0: it had more than its part
    read: dict[str, Runs] = field(default_factory=dict)  # of its own order

    def after(self, parts: Mapping[str, Mapping[str, Any]]) -> "Carried":
        """The same after one more update, from the parts of its record, by key.

        A part holds ``sequences``, ``tokens``, ``due`` (tokens; missing in records of order 1, which owe nothing),
        ``order`` and ``from``. Reshuffled replay reads orders of its own and moves nothing; a part from 0 begins its
        order again.
        """
        owed, read = dict(self.owed), dict(self.read)
        for key, part in parts.items():
            if "due" in part:
                owed[key] = owed.get(key, Fraction(0)) + Fraction(part["due"]) - part["tokens"]
            if part.get("order") != "reshuffled" and part["sequences"]:
                before = read.get(key, ()) if part["from"] else ()
                read[key] = extend(before, part["tokens"] // part["sequences"], part["sequences"])
        return Carried(owed, read)

    def to_json(self) -> dict[str, Any]:
        """As JSON types, for fingerprints."""
        return {
            "owed": {key: str(tokens) for key, tokens in self.owed.items() if tokens},
            "read": {key: [list(run) for run in runs] for key, runs in self.read.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Carried":
        """Read what ``to_json`` wrote."""
        return cls(
            {key: Fraction(tokens) for key, tokens in value["owed"].items()},
            {key: tuple((seq_len, count) for seq_len, count in runs) for key, runs in value["read"].items()},
        )


def extend(runs: Runs, seq_len: int, count: int) -> Runs:
    """The runs with ``count`` more sequences of ``seq_len``."""
    if runs and runs[-1][0] == seq_len:
        return (*runs[:-1], (seq_len, runs[-1][1] + count))
    return (*runs, (seq_len, count))


def tokens_of(runs: Runs) -> int:
    """Tokens that were read in these runs."""
    return sum(seq_len * count for seq_len, count in runs)


def sequences_of(runs: Runs) -> int:
    """Sequences that were read in these runs."""
    return sum(count for _, count in runs)


def locate(order: Order, runs: Runs) -> Position:
    """The place in an order after these runs."""
    position = Position()
    for seq_len, count in runs:
        position = order.advance(position, seq_len, count)
    return position


# -- parts -------------------------------------------------------------------------------------------------------


def total_of(share: Fraction, places: int, owed: Fraction) -> tuple[int, int]:
    """Sequences to replay among ``places``, and what is added to ``share * places`` before rounding down.

    The latter is in units of one part of the share's denominator and below a sequence; ``owed`` is in sequences. At
    least one place is left to new data.
    """
    if not share:
        return 0, 0
    units = min(max(0, round(owed * share.denominator)), share.denominator - 1)
    most = places * share.denominator - 1 - places * share.numerator
    units = max(0, min(units, most))
    return (places * share.numerator + units) // share.denominator, units


def allot(wanted: Sequence[Fraction], total: int) -> list[int]:
    """Whole numbers that add up to ``total``, as near as can be to what is wanted; ties go to the first.

    One at a time goes to where most is missing (or comes from where most is too much), after rounding down.
    """
    counts = [max(0, math.floor(one)) for one in wanted]
    short = total - sum(counts)
    sign = 1 if short > 0 else -1
    heap = [(sign * (counts[number] - one), number) for number, one in enumerate(wanted)]
    heapq.heapify(heap)
    while short:
        missing, number = heapq.heappop(heap)
        if sign > 0 or counts[number]:
            counts[number] += sign
            short -= sign
            heapq.heappush(heap, (missing + 1, number))
    return counts
