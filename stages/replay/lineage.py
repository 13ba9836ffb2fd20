"""Replay over a lineage: the tokens still owed to each dataset, and the position in its order where replay stopped.

An update replays whole sequences, but a dataset's part is rarely a whole number of them. The rounding error is
carried to the next update, so a dataset's total stays within two sequences of the sum of its parts, however many
datasets there are. No separate state is stored: all of it follows from the parts listed in the update records.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from rewarm.stages.data.order import Order, Position

Runs = tuple[tuple[int, int], ...]
"""Reads of an order since its beginning, in sequence: (sequence length in tokens, number of sequences)."""


@dataclass(frozen=True)
class Carried:
    """Replay state that earlier updates pass to the next one, by source key (a dataset, or ``dataset@domain``)."""

    owed: dict[str, Fraction] = field(default_factory=dict)  # tokens; negative: it received more than its part
    read: dict[str, Runs] = field(default_factory=dict)  # of the source's own order

    def after(self, parts: Mapping[str, Mapping[str, Any]]) -> "Carried":
        """Return the state after one more update, from the parts of its record, by key.

        A part holds ``sequences``, ``tokens``, ``due`` (tokens; missing in records of order 1, which owe nothing),
        ``order`` and ``from``. Reshuffled replay reads separate orders and does not advance the position; a part
        whose ``from`` is 0 restarts its order.
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
        """Return the state as JSON types, for fingerprints."""
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
    """Return the runs with ``count`` more sequences of ``seq_len``."""
    if runs and runs[-1][0] == seq_len:
        return (*runs[:-1], (seq_len, runs[-1][1] + count))
    return (*runs, (seq_len, count))


def tokens_of(runs: Runs) -> int:
    """Return the number of tokens read in these runs."""
    return sum(seq_len * count for seq_len, count in runs)


def sequences_of(runs: Runs) -> int:
    """Return the number of sequences read in these runs."""
    return sum(count for _, count in runs)


def locate(order: Order, runs: Runs) -> Position:
    """Return the position in an order after these runs."""
    position = Position()
    for seq_len, count in runs:
        position = order.advance(position, seq_len, count)
    return position


# -- parts -------------------------------------------------------------------------------------------------------


def total_of(share: Fraction, places: int, owed: Fraction) -> tuple[int, int]:
    """Return how many of ``places`` sequences to replay, and the amount added to ``share * places`` before rounding.

    That amount is less than one sequence, in units of 1 / (the share's denominator); ``owed`` is in sequences. At least
    one place is left for new data.
    """
    if not share:
        return 0, 0
    units = min(max(0, round(owed * share.denominator)), share.denominator - 1)
    most = places * share.denominator - 1 - places * share.numerator
    units = max(0, min(units, most))
    return (places * share.numerator + units) // share.denominator, units


def allot(wanted: Sequence[Fraction], total: int) -> list[int]:
    """Return whole numbers that add up to ``total`` and are as close as possible to ``wanted``; ties go to the first.

    After rounding down, units are added one at a time to the largest shortfall (or taken from the largest excess).
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
