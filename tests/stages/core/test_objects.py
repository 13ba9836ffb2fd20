"""Objects that are written on condition, on a server that speaks S3, and a journal that grows there."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ingest_stores import amazon, boto
from watch_world import update

from rewarm.pipeline.lineage.commits import read_log
from rewarm.pipeline.lineage.lease import hold
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create as create_workspace
from rewarm.pipeline.watch.journal import Draft, Journal, is_watched, only_watch
from rewarm.pipeline.watch.lines import JOURNAL
from rewarm.stages.core.errors import BusyError, StageError, UsageError
from rewarm.stages.core.object_store import Objects, create
from rewarm.stages.core.storage import Folder


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
def test_a_name_is_given_once(folder: Folder, tmp_path: Path, local: bool) -> None:
    place = Folder(tmp_path) if local else folder
    create(place, "x.json", b"1")
    create(place, "x.json", b"1")  # the same bytes: an attempt whose answer was lost
    with pytest.raises(StageError, match="another command has written"):
        create(place, "x.json", b"2")
    assert (place.files(), place.read("x.json")) == (["x.json"], b"1")


def test_a_late_writer_takes_nothing_away(folder: Folder) -> None:
    """Suspended before its put, while another command takes the same place in the log."""
    with hold(folder) as lease:
        late = folder.guarded(lease)
        create(folder, "00000001.json", b"other")
        with pytest.raises(StageError, match="another command has written"):
            create(late, "00000001.json", b"mine")
    assert folder.read("00000001.json") == b"other"


def test_a_disk_without_hard_links_still_gives_a_name_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    place = Folder(tmp_path)
    create(place, "x.json", b"1")
    with pytest.raises(StageError, match="another command has written"):
        create(place, "x.json", b"2")
    assert (place.files(), place.read("x.json")) == (["x.json"], b"1")


@pytest.mark.parametrize("local", [True, False])
def test_a_lineage_is_committed_by_whoever_is_first(folder: Folder, tmp_path: Path, local: bool) -> None:
    workspace = Workspace(str(tmp_path) if local else folder.uri)
    create_workspace(workspace, load_recipe("tiny"))
    first, second = Lineage(workspace), Lineage(workspace)
    first.record(update(0, "docs"))
    with pytest.raises(StageError, match="another command has written"):
        second.record(update(0, "other"))
    found = read_log(workspace.folder)
    assert (list(found.finished), found.current) == (["0000-docs"], "0000-docs")
    assert Lineage(workspace).unfinished is None, "what the late one left is no update"
    assert workspace.folder.read_json("releases.json")["current"] == "0000-docs"


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


def test_a_long_journal_continues_in_further_objects(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewarm.pipeline.watch.lines.SEGMENT", 500)
    mine, other, now = Journal(folder), Journal(folder), datetime.now(UTC)
    found = []
    for number in range(30):
        (mine, other)[number % 2].append(Draft(f"{number}"), now)
        if number % 7 == 0:
            found += mine.read()
    found += mine.read()
    expected = [(number + 1, f"{number}") for number in range(30)]
    assert [(event.seq, event.kind) for event in found] == expected
    assert [(event.seq, event.kind) for event in Journal(folder).read()] == expected
    objects = [name for name in folder.files(".jsonl") if name.startswith("journal")]
    assert objects[:2] == ["journal-000001.jsonl", "journal-000002.jsonl"] and objects[-1] == JOURNAL
    sizes = [folder.size(name) for name in objects]
    assert max(sizes) < 500 + 200 and len(sizes) > 4, "a line rewrites one object"
    assert not mine.grown()
    later = Journal(folder)
    later.append(Draft("last"), now)
    assert [(event.seq, event.kind) for event in mine.read()] == [(31, "last")]


def test_writers_that_race_for_the_next_object_lose_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewarm.pipeline.watch.lines.SEGMENT", 300)

    def write(name: str) -> None:
        journal = Journal(folder)
        for number in range(8):
            journal.append(Draft(f"{name}-{number}"), datetime.now(UTC))

    writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = Journal(folder).read()
    assert [event.seq for event in found] == list(range(1, 25))
    assert len({event.kind for event in found}) == 24


def test_one_watch_of_a_workspace_in_a_bucket(folder: Folder) -> None:
    assert not is_watched(folder)
    with only_watch(folder):
        assert is_watched(folder)
        with pytest.raises(BusyError, match="another rewarm command"), only_watch(folder):
            pass
    assert not is_watched(folder)


def test_a_bucket_that_is_not_there_is_said_to_be_so(bucket: str) -> None:
    uri = bucket.replace("//bucket/", "//none/").format("lm")
    with pytest.raises(UsageError, match="bucket none does not exist"):
        Workspace(uri)
    with pytest.raises(StageError, match="cannot read or write"):
        hold(Folder(uri)).__enter__()


def test_keys_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="environment") as refused:
        Workspace("s3://KEY:SECRET@bucket/lm")
    assert "SECRET@" not in str(refused.value)
    assert "KEY:" not in str(refused.value)
