"""A model that is there already, imported without its data: it writes the text that its first update replays."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small_lineage import Lineage, rewarm

pytestmark = pytest.mark.faults

# So short a pre-training leaves some probability on bytes that no text has: what is unlikely is not drawn.
DISTILL = [f"distill.{value}" for value in ("shard_documents=32", "batch_size=32", "min_tokens=16", "top_p=0.9")]
HELD = ["schedule.kind=cosine", "train.num_workers=1", "train.kl_weight=0.5", "budget.update_tokens=8192"]


def settings(values: list[str]) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def status(workspace: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rewarm("status", workspace, "--json").stdout)
    return found


@pytest.fixture(scope="module")
def imported(base: Lineage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imported")
    assert rewarm("export", base.workspace, "0000-docs", "--to", root / "model").returncode == 0
    given = ["init", root / "workspace", "--recipe", base.recipe, "--from", root / "model", *settings(DISTILL)]
    made = rewarm(*given)
    assert made.returncode == 0, made.stderr[-3000:]
    return root / "workspace"


def test_an_imported_base_is_its_own_trunk_and_release(imported: Path, base: Lineage) -> None:
    found, original = status(imported), status(base.workspace)["updates"][0]
    assert found["release"] == "0000-imported"
    weights = found["updates"][0]["weights"]
    assert weights["trunk"] == weights["release"] == original["weights"]["release"]
    assert set(found["updates"][0]["seconds"]) == {"tokenizer", "import", "distill", "tokenize", "evaluate"}


def test_it_writes_a_dataset_like_any_other(imported: Path) -> None:
    found = status(imported)
    (dataset,) = found["datasets"]
    assert (dataset["name"], dataset["distilled"]) == ("distilled", True)
    record = json.loads((imported / "updates" / "0000-imported" / "update.json").read_bytes())["data"]["distilled"]
    assert record["distill"]["kept_tokens"] >= 5000, "a quarter of the update's budget"
    assert record["tokenize"]["num_documents"] == dataset["documents"] == record["distill"]["documents"]
    folder = imported / "datasets" / "distilled"
    assert set(pq.read_table(folder / "documents")["source"].to_pylist()) == {"distilled"}
    assert not (folder / ".staging").exists()
    assert found["updates"][0]["losses"]["release"].keys() == {"distilled"}


def test_the_first_update_replays_it_and_is_held_to_the_model(imported: Path, base: Lineage) -> None:
    before = status(imported)["updates"][0]["losses"]["release"]
    done = rewarm(*base.update(imported), *settings([*HELD, "evaluate.task_documents=0"]))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "nothing to do, the cosine schedule has already decayed" in done.stderr
    found = status(imported)
    update = found["updates"][1]
    assert [dataset["distilled"] for dataset in found["datasets"]] == [True, False]
    assert (update["replay"]["requested"], update["replay"]["achieved"]) == (0.25, 0.25)
    assert update["replay"]["by_dataset"]["distilled"]["tokens"] == 2048 == update["tokens"]["replayed"]
    assert update["forgetting"] == {"distilled": update["losses"]["release"]["distilled"] - before["distilled"]}
    assert update["weights"]["trunk"] == update["weights"]["release"]
    assert update["train"]["world_size"] == 1
    curve = json.loads((imported / "updates" / "0001-code" / "trunk" / "curve.json").read_bytes())["steps"]
    assert curve[0]["kl"] == pytest.approx(0, abs=1e-5), "the first step is the teacher's own"
    assert all(0 < row["kl"] < 1 for row in curve[1:])
