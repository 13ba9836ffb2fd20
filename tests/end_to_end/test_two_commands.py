"""Two commands on one workspace, and a workspace that becomes read-only (``make test-faults``)."""

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_disk import Disk, compiled
from held_writer import Hold
from small_lineage import command, stdlib
from update_process import COMMITS, Update, assert_as_undisturbed, assert_whole, status

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
Start = Callable[[dict[str, str]], Update]
BUSY = "another rewarm command is writing to this workspace"


def test_a_second_update_is_refused_at_any_moment_and_changes_nothing(
    updated: Path, copied: Path, hold: Hold, start: Start
) -> None:
    moments = [("after", "begun"), ("before", "train"), ("before", "commit")]
    hold.at(moments[0][0], COMMITS[moments[0][1]])
    first = start(hold.environment)
    for (_, name), after in zip(moments, [*moments[1:], None], strict=True):
        held = hold.wait(first.process)
        assert held is not None, first.said()
        began = time.monotonic()
        second = start(dict(os.environ))
        assert second.wait(60) == 5, second.said()
        assert BUSY in second.said()
        print(f"a second update at {name}: refused in {time.monotonic() - began:.1f} s")
        if after is None:
            hold.nowhere()
        else:
            hold.at(after[0], COMMITS[after[1]])
        held.resume()
    assert first.wait() == 0, first.said()
    assert_as_undisturbed(copied, updated)


def test_an_update_during_a_prune_is_refused_or_waits(updated: Path, hold: Hold, tmp_path: Path) -> None:
    workspace, texts = tmp_path / "workspace", tmp_path / "more"
    shutil.copytree(updated, workspace)
    texts.mkdir()
    for path in stdlib()[120:160]:
        (texts / path.with_suffix(".txt").name).write_text(path.read_text(encoding="utf-8")[:8000])
    hold.at("after", "*/pruned.json")
    arguments = command("prune", workspace, "--keep", "1", "--yes")
    prune = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=hold.environment)
    more = command("update", workspace, "--data", f"more={texts}", "--set", "evaluate.task_documents=0")
    try:
        held = hold.wait(prune)
        assert held is not None
        hold.nowhere()
        refused = subprocess.run(more, capture_output=True, text=True, check=False, timeout=60)
        assert (refused.returncode, "`rewarm prune " in refused.stderr) == (5, True), refused.stderr
        waiting = subprocess.Popen([*more, "--wait", "5m"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(3)
        assert waiting.poll() is None
        held.resume()
        assert prune.wait(60) == 0
        _, said = waiting.communicate(timeout=400)
        assert waiting.returncode in (0, 3, 4), said.decode()[-3000:]
    finally:
        prune.kill()
        prune.wait()
    assert [update["id"] for update in status(workspace)["updates"]] == ["0000-docs", "0001-code", "0002-more"]
    assert_whole(workspace)


def test_a_second_watch_is_refused(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    watch = command("watch", copied, "--inbox", tmp_path / "inbox", "--every", "1")
    first = subprocess.Popen(watch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (copied / "watch" / "mode.json").exists():
            assert first.poll() is None
            time.sleep(0.05)
        second = subprocess.run(watch, capture_output=True, text=True, check=False, timeout=60)
        assert second.returncode == 5, second.stderr
        assert BUSY in second.stderr and "`rewarm watch " in second.stderr
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0
    finally:
        first.kill()
        first.wait()


def test_a_workspace_that_becomes_read_only(updated: Path, copied: Path, start: Start, tmp_path: Path) -> None:
    """The command ends with the reason; when the disk can be written to again, the same command resumes."""
    disk = Disk(copied, compiled(tmp_path), tmp_path / "errno")
    update = start(disk.environment)
    checkpoints = copied / "updates" / "0001-code" / "checkpoints" / "train"
    while not list(checkpoints.glob("checkpoint_*/progress.json")):
        assert update.process.poll() is None, update.said()
        time.sleep(0.01)
    began = time.monotonic()
    disk.fail(errno.EROFS)
    assert update.wait() == 1, update.said()
    print(f"a read-only workspace ended it in {time.monotonic() - began:.1f} s")
    assert update.last_line().startswith("rewarm: ") and "Read-only file system" in update.last_line(), update.said()
    refused = start(disk.environment)
    assert refused.wait(60) == 1, refused.said()
    assert "Read-only file system" in refused.last_line(), refused.said()
    disk.fail(0)
    again = start(disk.environment)
    assert again.wait() == 0, again.said()
    assert status(copied)["updates"][1]["train"]["resumed_from"], "it went on from its checkpoint"
    assert_as_undisturbed(copied, updated)
