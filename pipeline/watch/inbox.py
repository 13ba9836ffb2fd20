"""Listing of an inbox: each file and each direct subfolder is one arrival.

Names that begin with ``.`` or ``_`` are not arrivals (Hadoop's convention for files being written), and files in
formats that rewarm does not read are skipped.
"""

import glob
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pyarrow.fs as pafs
import xxhash

from rewarm.pipeline.lineage.workspace import NAME_PATTERN
from rewarm.stages.core.errors import UsageError
from rewarm.stages.ingest import IngestSettings
from rewarm.stages.ingest.listing import children, is_odd, leads_out, walk
from rewarm.stages.ingest.locations import COMPRESSIONS, Location, locate
from rewarm.stages.ingest.readers import SUFFIXES, recognise

NAME_CHARS, HASH_CHARS = 64, 8
HIDDEN = (".", "_")
Item = tuple[str, int, str]  # path relative to the inbox, bytes, version


@dataclass(frozen=True)
class Found:
    """One arrival in a listing of the inbox."""

    path: str  # as passed to ``--data NAME=``
    name: str  # name of the dataset
    fingerprint: str  # digest of the listing (names, sizes, times of change), without the marker
    files: int
    bytes: int
    marker: str = ""  # version of the marker, empty if there is none


@dataclass(frozen=True)
class Listing:
    """Contents of an inbox: its arrivals in order of name, and the files that are not arrivals."""

    arrivals: list[Found]
    passed_over: list[str]
    outside: list[str] = field(default_factory=list)  # links and odd keys that lead out of the inbox, not followed


def dataset_name(entry: str, is_file: bool) -> str:
    """Derive a dataset's name from a file's or folder's: format suffixes removed, other characters replaced by ``-``.

    The result depends on the name alone, but two names can give the same result. Names without any letter or digit,
    or that are too long, get digits of their hash.
    """
    stem = PurePosixPath(entry)
    if is_file and stem.suffix.lower() in COMPRESSIONS:
        stem = stem.with_suffix("")
    if is_file and stem.suffix.lower() in SUFFIXES:
        stem = stem.with_suffix("")
    plain = unicodedata.normalize("NFKD", stem.name).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("._-")
    digest = xxhash.xxh3_64_hexdigest(entry.encode(errors="surrogatepass"))[:HASH_CHARS]
    if not name:
        name = f"arrival-{digest}"
    if len(name) > NAME_CHARS:
        name = f"{name[: NAME_CHARS - HASH_CHARS - 1]}-{digest}"
    assert NAME_PATTERN.fullmatch(name), name
    return name


def place_of(inbox: str, settings: IngestSettings) -> Location:
    """Locate an inbox; raise ``UsageError`` if it cannot be listed or the folder does not exist."""
    place = locate(inbox, settings.storage)
    if place.is_web:
        raise UsageError(f"{inbox}: a web server cannot list files; expected a folder, s3:// or gs://")
    if place.is_local and not Path(place.path).is_dir():
        raise UsageError(f"{inbox}: the folder does not exist; create it, and put arrivals into it")
    return place


def look(location: Location, kind: str, marker: str) -> Listing:
    """List an inbox; ``kind`` is ``ingest.format``. Raises ``OSError`` if it cannot be listed."""
    outside: list[str] = []
    items = list(on_disk(location, outside) if location.is_local else in_store(location, outside))
    unfit = {name for path, _, _ in items if not is_text(name := path.partition("/")[0])}
    single = {path: (size, version) for path, size, version in items if "/" not in path}
    folders: dict[str, list[Item]] = {}
    for path, size, version in items:
        head, separator, rest = path.partition("/")
        if separator and head not in unfit and not head.startswith(HIDDEN):
            folders.setdefault(head, []).append((rest, size, version))
    arrivals = [of_folder(location, name, below, marker) for name, below in folders.items()]
    passed_over = [ascii(name) for name in unfit]
    for name, (size, version) in single.items():
        if name in unfit or name.startswith(HIDDEN) or name.endswith(f".{marker}"):
            continue
        if recognise(f"{location.path}/{name}", kind) is None:
            passed_over.append(name)
        else:
            mark = single.get(f"{name}.{marker}", (0, ""))[1]
            arrivals.append(described(location, name, True, [(name, size, version)], mark))
    return Listing(sorted(arrivals, key=lambda one: one.path), sorted(passed_over), sorted(outside))


def is_text(name: str) -> bool:
    """Return whether a file's name is UTF-8, so that a record can contain it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def of_folder(location: Location, name: str, below: list[Item], marker: str) -> Found:
    """Return the arrival of a folder, with all files below it."""
    mark = next((version for path, _, version in below if path == marker), "")
    return described(location, name, False, [item for item in below if item[0] != marker], mark)


def described(location: Location, name: str, is_file: bool, items: list[Item], mark: str) -> Found:
    """Return an arrival from the list of its files."""
    whole = xxhash.xxh3_128()
    for path, size, version in sorted(items):
        whole.update(f"{path}\0{size}\0{version}\n".encode(errors="surrogatepass"))
    path = f"{location.path}/{name}"
    if not location.is_local and glob.has_magic(
        path
    ):  # a bucket's path with these characters would be read as a pattern
        path = glob.escape(path)
    return Found(
        str(location.at(path)),
        dataset_name(name, is_file),
        str(whole.hexdigest()),
        len(items),
        sum(size for _, size, _ in items),
        mark,
    )


def on_disk(location: Location, outside: list[str]) -> Iterable[Item]:
    """Yield all files of a local folder; links that lead out of it are added to ``outside`` and not followed.

    A file that disappears during the listing counts as changed, and so does a folder that cannot be read: the update
    will report the problem, and other arrivals are not delayed.
    """
    root = Path(location.path)
    for entry in sorted(root.iterdir()):
        if entry.name.startswith("."):
            continue
        if leads_out(entry, root):
            outside.append(str(entry))
            continue
        try:
            below = walk(entry, str(root), outside) if entry.is_dir() else [entry]
        except OSError as error:
            yield f"{entry.name}/", 0, f"{error.strerror}"
            continue
        for path in below:
            try:
                found = path.stat()
            except OSError as error:
                yield path.relative_to(root).as_posix(), 0, f"{error.strerror}"
            else:
                yield path.relative_to(root).as_posix(), found.st_size, str(found.st_mtime_ns)


def in_store(location: Location, outside: list[str]) -> Iterable[Item]:
    """Yield all objects below a prefix, in one listing because Google buckets list no folders (apache/arrow#35993)."""
    for info in children(location.filesystem(), location.path, recursive=True):
        if info.type == pafs.FileType.File and is_odd(info.path.removeprefix(location.path)):
            outside.append(info.path)
            continue
        path = PurePosixPath(info.path).relative_to(location.path)
        if info.type == pafs.FileType.File and not any(part.startswith(".") for part in path.parts):
            yield str(path), info.size, str(info.mtime_ns)
