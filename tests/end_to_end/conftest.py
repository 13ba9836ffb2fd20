"""A lineage made by the command line itself, shared by the end-to-end tests. Who writes to it takes a copy."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty_disk import compiled
from held_writer import SOURCE, Hold
from small_lineage import Lineage, rewarm
from update_process import Update


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


@pytest.fixture(scope="session")
def held_writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that suspends a writer."""
    return compiled(tmp_path_factory.mktemp("held"), SOURCE)


@pytest.fixture
def hold(held_writer: Path, tmp_path: Path) -> Hold:
    """Where the updates of a test are suspended."""
    return Hold(held_writer, tmp_path / "hold")


@pytest.fixture
def copied(base: Lineage, tmp_path: Path) -> Path:
    """A copy of the base's workspace, for a test that updates it in its own way."""
    copy = tmp_path / "workspace"
    shutil.copytree(base.workspace, copy)
    return copy


@pytest.fixture
def start(base: Lineage, copied: Path, tmp_path: Path) -> Iterator[Callable[[dict[str, str]], Update]]:
    """What starts an update of that copy; none is left running."""
    made: list[Update] = []

    def begin(environment: dict[str, str]) -> Update:
        made.append(Update(base, copied, environment, tmp_path / "log"))
        return made[-1]

    yield begin
    for one in made:
        if one.process.poll() is None:
            one.kill(everything=True)
