"""What one path of the user's stands for: a file, all files of a folder, or those that a pattern matches.

Paths that lead out of a folder: links on a disk, ``..`` in manifests and in the keys of a store.

A folder that others put data into must not decide what else of this machine is read: a link to a home folder would have
it trained on. Hard links cannot be told from files; who can make one can read the file.
"""

import fnmatch
import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import unquote

import pyarrow.fs as pafs
from fsspec.utils import glob_translate  # type: ignore[import-untyped]

from rewarm.stages.core.errors import UnreachableError, UsageError
from rewarm.stages.core.faults import may_pass
from rewarm.stages.core.patience import CONTACT_S, limited
from rewarm.stages.ingest.beside import ADVICE, POINTER, beside_data, is_pointer
from rewarm.stages.ingest.locations import SUPPORTED, Location, recognise
from rewarm.stages.ingest.opening import state_of


def leads_out(path: str | Path, root: str | Path) -> bool:
    """Whether what a path stands for, all links followed, is not in ``root``."""
    real, home = os.path.realpath(path), os.path.realpath(root)
    return os.path.commonpath([real, home]) != home


def place_leads_out(place: Location, root: Location) -> bool:
    """The same of any place; another disk, bucket or host is never in ``root``."""
    if place.scheme != root.scheme:
        return True
    if place.is_local:
        return leads_out(place.path, root.path)
    return ".." in place.path.split("/") or not PurePosixPath(place.path).is_relative_to(root.path)


def is_odd(key: str) -> bool:
    """Whether a store's key would lead elsewhere if it were a path: it has ``.`` or ``..`` among its parts."""
    return any(part in (".", "..") for part in key.split("/"))


State = tuple[int, str]  # bytes, version


@dataclass(frozen=True)
class Entry:
    """One file that was found."""

    place: Location
    state: State | None = None  # None on a disk, whose files are opened to see

    @property
    def path(self) -> str:
        """The path that its name is made of: a web address without its query and its escapes."""
        return unquote(self.place.plain) if self.place.is_web else self.place.path


@dataclass(frozen=True)
class Found:
    """What a path led to: the folder names are relative to, files in order, and files passed over."""

    base: str
    files: list[Entry]
    skipped: list[Entry]  # of unknown suffix
    beside: dict[Entry, str] = field(default_factory=dict)  # by the kind of what accompanies the data
    outside: list[str] = field(default_factory=list)  # links, and keys with "..", that were not followed


def expand(place: Location, kind: str, within: Location | None = None) -> Found:
    """The files of format ``kind`` that a place stands for. Raises ``UsageError`` where it cannot be read or is none.

    Below a folder or a pattern, files are in the order of their relative paths; what begins with a dot is left out.
    Links that lead out of ``within`` are not followed.
    """
    if within is not None and place_leads_out(Location(place.scheme, fixed_part(place.path), place.options), within):
        raise UsageError(f"{place}: leads out of {within}, so it is not read (ingest.within)")
    try:
        with limited(CONTACT_S):
            if place.is_web:
                return alone(Entry(place, state_of(place)), kind)
            return expand_store(place, kind) if place.scheme else expand_disk(place, kind, within)
    except OSError as error:
        refuse_unreadable(place, error)


def alone(entry: Entry, kind: str) -> Found:
    """A file named outright, whose suffix must be known."""
    if recognise(entry.path, kind) is None:
        raise UsageError(f"{entry.place}: unknown suffix; rewarm reads {SUPPORTED}; or set ingest.format")
    if entry.place.is_local and is_pointer(entry.place.path):
        raise UsageError(f"{entry.place}: a {POINTER}: {ADVICE}")
    return Found(str(PurePosixPath(entry.path).parent), [entry], [])


