"""The lease between real processes on one disk: who wins, who takes over, and what a late holder may still do."""

import json
import pickle
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from lease_processes import CONTAINER, Command, holding, run_race

from rewarm.pipeline.lineage.lease import LeaseLostError, find_holder, hold
from rewarm.pipeline.lineage.lease.holding import ttl
from rewarm.pipeline.lineage.lease.protocol import Record
from rewarm.pipeline.lineage.lease.stores import RECORD
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.stages.core.errors import BusyError, StageError, UsageError
from rewarm.stages.core.local_files import REMOVED
from rewarm.stages.core.storage import Folder

SHORT = 1.0
LONG = 60.0


def by(path: Path) -> str:
    return str(json.loads(path.read_text())["by"])


def test_the_second_is_refused_at_once_and_told_who_writes(tmp_path: Path) -> None:
    with holding(tmp_path, "rewarm update first", LONG) as first:
        start = time.monotonic()
        with pytest.raises(BusyError, match=rf"`rewarm update first` \(process {first.process.pid} on ") as refused:
            hold(Folder(tmp_path)).__enter__()
        assert time.monotonic() - start < 5
        assert "another rewarm command is writing to this workspace" in str(refused.value)
        found = find_holder(Folder(tmp_path))
        assert found is not None
        assert (found["epoch"], found["purpose"]) == (1, "rewarm update first")
        assert 0 <= found["age_s"] < 60
        assert LONG - 30 < found["expires_in_s"] <= LONG
        assert Command(tmp_path, "second", LONG).end()[0] == 5
        assert first.do("write", "a.json") == "done"
        assert first.end() == (0, "")
    assert find_holder(Folder(tmp_path)) is None
    with hold(Folder(tmp_path)) as lease:
        assert lease.epoch == 2


def test_a_command_can_wait_for_its_turn(tmp_path: Path) -> None:
    with holding(tmp_path, "first", LONG) as first:
        second = Command(tmp_path, "second", LONG, wait=60)
        assert first.do("write", "a.json") == "done"
        assert first.end()[0] == 0
        assert second.says() == "held 2"
        assert second.end() == (0, "")


def test_the_workspace_of_a_killed_command_is_free_at_once(tmp_path: Path) -> None:
    with holding(tmp_path, "first", LONG) as first:
        first.process.kill()
        first.process.wait()
        assert find_holder(Folder(tmp_path)) is None
        start = time.monotonic()
        with hold(Folder(tmp_path)) as lease:
            assert lease.epoch == 2
        assert time.monotonic() - start < 5


def test_a_command_that_was_suspended_past_its_time_can_commit_nothing(tmp_path: Path) -> None:
    with holding(tmp_path, "first", SHORT) as first:
        assert first.do("write", "update.json") == "done"
        first.suspend()
        with holding(tmp_path, "second", SHORT, wait=20) as second:
            assert second.do("write", "update.json") == "done"
            first.tell("write", "update.json")
            first.wake()
            code, errors = first.end()
            assert code == 1
            assert "rewarm: " in errors
            assert f"`second` (process {second.process.pid} on " in errors
            assert "took over" in errors
            assert "Traceback" not in errors
            assert by(tmp_path / "update.json") == "second"
            assert second.end() == (0, "")


def test_nor_one_that_fell_asleep_between_its_look_at_the_lease_and_its_rename(tmp_path: Path) -> None:
    with holding(tmp_path, "first", SHORT) as first:
        first.tell("suspended-write", "releases.json")
        first.wait_suspended()
        with holding(tmp_path, "second", SHORT, wait=20) as second:
            first.wake()
            code, errors = first.end()
            assert (code, "took over" in errors) == (1, True)
            assert not (tmp_path / "updates" / "releases.json").exists()
            assert not list((tmp_path / "updates").glob(".*")), "its scratch file is left"
            assert second.end()[0] == 0


