"""From what a user names to the files that are read, and every refusal before anything is spent."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.ingest import IngestSettings, digest_inputs, find_inputs
from rewarm.stages.ingest.readers import recognise

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
    assert "skipped 3 files of unknown suffix" in note
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
    os.utime(moved / "z.jsonl", (1, 1))
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
        ("*.png", "matches no file that rewarm reads: JSON lines"),
        ("picture.png", "unknown suffix; rewarm reads JSON lines (.jsonl"),
        ("b/archive.parquet.gz", "unknown suffix"),
        ("only", "the folder contains no file that rewarm reads"),
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
    with pytest.raises(UsageError, match="no input data"):
        find_inputs([], SETTINGS)
    with pytest.raises(
        UsageError,
        match=r"ftp://host/x: unsupported scheme ftp://; inputs can be local files, s3://, gs:// or https://",
    ):
        find_inputs(["ftp://host/x"], SETTINGS)


def test_a_link_to_nothing_is_refused_with_its_name(tree: Path) -> None:
    (tree / "gone.jsonl").symlink_to(tree / "nothing.jsonl")
    with pytest.raises(UsageError, match=r"gone.jsonl: cannot be read \(No such file"):
        find_inputs([str(tree)], SETTINGS)


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[None]:
    """Root may read everything, so it becomes nobody meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize("closed", ["z.jsonl", "b"])
def test_what_may_not_be_read_is_refused(tree: Path, closed: str, unprivileged: None) -> None:
    user = os.geteuid()
    if user:
        os.seteuid(os.getuid())
    (tree / closed).chmod(0)
    os.seteuid(user)
    with pytest.raises(UsageError, match=rf"{closed}: cannot be read \(Permission denied\); check its permissions"):
        find_inputs([str(tree)], SETTINGS)


def test_links_in_a_circle_do_not_hang(tree: Path) -> None:
    (tree / "b" / "up").symlink_to(tree)
    (tree / "b" / "self").symlink_to(tree / "b")
    assert sorted(Path(name).name for name in names([str(tree)])) == ["a.json.gz", "t.TXT", "z.jsonl", "ö.ndjson.zst"]
    (tree / "one.jsonl").symlink_to(tree / "two.jsonl")
    (tree / "two.jsonl").symlink_to(tree / "one.jsonl")
    for path in (tree, tree / "one.jsonl", tree / "*.jsonl"):
        with pytest.raises(UsageError, match=r"one\.jsonl"):
            find_inputs([str(path)], SETTINGS)


def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(tree: Path) -> None:
    os.mkfifo(tree / "pipe.jsonl")
    with pytest.raises(UsageError, match=r"pipe.jsonl: neither a file nor a folder"):
        find_inputs([str(tree)], SETTINGS)


def test_suffixes(tmp_path: Path) -> None:
    wanted = {
        "a.arrow": ("arrow", ""),
        "a.feather": ("arrow", ""),
        "a.htm": ("html", ""),
        "a.html.gz": ("html", "gzip"),
        "a.ipc": ("arrow", ""),
        "a.jsonl.bz2": ("jsonl", "bzip2"),
        "a.warc": ("warc", ""),
        "a.warc.gz": ("warc", "gzip"),
        "a.warc.wet.gz": ("wet", "gzip"),
        "a.wet.zst": ("wet", "zstd"),
        "a.arrow.gz": None,
        "a.warc.bz2": ("warc", "bzip2"),
        "a.gz": None,
        "jsonl": None,
    }
    assert {name: recognise(name) for name in wanted} == wanted
    assert recognise("part-00001", "jsonl") == ("jsonl", "")
    assert recognise("part-00001.gz", "jsonl") == ("jsonl", "gzip")
    assert recognise("part-00001.gz", "parquet") is None
    (tmp_path / "part-00001").write_bytes(LINE)
    (tmp_path / "part-00002.parquet.gz").write_bytes(gzip.compress(LINE))
    (tmp_path / "_SUCCESS.crc").write_bytes(LINE)
    files = find_inputs([str(tmp_path)], IngestSettings(format="jsonl"))
    assert [(file.name, file.compression) for file in files] == [
        ("_SUCCESS.crc", ""),
        ("part-00001", ""),
        ("part-00002.parquet.gz", "gzip"),
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_a_manifest(tree: Path, tmp_path: Path, packed: bool) -> None:
    paths = [
        "",
        f"../{tree.name}/z.jsonl\r",
        f"  {tree}/b/ö.ndjson.zst",
        f"../{tree.name}/*.gz",
        f"file://{tree}/b/deep er",
    ]
    lines = "\n".join(paths).encode()
    folder = tmp_path / "lists"
    folder.mkdir()
    path = folder / ("list.txt.gz" if packed else "list.txt")
    path.write_bytes(gzip.compress(lines) if packed else lines)
    assert names([f"@{path}"]) == ["z.jsonl", "b/ö.ndjson.zst", "a.json.gz", "b/deep er/t.TXT"]
    path.write_bytes(gzip.compress(b"z.jsonl\n/b\n") if packed else b"z.jsonl\n/b\n")
    settings = IngestSettings(manifest_prefix=str(tree))
    files = find_inputs([f"@{path}"], settings)
    assert [file.name for file in files] == ["z.jsonl", "b/deep er/t.TXT", "b/ö.ndjson.zst"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the manifest is empty"),
        (b"\xff", "expected UTF-8 text with one path"),
        (b"x.jsonl\n@other.txt\n", "line 2: a manifest cannot list another manifest"),
        (b"nowhere.jsonl\n", "nowhere.jsonl: no such file or folder"),
    ],
)
def test_refused_manifests(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINE)
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(UsageError, match=message):
        find_inputs([f"@{tmp_path}/list.txt"], SETTINGS)
    with pytest.raises(UsageError, match=r"gone.txt: cannot be read \(No such file"):
        find_inputs([f"@{tmp_path}/gone.txt"], SETTINGS)


def test_data_without_a_document_is_refused_with_what_it_holds_instead(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    with pytest.raises(UsageError, match=r"no documents found \(all files are empty\)"):
        find_inputs([str(tmp_path)], SETTINGS)
    (tmp_path / "b.jsonl").write_bytes(b'{"body": "x"}\n{"body": "y"}\n[1]\n')
    expected = (
        r"no documents found \(1 × not an object, 2 × text field missing; the first: b.jsonl, line 1, .*fields: body"
    )
    with pytest.raises(UsageError, match=expected):
        find_inputs([str(tmp_path)], SETTINGS)
    assert len(find_inputs([str(tmp_path)], IngestSettings(text="body"))) == 2


def test_an_archive_of_other_records_is_not_called_empty(tmp_path: Path) -> None:
    record = b"WARC/1.0\r\nWARC-Type: %s\r\nContent-Length: 1\r\n\r\nx\r\n\r\n"
    (tmp_path / "a.warc").write_bytes(record % b"warcinfo" + record % b"request" * 2)
    expected = r"\(1 × no documents in archive; the first: a.warc, file: .* found 2 × request, 1 × warcinfo\)"
    with pytest.raises(UsageError, match=expected):
        find_inputs([str(tmp_path)], SETTINGS)
    (tmp_path / "a.warc").write_bytes(b"\r\n" * 10)
    with pytest.raises(UsageError, match=r"\(no record in 20 bytes\)"):
        find_inputs([str(tmp_path)], SETTINGS)