def sift(base: str, entries: Iterable[Entry], kind: str, nothing: str) -> Found:
    """Files in the order of their relative paths, apart from those with unknown suffixes and those beside the data."""
    ordered = sorted(entries, key=lambda entry: PurePosixPath(entry.path).relative_to(base).parts)
    known = [entry for entry in ordered if recognise(entry.path, kind) is not None]
    if not known:
        raise UsageError(f"{nothing}: {SUPPORTED}")
    beside = dict.fromkeys((entry for entry in known if entry.place.is_local and is_pointer(entry.place.path)), POINTER)
    rest = [entry for entry in known if entry not in beside]
    if not rest:
        raise UsageError(f"{known[0].place}: a {POINTER}, as are all {len(known)} files here: {ADVICE}")
    kinds = beside_data([entry.path for entry in rest])
    beside |= {entry: kind for entry, kind in zip(rest, kinds, strict=True) if kind is not None}
    skipped = [entry for entry in ordered if recognise(entry.path, kind) is None]
    return Found(base, [entry for entry in rest if entry not in beside], skipped, beside)


def refuse_unreadable(place: Location, error: OSError) -> NoReturn:
    """Say which file or folder cannot be read, and why: ``UnreachableError`` for what a later try may get."""
    if isinstance(error, FileNotFoundError) and not place.is_local:
        raise UsageError(f"{place}: no such file or folder") from error
    advice = "check its permissions" if place.is_local else "check the address, the network and the credentials"
    if place.bucket:
        advice += "; a public bucket needs ingest.storage.anonymous=true"
    message = f"{error.filename or place}: cannot be read ({error.strerror or error}); {advice}"
    if place.is_local or not may_pass(error):
        raise UsageError(message) from error
    raise UnreachableError(message, str(place)) from error


# -- disks -------------------------------------------------------------------------------------------------------


def expand_disk(place: Location, kind: str, within: Location | None) -> Found:
    """The files of a path on a disk."""
    path, outside = Path(place.path), list[str]()
    root = within.path if within else None
    if path.is_dir():
        below = walk(path, root, outside)
        found = sift(str(path), map(on_disk, below), kind, f"{place}: the folder holds no file rewarm reads")
        return replace(found, outside=outside)
    if path.exists():
        if root is not None and leads_out(path, root):  # a name may look like a pattern
            raise UsageError(f"{place}: a link that leads out of {root}, so it is not read (ingest.within)")
        return alone(Entry(place), kind) if path.is_file() else refuse_special(place)
    if not glob.has_magic(place.path):
        raise UsageError(f"{place}: no such file or folder")
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - skips hidden names
    if not matches:
        raise UsageError(f"{place}: nothing matches this pattern")
    if root is not None:
        outside += [str(match) for match in matches if leads_out(match, root)]
        matches = [match for match in matches if not leads_out(match, root)]
    files = {file for match in matches for file in (walk(match, root, outside) if match.is_dir() else [match])}
    found = sift(fixed_part(place.path), map(on_disk, files), kind, f"{place}: matches no file rewarm reads")
    return replace(found, outside=outside)


def on_disk(path: Path) -> Entry:
    """A file of a disk."""
    return Entry(Location("", str(path)))


def look(entry: Entry) -> State:
    """A file's state; on a disk it must open. Raises ``UsageError``."""
    if entry.state is not None:
        return entry.state
    path = Path(entry.place.path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            refuse_special(entry.place)
        with path.open("rb") as stream:
            found = os.fstat(stream.fileno())
    except OSError as error:
        refuse_unreadable(entry.place, error)
    return found.st_size, str(found.st_mtime_ns)


def refuse_special(place: Location) -> NoReturn:
    """Say that a pipe, socket or device is no input."""
    raise UsageError(f"{place}: neither a file nor a folder")


def walk(folder: Path, within: str | None = None, outside: list[str] | None = None) -> list[Path]:
    """All files below a folder without hidden ones; links are followed, but no folder is entered twice.

    Links that lead out of ``within`` are not followed; they are added to ``outside``.
    """
    entered: set[str] = set()
    files = []

    def inside(path: Path) -> bool:
        if within is None or not leads_out(path, within):
            return True
        if outside is not None:
            outside.append(str(path))
        return False

    def refuse(error: OSError) -> NoReturn:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        identity = os.path.realpath(parent)
        shown = [] if identity in entered else sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in shown if inside(Path(parent, name))]
        if identity not in entered:
            paths = [Path(parent, name) for name in names if not name.startswith(".")]
            files += [path for path in paths if inside(path)]
        entered.add(identity)
    return files