def test_nor_does_it_delete_what_its_successor_made(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    with holding(tmp_path, "first", SHORT) as first:
        first.tell("suspended-delete", "tokens")
        first.wait_suspended()
        with holding(tmp_path, "second", SHORT, wait=20):
            first.wake()
            assert first.end()[0] == 1
            assert (tmp_path / "tokens").is_dir()


def test_a_command_that_was_suspended_while_nobody_came_goes_on(tmp_path: Path) -> None:
    with holding(tmp_path, "first", SHORT) as first:
        first.suspend()
        time.sleep(1.5 * SHORT)
        first.wake()
        assert first.do("write", "update.json") == "done"
        assert first.end() == (0, "")


def test_a_lost_lease_ends_a_command_that_waits(tmp_path: Path) -> None:
    """Training that nobody will keep must not go on for days until its first write is refused."""
    with holding(tmp_path, "first", SHORT) as first:
        first.tell("sleep", "600")
        first.suspend()
        with holding(tmp_path, "second", SHORT, wait=20):
            first.wake()
            code, errors = first.end()
            assert (code, "took over" in errors) == (1, True)


def test_a_driver_that_waits_in_c_keeps_its_lease(tmp_path: Path) -> None:
    with holding(tmp_path, "first", ttl=3) as first:  # not shorter: a busy machine may pause a process for a second
        first.tell("sleep", "5")
        for _ in range(9):
            time.sleep(0.5)
            with pytest.raises(BusyError, match="another rewarm command"):
                hold(Folder(tmp_path)).__enter__()
        assert first.says() == "done"
        assert first.end() == (0, "")


def test_one_that_stops_its_own_heartbeat_loses_it_safely(tmp_path: Path) -> None:
    with holding(tmp_path, "first", SHORT) as first:
        first.tell("sleep-with-the-interpreter-locked", str(6 * SHORT))
        with holding(tmp_path, "second", SHORT, wait=20) as second:
            assert second.do("write", "update.json") == "done"
            first.tell("write", "update.json")
            assert first.end()[0] == 1
            assert by(tmp_path / "update.json") == "second"


def test_of_many_that_reach_for_it_one_gets_it(tmp_path: Path) -> None:
    assert len(run_race([str(tmp_path / str(number)) for number in range(20)], racers=3)) == 20


class Elsewhere:
    """A holder on another machine: its record, renewed for as long as it lives."""

    def __init__(self, root: Path, ttl_s: float) -> None:
        with hold(Folder(root), "rewarm update there", ttl_s=ttl_s) as lease:
            record = lease.tenure.record
        self.file = root / RECORD
        self.record = replace(record, holder=replace(record.holder, machine="another boot", host="node-7"), epoch=5)
        self.put()

    def put(self) -> None:
        scratch = self.file.with_name("scratch")
        scratch.write_bytes(orjson.dumps(self.record.to_json()))
        scratch.replace(self.file)

    def live(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.1)
            self.record = self.record.renewal(0.0, self.record.renewed)
            self.put()


def test_a_holder_on_another_machine_is_refused_to_only_after_a_sign_of_life(tmp_path: Path) -> None:
    there = Elsewhere(tmp_path, ttl_s=30)
    notes: list[str] = []
    life = threading.Thread(target=there.live, args=(5,))
    life.start()
    with pytest.raises(BusyError, match=r"`rewarm update there` \(process \d+ on node-7"):
        hold(Folder(tmp_path), note=notes.append).__enter__()
    life.join()
    assert len(notes) == 1
    assert "waiting up to 30 s for a heartbeat" in notes[0]


def test_a_dead_one_is_taken_over_when_it_was_silent_for_its_ttl_by_ones_own_clock(tmp_path: Path) -> None:
    Elsewhere(tmp_path, ttl_s=SHORT)
    start = time.monotonic()
    with hold(Folder(tmp_path)) as lease:
        assert time.monotonic() - start >= SHORT
        assert lease.epoch == 6


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode,
    reason="needs namespaces (unshare, as on any Linux that lets users make them)",
)
def test_pids_of_another_container_on_the_same_node_say_nothing(tmp_path: Path) -> None:
    with holding(tmp_path, "contained", 2, within=CONTAINER) as contained:
        with pytest.raises(BusyError, match=r"`contained` \(process \d on "):
            hold(Folder(tmp_path)).__enter__()
        contained.process.kill()
        contained.process.wait()
        start = time.monotonic()
        with hold(Folder(tmp_path)) as lease:
            assert time.monotonic() - start >= 2, "taken for dead by a pid that means something else here"
            assert lease.epoch == 2


