"""The lines of the plots: where branches start, what fewer points keep, what a running mean leaves out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.pipeline.report import WorkspaceRecord
from rewarm.pipeline.report.curves import MAX_POINTS, branches, downsample, join, smooth, trunks


def test_a_branch_and_the_next_trunk_both_start_at_the_trunks_end(demo: WorkspaceRecord) -> None:
    lines = trunks(demo.updates, lambda point: point.lr)
    beside = branches(demo.updates, lambda point: point.lr)
    assert [line[0] for line in beside] == [line[-1] for line in lines]
    assert all(len(line) > 2 for line in beside)
    step = lines[0][1][0] - lines[0][0][0]
    assert lines[1][0][0] == lines[0][-1][0] + step


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(10, 50))
def test_fewer_points_keep_ends_and_extremes(values: list[float], limit: int) -> None:
    line = [(float(i), value) for i, value in enumerate(values)]
    (kept,) = downsample([line], limit)
    assert len(kept) <= max(limit, 4)
    assert (kept[0], kept[-1]) == (line[0], line[-1])
    assert kept == sorted(set(kept) & set(line))
    for extreme in (min, max):
        assert extreme(value for _, value in kept) == extreme(values)


def test_lines_share_the_limit_of_a_trace_by_their_length() -> None:
    lines = [[(float(i), math.sin(i)) for i in range(length)] for length in (30_000, 10_000, 0)]
    kept = downsample(lines)
    assert sum(map(len, kept)) <= MAX_POINTS
    assert len(kept[0]) == pytest.approx(3 * len(kept[1]), rel=0.05)
    assert kept[2] == []


def test_not_a_number_breaks_the_line_but_not_the_mean() -> None:
    values = [3.0] * 200 + [math.nan] + [3.0] * 200
    line = [(float(i), value) for i, value in enumerate(values)]
    assert [value for _, value in smooth(line)] == pytest.approx([3.0] * 401)
    assert join([line], keep_apart=False)[1][200] is None
    all_lost = [(float(i), math.nan) for i in range(300)]
    assert set(join(downsample([smooth(all_lost)], 20), keep_apart=False)[1]) == {None}


def test_the_mean_of_a_straight_line_is_the_line() -> None:
    line = [(float(i), 0.5 * i) for i in range(600)]
    assert [value for _, value in smooth(line)[10:-10]] == pytest.approx([value for _, value in line[10:-10]])
    assert smooth(line[:50]) == line[:50]


def test_trunks_join_unless_one_goes_back_and_branches_never_do() -> None:
    first, following, earlier = [(1.0, 5.0), (2.0, 4.0)], [(3.0, 3.0)], [(2.0, 3.5)]
    assert join([first, [], following], keep_apart=False)[0] == [1, 2, 3]
    assert join([first, following, earlier], keep_apart=False)[0] == [1, 2, 3, None, 2]
    assert join([first, following], keep_apart=True)[0] == [1, 2, None, 3]
