"""A study's table: means and spreads over seeds, the papers' mean of old and new, the best row."""

import io
import math
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from rewarm.pipeline.lineage.workspace import TRIAL
from rewarm.pipeline.shift.objective import mean_loss
from rewarm.pipeline.study.forecast import observations
from rewarm.pipeline.study.grid import Trial
from rewarm.pipeline.study.results import collect
from rewarm.pipeline.study.table import body, head, notes, numbers, page, table
from rewarm.pipeline.study.trial import StudyWorkspace


def result(trial: Trial, losses: dict[str, float], **more: Any) -> dict[str, Any]:
    update = {
        **{"id": "0001-new", "arrival": "new", "datasets": ["new"], "state": "released"},
        "losses": {"release": losses, "trunk": losses},
        "window_losses": {"trunk": losses},
        "forgetting": {"old": losses["old"] - 4.0},
        "gap": {"old": {"depth": 0.2, "at_tokens": 0, "recovered_tokens": None, "start": 1.0, "end": 1.0}},
        "tokens": {"planned": 1000, "new": 900, "replayed": 100, "annealed": 150},
        "parameters": 10,
        "seconds": {"ingest": 9.0, "train": 20.0, "anneal": 2.0},
    }
    return {"state": "done", "trial": trial.to_json(), "update": {**update, **more}}


@pytest.fixture
def workspace(tmp_path: Path) -> StudyWorkspace:
    """A study of three rows under two seeds, one run missing, one baseline from scratch."""
    workspace = StudyWorkspace(str(tmp_path), "s", ["new"])
    for trial, old, new in zip(TRIALS, (4.0, 5.0, 3.0, 4.2, 5.2), (3.0, 2.0, 2.0, 3.2, 2.2), strict=False):
        workspace.trial(trial.id).write_json(TRIAL, result(trial, {"old": old, "new": new}))
    return workspace


GRID = [
    Trial(f"replay.share={share}", "grid", {"replay.share": share}, seed) for seed in (0, 1) for share in (0.5, 0.1)
]
TRIALS = [GRID[0], GRID[1], Trial("joint", "joint", {}, 0), GRID[2], GRID[3], Trial("joint", "joint", {}, 1)]


def test_rows_have_means_and_spreads_over_their_seeds(workspace: StudyWorkspace) -> None:
    study = collect(workspace, TRIALS, 0.5)
    first = study.rows[0]
    assert first.seeds == [0, 1]
    assert (first.losses["old"].mean, first.losses["new"].mean) == (pytest.approx(4.1), pytest.approx(3.1))
    assert first.losses["old"].spread == pytest.approx(0.2 / math.sqrt(2))
    assert (first.mean, first.mean_spread) == (pytest.approx(3.6), pytest.approx(0.2 / math.sqrt(2)))
    assert (first.tokens, first.flops, first.seconds) == (1150, 6 * 10 * 1150, 22.0)
    assert study.rows[2].losses["old"].spread is None, "one seed has no spread"
    assert study.unfinished == [TRIALS[-1].id]


@pytest.mark.parametrize(("weight", "share"), [(0.0, 0.1), (1.0, 0.5)])
def test_best_is_by_the_users_weight_and_never_from_scratch(
    workspace: StudyWorkspace, weight: float, share: float
) -> None:
    best = collect(workspace, TRIALS, weight).best
    assert best is not None
    assert best.settings == {"replay.share": share}


def test_json_has_the_grids_settings_beside_the_other_columns(workspace: StudyWorkspace) -> None:
    made = collect(workspace, TRIALS, 0.5).to_json()
    row = made["rows"][0]
    assert row["replay.share"] == 0.5 == row["settings"]["replay.share"]
    assert {"name", "seeds", "losses", "mean", "tokens", "seconds"} <= set(row)
    assert set(row["losses"]["old"]) == {"mean", "spread"}
    assert made["best"]["name"] == "replay.share=0.5"


def test_runs_that_were_stopped_early_are_counted_and_not_averaged(workspace: StudyWorkspace) -> None:
    stopped = {"state": "stopped early", "trial": GRID[3].to_json(), "last": {"score": 9.0}}
    workspace.trial(GRID[3].id).write_json(TRIAL, stopped)
    study = collect(workspace, TRIALS, 0.5)
    assert (study.rows[1].seeds, study.rows[1].stopped) == ([0], 1)
    assert "1 stopped early" in body(study)[1][0]


