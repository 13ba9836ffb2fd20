"""The command line in this process: shared by the tests of its commands."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rewarm.pipeline.cli import main
from rewarm.pipeline.lineage.workspace import Workspace

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rewarm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command line in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rewarm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture(scope="session")
def drawn(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A lineage of a base and three updates (``release_world``), to be copied and not to be changed."""
    from release_world import make_lineage

    return make_lineage(tmp_path_factory.mktemp("drawn"), ["docs", "news", "code", "more"])


@pytest.fixture
def lm(drawn: Workspace, tmp_path: Path) -> Workspace:
    """A copy of that lineage, for a test of its own."""
    shutil.copytree(drawn.folder.path, tmp_path / "lm")
    return Workspace(str(tmp_path / "lm"))
