"""What each dataset gets of a lineage's replay, against what it is due: order 2, and order 1 as it was before.

python benchmarks/replay_lineage.py --lineages 40 --updates 300

An update replays so many sequences as one of the recipe ``tiny`` does (5 % of 2,343). Order 1 began every update with
the first turn; order 2 carries what rounding left over.
"""

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from random_lineage import KINDS, NOWHERE, RandomLineage

from rewarm.stages.data.mixture import Cycle, apportion
from rewarm.stages.replay import Carried, Earlier, ReplaySettings
from rewarm.stages.replay.run import share_out
from rewarm.stages.replay.shares import Part

PLACES, SHARE, SEQ_LEN = 2343, Fraction(1, 20), 256
SETTINGS = ReplaySettings()
FIRST_UPDATES = 100  # of a random lineage under order 1, which lays out 100,000 turns in each


class FirstOrder(RandomLineage):
    """Random lineages as order 1 replayed them."""

    def replay(self, parts: list[Part], share: Fraction, places: int, chosen: ReplaySettings) -> list[int]:
        """Turns from the first on, in every update."""
        return Cycle(apportion([part.weight for part in parts])).taken(places * share.numerator // share.denominator)


def equal(count: int) -> list[Part]:
    """Datasets of a million tokens."""
    return [Part(Earlier(f"d{n}", NOWHERE, NOWHERE, 0, 1), 3906, 10**6, Fraction(10**6)) for n in range(count)]


def totals(sizes: list[int], carry: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sequences replayed of each dataset, and due, in updates on so many equal datasets each."""
    got, due = np.zeros(max(sizes)), np.zeros(max(sizes))
    carried = Carried()
    for count in sizes:
        parts = equal(count)
        if carry:
            shares, _ = share_out(parts, carried, SHARE, PLACES, SEQ_LEN)
            carried = carried.after({one.part.key: one.to_json(SEQ_LEN, 0, SETTINGS, PLACES) for one in shares})
            counts = [one.count for one in shares]
        else:
            counts = Cycle(apportion([part.weight for part in parts])).taken(int(PLACES * SHARE))
        got[:count] += counts
        due[:count] += float(PLACES * SHARE / count)
    return got, due


def row(what: str, sizes: list[int]) -> None:
    """One line of the table, for both orders."""
    cells = []
    for carry in (False, True):
        got, due = totals(sizes, carry)
        cells.append(f"{got.min():.0f} to {got.max():.0f} | {(got == 0).sum()} | {np.abs(got - due).max():.2f}")
    due = totals(sizes, True)[1]
    print(f"| {what} | {due.min():.1f} to {due.max():.1f} | {' | '.join(cells)} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lineages", type=int, default=40, help="random lineages of each kind")
    parser.add_argument("--updates", type=int, default=300, help="most updates of a random lineage")
    given = parser.parse_args()
    columns = (f"order {order}: {name}" for order in (1, 2) for name in ("replayed", "never", "off by"))
    print(f"| datasets | due | {' | '.join(columns)} |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for count in (110, 150, 300):
        row(f"{count} equal, 20 updates", [count] * 20)
    row("one more in each of 300 updates", list(range(1, 301)))
    print("\n| by | lineages | updates | order 2: worst | order 1, first lineage: worst |")
    print("|---|--:|--:|--:|--:|")
    for kind in KINDS:
        lengths = [int(np.random.default_rng(seed).integers(2, given.updates + 1)) for seed in range(given.lineages)]
        worst = max(deviation(RandomLineage(seed, kind), length) for seed, length in enumerate(lengths))
        before = deviation(FirstOrder(0, kind), min(lengths[0], FIRST_UPDATES))
        print(f"| {kind} | {given.lineages} | {sum(lengths):,} | {worst:.2f} | {before:.2f} |", flush=True)


def deviation(lineage: RandomLineage, updates: int) -> float:
    """The largest deviation after any of so many updates."""
    worst = 0.0
    for number in range(1, updates + 1):
        lineage.update(number)
        worst = max(worst, lineage.deviation())
    return worst


if __name__ == "__main__":
    main()
