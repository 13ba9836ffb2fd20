"""A whole update on a cluster of separate nodes: it spreads over them and ends with the same weights."""

import json
import shutil
from pathlib import Path

import pytest
from fake_cluster import on_cluster
from small_lineage import Lineage, rewarm

pytestmark = pytest.mark.faults


@pytest.mark.timeout(900)
def test_an_update_spreads_over_separate_nodes(base: Lineage, updated: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(base.workspace, workspace)
    update = {"do": "update", "workspace": str(workspace), "data": [f"code={base.code}"]}
    done = on_cluster({**update, "nodes": [(1, 0)] * 3})
    kinds = {name: nodes for name, nodes in done["found"].items() if name in ("RayTrainWorker", "ModelHost")}
    assert {name: len(set(nodes)) for name, nodes in kinds.items()} == {"RayTrainWorker": 2, "ModelHost": 2}
    assert {name: len(nodes) for name, nodes in kinds.items()} == {"RayTrainWorker": 2, "ModelHost": 2}, (
        "one group of training workers and one pool of actors"
    )
    here = json.loads(rewarm("status", updated, "--json").stdout)["updates"][1]["weights"]
    assert done["weights"] == {name: here[name] for name in ("trunk", "release")}
