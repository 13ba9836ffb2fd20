"""Whether a holder's process has ended: by its pid, by when that pid began, and by its state."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rewarm.pipeline.lineage.lease import protocol


@pytest.fixture
def child() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def test_a_running_process_has_not_ended_and_a_killed_one_has(child: subprocess.Popen[bytes]) -> None:
    holder = replace(protocol.myself(), pid=child.pid, started=protocol.started(child.pid) or 0)
    assert not protocol.gone(holder)
    assert protocol.gone(replace(holder, started=holder.started - 1)), "the pid belongs to another process by now"
    child.kill()
    end = time.monotonic() + 30
    while not protocol.gone(holder):  # from here a zombie, as nobody has reaped it
        assert time.monotonic() < end
        time.sleep(0.01)
    assert Path(f"/proc/{child.pid}").exists()
    child.communicate()
    assert protocol.gone(holder)


def test_this_process_has_not_ended_and_another_users_cannot_be_told(child: subprocess.Popen[bytes]) -> None:
    assert not protocol.gone(protocol.myself())
    assert not protocol.gone(replace(protocol.myself(), pid=1, started=protocol.started(1) or 0))
    child.communicate()


def test_two_holds_of_one_process_differ() -> None:
    one, other = protocol.myself(), protocol.myself()
    assert (one.pid, one.machine) == (other.pid, other.machine) == (os.getpid(), protocol.machine())
    assert one.machine
    assert one != other


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["/opt/bin/rewarm", "update", "my space", "--data", "a=b"], "rewarm update 'my space' --data a=b"),
        ([str(protocol.PROGRAM), "status"], "rewarm status"),
        (["rewarm", "x" * 1000], "rewarm " + "x" * 193),
    ],
)
def test_the_purpose_is_the_command_line(monkeypatch: pytest.MonkeyPatch, arguments: list[str], shown: str) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    assert protocol.command() == shown