def fixed_part(pattern: str) -> str:
    """The folder above the first part of a path that is a pattern; all of a path that is none."""
    parts = PurePosixPath(pattern).parts
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(PurePosixPath(*parts[:fixed]))


# -- object stores -----------------------------------------------------------------------------------------------


def expand_store(place: Location, kind: str) -> Found:
    """The files of a key, a prefix or a pattern."""
    filesystem = place.filesystem()
    if glob.has_magic(place.path):
        base = fixed_part(place.path)
        parts = list(PurePosixPath(place.path).relative_to(base).parts)
        # Arrow lists no folders of a Google bucket but those that have a marker of their own (apache/arrow#35993).
        by_level = place.scheme != "gs"
        below = matching(filesystem, base, parts) if by_level else matching_all(filesystem, base, parts)
        if not below:
            raise UsageError(f"{place}: nothing matches this pattern")
        return sift(base, entries_of(place, base, below), kind, f"{place}: matches no file rewarm reads")
    info = filesystem.get_file_info(place.path)
    if info.type == pafs.FileType.File:
        return alone(Entry(place, (info.size, str(info.mtime_ns))), kind)
    if info.type != pafs.FileType.Directory:
        raise UsageError(f"{place}: no such file or folder")
    below = children(filesystem, place.path, recursive=True)
    found = sift(
        place.path,
        entries_of(place, place.path, below),
        kind,
        f"{place}: the folder holds no file rewarm reads",
    )
    odd = [one.path for one in below if one.type == pafs.FileType.File and is_odd(one.path.removeprefix(place.path))]
    return replace(found, outside=odd)


def children(filesystem: pafs.FileSystem, folder: str, recursive: bool) -> list[pafs.FileInfo]:
    """What is in a folder; a store without such a folder has nothing in it."""
    found: list[pafs.FileInfo] = filesystem.get_file_info(
        pafs.FileSelector(folder, recursive=recursive, allow_not_found=True)
    )
    return found


def matching(filesystem: pafs.FileSystem, folder: str, parts: list[str]) -> list[pafs.FileInfo]:
    """What a pattern matches below a folder, and all files below the folders it matches.

    A level is listed at a time, so that ``crawl/2024-*/x`` does not list the whole bucket.
    """
    part, rest = parts[0], parts[1:]
    if part == "**":
        return matching_all(filesystem, folder, parts)
    found = []
    named = not glob.has_magic(part)
    for info in [filesystem.get_file_info(f"{folder}/{part}")] if named else children(filesystem, folder, False):
        if not named and not fnmatch.fnmatchcase(info.base_name, part):
            continue
        if info.type == pafs.FileType.Directory:
            path = info.path.rstrip("/")
            found += matching(filesystem, path, rest) if rest else children(filesystem, path, recursive=True)
        elif not rest and info.type == pafs.FileType.File:
            found.append(info)
    return found


def matching_all(filesystem: pafs.FileSystem, folder: str, parts: list[str]) -> list[pafs.FileInfo]:
    """What ``matching`` gives, from a list of everything below the folder."""
    pattern = "/".join(one if one == "**" else re.sub(r"\*+", "*", one) for one in parts)
    matches = re.compile(glob_translate(pattern)).match
    return [
        info
        for info in children(filesystem, folder, recursive=True)
        if any(map(matches, ancestry(PurePosixPath(info.path).relative_to(folder))))
    ]


def ancestry(path: PurePosixPath) -> list[str]:
    """A relative path and the folders it lies in."""
    return [str(path), *(str(parent) for parent in path.parents[:-1])]


def entries_of(place: Location, base: str, infos: Iterable[pafs.FileInfo]) -> Iterator[Entry]:
    """The files among what a listing gave, each once, without hidden ones."""
    for path, info in sorted({info.path: info for info in infos if info.type == pafs.FileType.File}.items()):
        below = path.removeprefix(base)
        if not is_odd(below) and not any(part.startswith(".") for part in PurePosixPath(below).parts):
            yield Entry(place.at(path), (info.size, str(info.mtime_ns)))
