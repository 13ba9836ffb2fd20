"""SIGTERM and Ctrl-C during every long command (``make test-faults``).

Each ends within ten seconds with 143 or 130 and one line, leaves no process, and the same command resumes to the same
result. A watch ends with 0: to be stopped is its ordinary end. The seconds of each are printed (``pytest -s``).
"""

import shutil
import signal
from pathlib import Path

import pytest
from small_lineage import Lineage, command, rewarm
from stopped_commands import Stopped, began, has_started, stop_when, there
from update_process import status

pytestmark = pytest.mark.faults
BOTH = (signal.SIGTERM, signal.SIGINT)


def check(found: Stopped | None, number: signal.Signals, what: str) -> None:
    """A command was stopped, and ended as it should."""
    assert found is not None, f"{what}: it ended before it could be stopped"
    print(f"{what}: {number.name} ended it in {found.seconds:.1f} s of {found.limit:.0f}, all in {found.cleared:.1f} s")
    expected = f"rewarm: stopped by {number.name}; run the same command to resume an update that was in progress"
    assert (found.code, found.last_line) == (128 + number, expected), f"{what}: {found.said[-3000:]}"
    assert "Traceback" not in found.said, found.said[-3000:]
    assert found.lingering == [], what
    assert found.left == [], what
    assert found.seconds <= found.limit, f"{what}: {found.seconds:.1f} s"


def test_a_base_is_stopped_in_its_first_steps(base: Lineage, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    places = {
        "ingest": workspace / "datasets" / "docs",
        "tokenizer": workspace / "tokenizer",
        "train": workspace / "updates" / "0000-docs" / "trunk",
    }
    for place, (name, folder) in enumerate(places.items()):
        found = stop_when(command(*base.init(workspace)), began(folder), BOTH[place % 2])
        check(found, BOTH[place % 2], f"init, {name}")
    done = rewarm(*base.init(workspace))
    assert done.returncode == 0, done.stderr[-3000:]
    for field in ("weights", "losses", "tokens"):
        assert status(workspace)["updates"][0][field] == status(base.workspace)["updates"][0][field], field


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lease, the logs and what a writer may have left."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.relative_to(folder).parts[0] != "logs"
    }


@pytest.mark.parametrize("number", BOTH)
def test_a_plan_and_a_comparison_are_stopped_and_change_nothing(
    base: Lineage, updated: Path, copied: Path, number: signal.Signals
) -> None:
    before, source = files_of(copied), files_of(updated)
    measured = has_started("ModelHost")
    found = stop_when(command("plan", copied, "--data", f"code={base.code}"), measured, number)
    check(found, number, "plan")
    assert files_of(copied) == before
    models = [f"{updated}@{name}" for name in ("0000-docs", "0001-code")]
    found = stop_when(command("compare", *models), has_started("gcs_server"), number)
    check(found, number, "compare")
    assert files_of(updated) == source


def test_a_release_is_annealed_again_after_a_stop(base: Lineage, copied: Path, tmp_path: Path) -> None:
    words = ["--set", "anneal.share=0.4", "--set", "gate.max_forgetting=null"]
    other = tmp_path / "undisturbed"
    shutil.copytree(copied, other)
    release = copied / "updates" / "0001-anneal-docs" / "release"
    for number, met in zip(BOTH, (began(release), there(release, "model")), strict=True):
        check(stop_when(command("anneal", copied, *words), met, number), number, "anneal")
    for each in (copied, other):
        assert rewarm("anneal", each, *words).returncode == 0
    assert status(copied)["updates"][-1]["weights"] == status(other)["updates"][-1]["weights"]


def test_a_study_is_stopped_and_keeps_finished_trials(base: Lineage, copied: Path) -> None:
    small = ("--set", "budget.update_tokens=6000", "--set", "train.num_workers=1", "--set", "train.cpus_per_worker=1")
    run = command("study", copied, "--data", f"code={base.code}", *small, "--grid", "replay.share=0,0.25,0.5")
    trials = copied / "studies" / "code" / "trials"
    check(stop_when(run, has_started("RayTrainWorker"), signal.SIGINT), signal.SIGINT, "study, first trial")
    check(stop_when(run, there(trials, "*/trial.json"), signal.SIGTERM), signal.SIGTERM, "study, second trial")
    assert any(trials.glob("*/trial.json"))
    assert status(copied)["release"] == "0000-docs"


@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "training"])
def test_a_watch_is_stopped(base: Lineage, copied: Path, tmp_path: Path, number: signal.Signals, busy: bool) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    if busy:
        shutil.copytree(base.code, inbox / "code")
        (inbox / "code" / "_SUCCESS").touch()
    run = command("watch", copied, "--inbox", inbox, "--every", "1", "--set", "evaluate.task_documents=0")
    waits = there(copied / "watch", "mode.json")
    trains = there(copied / "updates" / "0001-code" / "checkpoints" / "train", "checkpoint_*/progress.json")
    found = stop_when(run, trains if busy else waits, number)
    assert found is not None
    print(f"watch, {'training' if busy else 'waiting'}: {number.name} ended it in {found.seconds:.1f} s")
    assert found.code == 0, found.said
    assert (found.lingering, found.left, found.said) == ([], [], "")
    assert found.seconds <= found.limit
