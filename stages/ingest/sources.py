"""Which files an arrival consists of: what a user names becomes an ordered list, before anything is spent."""

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TypeVar

import xxhash

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress, Silent
from rewarm.stages.ingest.beside import describe
from rewarm.stages.ingest.listing import Entry, Found, expand, leads_out, look, refuse_unreadable
from rewarm.stages.ingest.locations import COMPRESSIONS, InputFile, Location, locate, recognise
from rewarm.stages.ingest.look import require_document
from rewarm.stages.ingest.opening import open_raw
from rewarm.stages.ingest.readers.streams import BrokenStreamError, read_blocks
from rewarm.stages.ingest.readers.tokens import companion, recognise_tokens
from rewarm.stages.ingest.settings import IngestSettings, InputSettings

BLOCK = 2**20
SHOWN = 5  # paths that a note names
AT_ONCE = 32  # questions to a server at a time: each is an answer waited for
Root = tuple[str, str]
Item = TypeVar("Item")
Answer = TypeVar("Answer")


def find_inputs(paths: list[str], settings: IngestSettings, progress: Progress | None = None) -> list[InputFile]:
    """The list of files to read, of files, folders (with all below them), globs (with ``**``) and manifests.

    A path is a local one, or one of ``s3://``, ``gs://``, ``http://`` and ``https://`` (single files). ``@path`` is a
    manifest: a text file, perhaps compressed, with such a path a line; relative ones are relative to its folder or to
    ``manifest_prefix``. Paths keep the order they were given in; below a folder or glob, files are sorted by relative
    path. A file that is reached twice is listed once. Folders and files whose names begin with a dot are passed over,
    and so is, with a note to ``progress``, what has an unknown suffix or accompanies the data (cards, licences). Local
    files are opened, and the first are read until the first usable document.

    Raises ``UsageError`` for a path that does not exist, cannot be read or holds no documents, and for a file named
    outright whose suffix is unknown.
    """
    if not paths:
        raise UsageError("no data given: name a file, a folder or a glob")
    places = [place for text in paths for place in places_of(text, settings)]
    within = locate(settings.within, settings.storage) if settings.within else None
    found = answers(lambda place: expand(place, settings.format, within), places)
    seen: set[str] = set()
    named: list[tuple[str, Entry]] = []
    for name, entry in names_of(found):
        identity = os.path.realpath(entry.place.path) if entry.place.is_local else str(entry.place)
        if identity not in seen:
            seen.add(identity)
            named.append((name, entry))
    progress = progress or Silent()
    note_skipped([entry for one in found for entry in one.skipped], progress)
    note_outside([path for one in found for path in one.outside], settings, progress)
    read = {entry for _, entry in named}
    beside = {entry: kind for one in found for entry, kind in one.beside.items() if entry not in read}
    for note in describe(list(beside.values()), [entry.path for entry in beside]):
        progress.note(note)
    inputs = [recognise_tokens(input_file(name, entry, settings), settings) for name, entry in named]
    for file in inputs:
        beside_it = companion(file)
        if within is not None and within.is_local and beside_it is not None and leads_out(beside_it, within.path):
            raise UsageError(f"{beside_it}: a link that leads out of {within}, so it is not read (ingest.within)")
    require_document(inputs, settings)
    return inputs


def digest_inputs(files: list[InputFile], progress: Progress | None = None) -> str:
    """32 hex digits of xxh3-128 over the files' relative names and contents, in order; no place enters it.

    A remote file's contents are not read for it: its size and version stand for them.
    """
    progress = progress or Silent()
    local = {file for file in files if locate(file.path).is_local}
    progress.begin("identifying the data", sum(file.size for file in local), "bytes")
    whole = xxhash.xxh3_128()
    for file in files:
        content = content_digest(file, progress) if file in local else f"{file.size} {file.version}"
        whole.update(f"{file.name}\0{content}\n".encode())
    return str(whole.hexdigest())


def content_digest(file: InputFile, progress: Progress) -> str:
    """32 hex digits of xxh3-128 over a local file's bytes."""
    content = xxhash.xxh3_128()
    try:
        with open_raw(file) as stream:
            while block := stream.read(BLOCK):
                content.update(block)
                progress.advance(len(block))
        if (beside := companion(file)) is not None:
            content.update(beside.read_bytes())
    except OSError as error:
        refuse_unreadable(locate(file.path), error)
    return str(content.hexdigest())


