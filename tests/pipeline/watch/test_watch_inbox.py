"""What lies in an inbox: names, fingerprints, markers; on a disk and in a bucket."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_stores import amazon, boto, google, put_google

from rewarm.pipeline.lineage.workspace import NAME_PATTERN
from rewarm.pipeline.watch.inbox import dataset_name, look, place_of
from rewarm.stages.core.errors import UsageError
from rewarm.stages.ingest import IngestSettings, find_inputs
from rewarm.stages.ingest.locations import locate
from rewarm.stages.ingest.settings import StorageSettings

DOCUMENT = b'{"text": "a document"}\n'


@pytest.mark.parametrize(
    ("entry", "is_file", "name"),
    [
        ("news-2026.jsonl", True, "news-2026"),
        ("news.jsonl.zst", True, "news"),
        ("news.v2.parquet", True, "news.v2"),
        ("News 2026 (März).JSONL.GZ", True, "News-2026-Marz"),
        ("crawl.jsonl", False, "crawl.jsonl"),
        ("-x_.txt", True, "x"),
    ],
)
def test_a_dataset_is_named_after_its_file(entry: str, is_file: bool, name: str) -> None:
    assert dataset_name(entry, is_file) == name


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1), st.booleans())
def test_every_file_name_gives_a_valid_name_and_always_the_same(entry: str, is_file: bool) -> None:
    name = dataset_name(entry, is_file)
    assert NAME_PATTERN.fullmatch(name)
    assert dataset_name(entry, is_file) == name


def test_names_without_a_letter_and_long_names_differ_by_their_hash() -> None:
    assert dataset_name("新闻.jsonl", True) != dataset_name("报道.jsonl", True)
    assert dataset_name("x" * 70 + "a", False) != dataset_name("x" * 70 + "b", False)


def test_files_and_folders_are_arrivals_and_other_things_are_not(tmp_path: Path) -> None:
    for name in (
        "a.jsonl", "b/x.jsonl", "b/deep/y.jsonl", "b/.hidden", "b/_SUCCESS", "c.txt", "c.txt._SUCCESS", "notes.pdf",
        ".d/x.jsonl", "_temporary/x.jsonl", "_SUCCESS", "only-marked/_SUCCESS",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(DOCUMENT)
    (tmp_path / "empty").mkdir()
    found = look(locate(str(tmp_path)), "auto", "_SUCCESS")
    shown = {Path(one.path).name: (one.name, one.files, bool(one.marker)) for one in found.arrivals}
    assert shown == {
        "a.jsonl": ("a", 1, False),
        "b": ("b", 2, True),
        "c.txt": ("c", 1, True),
        "only-marked": ("only-marked", 0, True),
    }
    assert found.passed_over == ["notes.pdf"]
    assert [one.bytes for one in found.arrivals] == [len(DOCUMENT), 2 * len(DOCUMENT), len(DOCUMENT), 0]


def test_what_leads_out_of_the_inbox_is_named_and_not_followed(tmp_path: Path) -> None:
    inbox, secret = tmp_path / "inbox", tmp_path / "secret"
    for folder in (inbox / "a", secret):
        folder.mkdir(parents=True)
        (folder / "x.jsonl").write_bytes(DOCUMENT)
    (inbox / "folder").symlink_to(secret)
    (inbox / "file.jsonl").symlink_to(secret / "x.jsonl")
    (inbox / "a" / "deep").symlink_to("../../secret")
    (inbox / "again").symlink_to("a")
    found = look(locate(str(inbox)), "auto", "_SUCCESS")
    assert [(one.name, one.files) for one in found.arrivals] == [("a", 1), ("again", 1)]
    assert found.outside == [str(inbox / name) for name in ("a/deep", "again/deep", "file.jsonl", "folder")]


def test_a_name_that_no_record_can_hold_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jsonl")).write_bytes(DOCUMENT)
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / os.fsdecode(b"caf\xe9.jsonl")).write_bytes(DOCUMENT)
    found = look(locate(str(tmp_path)), "auto", "_SUCCESS")
    assert [one.name for one in found.arrivals] == ["good"]
    assert found.passed_over == [r"'caf\udce9.jsonl'"]


def test_the_fingerprint_follows_every_change_but_the_markers(tmp_path: Path) -> None:
    folder, file = tmp_path / "news", tmp_path / "news" / "x.jsonl"
    folder.mkdir()
    file.write_bytes(DOCUMENT)

    def fingerprint() -> str:
        return look(locate(str(tmp_path)), "auto", "_SUCCESS").arrivals[0].fingerprint

    first = fingerprint()
    assert fingerprint() == first
    (folder / "_SUCCESS").touch()
    assert fingerprint() == first
    seen = {first}
    os.utime(file, ns=(1, 1))
    seen.add(fingerprint())
    (folder / "y.jsonl").write_bytes(DOCUMENT)
    seen.add(fingerprint())
    (folder / "y.jsonl").rename(folder / "z.jsonl")
    seen.add(fingerprint())
    (folder / "z.jsonl").write_bytes(DOCUMENT * 2)
    seen.add(fingerprint())
    assert len(seen) == 5


def test_what_cannot_be_an_inbox_is_refused(tmp_path: Path) -> None:
    for inbox, message in ((str(tmp_path / "none"), "does not exist"), ("https://host/x", "cannot list files")):
        with pytest.raises(UsageError, match=message):
            place_of(inbox, IngestSettings())


@pytest.mark.parametrize("store", ["s3", "gs"])
def test_an_inbox_in_a_bucket(store: str) -> None:
    keys = ["inbox/a.jsonl", "inbox/b [1]/x.jsonl", "inbox/b [1]/_SUCCESS", "inbox/c/deep/y.jsonl", "inbox/d.pdf"]
    with (amazon if store == "s3" else google)() as endpoint:
        if store == "s3":
            client = boto("s3", endpoint)
            client.create_bucket(Bucket="bucket", ACL="public-read")
        for key in keys:
            if store == "s3":
                client.put_object(Bucket="bucket", Key=key, Body=DOCUMENT, ACL="public-read")
            else:
                put_google(endpoint, key, DOCUMENT)
        settings = IngestSettings(storage=StorageSettings(endpoint=f"http://{endpoint}", anonymous=True, region="x"))
        place = place_of(f"{store}://bucket/inbox", settings)
        found = look(place, "auto", "_SUCCESS")
        assert [(one.name, one.files, bool(one.marker)) for one in found.arrivals] == [
            ("a", 1, False),
            ("b-1", 1, True),
            ("c", 1, False),
        ]
        assert found.passed_over == ["d.pdf"]
        # An update is given the path alone, and finds the same files behind it.
        for one in found.arrivals:
            inputs = find_inputs([one.path], IngestSettings())
            assert (len(inputs), sum(file.size for file in inputs)) == (one.files, one.bytes)
