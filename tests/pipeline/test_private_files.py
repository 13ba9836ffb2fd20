"""Files that may name addresses and commands are their owner's, or a sharing group's; releases are everybody's."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rewarm.pipeline.lineage.lease import find_holder, hold
from rewarm.pipeline.progress.log import Journal as RunLog
from rewarm.pipeline.watch.child import Child
from rewarm.pipeline.watch.journal import Draft, Journal
from rewarm.pipeline.watch.notify import Command, Notifier
from rewarm.pipeline.watch.run import now
from rewarm.stages.core.storage import Folder

SOURCE = Path(__file__).parents[2]
PRIVATE = (".lease", "watch/journal.jsonl", "watch/notices.json", "watch/logs/news-1.log", "logs/0001-news.txt")
HOLDS = """
import sys
from rewarm.pipeline.lineage.lease import hold
from rewarm.stages.core.storage import Folder
with hold(Folder(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def write_all(home: Path) -> None:
    """One file of each kind, and a released one."""
    folder = Folder(home)
    with hold(folder):
        Journal(folder / "watch").append(Draft("paused"), now())
        Notifier.of(folder / "watch", [Command("true")], 0)
        Child(["--help"], home / "watch" / "logs" / "news-1.log").wait(lambda: None, lambda: False)
        RunLog(folder, "0001-news").line("begins")
        folder.write("updates/0001-news/release/model/config.json", b"{}")


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.fixture
def umask_022() -> None:
    os.umask(0o022)


@pytest.mark.usefixtures("umask_022")
def test_only_the_owner_opens_them_and_everybody_a_release(tmp_path: Path) -> None:
    home = tmp_path / "lm"
    home.mkdir(mode=0o755)
    write_all(home)
    assert {name: oct(mode(home / name)) for name in PRIVATE} == dict.fromkeys(PRIVATE, oct(0o600))
    assert mode(home / "updates/0001-news/release/model/config.json") == 0o644
    for name in PRIVATE:  # as an earlier rewarm left them
        (home / name).chmod(0o644)
    write_all(home)
    assert {name: oct(mode(home / name)) for name in PRIVATE} == dict.fromkeys(PRIVATE, oct(0o600))


@pytest.mark.usefixtures("umask_022")
def test_a_group_that_may_write_to_the_folders_may_open_them(tmp_path: Path) -> None:
    home = tmp_path / "lm"
    for folder in (home, home / "watch", home / "watch" / "logs", home / "logs"):
        folder.mkdir()
        os.chown(folder, -1, max(os.getgroups(), default=os.getgid()))
        folder.chmod(0o2775)
    write_all(home)
    assert {name: oct(mode(home / name)) for name in PRIVATE} == dict.fromkeys(PRIVATE, oct(0o660))
    assert {(home / name).stat().st_gid for name in PRIVATE} == {home.stat().st_gid}


def test_a_lease_names_the_command_without_its_secrets(tmp_path: Path) -> None:
    words = ["--webhook", "https://h.example/T0/s3cr3t", "--notify-command", "tell s3cr3t", "--set", "a=1"]
    words += ["--data", "news=https://me:s3cr3t@h.example/x.jsonl?X-Amz-Signature=s3cr3t"]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path), *words], cwd=SOURCE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        found = find_holder(Folder(tmp_path))
        assert found is not None
        for said in (found["purpose"], (tmp_path / ".lease").read_text()):
            assert "s3cr3t" not in said
            assert "https://h.example/***" in said and "a=1" in said
        with pytest.raises(Exception, match="another rewarm command") as refused, hold(Folder(tmp_path)):
            pass
        assert "s3cr3t" not in str(refused.value)
    finally:
        holder.stdin.close()
        holder.wait()
    assert json.loads((tmp_path / ".lease").read_text())["released"]
