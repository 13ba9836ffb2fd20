"""A dataset's own order: every pass reads everything once, also after the length of the sequences changed."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rewarm.stages.data.order import Grid, Order, Position, Rest, cover, unread


def reads(order: Order, position: Position, seq_len: int, count: int) -> tuple[np.ndarray, Position]:
    """How often each place is read by ``count`` sequences from a position on, and the position after them."""
    found = np.zeros(order.num_tokens - 1, dtype=np.int64)
    for _ in range(count):
        same = position.read and position.read[-1][0] == seq_len
        before, had = (position.read[:-1], position.read[-1][1]) if same else (position.read, 0)
        (start,) = order.begun(position.passes, before, seq_len).starts(np.array([had]))
        assert 0 <= start <= order.num_tokens - 1 - seq_len
        found[start : start + seq_len] += 1
        position = order.advance(position, seq_len, 1)
    return found, position


LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=1, max_size=5)


@settings(deadline=None, max_examples=150)
@given(tokens=st.integers(42, 600), runs=LENGTHS)
def test_nothing_is_read_twice_before_the_pass_is_through_and_nothing_is_skipped(
    tokens: int, runs: list[tuple[int, int]]
) -> None:
    order = Order(tokens, 3, "old")
    total = np.zeros(tokens - 1, dtype=np.int64)
    position = Position()
    for seq_len, count in runs:
        here = Position(position.passes, position.read)
        more, position = reads(order, here, seq_len, count)
        if position.passes != here.passes:
            return
        total += more
        rest = order.begun(position.passes, position.read, seq_len + 1)
        if isinstance(rest, Rest):
            whole = int(rest.before[-1])
            starts = rest.starts(np.arange(rest.count))
            ahead = np.zeros_like(total)
            for start in starts[:whole]:
                ahead[start : start + seq_len + 1] += 1
            assert ahead.max(initial=0) <= 1
            assert not (ahead[total > 0]).any(), "sequences that fit are of what was not read"
            for start in starts[whole:]:
                ahead[start : start + seq_len + 1] += 1
            assert (total + ahead > 0).all(), "the pass leaves nothing out"


@settings(deadline=None, max_examples=30)
@given(tokens=st.integers(300, 1500), first=st.integers(1, 9), factor=st.integers(1, 4))
def test_half_as_long_sequences_divide_what_is_left(tokens: int, first: int, factor: int) -> None:
    order, long = Order(tokens, 1, "old"), 32
    before, position = reads(order, Position(), long, first)
    assume(position.passes == 0)
    short = long // 2**factor
    rest = order.begun(0, position.read, short)
    count = int(rest.before[-1]) if isinstance(rest, Rest) else rest.count
    after, _ = reads(order, position, short, count)
    assert (before + after).max() == 1
    assert (before + after == 0).sum() < short, "only the tail is left"


@settings(deadline=None, max_examples=40)
@given(tokens=st.integers(10, 200), seq_len=st.integers(1, 40))
def test_two_passes_leave_nothing_out(tokens: int, seq_len: int) -> None:
    order = Order(tokens, 5, "new")
    count = order.num_sequences(seq_len)
    assume(count)
    first, position = reads(order, Position(), seq_len, count)
    second, position = reads(order, position, seq_len, count)
    assert position == Position(2, ())
    assert first.max() == second.max() == 1
    assert (first + second > 0).all()


@settings(deadline=None)
@given(
    tokens=st.integers(42, 600),
    runs=LENGTHS,
    seq_len=st.integers(1, 40),
    parts=st.lists(st.integers(0, 40), min_size=1, max_size=4),
)
def test_positions_do_not_depend_on_how_often_it_was_stopped(
    tokens: int, runs: list[tuple[int, int]], seq_len: int, parts: list[int]
) -> None:
    order, position = Order(tokens, 3, "old"), Position()
    for run in runs:
        position = order.advance(position, *run)
    at_once, by_parts = order.advance(position, seq_len, sum(parts)), position
    for count in parts:
        by_parts = order.advance(by_parts, seq_len, count)
    assert at_once == by_parts


def test_windows_cover_what_is_short_and_no_more_than_they_must() -> None:
    low, high = unread(np.array([[10, 40, 20], [20, 50, 33]]), 61)
    assert (low.tolist(), high.tolist()) == ([0, 33, 50], [10, 40, 61])
    assert cover(low, high, 20, 41).tolist() == [0, 33, 41]
    assert cover(np.array([3]), np.array([3]), 20, 41).tolist() == []


def test_a_whole_pass_needs_no_table() -> None:
    order = Order(10**15, 1, "huge")
    assert isinstance(reading := order.begun(4, (), 2048), Grid)
    assert reading.starts(np.array([10**11])).tolist()[0] % 2048 == 0
    assert order.advance(Position(), 2048, 3 * order.num_sequences(2048) + 5) == Position(3, ((2048, 5),))
