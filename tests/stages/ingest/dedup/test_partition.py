"""Sorting in bounded memory: what is compared is the same however little is held."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.ingest.dedup.partition import ROW_BYTES, held_rows, in_range, num_partitions, sorted_runs


def compared(keys: list[int], limit: int, block: int) -> set[tuple[int, int]]:
    """Pairs of a row and the first of its run or the one before it, as the search makes them."""
    column = np.array(keys, np.uint64)
    blocks = [
        (np.arange(start, min(start + block, len(keys))), [column[start : start + block]])
        for start in range(0, len(keys), block)
    ]
    found = set()
    for run in sorted_runs(blocks, limit):
        for place in range(len(run.rows)):
            if not run.old[place] and run.first[place] != place:
                found |= {(int(run.rows[place]), int(run.rows[other])) for other in (run.first[place], place - 1)}
    return found


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 30), st.integers(1, 9))
def test_pairs(keys: list[int], limit: int, block: int) -> None:
    expected = set()
    for row, key in enumerate(keys):
        before = [other for other in range(row) if keys[other] == key]
        expected |= {(row, other) for other in before[:1] + before[-1:]}
    assert compared(keys, limit, block) == expected


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 7))
def test_every_key_lies_in_one_range(keys: list[int], partitions: int) -> None:
    column = np.array([0, 2**64 - 1, *keys], np.uint64)
    places = [in_range(column, place, partitions) for place in range(partitions)]
    assert (np.sum(places, axis=0) == 1).all()
    assert (np.argmax(places, axis=0).tolist()) == [int(key) * partitions // 2**64 for key in column]


def test_partitions_grow_with_the_rows() -> None:
    assert num_partitions(0, 512) == num_partitions(1_000_000, 512) == 1
    assert num_partitions(10**9, 512) == pytest.approx(2 * 10**9 * ROW_BYTES / 2**29, abs=1)


@pytest.mark.parametrize("keys", ["different", "equal"])
def test_a_task_stays_in_its_memory_however_many_rows_come(keys: str) -> None:
    """16 MB, and eight times the rows that fit: half of what may be held expected, or one key for all."""
    limit = held_rows(16)
    rng = np.random.default_rng(0)

    def blocks() -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        rows = 8 * limit if keys == "equal" else limit // 2
        for start in range(0, rows, 2**14):
            values = rng.integers(0, 2**64 - 1, 2**14, np.uint64) if keys == "different" else np.zeros(2**14, np.uint64)
            yield np.arange(start, start + 2**14), [values, values]

    tracemalloc.start()
    for run in sorted_runs(blocks(), limit):
        assert len(run.rows) <= limit + 2**14
        del run
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20
