"""Which files an arrival consists of: files, folders and globs become an ordered list, before anything is spent."""

import glob
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import xxhash

from stages.errors import UsageError
from stages.ingest.read.readers import read_records
from stages.ingest.records import Document, Refusal
from stages.ingest.settings import IngestSettings
from stages.progress import Progress, Silent

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}  # not of Parquet, which compresses inside
SUPPORTED = "JSON lines (.jsonl, .ndjson, .json), text (.txt, .md), each also as .gz or .zst, and .parquet"
BLOCK = 2**20


@dataclass(frozen=True)
class InputFile:
    """One file of an arrival."""

    path: str  # absolute
    name: str  # relative to what the user gave: the same wherever the data lies
    size: int  # bytes
    format: str  # "jsonl", "parquet" or "text"
    compression: str  # "", "gzip" or "zstd"


@dataclass
class Found:
    """What one path of the user's led to: the folder names are relative to, files in order, and files passed over."""

    base: Path
    files: list[Path]
    skipped: list[Path]


def find_inputs(paths: list[str], settings: IngestSettings, progress: Progress | None = None) -> list[InputFile]:
    """Expand files, folders (with all below them) and globs (with ``**``) into the list of files to read.

    Paths keep the order they were given in; below a folder or glob, files are sorted by relative path. A file that is
    reached twice is listed once. Folders and files whose names begin with a dot are passed over, and so is, with a
    note to ``progress``, what has an unknown suffix. Files are opened, and read until the first usable document.

    Raises ``UsageError`` for a path that does not exist, cannot be read or holds no documents, and for a file named
    outright whose suffix is unknown.
    """
    if not paths:
        raise UsageError("no data given: name a file, a folder or a glob")
    found = [expand(text) for text in paths]
    base = Path(os.path.commonpath([entry.base for entry in found]))
    seen: set[str] = set()
    inputs = []
    for path in (path for entry in found for path in entry.files):
        identity = os.path.realpath(path)
        if identity not in seen:
            seen.add(identity)
            inputs.append(input_file(path, base))
    note_skipped([path for entry in found for path in entry.skipped], progress or Silent())
    require_document(inputs, settings)
    return inputs


def digest_inputs(files: list[InputFile], progress: Progress | None = None) -> str:
    """32 hex digits of xxh3-128 over the files' relative names and contents, in order; no absolute path enters it."""
    progress = progress or Silent()
    progress.begin("identifying the data", sum(file.size for file in files), "bytes")
    whole = xxhash.xxh3_128()
    for file in files:
        content = xxhash.xxh3_128()
        with open_input(Path(file.path)) as stream:
            while block := stream.read(BLOCK):
                content.update(block)
                progress.advance(len(block))
        whole.update(f"{file.name}\0{content.hexdigest()}\n".encode())
    return str(whole.hexdigest())


def recognise(path: Path) -> tuple[str, str] | None:
    """Format and compression by the suffixes of a file's name; None where they are unknown."""
    name = path.name.lower()
    compression = COMPRESSIONS.get(Path(name).suffix, "")
    kind = FORMATS.get(Path(Path(name).stem).suffix if compression else Path(name).suffix)
    return None if kind is None or (kind == "parquet" and compression) else (kind, compression)


