"""SIGTERM and Ctrl-C during every long command (``make test-faults``).

Each ends within ten seconds with 143 or 130 and one line, leaves no process, and the same command resumes to the same
result. A watch ends with 0: to be stopped is its ordinary end. The seconds of each are printed (``pytest -s``).
"""

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from small_lineage import Lineage, command, rewarm
from stopped_commands import Stopped, began, has_started, stop_when, there
from update_process import assert_as_undisturbed, assert_whole, status

pytestmark = pytest.mark.faults
BOTH = (signal.SIGTERM, signal.SIGINT)
Met = Callable[[psutil.Process], bool]


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


def moments(workspace: Path) -> dict[str, Met]:
    """Moments of an update, in order: between two of them, a step has begun or work has got somewhere."""
    update, dataset = workspace / "updates" / "0001-code", workspace / "datasets" / "code"

    return {
        "Ray starts": has_started("gcs_server"),
        "ingest": began(dataset),
        "tokenize": began(dataset / "tokens"),
        "replay": began(update / "mixture"),
        "workers start": began(update / "trunk"),
        "train": there(update, "checkpoints/train/checkpoint_*/progress.json"),
        "anneal": began(update / "release"),
        "anneal's end": there(update, "release/model"),
        "evaluate": began(update / "evaluation"),
        "scores": there(update, "evaluation/scores/*"),
        "gate": there(update, "evaluation/manifest.json"),
    }


SHORT = ("scores", "gate")  # a tenth of a second long: the command may end before it is stopped


@pytest.mark.timeout(1500)
def test_an_update_is_stopped_in_every_step(base: Lineage, updated: Path, copied: Path) -> None:
    """One update, stopped in each step in turn, by both signals in turn."""
    for place, (name, met) in enumerate(moments(copied).items()):
        number = BOTH[place % 2]
        found = stop_when(command(*base.update(copied)), met, number)
        if found is None or found.code == 0:  # it had its result already
            assert name in SHORT, name
            continue
        check(found, number, f"update, {name}")
        assert name in SHORT or status(copied)["release"] == "0000-docs"
    done = rewarm(*base.update(copied))
    assert done.returncode == 0, done.stderr[-3000:]
    assert_as_undisturbed(copied, updated)


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


def test_a_distillation_is_stopped(base: Lineage, tmp_path: Path) -> None:
    """As it begins and after a first shard; the text is that of an import that nothing disturbed."""
    model, stopped, other = (tmp_path / name for name in ("model", "stopped", "other"))
    assert rewarm("export", base.workspace, "0000-docs", "--to", model).returncode == 0
    small = ["shard_documents=32", "batch_size=32", "min_tokens=16", "top_p=0.9"]
    words = ["--recipe", base.recipe, "--from", model, *(word for one in small for word in ("--set", f"distill.{one}"))]
    folder = stopped / "datasets" / "distilled"
    for number, met in zip(BOTH, (began(folder), there(folder, ".staging/[0-9]*")), strict=True):
        check(stop_when(command("init", stopped, *words), met, number), number, "distillation")
    for each in (stopped, other):
        done = rewarm("init", each, *words)
        assert done.returncode == 0, done.stderr[-3000:]
    for field in ("weights", "losses"):
        assert status(stopped)["updates"][0][field] == status(other)["updates"][0][field], field
    texts = [files_of(each / "datasets" / "distilled" / "documents") for each in (stopped, other)]
    assert texts[0] == texts[1] != {}
    assert_whole(stopped)


@pytest.mark.timeout(900)
def test_a_demo_is_stopped(tmp_path: Path) -> None:
    """While it gathers its text, in the base and in the first update."""
    budgets = ("budget.base_tokens=120000", "budget.update_tokens=60000", "evaluate.task_documents=0")
    demo = command("demo", "--dir", tmp_path, *(word for one in budgets for word in ("--set", one)))
    workspace = tmp_path / "-".join(["workspace", *budgets])
    places = {"text": there(tmp_path, "text/*"), "base": began(workspace / "updates" / "0000-sci-docs" / "trunk")}
    places["first update"] = began(workspace / "updates" / "0001-ml-docs" / "trunk")
    for place, (name, met) in enumerate(places.items()):
        check(stop_when(demo, met, BOTH[place % 2]), BOTH[place % 2], f"demo, {name}")
    done = subprocess.run(demo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = status(workspace)
    assert [one["id"] for one in found["updates"]] == ["0000-sci-docs", "0001-ml-docs", "0002-code"]
    assert found["release"] == "0002-code"
    assert_whole(workspace)


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
