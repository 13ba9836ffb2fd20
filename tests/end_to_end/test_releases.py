"""Releases of a real lineage: verified, moved, pruned; and an update that goes on from what the pruning left."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from small_lineage import Lineage, rewarm, stdlib

FINISHED = (0, 3, 4)  # 3, 4: finished too, but the gate refused the release, or holds it


def verified(workspace: Path) -> None:
    done = rewarm("verify", workspace, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["problems"], found["orphans"]) == (0, [], []), found
    assert found["checked"]["models"] >= 2


@pytest.fixture(scope="module")
def workspace(updated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and an update, in a workspace of its own."""
    copy = tmp_path_factory.mktemp("releases") / "lm"
    shutil.copytree(updated, copy)
    return copy


def test_what_the_stages_leave_is_what_their_records_say(workspace: Path) -> None:
    verified(workspace)


def test_every_release_carries_its_card(workspace: Path) -> None:
    for update in ("0000-docs", "0001-code"):
        card = ModelCard.load(workspace / "updates" / update / "release" / "model" / "README.md")
        record = json.loads((workspace / "updates" / update / "update.json").read_text())
        losses = {
            one.dataset_type: one.metric_value for one in card.data.eval_results or [] if one.metric_type == "loss"
        }
        assert losses == pytest.approx(record["losses"]["release"], abs=1e-6)
        assert card.data.license == "unknown", "nothing is assumed"
        assert record["weights"]["release"] in card.text


@pytest.mark.faults
def test_a_pruned_lineage_goes_on(base: Lineage, workspace: Path, tmp_path: Path) -> None:
    assert rewarm("promote", workspace, "0001-code", "--because", "for the test").returncode == 0
    assert rewarm("rollback", workspace).returncode == 0
    assert rewarm("promote", workspace, "0001-code", "--because", "once more").returncode == 0
    done = rewarm("prune", workspace, "--keep", "1", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    gone = {one["path"] for one in json.loads(done.stdout)["prune"]}
    assert "updates/0000-docs/release/model" in gone
    assert not any("0001-code" in path for path in gone)
    verified(workspace)
    more = tmp_path / "more"
    more.mkdir()
    for path in stdlib()[120:150]:
        (more / path.with_suffix(".txt").name).write_text(path.read_text(encoding="utf-8")[:8000])
    done = rewarm("update", workspace, "--data", f"more={more}", "--set", "budget.update_tokens=4096")
    assert done.returncode in FINISHED, done.stderr[-3000:]
    verified(workspace)
    for command in (["status"], ["report"]):
        assert rewarm(*command, workspace).returncode == 0
    refused = rewarm("export", workspace, "0", "--to", tmp_path / "out")
    assert (refused.returncode, "pruned on" in refused.stderr) == (2, True)