def expand(text: str) -> Found:
    """The files one path of the user's stands for."""
    if "://" in text.removeprefix("file://"):
        raise UsageError(f"{text}: data is read from files and folders; copy or mount it, then give its path")
    path = Path(os.path.abspath(Path(text.removeprefix("file://")).expanduser()))  # noqa: PTH100 - and without '..'
    try:
        if path.is_dir():
            return sift(path, walk(path), f"{text}: the folder holds no file rewarm reads: {SUPPORTED}")
        if path.exists():
            if not path.is_file():
                raise UsageError(f"{text}: neither a file nor a folder")
            if recognise(path) is None:
                raise UsageError(f"{text}: unknown suffix; rewarm reads {SUPPORTED}")
            return Found(path.parent, [path], [])
    except OSError as error:
        refuse_unreadable(Path(error.filename or path), error)
    if not glob.has_magic(text):
        raise UsageError(f"{text}: no such file or folder")
    fixed = 0
    while not glob.has_magic(path.parts[fixed]):
        fixed += 1
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - skips hidden names
    if not matches:
        raise UsageError(f"{text}: nothing matches this pattern")
    below = {file for match in matches for file in (walk(match) if match.is_dir() else [match])}
    return sift(Path(*path.parts[:fixed]), list(below), f"{text}: matches no file rewarm reads: {SUPPORTED}")


def walk(folder: Path) -> list[Path]:
    """All files below a folder without hidden ones; links are followed, but no folder is entered twice."""
    entered: set[str] = set()
    files = []
    for parent, folders, names in os.walk(
        folder, onerror=lambda error: refuse_unreadable(folder, error), followlinks=True
    ):
        identity = os.path.realpath(parent)
        folders[:] = [] if identity in entered else sorted(name for name in folders if not name.startswith("."))
        if identity not in entered:
            files += [Path(parent, name) for name in names if not name.startswith(".")]
        entered.add(identity)
    return files


def sift(base: Path, files: list[Path], nothing: str) -> Found:
    """Readable files in the order of their relative paths, apart from those with unknown suffixes."""
    ordered = sorted(files, key=lambda path: path.relative_to(base).parts)
    found = Found(
        base, [path for path in ordered if recognise(path)], [path for path in ordered if not recognise(path)]
    )
    if not found.files:
        raise UsageError(nothing)
    return found


def input_file(path: Path, base: Path) -> InputFile:
    """The record of a file, which must open and have a name that a record can hold."""
    known = recognise(path)
    assert known, path
    name = path.relative_to(base).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{name!r} in {base}: the file's name is not UTF-8; rename it") from error
    with open_input(path) as stream:
        size = stream.seek(0, os.SEEK_END)
    return InputFile(str(path), name, size, *known)


def open_input(path: Path):  # type: ignore[no-untyped-def]
    """The file opened for reading."""
    try:
        return path.open("rb")
    except OSError as error:
        refuse_unreadable(path, error)


def refuse_unreadable(path: Path, error: OSError) -> NoReturn:
    """Say which file or folder cannot be read, and why."""
    raise UsageError(
        f"{error.filename or path}: cannot be read ({error.strerror or error}); check its permissions"
    ) from error


def note_skipped(skipped: list[Path], progress: Progress) -> None:
    """Say what was passed over for its suffix."""
    if skipped:
        suffixes = Counter(path.suffix or "no suffix" for path in skipped)
        listing = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5))
        progress.note(f"passed over {len(skipped)} files of unknown suffix ({listing}), such as {skipped[0].name}")


def require_document(inputs: list[InputFile], settings: IngestSettings) -> None:
    """Read until the first usable document; ``UsageError`` with what was met instead where there is none."""
    reasons: Counter[str] = Counter()
    first = ""
    for file in inputs:
        for record in read_records(file.path, file.name, file.format, file.compression, settings):
            if isinstance(record, Document):
                return
            reasons[record.reason] += 1
            first = first or f"; the first: {describe(file, record)}"
    counts = ", ".join(f"{count} × {reason}" for reason, count in sorted(reasons.items())) or "all files are empty"
    names = ", ".join(file.path for file in inputs[:3]) + (" …" if len(inputs) > 3 else "")
    raise UsageError(
        f"{names}: holds no documents ({counts}{first}). Expected: a text under {settings.text!r} in each record"
    )


def describe(file: InputFile, refusal: Refusal) -> str:
    """Where a refused record is, and why it was refused."""
    return f"{file.name}, {refusal.location}: {refusal.reason}, {refusal.detail}"