def answers(ask: Callable[[Item], Answer], items: list[Item]) -> list[Answer]:
    """``ask`` of every item, many at a time; in the order of the items."""
    if len(items) <= 1:
        return [ask(item) for item in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        return list(pool.map(ask, items))


def input_file(name: str, entry: Entry, settings: IngestSettings) -> InputFile:
    """The record of a file, which must open and have a name that a record can hold."""
    known = recognise(entry.path, settings.format)
    assert known, entry
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{str(entry.place)!r}: the file's name is not UTF-8; rename it") from error
    size, version = look(entry)
    return InputFile(str(entry.place), name, size, *known, version)


# -- manifests ---------------------------------------------------------------------------------------------------


def places_of(text: str, settings: IngestSettings) -> list[Location]:
    """The place that a path names, or all those that a manifest lists."""
    if not text.startswith("@"):
        return [locate(text, settings.storage)]
    manifest = locate(text[1:], settings.storage)
    prefix = locate(settings.manifest_prefix, settings.storage) if settings.manifest_prefix else None
    base = prefix or manifest.at(posixpath.dirname(manifest.plain))
    places = []
    for number, line in enumerate(manifest_lines(manifest), 1):
        if line.startswith("@"):
            raise UsageError(f"{manifest}, line {number}: a manifest lists files, not manifests: {line}")
        if "://" in line or (line.startswith("/") and prefix is None):
            places.append(locate(line, settings.storage))
        elif line:
            path = posixpath.join(base.path, line.lstrip("/"))
            places.append(base.at(posixpath.normpath(path) if base.is_local else path))
    if not places:
        raise UsageError(f"{manifest}: the manifest is empty; a path or URI a line is expected")
    return places


def manifest_lines(manifest: Location) -> list[str]:
    """A manifest's lines without outer whitespace."""
    compression = COMPRESSIONS.get(PurePosixPath(manifest.plain).suffix.lower(), "")
    file = InputFile(str(manifest), "", 0, "text", compression)
    try:
        with open_raw(file) as raw:
            data = b"".join(read_blocks(raw, compression, InputSettings(max_file_bytes=2**30)))
        return [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except OSError as error:
        refuse_unreadable(manifest, error)
    except (BrokenStreamError, UnicodeDecodeError) as error:
        raise UsageError(f"{manifest}: a manifest is text in UTF-8 with a path or URI a line: {error}") from error


# -- names -------------------------------------------------------------------------------------------------------


def names_of(found: list[Found]) -> Iterable[tuple[str, Entry]]:
    """Every file with its name, which is relative to the folder that all files of the same disk, bucket or host share.

    Where files come from several of them, the bucket stands before the names; a host or an absolute path never does.
    """
    bases: dict[Root, list[str]] = {}
    for one in found:
        bases.setdefault(root_of(one.files[0]), []).append(one.base)
    shared = {root: posixpath.commonpath(paths) for root, paths in bases.items()}
    for one in found:
        root = root_of(one.files[0])
        bucket = one.files[0].place.bucket if len(shared) > 1 else ""
        for entry in one.files:
            name = PurePosixPath(entry.path).relative_to(shared[root]).as_posix()
            yield posixpath.join(bucket, name), entry


def root_of(entry: Entry) -> Root:
    """What a file shares with all others of its disk, bucket or host."""
    place = entry.place
    return place.scheme, "" if place.is_local else place.path.partition("/")[0]


def note_outside(paths: list[str], settings: IngestSettings, progress: Progress) -> None:
    """Name what leads elsewhere, so it was not read."""
    if paths:
        more = f", and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
        out = f"lead out of {settings.within}" if settings.within else "have '..' in them"
        progress.note(f"not read, as they {out}: {', '.join(paths[:SHOWN])}{more}")


def note_skipped(skipped: list[Entry], progress: Progress) -> None:
    """Say what was passed over for its suffix."""
    if skipped:
        paths = [PurePosixPath(entry.path) for entry in skipped]
        suffixes = Counter(path.suffix or "no suffix" for path in paths)
        listing = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5))
        progress.note(f"skipped {len(skipped)} files of unknown suffix ({listing}), such as {paths[0].name}")
