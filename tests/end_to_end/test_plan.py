"""A plan of a real arrival, and an update that follows it: the command line in processes of its own."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_lineage import Lineage, rewarm

LOW = 0.02  # a threshold that docstrings against source code are far above, and halves of one corpus far below
GIVEN = (
    "cost.per_worker_hour=2",
    "cost.per_gb_month=0.1",
    f"plan.strong_divergence={LOW}",
    "plan.strong_loss=1.01",  # of a model of two layers: two measures must agree on a strong shift
)
SETS = [part for assignment in GIVEN for part in ("--set", assignment)]


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def workspace(base: Lineage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("planned") / "workspace"
    shutil.copytree(base.workspace, copy)
    return copy


@pytest.fixture(scope="module")
def plan(base: Lineage, workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    before, saved = files(workspace), tmp_path_factory.mktemp("saved") / "plan.json"
    done = rewarm("plan", workspace, "--data", f"code={base.code}", *SETS, "--json", "--save", saved)
    assert done.returncode == 0, done.stderr[-3000:]
    assert files(workspace) == before, "a plan writes nothing"
    found: dict[str, Any] = json.loads(done.stdout)
    assert json.loads(saved.read_text()) == found
    return found


def test_a_plan_measures_the_shift(plan: dict[str, Any]) -> None:
    shift = plan["shift"]
    assert shift["strength"] == "strong", shift["because"]
    assert shift["arrival_loss"] > shift["base_loss"] > 0
    assert LOW <= shift["divergence"] < 0.6931
    assert (shift["overlap"], shift["nearest"]) == (0, "docs")
    assert shift["languages"]
    assert sum(shift["earlier_languages"].values()) == pytest.approx(1)


def test_a_plan_chooses_and_says_why(plan: dict[str, Any]) -> None:
    values = {name: choice["value"] for name, choice in plan["choices"].items()}
    assert (values["replay.share"], values["schedule.kind"]) == (0.25, "infinite")
    assert all(choice["because"] for choice in plan["choices"].values())


def test_a_plan_predicts_what_the_update_and_re_training_take(plan: dict[str, Any]) -> None:
    assert plan["tokens"] == {"new": 14_976, "replayed": 4_992, "annealed": 6 * 8 * 64}
    assert plan["steps"] == 39
    assert {"ingest", "tokenize", "train", "anneal", "evaluate"} <= set(plan["seconds"])
    assert plan["cost"] == pytest.approx(plan["hours"] * 2 * 2)
    assert plan["retrain"]["tokens"] == 78 * 512 + 39 * 512
    assert plan["retrain"]["hours"] > 0
    assert plan["storage"]["lasting"] > plan["storage"]["models"] > 0
    assert plan["arrival"]["complete"]


@pytest.mark.faults
def test_an_update_with_auto_follows_its_plan_and_keeps_it_beside_what_it_took(
    plan: dict[str, Any], base: Lineage, workspace: Path
) -> None:
    auto = ["--set", "replay.share=auto", "--set", "schedule.kind=auto", "--set", "evaluate.task_documents=0"]
    done = rewarm(*base.update(workspace, *auto, *SETS))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "plan: replay.share = 0.25" in done.stderr
    begun = json.loads((workspace / "updates" / "0001-code" / "plan.json").read_text())
    assert (begun["recipe"]["replay"]["share"], begun["recipe"]["schedule"]["kind"]) == (0.25, "infinite")
    update = json.loads(rewarm("status", workspace, "--json").stdout)["updates"][1]
    kept = update["plan"]
    assert (kept["shift"]["strength"], kept["shift"]["divergence"]) == ("strong", plan["shift"]["divergence"])
    assert kept["shift"]["arrival_loss"] == pytest.approx(plan["shift"]["arrival_loss"])
    assert kept["predicted"]["tokens"] == plan["tokens"]
    assert {name: update["tokens"][name] for name in plan["tokens"]} == plan["tokens"]
    assert update["train"]["steps"] == kept["predicted"]["steps"] == 39
    assert update["cost"]["hours"] == pytest.approx(sum(update["seconds"].values()) / 3600)
    assert (update["attempts"]["count"], update["attempts"]["failed"]) == (1, 0)
    assert kept["predicted"]["hours"] > 0
    tokens = json.loads((workspace / "datasets" / "code" / "tokens" / "manifest.json").read_text())["outcome"]
    assert plan["arrival"]["tokens"] == pytest.approx(tokens["num_tokens"], rel=0.1)
    page = (workspace / "report" / "index.html").read_text(encoding="utf-8")
    assert "a strong shift" in page
    assert "as given" not in kept["choices"]["replay.share"]["because"]


def test_what_a_plan_refuses_is_refused_before_anything_is_spent(workspace: Path, base: Lineage) -> None:
    for arguments, message in (
        (["--data", "x=/nowhere"], "/nowhere"),
        (["--data", f"docs={base.docs}"], "already ingested"),
        ([], "--data"),
        (["--data", f"x={base.code}", "--save", "/nowhere/plan.json"], "/nowhere"),
    ):
        done = rewarm("plan", workspace, *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert message in done.stderr
