"""From what a user names to the files that are read, and every refusal before anything is spent."""

import gzip
import os
from pathlib import Path

import pytest
import zstandard

from stages.errors import UsageError
from stages.ingest import IngestSettings, digest_inputs, find_inputs
from stages.progress import Silent

SETTINGS = IngestSettings()
LINE = b'{"text": "some words"}\n'


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "my däta"
    (root / "b" / "deep er").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "z.jsonl").write_bytes(LINE)
    (root / "a.json.gz").write_bytes(gzip.compress(LINE))
    (root / "b" / "ö.ndjson.zst").write_bytes(zstandard.compress(LINE))
    (root / "b" / "deep er" / "t.TXT").write_bytes(b"words")
    for name in (".hidden.jsonl", ".git/x.jsonl", "picture.png", "b/archive.parquet.gz", "LICENSE"):
        (root / name).write_bytes(b"?")
    return root


def names(paths: list[str]) -> list[str]:
    return [file.name for file in find_inputs(paths, SETTINGS)]


def test_a_folder(tree: Path) -> None:
    notes = Notes()
    files = find_inputs([str(tree)], SETTINGS, notes)
    assert [(file.name, file.format, file.compression) for file in files] == [
        ("a.json.gz", "jsonl", "gzip"),
        ("b/deep er/t.TXT", "text", ""),
        ("b/ö.ndjson.zst", "jsonl", "zstd"),
        ("z.jsonl", "jsonl", ""),
    ]
    assert [Path(file.path).stat().st_size for file in files] == [file.size for file in files]
    (note,) = notes.said
    assert "passed over 3 files of unknown suffix" in note
    assert ".png" in note


def test_globs(tree: Path) -> None:
    assert names([f"{tree}/*.jsonl"]) == ["z.jsonl"]
    assert names([f"{tree}/**/*.zst"]) == ["b/ö.ndjson.zst"]
    assert names([f"{tree}/**"]) == names([str(tree)])
    assert names([f"{tree}/?"]) == ["b/deep er/t.TXT", "b/ö.ndjson.zst"]


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "part[1].jsonl").write_bytes(LINE)
    assert names([f"{tmp_path}/part[1].jsonl"]) == ["part[1].jsonl"]


def test_relative_paths_and_file_uris(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert names(["z.jsonl"]) == names(["*.jsonl"]) == names([f"file://{tree}/z.jsonl"]) == ["z.jsonl"]
    assert names(["."]) == names([str(tree)])


def test_several_paths_keep_their_order_and_files_are_listed_once(tree: Path) -> None:
    (tree / "link.jsonl").symlink_to(tree / "z.jsonl")
    (tree / "b" / "round").symlink_to(tree)
    assert names([f"{tree}/z.jsonl", str(tree / "b"), str(tree)]) == [
        "z.jsonl",
        "b/deep er/t.TXT",
        "b/round/a.json.gz",
        "b/ö.ndjson.zst",
    ]
    assert names([str(tree)]) == ["a.json.gz", "b/deep er/t.TXT", "b/ö.ndjson.zst", "link.jsonl"]


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jsonl").write_bytes(LINE)
    assert names([f"{tmp_path}/a/x.jsonl", f"{tmp_path}/b"]) == ["a/x.jsonl", "b/x.jsonl"]


def test_the_digest_follows_names_and_content_but_not_the_place(tree: Path) -> None:
    before = digest_inputs(find_inputs([str(tree)], SETTINGS))
    moved = tree.rename(tree.parent / "elsewhere")
    assert digest_inputs(find_inputs([str(moved)], SETTINGS)) == before
    (moved / "z.jsonl").write_bytes(LINE.replace(b"some", b"more"))
    changed = digest_inputs(find_inputs([str(moved)], SETTINGS))
    (moved / "z.jsonl").rename(moved / "y.jsonl")
    assert len({before, changed, digest_inputs(find_inputs([str(moved)], SETTINGS))}) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("*.parquet", "nothing matches this pattern"),
        ("*.png", "matches no file rewarm reads: JSON lines"),
        ("picture.png", "unknown suffix; rewarm reads JSON lines (.jsonl"),
        ("b/archive.parquet.gz", "unknown suffix"),
        ("only", "the folder holds no file rewarm reads"),
        ("pipe.jsonl", "neither a file nor a folder"),
        ("n" * 300, "cannot be read (File name too long)"),
    ],
)
def test_refused_paths(tree: Path, name: str, message: str) -> None:
    (tree / "only").mkdir()
    (tree / "only" / "x.bin").write_bytes(b"?")
    os.mkfifo(tree / "pipe.jsonl")
    with pytest.raises(UsageError) as refused:
        find_inputs([f"{tree}/{name}"], SETTINGS)
    assert message in str(refused.value)
    assert name in str(refused.value)


def test_no_path_and_no_uri() -> None:
    with pytest.raises(UsageError, match="no data given"):
        find_inputs([], SETTINGS)
    with pytest.raises(UsageError, match=r"ftp://host/x: files are read from disks, s3://, gs:// and https://"):
        find_inputs(["ftp://host/x"], SETTINGS)


def test_a_link_to_nothing_is_refused_with_its_name(tree: Path) -> None:
    (tree / "gone.jsonl").symlink_to(tree / "nothing.jsonl")
    with pytest.raises(UsageError, match=r"gone.jsonl: cannot be read \(No such file"):
        find_inputs([str(tree)], SETTINGS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tree: Path) -> None:
    (tree / "z.jsonl").chmod(0)
    with pytest.raises(UsageError, match=r"z.jsonl: cannot be read \(Permission denied\)"):
        find_inputs([str(tree)], SETTINGS)


def test_data_without_a_document_is_refused_with_what_it_holds_instead(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    with pytest.raises(UsageError, match=r"holds no documents \(all files are empty\)"):
        find_inputs([str(tmp_path)], SETTINGS)
    (tmp_path / "b.jsonl").write_bytes(b'{"body": "x"}\n{"body": "y"}\n[1]\n')
    expected = (
        r"holds no documents \(1 × not an object, 2 × text field missing; the first: b.jsonl, line 1, .*fields: body"
    )
    with pytest.raises(UsageError, match=expected):
        find_inputs([str(tmp_path)], SETTINGS)
    assert len(find_inputs([str(tmp_path)], IngestSettings(text="body"))) == 2
