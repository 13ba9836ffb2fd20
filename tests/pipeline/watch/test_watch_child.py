"""Real child processes: they die with their parent, end gently when asked, and leave their output in a log."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rewarm.pipeline.watch.child import Child, Ended


def test_output_goes_to_the_log_and_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, result = tmp_path / "logs" / "x.log", tmp_path / "result"
    log.parent.mkdir()
    log.write_text("before\n")
    child = Child(["recipes", "--json"], log, result)
    assert child.wait(lambda: None, lambda: False) == Ended(0, None)
    assert '"tiny"' in result.read_text()
    child = Child(["status", str(tmp_path / "nowhere")], log)
    ended = child.wait(lambda: None, lambda: False)
    assert (ended.code, ended.failure and ended.failure.error) == (2, "usage")
    printed = log.read_text().removeprefix("before\n")
    assert printed == f"rewarm: {ended.because}\n"
    assert printed in capsys.readouterr().out


def test_a_command_that_leaves_no_record_is_told_by_its_last_lines(tmp_path: Path) -> None:
    child = Child(["--unknown"], tmp_path / "log")  # typer's own refusal
    ended = child.wait(lambda: None, lambda: False)
    assert (ended.code, ended.failure) == (2, None)
    assert "--unknown" in ended.because
    assert Ended(-9, None).because == "killed by signal 9"
    assert Ended(1, None).because == "exit code 1, without any output"


# The launcher around a command that waits for ever.
SLEEPER = """
import os, sys, time
from rewarm.pipeline import watch_child
import rewarm.pipeline.cli
def sleep():
    try:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    except KeyboardInterrupt:
        open(sys.argv[1] + ".gentle", "w").close()
        raise SystemExit(130)
rewarm.pipeline.cli.main = sleep
sys.argv = ["watch_child", sys.argv[1], sys.argv[2]]
watch_child.main()
"""


def started(parent: str, marker: Path) -> subprocess.Popen[bytes]:
    """A process that runs the launcher around a command that sleeps."""
    return subprocess.Popen([sys.executable, "-c", SLEEPER, parent, str(marker)])


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_command_is_killed_when_its_parent_is(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    between = (
        "import os, subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {SLEEPER!r}, str(os.getpid()), {str(marker)!r}]).wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", between])
    wait_for(marker)
    child = psutil.Process(int(marker.read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "pid.gentle").exists()


def test_a_command_whose_parent_is_gone_does_not_begin(tmp_path: Path) -> None:
    process = started("1", tmp_path / "pid")
    assert process.wait(60) == -signal.SIGKILL
    assert not (tmp_path / "pid").exists()


def test_it_hears_an_interrupt_also_where_its_parent_ignores_them(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = started(str(os.getpid()), tmp_path / "pid")
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(tmp_path / "pid")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert (tmp_path / "pid.gentle").exists()
