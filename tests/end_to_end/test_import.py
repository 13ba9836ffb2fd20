"""A model that is there already, imported without its data, and updated under the cosine schedule."""

import json
from pathlib import Path

import pytest
from small_lineage import Lineage, rewarm


@pytest.fixture(scope="module")
def imported(base: Lineage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imported")
    assert rewarm("export", base.workspace, "0000-docs", "--to", root / "model").returncode == 0
    made = rewarm("init", root / "workspace", "--recipe", base.recipe, "--from", root / "model")
    assert made.returncode == 0, made.stderr[-3000:]
    return root / "workspace"


def test_an_imported_base_is_its_own_trunk_and_release(imported: Path, base: Lineage) -> None:
    found = json.loads(rewarm("status", imported, "--json").stdout)
    original = json.loads(rewarm("status", base.workspace, "--json").stdout)["updates"][0]
    assert found["release"] == "0000-imported"
    weights = found["updates"][0]["weights"]
    assert weights["trunk"] == weights["release"] == original["weights"]["release"]
    assert found["datasets"] == []


def test_the_first_update_has_nothing_to_replay_and_says_so(imported: Path, base: Lineage) -> None:
    sets = ["schedule.kind=cosine", "train.num_workers=1", "budget.update_tokens=8192", "evaluate.task_documents=0"]
    done = rewarm(*base.update(imported), *(part for assignment in sets for part in ("--set", assignment)))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "nothing to do, the cosine schedule has already decayed" in done.stderr
    update = json.loads(rewarm("status", imported, "--json").stdout)["updates"][1]
    assert "no earlier data to replay" in done.stderr
    assert (update["replay"]["requested"], update["replay"]["achieved"]) == (0.25, 0)
    assert update["replay"]["source"] == "none"
    assert update["tokens"] == {"planned": 8192, "new": 8192, "replayed": 0, "annealed": 0}
    assert update["weights"]["trunk"] == update["weights"]["release"]
    assert update["losses"]["trunk"] == update["losses"]["release"]
    assert update["train"]["world_size"] == 1
