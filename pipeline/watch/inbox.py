"""What lies in an inbox: each file and each direct subfolder is one arrival.

Names that begin with ``.`` or ``_`` are none (Hadoop's convention for what is being written), and files that rewarm
does not read are passed over.
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
from rewarm.stages.ingest.locations import COMPRESSIONS, FORMATS, Location, locate, recognise

NAME_CHARS, HASH_CHARS = 64, 8
HIDDEN = (".", "_")
Item = tuple[str, int, str]  # path relative to the inbox, bytes, version


@dataclass(frozen=True)
class Found:
    """One arrival, as a look found it."""

    path: str  # what ``--data NAME=`` is given
    name: str  # of the dataset
    fingerprint: str  # of the listing: names, sizes, times of change; the marker is no part of it
    files: int
    bytes: int
    marker: str = ""  # the marker's version, empty where there is none


@dataclass(frozen=True)
class Listing:
    """All of an inbox: its arrivals in the order of their names, and the files that are none."""

    arrivals: list[Found]
    passed_over: list[str]
    outside: list[str] = field(default_factory=list)  # links, and odd keys, that lead out of the inbox: not followed


def dataset_name(entry: str, is_file: bool) -> str:
    """A dataset's name from a file's or folder's: without the suffixes of formats, other characters as ``-``.

    The same name always gives the same; two names may give one. A name without any letter or digit, or one that is too
    long, takes digits of its hash.
    """
    stem = PurePosixPath(entry)
    if is_file and stem.suffix.lower() in COMPRESSIONS:
        stem = stem.with_suffix("")
    if is_file and stem.suffix.lower() in FORMATS:
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
    """Where an inbox is; ``UsageError`` for what cannot be listed, or a folder that is not there."""
    place = locate(inbox, settings.storage)
    if place.is_web:
        raise UsageError(f"{inbox}: a web server lists no files; an inbox is a folder, s3:// or gs://")
    if place.is_local and not Path(place.path).is_dir():
        raise UsageError(f"{inbox}: there is no such folder; make it, arrivals are put into it")
    return place


def look(place: Location, kind: str, marker: str) -> Listing:
    """List an inbox; ``kind`` is ``ingest.format``. Raises ``OSError`` where it cannot be listed."""
    outside: list[str] = []
    items = list(on_disk(place, outside) if place.is_local else in_store(place, outside))
    unfit = {name for path, _, _ in items if not is_text(name := path.partition("/")[0])}
    single = {path: (size, version) for path, size, version in items if "/" not in path}
    folders: dict[str, list[Item]] = {}
    for path, size, version in items:
        head, separator, rest = path.partition("/")
        if separator and head not in unfit and not head.startswith(HIDDEN):
            folders.setdefault(head, []).append((rest, size, version))
    arrivals = [of_folder(place, name, below, marker) for name, below in folders.items()]
    passed_over = [ascii(name) for name in unfit]
    for name, (size, version) in single.items():
        if name in unfit or name.startswith(HIDDEN) or name.endswith(f".{marker}"):
            continue
        if recognise(f"{place.path}/{name}", kind) is None:
            passed_over.append(name)
        else:
            mark = single.get(f"{name}.{marker}", (0, ""))[1]
            arrivals.append(described(place, name, True, [(name, size, version)], mark))
    return Listing(sorted(arrivals, key=lambda one: one.path), sorted(passed_over), sorted(outside))


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8, which a record can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def of_folder(place: Location, name: str, below: list[Item], marker: str) -> Found:
    """A folder with all that lies below it."""
    mark = next((version for path, _, version in below if path == marker), "")
    return described(place, name, False, [item for item in below if item[0] != marker], mark)


def described(place: Location, name: str, is_file: bool, items: list[Item], mark: str) -> Found:
    """An arrival from the list of its files."""
    whole = xxhash.xxh3_128()
    for path, size, version in sorted(items):
        whole.update(f"{path}\0{size}\0{version}\n".encode(errors="surrogatepass"))
    path = f"{place.path}/{name}"
    if not place.is_local and glob.has_magic(path):  # in a bucket such a path is read as a pattern
        path = glob.escape(path)
    return Found(
        str(place.at(path)),
        dataset_name(name, is_file),
        str(whole.hexdigest()),
        len(items),
        sum(size for _, size, _ in items),
        mark,
    )


def on_disk(place: Location, outside: list[str]) -> Iterable[Item]:
    """All files of a folder on a disk; links that lead out of it are added to ``outside`` and not followed.

    One that goes away while it is looked at counts as changed, and so does a folder that cannot be entered: the update
    will say what is wrong with it, and the other arrivals do not wait for that.
    """
    root = Path(place.path)
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


def in_store(place: Location, outside: list[str]) -> Iterable[Item]:
    """All objects below a prefix; in one listing, as a Google bucket shows no folders (apache/arrow#35993)."""
    for info in children(place.filesystem(), place.path, recursive=True):
        if info.type == pafs.FileType.File and is_odd(info.path.removeprefix(place.path)):
            outside.append(info.path)
            continue
        path = PurePosixPath(info.path).relative_to(place.path)
        if info.type == pafs.FileType.File and not any(part.startswith(".") for part in path.parts):
            yield str(path), info.size, str(info.mtime_ns)
