"""A lineage made by the command line itself, shared by the end-to-end tests."""

import pytest
from small_lineage import Lineage, rewarm


@pytest.fixture(scope="session")
def base(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    """A workspace with a pre-trained base."""
    lineage = Lineage(tmp_path_factory.mktemp("lineage"))
    done = rewarm(*lineage.init(lineage.workspace))
    assert done.returncode == 0, done.stderr[-3000:]
    return lineage
