"""A study's table: means and spreads over seeds, the papers' mean of old and new, the best row."""

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.study import StudyWorkspace, Trial, page
from pipeline.study.results import collect, score
from pipeline.study.table import body, numbers
from pipeline.study.trial import RESULT


def result(trial: Trial, losses: dict[str, float], **more: Any) -> dict[str, Any]:
    update = {
        "losses": {"release": losses, "trunk": losses},
        "window_losses": {"trunk": losses},
        "forgetting": {"old": losses["old"] - 4.0},
        "gap": {"old": {"depth": 0.2}},
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
        workspace.trial(trial.id).write_json(RESULT, result(trial, {"old": old, "new": new}))
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
    workspace.trial(GRID[3].id).write_json(RESULT, stopped)
    study = collect(workspace, TRIALS, 0.5)
    assert (study.rows[1].seeds, study.rows[1].stopped) == ([0], 1)
    assert "1 stopped early" in body(study)[1][0]


@pytest.mark.parametrize(("weight", "expected"), [(0.5, 3.25), (1.0, 4.5), (0.0, 2.0)])
def test_score_weighs_old_against_new(weight: float, expected: float) -> None:
    assert score({"a": 4.0, "b": 5.0, "c": 2.0}, ["c"], weight) == pytest.approx(expected)


def test_score_of_one_side_alone_is_its_mean() -> None:
    assert score({"a": 4.0, "b": 5.0}, ["c"], 0.1) == 4.5
    assert score({"c": 4.0}, ["c"], 0.1) == 4.0


def test_the_page_is_one_file_with_the_plots(workspace: StudyWorkspace) -> None:
    study = collect(workspace, TRIALS, 0.5)
    assert numbers(study) == ["replay.share"]
    html = page(study, ["a <forecast>"])
    assert "Loss against replay.share" in html
    assert "a &lt;forecast&gt;" in html
    assert "<script src" not in html
