"""Removal of what ended runs left on a machine; running processes and other programs lose nothing."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rewarm.stages.core.leftovers import KEPT_S, STARTING_S, own_session, remove_leftovers, remove_servers
from rewarm.stages.core.temporary import LOCK, SETTLED_S, remove_ended, temporary

OWNER = "import sys; from pathlib import Path; from rewarm.stages.core.temporary import owning\n"
OWNER += "with owning(Path(sys.argv[1])): print('owned', flush=True); sys.stdin.read()"


def folder(root: Path, name: str, age: float, owned_once: bool = True) -> Path:
    """A folder of an ended process, last used some seconds ago."""
    made = root / name
    (made / "logs").mkdir(parents=True)
    (made / "logs/raylet.out").write_text("log")
    if owned_once:
        (made / LOCK).touch()
    last_used(made, age)
    return made


def last_used(made: Path, age: float) -> None:
    for path in (*made.rglob("*"), made):
        os.utime(path, (time.time() - age,) * 2)


@contextmanager
def owner(made: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that owns a folder."""
    command = [sys.executable, "-c", OWNER, str(made)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == b"owned\n"
        yield running
        running.kill()


def test_folders_without_an_owner_go_after_a_while_and_no_others(tmp_path: Path) -> None:
    old, new = folder(tmp_path, "session_old", 100), folder(tmp_path, "session_new", 10)
    foreign, owned = folder(tmp_path, "session_foreign", 1e6, owned_once=False), folder(tmp_path, "session_owned", 100)
    other = folder(tmp_path, "other_old", 1e6)
    (tmp_path / "session_latest").symlink_to(old)
    with owner(owned) as running:
        last_used(owned, 100)
        count, size = remove_ended(tmp_path, "session_*", 99)
        assert (count, size > 0) == (1, True)
        assert [path.exists() for path in (old, new, foreign, owned, other)] == [False, True, True, True, True]
        running.kill()
    assert remove_ended(tmp_path, "session_*", 99)[0] == 1, "its owner was killed"
    assert not owned.exists()
    last_used(new, 1000)
    (new / "logs/raylet.out").write_text("a line more")
    assert remove_ended(tmp_path, "session_*", 99)[0] == 0, "a log of it has just grown"


def test_those_of_another_user_stay(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can make a folder of another user")
    other = folder(tmp_path, "session_other", 1000)
    os.chown(other, 12345, 12345)
    last_used(other, 1000)
    assert remove_ended(tmp_path, "session_*", 99) == (0, 0)
    assert other.exists()


def test_a_temporary_folder_ends_with_its_block_or_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="broken"), temporary("test") as scratch:
        (scratch / "deep/er").mkdir(parents=True)
        assert list(scratch.iterdir()) == [scratch / "deep"], "the lock is not in it"
        raise ValueError("broken")
    assert list(tmp_path.iterdir()) == []
    code = "import sys, os, signal; from rewarm.stages.core.temporary import temporary\n"
    code += "with temporary('test') as scratch: (scratch / 'x').write_bytes(b'x' * 8192); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    (left,) = tmp_path.iterdir()
    assert remove_ended(tmp_path, "rewarm-*") == (0, 0), "it may have been made just now"
    last_used(left, SETTLED_S + 1)
    assert remove_ended(tmp_path, "rewarm-*")[1] >= 8192
    assert not left.exists()


def test_a_command_that_succeeds_removes_its_session(tmp_path: Path) -> None:
    done, failed = (folder(tmp_path, name, 0, owned_once=False) for name in ("session_done", "session_failed"))
    with own_session(done):
        assert done.exists()
    assert not done.exists()
    with pytest.raises(ValueError, match="broken"), own_session(failed):
        raise ValueError("broken")
    assert (failed / "logs/raylet.out").exists(), "its logs say why"
    last_used(failed, KEPT_S + 1)
    assert remove_ended(tmp_path, "session_*", KEPT_S)[0] == 1


def test_files_of_servers_that_ended_go(tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "runs"))
    listening.listen()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "dead"))
    dead.close()
    for name in ("runs.starting", "runs.log", "dead.starting", "dead.log", "failed.log", "imports.starting"):
        (tmp_path / name).touch()
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - STARTING_S - 1,) * 2)
    os.utime(tmp_path / "imports.starting")
    assert remove_servers(tmp_path)[0] == 3
    left = {"runs", "runs.starting", "runs.log", "failed.log", "imports.starting"}
    assert {path.name for path in tmp_path.iterdir()} == left
    os.utime(tmp_path / "failed.log", (1, 1))
    assert remove_servers(tmp_path)[0] == 1
    listening.close()
    assert remove_servers(tmp_path)[0] == 3
    assert remove_servers(tmp_path / "nowhere") == (0, 0)


def test_each_kind_is_said_with_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder(tmp_path / "ray", "session_a", KEPT_S + 1)
    folder(tmp_path, "rewarm-train-a", SETTLED_S + 1)
    folder(tmp_path, "rewarm-train-b", SETTLED_S + 1)
    said = remove_leftovers()
    assert said[0].startswith("removed 1 folders of local Rays that ended over a day ago (0.0 MB)")
    assert said[1].startswith("removed 2 temporary folders of killed processes (0.0 MB)")
    assert not any("of local Rays" in line or "temporary" in line for line in remove_leftovers())


ENDS = "import sys; from rewarm.stages.core.cluster import joined; from ray import get_runtime_context as found\n"
ENDS += "with joined(1): print(found().get_session_name(), file=sys.__stdout__, flush=True); 1 / int(sys.argv[1])"


@pytest.mark.faults
@pytest.mark.parametrize("fails", [False, True])
def test_the_session_of_a_local_ray_goes_with_its_command_unless_that_fails(fails: bool) -> None:
    root = Path("/tmp") / f"rw{os.getpid()}"  # paths of sockets must be short
    try:
        command = [sys.executable, "-c", ENDS, "0" if fails else "1"]
        environment = {**os.environ, "RAY_TMPDIR": str(root)}
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
        assert (done.returncode != 0) == fails, done.stderr
        session = root / "ray" / done.stdout.split()[-1]
        assert (session.exists(), (session / LOCK).exists()) == (fails, fails)
    finally:
        shutil.rmtree(root, ignore_errors=True)
