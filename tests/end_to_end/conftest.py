"""A lineage made by the command line itself, shared by the end-to-end tests. Who writes to it takes a copy."""

import shutil
from pathlib import Path

import pytest
from small_lineage import Lineage, rewarm


@pytest.fixture(scope="session")
def base(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    """A workspace with a pre-trained base."""
    lineage = Lineage(tmp_path_factory.mktemp("lineage"))
    done = rewarm(*lineage.init(lineage.workspace))
    assert done.returncode == 0, done.stderr[-3000:]
    return lineage


@pytest.fixture(scope="session")
def updated(base: Lineage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same workspace after an update that nothing disturbed."""
    workspace = tmp_path_factory.mktemp("updated") / "work space"
    shutil.copytree(base.workspace, workspace)
    done = rewarm(*base.update(workspace))
    assert done.returncode == 0, done.stderr[-3000:]
    return workspace