@pytest.mark.parametrize(("weight", "expected"), [(0.5, 3.25), (1.0, 4.5), (0.0, 2.0)])
def test_score_weighs_old_against_new(weight: float, expected: float) -> None:
    assert mean_loss({"a": 4.0, "b": 5.0, "c": 2.0}, ["c"], weight) == pytest.approx(expected)


def test_all_datasets_count_alike_unless_a_weight_is_given() -> None:
    assert mean_loss({"a": 4.0, "b": 5.0, "c": 2.0}, ["c"]) == pytest.approx(11 / 3)


def test_the_best_row_keeps_the_arrival_within_its_cost(tmp_path: Path) -> None:
    """Half replay has the lowest mean, and costs the arrival more than is allowed."""
    workspace = StudyWorkspace(str(tmp_path), "s", ["new"])
    tried = [Trial(f"replay.share={share}", "grid", {"replay.share": share}, 0) for share in (0.0, 0.25, 0.5)]
    tried.append(Trial("other", "row", {"replay.share": 0.1, "schedule.peak": 1e-3}, 0))
    for trial, old, new in zip(tried, (5.0, 4.5, 4.0, 4.0), (2.0, 2.04, 2.2, 2.0), strict=True):
        workspace.trial(trial.id).write_json(TRIAL, result(trial, {"old": old, "new": new}))
    free, limited = collect(workspace, tried[:3], None), collect(workspace, tried[:3], None, 0.05)
    assert free.best is not None
    assert limited.best is not None
    assert (free.best.name, limited.best.name) == ("replay.share=0.5", "replay.share=0.25")
    costs = [row["arrival_cost"] for row in limited.to_json()["rows"]]
    assert costs == pytest.approx([0.0, 0.04, 0.2])
    assert (free.objective, len(limited.objective)) == ([], 1)
    assert "leaves out 1 rows" in limited.objective[0]
    assert "replay.share=0.5 +0.200" in limited.objective[0]
    with_other = collect(workspace, tried, None, 0.05)
    assert with_other.to_json()["rows"][3]["arrival_cost"] is None, "no row of its settings is without replay"
    assert "could not be checked for 1 of 4 rows" in with_other.objective[1]


def test_rows_are_compared_seed_by_seed(tmp_path: Path) -> None:
    """The seeds differ by 1 nat, the rows by 0.2, 0.3 and 0.4: the interval is that of the differences."""
    workspace = StudyWorkspace(str(tmp_path), "s", ["new"])
    tried = [Trial(name, "row", {}, seed) for seed in range(3) for name in ("a", "b")]
    for trial in tried:
        old = 4.0 + trial.seed + (2 * (0.2 + 0.1 * trial.seed) if trial.label == "b" else 0.0)
        bits = {"bits_per_byte": {"release": {"old": 1.5, "new": 1.2}}}
        workspace.trial(trial.id).write_json(TRIAL, result(trial, {"old": old, "new": 3.0}, **bits))
    study = collect(workspace, tried, None)
    row = next(row for row in study.rows if row.name == "b")
    found = study.behind(row)
    assert found is not None
    assert (found.mean, found.pairs) == (pytest.approx(0.3), 3)
    assert found.half == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-3), "t of two degrees of freedom"
    assert study.behind(study.rows[0]) is None, "the best row is not behind itself"
    made = orjson.loads(orjson.dumps(study.to_json()))
    assert made["rows"][1]["behind_best"]["half"] == found.half
    assert made["rows"][1]["scores"] == pytest.approx({"0": 3.7, "1": 4.3, "2": 4.9})
    column = head(study).index("behind ★")
    assert [line[column] for line in body(study)] == ["", "+0.300 ± 0.248"]
    assert body(study)[0][head(study).index("bits/byte old")] == "1.500 ± 0.000"
    assert "Student's t" in str(table(study).caption)


def test_score_of_one_side_alone_is_its_mean() -> None:
    assert mean_loss({"a": 4.0, "b": 5.0}, ["c"], 0.1) == 4.5
    assert mean_loss({"c": 4.0}, ["c"], 0.1) == 4.0


def test_the_page_is_one_file_with_the_plots(workspace: StudyWorkspace) -> None:
    study = collect(workspace, TRIALS, 0.5)
    assert numbers(study) == ["replay.share"]
    html = page(study, ["a <forecast>"])
    assert "Loss against replay.share" in html
    assert "a &lt;forecast&gt;" in html
    assert "<script src" not in html


