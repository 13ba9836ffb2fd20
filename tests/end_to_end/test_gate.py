"""The gate by the command line: a harmful arrival is refused and changes nothing, a good one after it is released."""

import hashlib
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_lineage import Lineage, docstrings, rewarm

MENDED = 30  # files of the good arrival that came with the harmful one, too


@pytest.fixture(scope="module")
def workspace(base: Lineage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of its own with a base."""
    copy = tmp_path_factory.mktemp("gate") / "workspace"
    shutil.copytree(base.workspace, copy)
    return copy


@pytest.fixture(scope="module")
def harmful(base: Lineage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts with their words shuffled, every other one within its sentences only, and some good ones as they are."""
    rng, folder = random.Random(0), tmp_path_factory.mktemp("harmful")
    for number, text in enumerate(list(dict.fromkeys(docstrings()))[1500:2300]):
        parts = [part.split() for part in (re.split(r"(?<=[.!?])\s+", text) if number % 2 else [text])]
        words = [word for part in parts for word in rng.sample(part, len(part))]
        (folder / f"{number:04d}.txt").write_text(" ".join(words))
    for path in sorted(base.code.iterdir())[:MENDED]:
        shutil.copy(path, folder / path.name)
    return folder


def status(workspace: Path) -> dict[str, Any]:
    shown = rewarm("status", workspace, "--json")
    assert shown.returncode == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def refused(workspace: Path, harmful: Path) -> str:
    """What the update says that took the harmful arrival in, with the settings that any other has."""
    release, current = digests(workspace / "updates" / "0000-docs"), status(workspace)["release"]
    done = rewarm("update", workspace, "--data", f"harm={harmful}")
    assert done.returncode == 3, done.stderr[-3000:]
    assert digests(workspace / "updates" / "0000-docs") == release
    assert status(workspace)["release"] == current
    return done.stdout


def test_a_harmful_arrival_is_refused_and_the_release_stays(refused: str, workspace: Path, harmful: Path) -> None:
    assert "gate: REFUSED, against 0000-docs" in refused
    assert "harm: prefers the original word order in 0." in refused
    assert "the words may be shuffled" in refused
    assert "0001-harm refused" in refused
    found = status(workspace)
    update = found["updates"][1]
    assert (found["release"], update["state"], update["gate"]["passed"]) == ("0000-docs", "refused", False)
    docs, harm = (check for check in update["gate"]["checks"] if check["kind"] == "loss")
    assert (docs["name"], docs["role"], docs["limit"]) == ("docs", "old", 0.5)
    assert docs["change"] == pytest.approx(update["forgetting"]["docs"])
    assert (harm["name"], harm["role"], harm["passed"]) == ("harm", "new", True), "it learned what it was given"
    assert harm["candidate"] == pytest.approx(update["losses"]["release"]["harm"])
    assert harm["current"] > harm["candidate"]
    (order,) = (check for check in update["gate"]["checks"] if check["kind"] == "order")
    assert (order["name"], order["current"], order["limit"], order["passed"]) == ("harm", 0.25, 0.5, False)
    assert order["candidate"] == update["lm_eval"]["rewarm_harm_order"]["acc"] < 0.5
    assert {check["name"] for check in update["gate"]["checks"] if check["kind"] == "task"} == {
        f"rewarm_{name}_continuation" for name in ("docs", "harm")
    }
    assert update["seconds"]["gate"] > 0
    assert (workspace / "updates" / "0001-harm" / "release" / "model" / "model.safetensors").exists(), "to be looked at"
    assert rewarm("update", workspace, "--data", f"harm={harmful}").returncode == 3, "it was taken in"


@pytest.mark.faults
@pytest.mark.usefixtures("refused")
def test_a_good_arrival_then_starts_from_the_trunk_before(workspace: Path, base: Lineage) -> None:
    good = ("update", workspace, "--data", f"code={base.code}", "--set", "gate.trunk=before")
    done = rewarm(*good)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "gate: passed, against 0000-docs" in done.stdout
    found = status(workspace)
    first, _, update = found["updates"]
    assert (found["release"], update["id"], update["state"]) == ("0002-code", "0002-code", "released")
    assert (update["follows"], list(update["losses"]["release"])) == ("0000-docs", ["docs", "code"])
    assert list(update["replay"]["by_dataset"]) == ["docs"]
    folder = workspace / "updates" / "0002-code"
    assert (
        json.loads((folder / "trunk" / "manifest.json").read_text())["identity"]["inputs"]["start"]
        == (first["weights"]["trunk"])
    )
    record = json.loads((folder / "update.json").read_text())
    assert record["position"] == first["tokens"]["planned"] + update["tokens"]["planned"]
    seen = record["data"]["code"]["ingest"]["duplicates_earlier"]
    assert seen < MENDED / 2, "what was refused does not count as seen"

    (workspace / "commits" / "00000002.json").unlink()  # as a kill between record and commit leaves it
    (workspace / "releases.json").unlink()
    torn = status(workspace)
    assert (torn["release"], torn["updates"][-1]["state"]) == ("0000-docs", "unfinished")
    assert rewarm(*good).returncode == 0
    healed = status(workspace)
    assert (healed["release"], healed["updates"][2]["weights"]) == ("0002-code", update["weights"])
    assert healed["updates"][2]["gate"] == update["gate"]


@pytest.mark.faults
def test_an_arrival_without_a_validation_split_is_held_until_a_person_promotes_it(
    base: Lineage, tmp_path: Path
) -> None:
    """One document: nothing of it is held out, so nothing shows whether it was learned."""
    workspace = tmp_path / "workspace"
    shutil.copytree(base.workspace, workspace)
    (tmp_path / "solo").mkdir()
    shutil.copy(sorted(base.code.iterdir())[3], tmp_path / "solo" / "one.txt")
    solo = ("update", workspace, "--data", f"solo={tmp_path / 'solo'}", "--set", "budget.update_tokens=1024")
    done = rewarm(*solo)
    assert done.returncode == 4, done.stderr[-3000:]
    assert "gate: HELD, undecided, against 0000-docs" in done.stdout
    assert "solo: its validation split has too few tokens for a loss" in done.stdout
    assert "`rewarm promote WORKSPACE 0001-solo`" in done.stdout
    assert "0001-solo held " in done.stdout, "in the table of updates"
    found = status(workspace)
    assert (found["release"], found["updates"][1]["state"]) == ("0000-docs", "undecided")
    assert found["updates"][1]["gate"]["undecided"][0] == "loss solo"
    assert rewarm(*solo).returncode == 4, "it was taken in"
    promoted = rewarm("promote", workspace, "1")
    assert promoted.returncode == 0, promoted.stderr
    assert status(workspace)["release"] == "0001-solo"
