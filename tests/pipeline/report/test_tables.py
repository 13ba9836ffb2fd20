"""What the tables say of a lineage."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from rewarm.pipeline.record import Replay, StepTaken, Tokens
from rewarm.pipeline.report import UpdateShown, WorkspaceRecord
from rewarm.pipeline.report.figures import stability_gap, stage_times, token_account, update_figures, workspace_figures
from rewarm.pipeline.report.tables import matrix, notices, outcome, scores, since_arrival, telling, totals


def evaluated(*results: Mapping[str, float | None]) -> list[UpdateShown]:
    return [UpdateShown(f"000{i}-x", "x", "released", lm_eval={"task": result}) for i, result in enumerate(results)]


def test_the_outcome_names_the_most_forgotten_earlier_dataset(demo: WorkspaceRecord) -> None:
    last = replace(demo.updates[-1], forgetting={"sci-docs": 0.021, "ml-docs": 0.3, "code": 0.9})
    record = replace(demo, updates=[*demo.updates[:-1], last])
    found = outcome(record, last)
    assert (found.forgotten, found.learned) == (("ml-docs", 0.3), ("code", 0.9))
    cell = found.cells["ml-docs"]
    assert (cell.loss, cell.change, cell.kind) == (last.losses["release"]["ml-docs"], 0.3, "worse")


def test_what_was_learned_is_known_from_the_gate_or_from_the_updates_start(demo: WorkspaceRecord) -> None:
    last = replace(demo.updates[-1], forgetting={"sci-docs": 0.1})
    assert last.gate is not None
    (check,) = [check for check in last.gate.checks if (check.kind, check.name) == ("loss", "code")]
    assert outcome(demo, last).learned == ("code", check.change)
    without = replace(last, gate=None)
    assert outcome(demo, without).learned == ("code", last.gap["code"].end - last.gap["code"].start)
    assert outcome(demo, demo.updates[0]).learned is None, "a base has learned from nothing"
    nothing = replace(without, gap={}, forgetting={"sci-docs": float("nan"), "ml-docs": 2.0})
    assert (outcome(demo, nothing).learned, outcome(demo, nothing).forgotten[0]) == (None, "sci-docs")  # type: ignore[index]


def test_of_several_arrivals_the_one_that_got_least_better_is_named(demo: WorkspaceRecord) -> None:
    last = replace(
        demo.updates[-1], datasets=["code", "ml-docs"], forgetting={"code": -0.4, "ml-docs": -0.1, "sci-docs": 0}
    )
    assert outcome(demo, last).learned == ("ml-docs", -0.1)
    assert outcome(demo, last).forgotten == ("sci-docs", 0)


def test_what_came_after_the_release_is_said(unfinished: WorkspaceRecord, demo: WorkspaceRecord) -> None:
    assert notices(demo) == []
    assert notices(unfinished) == [
        "The gate refused the release of 0002-code; 0001-ml-docs stays the current one.",
        "Update 0003-news is not finished.",
    ]
    rolled_back = replace(demo, release="0001-ml-docs")
    assert notices(rolled_back) == ["Update 0002-code is newer than the current release."]
    assert notices(replace(demo, updates=[], release=None)) == ["There is no release yet."]


def test_totals_add_up_what_is_known(demo: WorkspaceRecord) -> None:
    found = totals(demo)
    assert found.new + found.replayed == sum(update.tokens.planned for update in demo.updates)
    assert found.seconds == pytest.approx(sum(sum(update.seconds.values()) for update in demo.updates))
    assert found.cost == {"USD": 0.08}, "one update of three has a price"
    assert (found.attempts, found.failed) == (4, 1)


def test_the_current_release_is_held_against_the_first_one_that_knew_a_dataset(demo: WorkspaceRecord) -> None:
    cells = since_arrival(demo)
    losses = [update.losses["release"] for update in demo.updates]
    assert cells["sci-docs"].change == pytest.approx(losses[2]["sci-docs"] - losses[0]["sci-docs"])
    assert cells["ml-docs"].change == pytest.approx(losses[2]["ml-docs"] - losses[1]["ml-docs"])
    assert cells["code"].change is None
    assert since_arrival(replace(demo, release=demo.updates[0].id)) == {}


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


def test_rows_without_news_are_left_out_and_counted() -> None:
    found = evaluated({"acc,none": 1.0}, {"acc,none": 0.9996})
    for update, order in zip(found, (1.0, 0.9), strict=True):
        update.lm_eval["rewarm_docs_order"] = {"acc,none": 1.0}
        update.lm_eval["rewarm_news_order"] = {"acc,none": order}
        update.lm_eval["rewarm_docs_rolling"] = {"bits_per_byte,none": 2.0}
    rows, left_out = telling(scores(found))
    assert [row.task for row in rows] == ["task", "rewarm_news_order"]
    assert "1 rows of bits per byte" in left_out and "1 rows of word order" in left_out
    assert telling(rows) == (rows, "")


def test_replay_that_is_not_itemised_is_still_drawn(demo: WorkspaceRecord) -> None:
    replay = Replay(0.25, 0.25, "distilled", {"sci-docs": {"sequences": 10, "tokens": 100, "share": 0.1}})
    update = UpdateShown("0001-x", "x", "released", tokens=Tokens(1000, 750, 250, 0), replay=replay)
    account = token_account(replace(demo, updates=[update]))
    drawn = {trace.name: trace.x for trace in account.traces}
    assert drawn == {"New": [750], "Replayed: sci-docs": [100], "Replayed, not itemised": [150]}


def test_the_stability_gap_is_drawn_from_the_updates_start(demo: WorkspaceRecord) -> None:
    update = demo.updates[2]
    figure = stability_gap(demo, update)
    assert [trace.name for trace in figure.traces] == list(update.gap)
    trace = next(trace for trace in figure.traces if trace.name == "sci-docs")
    gap = update.gap["sci-docs"]
    rises = dict(zip(trace.x, trace.y, strict=True))
    assert min(x for x in rises if x is not None) == 4096, "one step after the start"
    assert rises[gap.at_tokens] == pytest.approx(gap.depth, rel=1e-4)
    assert stability_gap(demo, demo.updates[0]).traces == []


def test_long_runs_are_drawn_in_hours(demo: WorkspaceRecord) -> None:
    update = UpdateShown("0001-x", "x", "released", steps={"train": StepTaken(72_000.0)})
    times = stage_times(replace(demo, updates=[update]))
    assert times.x_title == "Wall time (h)"
    assert times.traces[0].x == [pytest.approx(20.0)]


def test_a_dataset_keeps_its_colour_on_every_page(demo: WorkspaceRecord) -> None:
    whole = {trace.name: trace.tone for figure in workspace_figures(demo) for trace in figure.traces}
    for update in demo.updates:
        for figure in update_figures(demo, update):
            for trace in figure.traces:
                assert trace.tone == whole.get(trace.name, trace.tone), trace.name


def test_a_trunk_that_was_left_behind_has_no_stretch_of_its_own(guarded: WorkspaceRecord) -> None:
    whole = next(figure for figure in workspace_figures(guarded) if figure.id == "training-loss")
    assert [region.label for region in whole.regions] == [
        "sci-docs",
        "ml-docs",
        "news-2026-01",
        "shuffled",
        "news-2026-02",
    ]
    *before, refused, last = guarded.updates
    behind = [replace(point, tokens=point.tokens - 300 * 4096 // 2) for point in last.curve]
    record = replace(guarded, updates=[*before, refused, replace(last, curve=behind)])
    again = next(figure for figure in workspace_figures(record) if figure.id == "training-loss")
    assert [region.label for region in again.regions] == ["sci-docs", "ml-docs", "news-2026-01", "news-2026-02"]


def test_one_figure_in_three_units_has_one_row() -> None:
    bits = {"word_perplexity,none": 230_891_358.0, "byte_perplexity,none": 4.1, "bits_per_byte,none": 2.04}
    assert [row.metric for row in scores(evaluated({**bits, "bits_per_byte_stderr,none": 0.01}))] == ["bits_per_byte"]
    assert [row.metric for row in scores(evaluated({"word_perplexity,none": 12.0}))] == ["word_perplexity"]