def rewrite(workspace: StudyWorkspace, trial: Trial, losses: dict[str, float], **more: Any) -> None:
    workspace.trial(trial.id).write_json(TRIAL, result(trial, losses, **more))


def test_rows_record_the_share_that_was_achieved_and_the_forecast_reads_that(tmp_path: Path) -> None:
    """0.5 % is lifted to the floor of 1 %: the two rows are one share, and the law is not told that they are two."""
    workspace, asked = StudyWorkspace(str(tmp_path), "s", ["new"]), (0.0, 0.005, 0.01, 0.25)
    tried = [Trial(f"replay.share={share:g}", "grid", {"replay.share": share}, 0) for share in asked]
    for trial, real in zip(tried, (0.0, 0.0101, 0.0099, 0.25), strict=True):
        replay = {"achieved": real, "by_dataset": {"old": {"sequences": 1, "tokens": 8}} if real else {}}
        rewrite(workspace, trial, {"old": 4.0, "new": 3.0}, replay=replay)
    study = collect(workspace, tried, 0.5)
    assert [row.share.mean if row.share else None for row in study.rows] == [None, 0.0101, 0.0099, 0.25]
    assert "1.01%" in body(study)[1]
    assert notes(study) == [
        "replay.share=0.005: 1.01% of the tokens were replayed, not 0.50% (replay.floor, or rounding)"
    ]
    shares = [one.share for one in observations(workspace, tried)]
    assert shares == pytest.approx([0.0, 0.01, 0.01, 0.25])
    assert len(set(shares)) == 3


def test_the_star_says_when_it_is_not_at_equal_compute(tmp_path: Path) -> None:
    workspace = StudyWorkspace(str(tmp_path), "s", ["new"])
    tried = [
        Trial(f"{share:g} {length}", "grid", {"replay.share": share, "budget.update_tokens": length}, 0)
        for share in (0.0, 0.5)
        for length in (1000, 2000)
    ]
    losses = (3.0, 2.0, 2.5, 2.2)
    for trial, loss in zip(tried, losses, strict=True):
        tokens = {"planned": trial.settings["budget.update_tokens"], "new": 0, "replayed": 0, "annealed": 0}
        rewrite(workspace, trial, {"old": loss, "new": loss}, tokens=tokens)
    study = collect(workspace, tried, 0.5)
    assert study.best is not None
    assert study.best.name == "0 2000"
    assert study.compute == (
        "★ is not at equal compute: other rows took 0.50 times the compute of 0 2000 "
        "(with 0.50 times its compute the lowest is 0.5 1000)"
    )
    assert study.compute in notes(study)
    assert study.to_json()["compute"] == study.compute
    equal = collect(workspace, [trial for trial in tried if trial.settings["budget.update_tokens"] == 1000], 0.5)
    assert equal.compute == ""


def test_named_tasks_have_columns_and_generated_ones_have_not(workspace: StudyWorkspace) -> None:
    tasks = {"piqa": {"acc": 0.5, "acc_norm": 0.6, "acc_stderr": 0.1}, "rewarm_old_order": {"acc": 0.9}}
    rewrite(workspace, GRID[0], {"old": 4.0, "new": 3.0}, lm_eval=tasks)
    study = collect(workspace, TRIALS, 0.5)
    column = head(study).index("piqa")
    assert "rewarm_old_order" not in head(study)
    assert [line[column] for line in body(study)] == ["0.600", "", ""]


def test_a_baseline_that_is_not_the_papers_says_so(workspace: StudyWorkspace) -> None:
    odd = Trial("constant-min", "constant-min", {}, 0, meaning="not the papers': it drops")
    rewrite(workspace, odd, {"old": 4.0, "new": 3.0})
    study = collect(workspace, [*TRIALS, odd], 0.5)
    assert body(study)[3][0].startswith("constant-min")
    assert body(study)[3][0].endswith(" †")
    assert "† constant-min: not the papers': it drops" in str(table(study).caption)
    assert "not the papers&#39;: it drops" in page(study, [])


def test_a_narrow_terminal_cuts_no_figure_and_names_what_it_leaves_out(workspace: StudyWorkspace) -> None:
    study = collect(workspace, TRIALS, 0.5)
    for width in (60, 80, 200):
        file = io.StringIO()
        Console(width=width, file=file).print(table(study, width))
        said = " ".join(file.getvalue().split())
        assert "…" not in said and "L(old)" in said and "L(new)" in said
        assert ("not shown for lack of room: seconds" in said) == (width < 200)