def test_every_write_under_a_lost_lease_is_refused_and_every_folder_made_from_it_knows(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    with pytest.raises(LeaseLostError), workspace.lease("mine"):
        inner = workspace.folder / "datasets" / "a"
        inner.write_json("kept.json", 1)
        (tmp_path / "scratch").mkdir()
        taken_over(tmp_path)
        for write in (
            lambda: inner.write("x", b""),
            lambda: inner.delete("kept.json"),
            inner.delete,
            lambda: inner.take(Folder(tmp_path / "scratch"), "y"),
        ):
            with pytest.raises(LeaseLostError, match=r"`other` .* took over on .* with epoch 9"):
                write()
        assert inner.read_json("kept.json") == 1
        assert inner.files() == ["kept.json"]
        inner.write("x", b"")
    assert workspace.folder.guard is None


def taken_over(root: Path) -> None:
    value: Any = orjson.loads((root / RECORD).read_bytes())
    record = Record.from_json(value)
    other = replace(record, holder=replace(record.holder, token="another"), epoch=9, purpose="other")
    (root / RECORD).write_bytes(orjson.dumps(other.to_json()))


def test_the_cause_of_an_end_is_the_lost_lease_whatever_failed_first(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    with pytest.raises(LeaseLostError) as ended, workspace.lease():
        taken_over(tmp_path)
        with pytest.raises(LeaseLostError):
            workspace.folder.write("x", b"")
        raise StageError("training failed")
    assert isinstance(ended.value.__cause__, StageError)


def test_a_folder_that_was_deleted_ends_its_command_and_does_not_come_back(tmp_path: Path) -> None:
    with holding(tmp_path / "workspace", "first", SHORT) as first:
        first.tell("sleep", "600")
        shutil.rmtree(tmp_path / "workspace")
        code, errors = first.end()
        assert (code, "the lease record is missing" in errors) == (1, True)
    workspace = Workspace(str(tmp_path / "workspace"))
    with pytest.raises(LeaseLostError, match="the lease record is missing"), workspace.lease():
        shutil.rmtree(tmp_path / "workspace")
        workspace.folder.write("workspace.json", b"")
    assert not (tmp_path / "workspace" / RECORD).exists()


def test_a_guard_does_not_travel(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    with workspace.lease():
        folder = workspace.folder / "datasets"
        sent = pickle.loads(pickle.dumps(folder))
        assert folder.guard is not None
        assert sent == folder
        assert sent.guard is None


def test_a_deletion_that_was_killed_is_finished_by_the_next_command(tmp_path: Path) -> None:
    left = tmp_path / "updates" / f".0001-code.0{REMOVED}"
    (left / "trunk").mkdir(parents=True)
    workspace = Workspace(str(tmp_path))
    with workspace.lease():
        assert not left.exists()
        (tmp_path / "datasets" / "a").mkdir(parents=True)
        (workspace.folder / "datasets").delete("a")
        assert not list((tmp_path / "datasets").iterdir())


def test_a_record_that_is_none_is_named_and_an_empty_one_is_no_lease(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("")
    with hold(Folder(tmp_path)) as lease:
        assert lease.epoch == 1
        assert lease.age >= 0
    (tmp_path / RECORD).write_text("{}")
    with pytest.raises(UsageError, match=r"\.lease: expected a lease record"):
        find_holder(Folder(tmp_path))


@pytest.mark.parametrize("text", ["0", "soon", "nan", "inf", "-5"])
def test_a_ttl_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("REWARM_LEASE_TTL", text)
    with pytest.raises(UsageError, match="REWARM_LEASE_TTL"):
        ttl()
