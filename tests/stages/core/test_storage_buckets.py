"""A folder in a bucket behaves as one on a disk: Amazon's protocol and Google's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ingest_stores import amazon, boto, google

from rewarm.stages.core.storage import Folder


@pytest.fixture(scope="module", params=["disk", "amazon", "google"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REWARM_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            patch.setenv(f"AWS_{name}", "key")
        if request.param == "disk":
            yield Folder(tmp_path_factory.mktemp("disk"))
        elif request.param == "amazon":
            with amazon() as endpoint:
                boto("s3", endpoint).create_bucket(Bucket="bucket")
                yield Folder(f"s3://bucket/a/b?endpoint_override={endpoint}&scheme=http&region=us-east-1")
        else:
            with google() as endpoint:
                yield Folder(f"gs://anonymous@bucket/a/b?endpoint_override={endpoint}&scheme=http")


@pytest.fixture
def folder(home: Folder, request: pytest.FixtureRequest) -> Folder:
    return home / request.node.originalname


def tree(folder: Folder) -> dict[str, bytes]:
    """All files below, by their path."""
    found = {name: folder.read(name) for name in folder.files()}
    for name in folder.folders():
        found |= {f"{name}/{path}": data for path, data in tree(folder / name).items()}
    return found


def test_what_was_written_is_listed_and_measured(folder: Folder) -> None:
    assert (folder.exists(), folder.files(), folder.folders(), folder.size()) == (False, [], [], 0)
    folder.write("x/y/z.txt", b"hello")
    folder.write_json("m.json", {"a": 1})
    (folder / "x").write("w.bin", b"12")
    assert tree(folder) == {"m.json": folder.read("m.json"), "x/w.bin": b"12", "x/y/z.txt": b"hello"}
    assert (folder / "x").files(".bin") == ["w.bin"]
    assert [folder.exists(name) for name in ("x", "x/y", "x/y/z.txt", "x/y/z")] == [True, True, True, False]
    assert (folder.size("x"), folder.size("x/w.bin"), folder.size("none")) == (7, 2, 0)


def test_a_whole_folder_is_written_moved_and_deleted(folder: Folder) -> None:
    with folder.writing("model") as scratch:
        (scratch / "deep").mkdir(parents=True)
        (scratch / "config.json").write_text("{}")
        (scratch / "deep" / "weights").write_bytes(b"1" * 100)
    (folder / "taken").write("before", b"x")
    folder.take(folder / "model", "taken")
    assert tree(folder) == {"taken/config.json": b"{}", "taken/deep/weights": b"1" * 100}
    folder.delete("taken/deep")
    folder.delete("taken/deep")
    assert tree(folder) == {"taken/config.json": b"{}"}
    folder.delete("taken")
    assert not folder.exists("taken")


def test_a_local_copy_is_of_what_is_there_now(folder: Folder) -> None:
    (folder / "model").write("a/weights", b"old!")
    first = (folder / "model").local()
    assert (first / "a" / "weights").read_bytes() == (folder / "model").local("a/weights").read_bytes() == b"old!"
    assert (folder / "model").local() == first, "copied once"
    (folder / "model").write("a/weights", b"newer")
    assert ((folder / "model").local() / "a" / "weights").read_bytes() == b"newer"
    with (folder / "model").fetched() as copy:
        assert (copy / "a" / "weights").read_bytes() == b"newer"
        if not folder.is_local:
            (copy / "a" / "weights").write_bytes(b"x")
    assert (folder / "model").read("a/weights") == b"newer"
    assert copy.exists() == folder.is_local


def test_a_way_from_one_folder_to_another(folder: Folder) -> None:
    here, there = folder / "updates" / "1" / "mixture", folder / "updates" / "1" / "selection" / "x"
    assert there.relative_to(here) == "../selection/x"
    assert here.at("../selection/x") == there
    assert here.at("../..").name == "updates"
    there.write("f", b"1")
    assert here.at(there.relative_to(here)).read("f") == b"1"


def test_a_copy_of_nothing_says_so(folder: Folder, tmp_path: Path) -> None:
    if not folder.is_local:
        with pytest.raises(FileNotFoundError, match="does not exist"):
            folder.local("none")
