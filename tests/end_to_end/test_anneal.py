"""``rewarm anneal``: another release of a finished trunk, judged by the gate, and the lineage after it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_lineage import Lineage, rewarm

LONGER = ["anneal.share=0.4", "anneal.shape=linear", "anneal.data=next", "gate.max_forgetting=null"]


def called(*words: object) -> dict[str, Any]:
    done = rewarm(*words, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def as_options(assignments: list[str]) -> list[str]:
    return [part for assignment in assignments for part in ("--set", assignment)]


@pytest.mark.faults
def test_a_finished_trunk_is_annealed_and_the_lineage_goes_on(base: Lineage, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(base.workspace, workspace)
    refused = rewarm("anneal", workspace, "--set", "train.optimizer=muon")
    assert (refused.returncode, "would have no effect" in refused.stderr) == (2, True)
    first = called("status", workspace)["updates"][0]
    found = called("anneal", workspace, *as_options(LONGER))
    made = found["updates"][-1]
    assert (made["id"], made["follows"], made["datasets"]) == ("0001-anneal-docs", "0000-docs", [])
    assert made["weights"]["trunk"] == first["weights"]["trunk"]
    assert made["weights"]["release"] not in (first["weights"]["release"], first["weights"]["trunk"])
    assert made["tokens"]["annealed"] > 2 * first["tokens"]["annealed"]
    assert (made["position"], made["tokens"]["new"]) == (first["position"], 0)
    assert made["gate"]["against"] == "0000-docs"
    assert found["release"] == "0001-anneal-docs", "the longer anneal passed the gate"
    assert called("verify", workspace)["problems"] == []
    assert (workspace / "updates" / "0000-docs" / "trunk" / "optimizer").exists(), "the next update may ask for it"
    after = called(*base.update(workspace), "--set", "train.keep_optimizer=true")["updates"][-1]
    assert after["state"] in ("released", "refused", "undecided")
    assert after["follows"] == "0001-anneal-docs"
    assert after["train"]["moments"] == "kept"
    assert after["position"] == first["position"] + after["tokens"]["new"] + after["tokens"]["replayed"]
    assert called("verify", workspace)["problems"] == []
