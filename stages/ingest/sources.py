"""Input files of an arrival: an ordered list from the paths that a user gives, made before any computation starts."""

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TypeVar

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress, Silent
from rewarm.stages.ingest.beside import describe
from rewarm.stages.ingest.listing import Entry, Found, entry_state, expand, leads_out, refuse_unreadable
from rewarm.stages.ingest.locations import COMPRESSIONS, InputFile, Location, locate
from rewarm.stages.ingest.look import require_document
from rewarm.stages.ingest.opening import open_raw
from rewarm.stages.ingest.readers import recognise
from rewarm.stages.ingest.readers.streams import BrokenStreamError, read_blocks
from rewarm.stages.ingest.readers.tokens import companion, recognise_tokens
from rewarm.stages.ingest.settings import IngestSettings, InputSettings

SHOWN = 5  # paths listed in a note
AT_ONCE = 32  # concurrent requests to a server: each waits for a response
Root = tuple[str, str]
Item = TypeVar("Item")
Answer = TypeVar("Answer")


def find_inputs(paths: list[str], settings: IngestSettings, progress: Progress | None = None) -> list[InputFile]:
    """List the files to read from files, folders (recursively), globs (with ``**``) and manifests.

    A path is local or begins with ``s3://``, ``gs://``, ``http://`` or ``https://`` (single files). ``@path`` is a
    manifest: a text file, optionally compressed, with one path per line, relative to its folder or to
    ``manifest_prefix``. Paths keep their order; below a folder or glob, files are sorted by relative path. A file that
    is reached twice is listed once. Folders and files whose names begin with a dot are skipped, and so are, with a note
    to ``progress``, files with an unknown suffix and files that accompany the data (cards, licences). Local files are
    opened, and files are read up to the first usable document.

    Raises ``UsageError`` for a path that does not exist, cannot be read or contains no documents, and for a file that
    the user names and whose suffix is unknown.
    """
    if not paths:
        raise UsageError("no input data: expected at least one file, folder or glob")
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


def answers(ask: Callable[[Item], Answer], items: list[Item]) -> list[Answer]:
    """Call ``ask`` for many items concurrently; return the results in the order of the items."""
    if len(items) <= 1:
        return [ask(item) for item in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        return list(pool.map(ask, items))


def input_file(name: str, entry: Entry, settings: IngestSettings) -> InputFile:
    """Return the record of a file, which must be readable and have a name in UTF-8."""
    known = recognise(entry.path, settings.format)
    assert known, entry
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{str(entry.place)!r}: the file's name is not UTF-8; rename it") from error
    size, version = entry_state(entry)
    return InputFile(str(entry.place), name, size, *known, version)


# -- manifests ---------------------------------------------------------------------------------------------------


def places_of(text: str, settings: IngestSettings) -> list[Location]:
    """Return the location of a path, or all locations in a manifest."""
    if not text.startswith("@"):
        return [locate(text, settings.storage)]
    manifest = locate(text[1:], settings.storage)
    prefix = locate(settings.manifest_prefix, settings.storage) if settings.manifest_prefix else None
    base = prefix or manifest.at(posixpath.dirname(manifest.plain))
    places = []
    for number, line in enumerate(manifest_lines(manifest), 1):
        if line.startswith("@"):
            raise UsageError(f"{manifest}, line {number}: a manifest cannot list another manifest: {line}")
        if "://" in line or (line.startswith("/") and prefix is None):
            places.append(locate(line, settings.storage))
        elif line:
            path = posixpath.join(base.path, line.lstrip("/"))
            places.append(base.at(posixpath.normpath(path) if base.is_local else path))
    if not places:
        raise UsageError(f"{manifest}: the manifest is empty; expected one path or URI per line")
    return places


def manifest_lines(manifest: Location) -> list[str]:
    """Return a manifest's lines without outer whitespace."""
    compression = COMPRESSIONS.get(PurePosixPath(manifest.plain).suffix.lower(), "")
    file = InputFile(str(manifest), "", 0, "text", compression)
    try:
        with open_raw(file) as raw:
            data = b"".join(read_blocks(raw, compression, InputSettings(max_file_bytes=2**30)))
        return [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except OSError as error:
        refuse_unreadable(manifest, error)
    except (BrokenStreamError, UnicodeDecodeError) as error:
        raise UsageError(f"{manifest}: expected UTF-8 text with one path or URI per line: {error}") from error


# -- names -------------------------------------------------------------------------------------------------------


def names_of(found: list[Found]) -> Iterable[tuple[str, Entry]]:
    """Yield every file with its name, relative to the common folder of all files on the same disk, bucket or host.

    If files come from several of these, the bucket is prepended to the names; a host or an absolute path never is.
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
    """Return the identity of a file's disk, bucket or host."""
    place = entry.place
    return place.scheme, "" if place.is_local else place.path.partition("/")[0]


def note_outside(paths: list[str], settings: IngestSettings, progress: Progress) -> None:
    """Report paths that lead out of the permitted folder and were not read."""
    if paths:
        more = f", and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
        out = f"lead out of {settings.within}" if settings.within else "contain '..'"
        progress.note(f"not read, because they {out}: {', '.join(paths[:SHOWN])}{more}")


def note_skipped(skipped: list[Entry], progress: Progress) -> None:
    """Report the files that were skipped because of their suffix."""
    if skipped:
        paths = [PurePosixPath(entry.path) for entry in skipped]
        suffixes = Counter(path.suffix or "no suffix" for path in paths)
        listing = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5))
        progress.note(f"skipped {len(skipped)} files of unknown suffix ({listing}), such as {paths[0].name}")
