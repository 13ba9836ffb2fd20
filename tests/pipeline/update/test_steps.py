"""A step runs once; what changed under it is refused with what differs."""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from ray.exceptions import RayTaskError

from rewarm.pipeline.record.attempts import read_attempts
from rewarm.pipeline.update.runner import ChangedError, Keeps, Runner, Step
from rewarm.stages.core.digests import fingerprint, read_table
from rewarm.stages.core.errors import DamagedError, FullError, UnreachableError
from rewarm.stages.core.patience import limited
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder


@dataclass(frozen=True)
class Count:
    count: int


class Watcher(Silent):
    def __init__(self) -> None:
        self.stages: list[tuple[str, bool]] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stage(self, name: str, skipped: bool) -> None:
        self.stages.append((name, skipped))


@pytest.fixture
def folder(tmp_path: object) -> Folder:
    return Folder(str(tmp_path)) / "step"


def test_a_committed_step_is_never_run_again(folder: Folder) -> None:
    watcher, calls = Watcher(), list[int]()

    def work() -> Count:
        calls.append(1)
        return Count(len(calls))

    for _ in range(2):
        runner = Runner(watcher)
        done = runner.run(Step("count", work, Count, folder, {"a": 1}, {"b": "x"}))
        assert (done.outcome, done.seconds) == (Count(1), runner.taken["count"].seconds)
        assert done.fingerprint == folder.manifest()["fingerprint"]
    assert calls == [1]
    assert watcher.stages == [("count", False), ("count", True)]


def test_a_step_leaves_the_digests_of_its_files(folder: Folder) -> None:
    beside = folder.at("../index")

    def work() -> Count:
        folder.write("model/config.json", b"{}")
        folder.write("train/00000.arrow", b"read by the workers")
        folder.write("snapshots/step-1", b"scratch")
        beside.write("near.arrow", b"index")
        return Count(1)

    keeps = Keeps(without=("snapshots",), beside=(beside,))
    folder.write("files.json", b"of an attempt that was killed")
    first = Runner(Watcher())
    first.run(Step("count", work, Count, folder, {}, {}, keeps=keeps))
    table = read_table(folder, first.files[folder])
    assert table.keys() == {"model/config.json", "train/00000.arrow", "../index/near.arrow"}
    assert folder.manifest()["files.json"] == first.files[folder]
    folder.delete("snapshots")
    folder.write("train/00000.arrow", b"something else")
    again = Runner(Watcher())
    again.run(Step("count", work, Count, folder, {}, {}, keeps=keeps))
    assert again.files == first.files
    for place, name in ((folder, "model/config.json"), (beside, "near.arrow")):
        whole = place.read(name)
        place.write(name, b"changed")
        with pytest.raises(DamagedError, match=name):
            Runner(Watcher()).run(Step("count", work, Count, folder, {}, {}, keeps=keeps))
        place.write(name, whole)


def test_a_step_of_an_earlier_version_is_taken_as_it_is(folder: Folder) -> None:
    Runner(Watcher()).run(Step("count", lambda: Count(1), Count, folder, {}, {}))
    manifest = folder.manifest()
    manifest.pop("files.json")
    folder.write_json("manifest.json", manifest)
    folder.delete("files.json")
    runner = Runner(Watcher())
    assert runner.run(Step("count", lambda: Count(2), Count, folder, {}, {})).outcome == Count(1)
    assert runner.files == {}


def test_a_torn_step_runs_again(folder: Folder) -> None:
    def torn() -> Count:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(Watcher()).run(Step("count", torn, Count, folder, {}, {}))
    assert not folder.committed()
    assert Runner(Watcher()).run(Step("count", lambda: Count(5), Count, folder, {}, {})).outcome == Count(5)


def failing(error: Exception, times: int) -> Callable[[], Count]:
    """A step that a disk's error ends so many times."""
    calls = list[int]()

    def work() -> Count:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return Count(len(calls))

    return work


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOSPC])
def test_a_step_is_resumed_while_a_disk_fails_under_it(folder: Folder, number: int) -> None:
    fault = OSError(number, os.strerror(number), "/shared/tokens.arrow")
    in_task = RayTaskError("read", "Traceback", fault).as_instanceof_cause()
    for name, error in (("here", fault), ("task", in_task)):
        watcher = Watcher()
        done = Runner(watcher).run(Step(name, failing(error, 2), Count, folder / name, {}, {}))
        assert done.outcome == Count(3)
        assert len(watcher.notes) == 2
        assert all("/shared/tokens.arrow" in note and "temporary" in note for note in watcher.notes)
        assert len(read_attempts(folder / name)) == 1


def test_a_disk_that_fails_for_longer_ends_the_step_with_its_own_error(folder: Folder) -> None:
    for number, kind in ((errno.ESTALE, UnreachableError), (errno.ENOSPC, FullError)):
        with limited(0), pytest.raises(kind):
            Runner(Watcher()).run(Step("count", failing(OSError(number, "x"), 9), Count, folder, {}, {}))
    for error in (FileNotFoundError(2, "x"), UnreachableError("waited for already"), KeyError("x")):
        work = failing(error, 1)
        with pytest.raises(type(error)):
            Runner(Watcher()).run(Step("count", work, Count, folder, {}, {}))
        assert work() == Count(2), "it was not repeated"


@pytest.mark.parametrize("committed", [True, False])
def test_a_changed_setting_is_refused_with_what_differs(folder: Folder, committed: bool) -> None:
    def work() -> Count:
        if not committed:
            raise KeyboardInterrupt
        return Count(1)

    settings = {"share": 0.05, "deep": {"rate": 1.0}}
    if committed:
        Runner(Watcher()).run(Step("count", work, Count, folder, settings, {"data": "1"}))
    else:
        with pytest.raises(KeyboardInterrupt):
            Runner(Watcher()).run(Step("count", work, Count, folder, settings, {"data": "1"}))
    with pytest.raises(ChangedError, match=r"inputs\.data: 1 → 2\s+settings\.deep\.rate: 1\.0 → 2\.0"):
        Runner(Watcher()).run(Step("count", work, Count, folder, {"share": 0.05, "deep": {"rate": 2.0}}, {"data": "2"}))


def test_a_new_version_of_a_stage_is_another_step(folder: Folder) -> None:
    Runner(Watcher()).run(Step("count", lambda: Count(1), Count, folder, {}, {}, version=1))
    with pytest.raises(ChangedError, match="version: 1 → 2"):
        Runner(Watcher()).run(Step("count", lambda: Count(1), Count, folder, {}, {}, version=2))


def test_fingerprints_do_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_seconds_and_failures_of_all_attempts_add_up(folder: Folder) -> None:
    def fail() -> Count:
        time.sleep(0.2)
        raise RuntimeError("a worker died")

    for _ in range(2):
        with pytest.raises(RuntimeError):
            Runner(Watcher()).run(Step("count", fail, Count, folder, {}, {}))
    killed = [*read_attempts(folder), {"seconds": 100.0, "done": False}]
    folder.write_json("attempts.json", killed)
    runner = Runner(Watcher())
    runner.run(Step("count", lambda: Count(1), Count, folder, {}, {}))
    assert 100.4 <= runner.taken["count"].seconds < 110
    manifest = folder.manifest()
    assert (manifest["attempts"], manifest["seconds"]) == (4, runner.taken["count"].seconds)
    assert [one["done"] for one in read_attempts(folder)] == [False, False, False, True]
    assert b"attempts" not in folder.read("files.json")
    again = Runner(Watcher())
    again.run(Step("count", fail, Count, folder, {}, {}))
    assert again.taken == runner.taken
