"""What the tables say of a lineage."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from pipeline.report import ReplayPart, ReplayRecord, TokenRecord, UpdateRecord, WorkspaceRecord
from pipeline.report.figures import figures
from pipeline.report.tables import matrix, scores, verdict


def evaluated(*results: Mapping[str, float | None]) -> list[UpdateRecord]:
    return [UpdateRecord(f"000{i}-x", "x", "released", lm_eval={"task": result}) for i, result in enumerate(results)]


def test_the_verdict_names_the_most_forgotten_earlier_dataset(demo: WorkspaceRecord) -> None:
    last = demo.updates[-1]
    forgetting = {"sci-docs": 0.021, "ml-docs": 0.3, "code": 0.9}
    record = replace(demo, updates=[*demo.updates[:-1], replace(last, forgetting=forgetting)])
    assert verdict(record).forgotten == ("ml-docs", 0.3)
    assert verdict(record).notices == []
    cell = verdict(record).cells["ml-docs"]
    assert (cell.loss, cell.change, cell.kind) == (last.losses["release"]["ml-docs"], 0.3, "worse")


def test_what_came_after_the_release_is_said(unfinished: WorkspaceRecord, demo: WorkspaceRecord) -> None:
    found = verdict(unfinished)
    assert (found.release, found.position) == (unfinished.updates[1], 1)
    assert found.notices == ["Update 0002-code failed and was not released.", "Update 0003-news is not finished."]
    rolled_back = replace(demo, release="0001-ml-docs")
    assert verdict(rolled_back).notices == ["Update 0002-code is newer than the current release."]
    assert verdict(replace(demo, updates=[], release=None)).notices == ["There is no release yet."]


def test_the_matrix_leaves_out_what_was_not_measured(unfinished: WorkspaceRecord) -> None:
    rows = matrix(unfinished)
    assert [update.id for update, _ in rows] == ["0000-sci-docs", "0001-ml-docs", "0002-code"]
    assert [name for name, cell in rows[0][1].items() if cell.loss is not None] == ["sci-docs"]
    assert rows[0][1]["sci-docs"].kind == ""


def test_the_heat_grows_with_the_change_and_ends_at_full(demo: WorkspaceRecord) -> None:
    changes = {"sci-docs": 0.01, "ml-docs": -0.04, "code": -3.0}
    record = replace(demo, updates=[replace(demo.updates[-1], forgetting=changes)])
    ((_, cells),) = matrix(record)
    assert [(cell.heat, cell.kind) for cell in cells.values()] == [(20, "worse"), (40, "better"), (100, "better")]


@pytest.mark.parametrize(("error_key", "key"), [("acc_stderr,none", "acc,none"), ("acc_stderr", "acc")])
def test_scores_carry_the_95_per_cent_interval(error_key: str, key: str) -> None:
    (row,) = scores(evaluated({key: 0.5, error_key: 0.02}))
    assert (row.task, row.metric, row.lower_is_better) == ("task", "acc", False)
    assert row.scores[0] is not None
    assert row.scores[0].margin == pytest.approx(0.0392)


@pytest.mark.parametrize(
    ("metric", "values", "trend"),
    [
        ("acc", (0.5, 0.55), ""),
        ("acc", (0.5, 0.56), "better"),
        ("acc", (0.5, 0.44), "worse"),
        ("word_perplexity", (0.5, 0.44), "better"),
    ],
)
def test_a_trend_needs_more_than_both_errors(metric: str, values: tuple[float, float], trend: str) -> None:
    (row,) = scores(evaluated(*({metric: value, f"{metric}_stderr": 0.02} for value in values)))
    assert row.scores[1] is not None
    assert row.scores[1].trend == trend


def test_a_missing_error_or_task_leaves_a_gap() -> None:
    (row,) = scores(evaluated({"exact_match,flexible": 0.5, "exact_match_stderr,flexible": None}, {}, {}))
    assert row.metric == "exact_match (flexible)"
    assert row.scores[0] is not None
    assert row.scores[0].margin is None
    assert row.scores[1:] == [None, None]


def test_replay_that_is_not_itemised_is_still_drawn(demo: WorkspaceRecord) -> None:
    replay = ReplayRecord(0.25, 0.25, "distilled", {"sci-docs": ReplayPart(10, 100, 0.1)})
    update = UpdateRecord("0001-x", "x", "released", TokenRecord(1000, 750, 250, 0), replay=replay)
    account = next(figure for figure in figures(replace(demo, updates=[update])) if figure.id == "token-account")
    drawn = {trace.name: trace.x for trace in account.traces}
    assert drawn == {"New": [750], "Replayed: sci-docs": [100], "Replayed, not itemised": [150]}


def test_the_stability_gap_is_drawn_from_each_updates_start(demo: WorkspaceRecord) -> None:
    figure = next(figure for figure in figures(demo) if figure.id == "stability-gap")
    assert figure.panels == ["0001-ml-docs", "0002-code"]
    assert {(trace.panel, trace.name) for trace in figure.traces} == {
        (update.id, name) for update in demo.updates[1:] for name in update.gap
    }
    trace = next(trace for trace in figure.traces if (trace.panel, trace.name) == ("0002-code", "sci-docs"))
    gap = demo.updates[2].gap["sci-docs"]
    rises = dict(zip(trace.x, trace.y, strict=True))
    assert min(rises) == 4096, "one step after the start"
    assert rises[gap.at_tokens] == pytest.approx(gap.depth, rel=1e-4)
    assert gap.depth == pytest.approx(max(rises.values()), rel=1e-4)


def test_long_runs_are_drawn_in_hours(demo: WorkspaceRecord) -> None:
    update = UpdateRecord("0001-x", "x", "released", seconds={"train": 72_000.0})
    times = next(figure for figure in figures(replace(demo, updates=[update])) if figure.id == "stage-times")
    assert times.x_title == "Wall time (h)"
    assert times.traces[0].x == [pytest.approx(20.0)]
