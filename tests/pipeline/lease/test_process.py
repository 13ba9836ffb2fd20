"""Whether a holder's process has ended: by its pid, by when that pid began, and by its state."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.lease import process


@pytest.fixture
def child() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def test_a_running_process_has_not_ended_and_a_killed_one_has(child: subprocess.Popen[bytes]) -> None:
    holder = replace(process.myself(), pid=child.pid, started=process.started(child.pid) or 0)
    assert not process.gone(holder)
    assert process.gone(replace(holder, started=holder.started - 1)), "the pid belongs to another process by now"
    child.kill()
    end = time.monotonic() + 30
    while not process.gone(holder):  # from here a zombie, as nobody has reaped it
        assert time.monotonic() < end
        time.sleep(0.01)
    assert Path(f"/proc/{child.pid}").exists()
    child.communicate()
    assert process.gone(holder)


def test_this_process_has_not_ended_and_another_users_cannot_be_told(child: subprocess.Popen[bytes]) -> None:
    assert not process.gone(process.myself())
    assert not process.gone(replace(process.myself(), pid=1, started=process.started(1) or 0))
    child.communicate()


def test_two_holds_of_one_process_differ() -> None:
    one, other = process.myself(), process.myself()
    assert (one.pid, one.machine) == (other.pid, other.machine) == (os.getpid(), process.machine())
    assert one.machine
    assert one != other


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["/opt/bin/rewarm", "update", "my space", "--data", "a=b"], "rewarm update 'my space' --data a=b"),
        ([str(process.PROGRAM), "status"], "rewarm status"),
        (["rewarm", "x" * 1000], "rewarm " + "x" * 193),
    ],
)
def test_the_purpose_is_the_command_line(monkeypatch: pytest.MonkeyPatch, arguments: list[str], shown: str) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    assert process.command() == shown
