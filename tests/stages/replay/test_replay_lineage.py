"""Replay over a lineage: every dataset gets its due, however many there are and however small the updates."""

from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_lineage import KINDS, NOWHERE, Kind, RandomLineage

from rewarm.stages.data.order import Order, Position
from rewarm.stages.replay import Carried, Earlier, locate
from rewarm.stages.replay.lineage import allot, total_of
from rewarm.stages.replay.run import share_out
from rewarm.stages.replay.shares import Part


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS), updates=st.integers(1, 40))
def test_each_dataset_is_within_two_sequences_of_the_sum_of_its_parts(seed: int, kind: Kind, updates: int) -> None:
    lineage = RandomLineage(seed, kind)
    for number in range(1, updates + 1):
        lineage.update(number)
        assert lineage.deviation() < 2, number


@pytest.mark.parametrize("kind", KINDS)
def test_so_it_is_after_300_updates(kind: Kind) -> None:
    lineage = RandomLineage(7, kind)
    for number in range(1, 301):
        lineage.update(number)
    assert lineage.deviation() < 2


@pytest.mark.parametrize("datasets", [110, 150, 300])
@pytest.mark.parametrize("sequences", [3, 50, 400])
def test_equal_datasets_get_the_same(datasets: int, sequences: int) -> None:
    parts = [
        Part(Earlier(f"d{number:03d}", NOWHERE, NOWHERE, 0, 1), 1000, 64_001, Fraction(64_001))
        for number in range(datasets)
    ]
    before, got, updates = Carried(), dict.fromkeys((part.key for part in parts), 0), 12
    for _ in range(updates):
        shares, _ = share_out(parts, before, Fraction(1, 4), 4 * sequences, 64)
        before = before.after({one.part.key: record(one.count, float(one.due)) for one in shares})
        for one in shares:
            got[one.part.key] += one.count
    assert sum(got.values()) == updates * sequences
    assert max(got.values()) - min(got.values()) <= 1


@settings(deadline=None, max_examples=30)
@given(
    datasets=st.integers(2, 30),
    pattern=st.sampled_from(["halves", "one", "few"]),
    seed=st.integers(0, 2**32),
)
def test_so_it_is_if_datasets_are_left_out_for_a_while(datasets: int, pattern: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = [Part(Earlier(f"d{n}", NOWHERE, NOWHERE, 0, 1), 1000, 64_001, Fraction(1)) for n in range(datasets)]
    before, balance = Carried(), dict.fromkeys((part.key for part in parts), Fraction(0))
    for update in range(100):
        present = {
            "halves": [part for n, part in enumerate(parts) if (n < datasets // 2) == (update // 5 % 2 == 0)],
            "one": [parts[int(random.integers(datasets))]],
            "few": [part for part in parts if random.random() < 0.3] or parts[:1],
        }[pattern]
        share, places = Fraction(int(random.integers(1, 90)), 100), int(random.integers(2, 30))
        shares, _ = share_out(present, before, share, places, 64)
        before = before.after({one.part.key: record(one.count, float(one.due)) for one in shares})
        for one in shares:
            balance[one.part.key] += share * places / len(present) - one.count
        assert abs(sum(one.count for one in shares) - share * places) <= 1
        assert max(abs(left) for left in balance.values()) < 2


def record(count: int, due: float, seq_len: int = 64, start: int = 0, order: str = "original") -> dict[str, Any]:
    return {"sequences": count, "tokens": count * seq_len, "due": due, "from": start, "order": order}


# -- what is carried ---------------------------------------------------------------------------------------------


def added(updates: list[dict[str, dict[str, Any]]]) -> Carried:
    """What a lineage carries after updates that replayed these parts."""
    return reduce(Carried.after, updates, Carried())


def test_what_is_owed_adds_up_in_tokens_and_orders_go_on_in_runs() -> None:
    found = added(
        [
            {"old": record(10, 650.0)},
            {"old": record(3, 100.5, seq_len=32, start=640), "news": record(0, 20.0)},
            {"old": record(2, 64.0, seq_len=32, start=736), "news": record(1, 50.0, order="reshuffled")},
        ]
    )
    assert found.owed == {"old": Fraction("14.5"), "news": Fraction(6)}
    assert found.read == {"old": ((64, 10), (32, 5))}
    again = found.after({"old": record(4, 256.0)})
    assert again.read["old"] == ((64, 4),), "a part from 0 begins its order again"


def test_records_that_count_sequences_are_understood() -> None:
    """Order 1: ``from`` and ``to`` are sequences, whose length follows from the tokens; nothing is owed."""
    old = {"sequences": 498, "tokens": 498 * 256, "share": 0.05, "order": "original", "from": 0, "to": 498}
    none = {"sequences": 0, "tokens": 0, "share": 0.0, "order": "original", "from": 0, "to": 0}
    found = added([{"old": old, "small": none}, {"old": {**old, "sequences": 2, "tokens": 512, "from": 498}}])
    assert (found.owed, found.read) == ({}, {"old": ((256, 500),)})
    order = Order(1_000_001, 1, "old")
    assert locate(order, found.read["old"]) == Position(0, ((256, 500),))


@settings(deadline=None)
@given(wanted=st.lists(st.fractions(-3, 8, max_denominator=50), min_size=1, max_size=12), total=st.integers(0, 40))
def test_whole_numbers_are_as_near_as_can_be(wanted: list[Fraction], total: int) -> None:
    counts = allot(wanted, total)
    assert sum(counts) == total
    assert min(counts) >= 0
    left = [one - count for one, count in zip(wanted, counts, strict=True)]
    for number, one in enumerate(left):
        if counts[number]:
            assert one >= max(left) - 1, "no sequence would be better given to another"


@settings(deadline=None)
@given(
    share=st.fractions(0, Fraction(999, 1000), max_denominator=1000),
    places=st.integers(1, 500),
    owed=st.fractions(-2, 2, max_denominator=1000),
)
def test_an_update_replays_its_share_and_leaves_a_place_to_the_arrival(
    share: Fraction, places: int, owed: Fraction
) -> None:
    total, units = total_of(share, places, owed)
    assert 0 <= total < places
    assert abs(total - share * places) <= 1
    assert 0 <= units < share.denominator
    assert total == (places * share.numerator + units) // share.denominator
