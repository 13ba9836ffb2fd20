"""Objects that are written on condition, on a server that speaks S3, and a journal that grows there."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ingest_stores import amazon, boto

from pipeline.lease import hold
from pipeline.objects import Objects, rewrite_json
from pipeline.watch.journal import JOURNAL, Draft, Journal, is_watched, only_watch
from pipeline.workspace import Workspace
from stages.errors import StageError, UsageError
from stages.storage import Folder


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with amazon() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            patch.setenv(f"AWS_{name}", "key")
        boto("s3", endpoint).create_bucket(Bucket="bucket")
        yield f"s3://bucket/{{}}?endpoint_override={endpoint}&scheme=http&region=us-east-1"


@pytest.fixture
def folder(bucket: str, request: pytest.FixtureRequest) -> Folder:
    return Folder(bucket.format(request.node.originalname))


def test_a_put_needs_the_state_that_was_seen(folder: Folder) -> None:
    objects = Objects(folder)
    assert (objects.get("a"), objects.size("a")) == ((None, None), 0)
    first = objects.put("a", b"1", None)
    assert first is not None
    assert objects.put("a", b"2", None) is None, "there is one"
    assert objects.put("a", b"22", first) is not None
    assert objects.put("a", b"3", first) is None, "it is another by now"
    assert (objects.get("a")[0], objects.size("a")) == (b"22", 2)
    assert objects.put("a", b"22", first) is not None, "a put that was answered too late meets itself"


@pytest.mark.parametrize("local", [True, False])
def test_a_json_file_is_changed_in_one_step(folder: Folder, tmp_path: Path, local: bool) -> None:
    place = Folder(tmp_path) if local else folder
    rewrite_json(place, "x.json", lambda before: [before])
    rewrite_json(place, "x.json", lambda before: [*before, 2])
    assert place.read_json("x.json") == [None, 2]


def test_a_late_writer_takes_nothing_away(folder: Folder) -> None:
    """Suspended between its look and its put, while another command changes the file."""
    rewrite_json(folder, "x.json", lambda before: 1)

    def late(before: Any) -> Any:
        rewrite_json(folder, "x.json", lambda other: other + 10)
        return before + 1

    with hold(folder) as lease, pytest.raises(StageError, match="changed by another command meanwhile"):
        rewrite_json(folder.guarded(lease), "x.json", late)
    assert folder.read_json("x.json") == 11


def test_a_journal_in_a_bucket_is_read_on_and_numbered_on(folder: Folder) -> None:
    mine, other, now = Journal(folder), Journal(folder), datetime.now(UTC)
    assert (mine.read(), mine.grown()) == ([], False)
    mine.append(Draft("one"), now)
    other.append(Draft("two", "/in/a", {"files": 2}), now)
    assert [(event.seq, event.kind) for event in mine.read()] == [(1, "one"), (2, "two")]
    assert mine.read() == []
    other.append(Draft("three"), now)
    assert Journal(folder).grown()
    assert [(event.seq, event.kind) for event in mine.read()] == [(3, "three")]


def test_many_writers_lose_nothing(folder: Folder) -> None:
    def write(name: str) -> None:
        journal = Journal(folder)
        for number in range(5):
            journal.append(Draft(f"{name}-{number}"), datetime.now(UTC))

    writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = Journal(folder).read()
    assert [event.seq for event in found] == list(range(1, 16))
    assert len({event.kind for event in found}) == 15
    assert folder.read(JOURNAL).count(b"\n") == 15


def test_one_watch_of_a_workspace_in_a_bucket(folder: Folder) -> None:
    assert not is_watched(folder)
    with only_watch(folder):
        assert is_watched(folder)
        with pytest.raises(UsageError, match="another rewarm command"), only_watch(folder):
            pass
    assert not is_watched(folder)


def test_a_bucket_that_is_not_there_is_said_to_be_so(bucket: str) -> None:
    uri = bucket.replace("//bucket/", "//none/").format("lm")
    with pytest.raises(UsageError, match="there is no bucket none"):
        Workspace(uri)
    with pytest.raises(StageError, match="cannot be read or written there"):
        hold(Folder(uri)).__enter__()


def test_keys_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="environment") as refused:
        Workspace("s3://KEY:SECRET@bucket/lm")
    assert "SECRET@" not in str(refused.value)
    assert "KEY:" not in str(refused.value)
