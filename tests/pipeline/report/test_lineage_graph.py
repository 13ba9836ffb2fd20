"""The lineage's graph: lanes, branches, promotions; nothing crosses what it does not belong to."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.pipeline.report import PromotionRecord, UpdateShown, WorkspaceRecord
from rewarm.pipeline.report.lineage_graph import assign_lanes, graph


@pytest.mark.parametrize(
    ("parents", "lanes"),
    [
        ([], []),
        ([None], [0]),
        ([None, 0, 1, 2], [0, 0, 0, 0]),
        ([None, 0, 0], [0, 1, 0]),
        ([None, 0, 0, 0], [0, 1, 1, 0]),
        ([None, 0, 1, 0, 3], [0, 1, 1, 0, 0]),
        ([None, 0, 0, 1, 2], [0, 1, 0, 1, 0]),
        ([None, 0, 0, 0, 1, 3], [0, 1, 2, 0, 1, 0]),
    ],
)
def test_the_newest_trunk_and_what_it_comes_from_run_in_the_first_lane(
    parents: list[int | None], lanes: list[int]
) -> None:
    assert assign_lanes(parents) == lanes


@st.composite
def lineages(draw: st.DrawFn) -> list[int | None]:
    number = draw(st.integers(1, 14))
    return [None, *(draw(st.integers(0, child - 1)) for child in range(1, number))]


@given(lineages())
def test_no_trunk_runs_through_another(parents: list[int | None]) -> None:
    lanes = assign_lanes(parents)
    assert lanes[-1] == 0
    for child, parent in enumerate(parents):
        if parent is None:
            continue
        ends = (lanes[parent], lanes[child])
        for between in range(parent + 1, child):
            comes_from_it = _descends(between, parent, parents)
            assert lanes[between] != ends[0] or comes_from_it, "the line runs in the lane of its start"


def _descends(child: int, ancestor: int, parents: list[int | None]) -> bool:
    step: int | None = child
    while step is not None and step != ancestor:
        step = parents[step]
    return step is not None


def test_a_refused_update_leaves_the_lane_and_its_branch_stops_short(guarded: WorkspaceRecord) -> None:
    drawn = graph(guarded)
    refused, last = drawn.rows[3], drawn.rows[4]
    assert [row.mark for row in drawn.rows] == ["promoted", "promoted", "promoted", "refused", "current"]
    assert refused.node > last.node == drawn.rows[0].node
    assert refused.release < last.release
    assert "refused by the gate" in refused.summary
    assert "continues from 0002-news-2026-01" in last.summary
    assert any(stroke.kind == "trunk" and (stroke.top, stroke.bottom) == ("0", "100%") for stroke in refused.strokes)


def test_promotions_run_down_and_a_rollback_back_up(demo: WorkspaceRecord) -> None:
    kinds = [{stroke.kind for stroke in row.strokes} for row in graph(demo).rows]
    assert kinds == [{"trunk", "branch", "rail"}] * 3
    assert not graph(demo).goes_back
    rolled_back = replace(
        demo, release=demo.updates[0].id, history=[*demo.history, PromotionRecord(demo.updates[0].id, "2026-03-03")]
    )
    drawn = graph(rolled_back)
    assert all("back" in {stroke.kind for stroke in row.strokes} for row in drawn.rows)
    assert (drawn.goes_back, [row.mark for row in drawn.rows]) == (True, ["current", "promoted", "promoted"])
    assert drawn.width > graph(demo).width


def test_an_unfinished_update_has_no_release(unfinished: WorkspaceRecord) -> None:
    row = graph(unfinished).rows[-1]
    assert (row.mark, {stroke.kind for stroke in row.strokes}) == ("", {"trunk"})


def test_a_history_of_updates_that_are_gone_is_left_out() -> None:
    only = UpdateShown("0000-x", "x", "released")
    history = [PromotionRecord("0009-gone", "2026-03-01"), PromotionRecord("0000-x", "2026-03-02")]
    (row,) = graph(WorkspaceRecord("w", "0000-x", "", [], [only], history=history)).rows
    assert (row.mark, [stroke.kind for stroke in row.strokes]) == ("current", ["branch"])
