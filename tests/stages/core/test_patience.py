"""Patience with real stores and disks: what may pass is done again until a deadline, and done once all the same."""

import errno
import logging
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from unsteady_store import CREDENTIALS, FATES, Store, address, store, unsteady

from rewarm.pipeline.watch.journal import Draft, Journal
from rewarm.stages.core.errors import FullError, StageError, UnreachableError, UsageError
from rewarm.stages.core.faults import may_pass
from rewarm.stages.core.object_store import Objects, create
from rewarm.stages.core.patience import deadline, limited, patiently, reported
from rewarm.stages.core.storage import Folder


class Failing:
    """Fails so often, then gives its count."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.tries = error, times, 0

    def __call__(self) -> int:
        self.tries += 1
        if self.tries <= self.times:
            raise self.error
        return self.tries


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOSPC])
def test_what_may_pass_is_done_again(number: int) -> None:
    assert patiently(Failing(OSError(number, "x"), 3), "place") == 4


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "x"),
        PermissionError(errno.EACCES, "x"),
        OSError(errno.EROFS, "x"),
        KeyError("x"),
    ],
)
def test_what_is_final_is_raised_at_once(error: Exception) -> None:
    work = Failing(error, 3)
    with pytest.raises(type(error)):
        patiently(work, "place")
    assert work.tries == 1


@pytest.mark.parametrize(
    ("message", "passes"),
    [
        (
            "AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not connect to server",
            True,
        ),
        ("When reading: AWS Error SLOW_DOWN during GetObject operation: Please reduce your request rate", True),
        ("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body.", True),
        ("AWS Error UNKNOWN (HTTP status 429) during HeadObject operation: No response body.", True),
        ("AWS Error UNKNOWN (HTTP status 400) during HeadBucket operation: No response body.", False),
        ("AWS Error ACCESS_DENIED during HeadObject operation: No response body.", False),
        ("google::cloud::Status(UNAVAILABLE: connection reset)", True),
        ("google::cloud::Status(PERMISSION_DENIED: no)", False),
    ],
)
def test_a_stores_codes_say_what_may_pass(message: str, passes: bool) -> None:
    assert may_pass(OSError(message)) == passes


def test_after_the_deadline_there_is_a_typed_error_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    with limited(1.0), pytest.raises(UnreachableError) as gone:
        patiently(Failing(OSError(errno.ECONNREFUSED, "Connection refused"), 10**6), "s3://KEY:HIDDEN@bucket/lm")
    assert 1.0 <= time.monotonic() - began < 3.0
    assert "HIDDEN" not in str(gone.value) + gone.value.address
    assert "Connection refused" in str(gone.value) and "REWARM_STORE_DEADLINE" in str(gone.value)
    with limited(0.2), pytest.raises(FullError, match="free some space"):
        patiently(Failing(OSError(errno.ENOSPC, "No space left on device"), 10**6), "/shared")
    with limited(0):
        once = Failing(OSError(errno.EIO, "x"), 5)
        with pytest.raises(UnreachableError):
            patiently(once, "/shared")
        assert once.tries == 1
    assert not caplog.records


def test_a_long_wait_is_told_of_and_ends_when_it_is_to_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWARM_STORE_DEADLINE", "60")
    monkeypatch.setattr("rewarm.stages.core.patience.SAY_AFTER_S", 0.5)
    shown = list[str]()
    with caplog.at_level(logging.WARNING, "rewarm.storage"), reported(shown.append):
        assert patiently(Failing(OSError(errno.ESTALE, "Stale file handle"), 4), "/shared/lm") == 5
    said = [record.getMessage() for record in caplog.records]
    assert shown == said, "a worker's lines are passed on to who waits for it"
    assert len(said) == 2 and "Stale file handle" in said[0] and "responds again" in said[1]
    began = time.monotonic()
    with limited(stopping=lambda: time.monotonic() - began > 1), pytest.raises(UnreachableError):
        patiently(Failing(OSError(errno.ESTALE, "Stale file handle"), 10**6), "/shared/lm")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_the_deadline_is_a_number_of_seconds(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("REWARM_STORE_DEADLINE", text)
    with pytest.raises(UsageError, match="REWARM_STORE_DEADLINE"):
        deadline()


# -- a real store that fails -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lake() -> Iterator[Store]:
    with store() as made, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("REWARM_STORE_DEADLINE", "120")
        yield made


def test_a_store_that_is_suspended_is_waited_for(lake: Store) -> None:
    folder = Folder(address(lake.port, "away"))
    folder.write("x", b"before")
    timer = lake.suspend_for(8)
    began = time.monotonic()
    assert folder.read("x") == b"before"
    assert time.monotonic() - began > 4
    timer.join()
    timer = lake.suspend_for(3)
    folder.write("y", b"after")
    assert folder.files() == ["x", "y"]
    timer.join()


@pytest.mark.parametrize(
    ("seed", "fates"),
    [(1, FATES), pytest.param(2, ("internal error", "slow", "torn"), marks=pytest.mark.faults)],
)
def test_everything_a_folder_does_survives_a_store_that_fails_at_random(
    lake: Store, seed: int, fates: tuple[str, ...]
) -> None:
    dice = random.Random(5)
    with unsteady(lake.port, seed, fates=fates) as proxy:
        folder = Folder(address(proxy.port, f"random-{seed}"))
        big = dice.randbytes(3_000_000)
        for number in range(6):
            folder.write(f"{number}.bin", big[: 10**number])
        with folder.writing("whole") as scratch:
            (scratch / "below").mkdir(parents=True)
            (scratch / "big").write_bytes(big)
            (scratch / "below" / "small").write_bytes(b"small")
        assert [len(folder.read(f"{number}.bin")) for number in range(6)] == [10**number for number in range(6)]
        assert folder.read("whole/big") == big
        assert (folder.local("whole") / "below" / "small").read_bytes() == b"small"
        filesystem, path = folder.filesystem()
        with filesystem.open_output_stream(f"{path}/stream") as out:
            out.write(big)
        with filesystem.open_input_file(f"{path}/stream") as source:
            source.seek(2_999_000)
            assert source.read() == big[2_999_000:]
        folder.take(folder / "whole", "taken")
        assert folder.folders() == ["taken"]
        for number in range(6):
            folder.delete(f"{number}.bin")
        assert folder.files() == ["stream"]
        assert all(proxy.met.values()), proxy.met


def test_more_files_than_arrow_has_threads_are_copied_at_once(lake: Store, tmp_path: Path) -> None:
    """As Ray Train copies a checkpoint: each file is written by a thread of the pool that its parts would wait for."""
    for number in range(40):
        (tmp_path / str(number % 5)).mkdir(exist_ok=True)
        (tmp_path / str(number % 5) / f"{number}.bin").write_bytes(bytes(number * 1000))
    (tmp_path / "large.bin").write_bytes(bytes(30_000_000))
    folder = Folder(address(lake.port, "many"))
    filesystem, path = folder.filesystem()
    pafs.copy_files(str(tmp_path), path, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=filesystem)
    size = sum(number * 1000 for number in range(40)) + 30_000_000
    assert folder.size() == size
    folder.upload(tmp_path, "again")
    assert folder.size("again") == size
    back = tmp_path / "back"
    back.mkdir()
    pafs.copy_files(
        f"{path}/again", str(back), source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem()
    )
    assert sum(file.stat().st_size for file in back.rglob("*.bin")) == size


@pytest.mark.parametrize("seed", [1, 2])
def test_every_line_of_a_journal_is_there_once(lake: Store, seed: int) -> None:
    """Also those whose answer was lost before another process added its own."""
    with unsteady(lake.port, seed, share=0.3) as proxy:
        folder = Folder(address(proxy.port, f"journal-{seed}"))

        def add(name: str) -> None:
            journal = Journal(folder)
            for number in range(12):
                journal.append(Draft("seen", f"{name}{number}"), datetime.now(UTC))

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(add, name) for name in "ab"]:
                done.result()
        events = Journal(folder).read()
        assert sorted(event.path for event in events) == sorted(
            f"{name}{number}" for name in "ab" for number in range(12)
        )
        assert [event.seq for event in events] == list(range(1, 25))
        assert proxy.met["lost answer"]


def test_a_commit_is_ours_or_anothers_whatever_is_lost(lake: Store) -> None:
    with unsteady(lake.port, seed=3, share=0.5) as proxy:
        folder = Folder(address(proxy.port, "commits"))
        for number in range(10):
            create(folder, f"{number}.json", b"mine")
        for number in range(10):
            with pytest.raises(StageError, match="another command has written"):
                create(folder, f"{number}.json", b"another's")
        objects = Objects(folder)
        data, mark = objects.get("0.json")
        for number in range(10):
            mark = objects.put("0.json", b"%d" % number, mark)
            assert mark is not None
        assert data == b"mine" and objects.get("0.json")[0] == b"9"
        assert proxy.met["lost answer"]
