"""A workspace of another user: what may only be read is shown, and nothing else happens; each refusal is one line."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import small_workspace
from release_world import files_of

from rewarm.stages.core.storage import Folder

Command = Callable[..., tuple[int, str, str]]
NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
SAID = "Permission denied; run the command as a user who may use it"
READS = {
    "status": ["status"],
    "status_json": ["status", "--json"],
    "data": ["data", "news"],
    "quarantine": ["quarantine", "news"],
    "recipe": ["recipe"],
    "trace": ["trace"],
    "verify": ["verify", "--quick"],
    "prune": ["prune"],
    "dry": ["update", "--data", "late={late}", "--dry-run"],
}
WRITES = {
    "update": ["update", "--data", "late={late}", "--set", "disk.check=warn"],
    "recipe": ["recipe", "--set", "replay.share=0.375"],
    "report": ["report"],
    "promote": ["promote", "1"],
    "rollback": ["rollback"],
    "prune": ["prune", "--keep", "1", "--yes"],
    "discard": ["discard"],
    "pause": ["watch", "--pause"],
    "repair": ["verify", "--repair"],
}


@pytest.fixture(scope="module")
def theirs() -> Iterator[Path]:
    """A folder that everybody can enter, with a workspace of root's; pytest's own folders are closed to others."""
    root = Path(tempfile.mkdtemp(prefix="rewarm-test-"))
    root.chmod(0o755)
    small_workspace.make(root / "lm")
    for file in (root / "lm").rglob("*.safetensors"):
        file.chmod(0o644)  # as rewarm leaves them; the library makes them private
    (root / "late.txt").write_text("a late text")
    (root / "mine").mkdir()
    os.chown(root / "mine", NOBODY, NOBODY)
    yield root
    shutil.rmtree(root)


@contextmanager
def nobody() -> Iterator[None]:
    """Act as the user without rights."""
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture(autouse=True)
def no_warm_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their sockets are the real user's."""
    monkeypatch.setenv("REWARM_WARM_WORKERS", "0")


def run(rewarm: Command, root: Path, line: list[str]) -> tuple[int, str, str]:
    """One command line as nobody; everything else stays as it was."""
    before = files_of(Folder(root))
    with nobody():
        found = rewarm(line[0], root / "lm", *(word.format(late=root / "late.txt") for word in line[1:]))
    assert files_of(Folder(root)) == before
    return found


@pytest.mark.parametrize("line", READS.values(), ids=list(READS))
def test_what_may_only_be_read_is_shown(rewarm: Command, theirs: Path, line: list[str]) -> None:
    code, out, error = run(rewarm, theirs, line)
    assert code in (0, 1 if line[0] == "verify" else 0) and out, error
    assert "Permission" not in error and "Traceback" not in error, error


@pytest.mark.parametrize("line", WRITES.values(), ids=list(WRITES))
def test_nothing_is_written_for_another_user(rewarm: Command, theirs: Path, line: list[str]) -> None:
    code, out, error = run(rewarm, theirs, line)
    last = error.splitlines()[-1]
    assert (code, out) == (1, ""), error
    assert last.startswith("rewarm: ") and SAID in last and str(theirs / "lm") in last, error


def test_a_closed_workspace_and_closed_data_are_named(rewarm: Command, theirs: Path, tmp_path: Path) -> None:
    (theirs / "lm").chmod(0o700)
    try:
        for line in (["status"], ["verify"], ["update", "--data", "late={late}"]):
            code, out, error = run(rewarm, theirs, line)
            assert (code, out, error.count("\n")) == (1, "", 1) and SAID in error, error
    finally:
        (theirs / "lm").chmod(0o755)
    (theirs / "late.txt").chmod(0o600)
    try:
        code, _, error = run(rewarm, theirs, READS["dry"])
        assert code == 2 and "late.txt: cannot be read (Permission denied); check its permissions" in error, error
    finally:
        (theirs / "late.txt").chmod(0o644)
    with nobody():
        line = ["--recipe", "tiny", "--data", f"x={theirs / 'late.txt'}"]
        code, _, error = rewarm("init", theirs / "new", *line)
        assert (code, SAID in error) == (1, True), error
        code, _, error = rewarm("export", theirs / "lm", "--to", theirs / "out")
        assert code in (1, 7) and "Traceback" not in error, error
    assert not (theirs / "new").exists() and not (theirs / "out").exists()
