"""Listing of the files for one input path: a file, all files of a folder, or the matches of a pattern.

Paths that lead out of a folder (links on a disk, ``..`` in manifests and in object keys) can be refused: a folder that
others write to must not give access to the rest of this machine, as a link to a home folder would. Hard links cannot be
distinguished from files, but creating one requires read access to the file.
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

from rewarm.stages.core.errors import UnreachableError, UsageError
from rewarm.stages.core.faults import may_pass
from rewarm.stages.core.patience import CONTACT_S, limited
from rewarm.stages.ingest.beside import ADVICE, POINTER, beside_data, is_pointer
from rewarm.stages.ingest.locations import Location
from rewarm.stages.ingest.opening import state_of
from rewarm.stages.ingest.readers import recognise, supported
from rewarm.stages.ingest.readers.streams import ARC

OLD_ARCHIVE = re.compile(r"\.arc(?:\.gz)?$", re.IGNORECASE)


def leads_out(path: str | Path, root: str | Path) -> bool:
    """Return whether a path, with all links followed, is outside ``root``."""
    real, home = os.path.realpath(path), os.path.realpath(root)
    return os.path.commonpath([real, home]) != home


def place_leads_out(place: Location, root: Location) -> bool:
    """Return whether any location is outside ``root``; another disk, bucket or host always is."""
    if place.scheme != root.scheme:
        return True
    if place.is_local:
        return leads_out(place.path, root.path)
    return ".." in place.path.split("/") or not PurePosixPath(place.path).is_relative_to(root.path)


def is_odd(key: str) -> bool:
    """Return whether an object key has ``.`` or ``..`` among its parts, so that as a path it would lead elsewhere."""
    return any(part in (".", "..") for part in key.split("/"))


State = tuple[int, str]  # bytes, version


@dataclass(frozen=True)
class Entry:
    """One file of a listing."""

    place: Location
    state: State | None = None  # None on a disk, where files are opened to find out

    @property
    def path(self) -> str:
        """The path that the file's name is derived from; for a URL, without query and escapes."""
        return unquote(self.place.plain) if self.place.is_web else self.place.path


@dataclass(frozen=True)
class Found:
    """Listing of a path: the folder that names are relative to, the files in order, and the skipped files."""

    base: str
    files: list[Entry]
    skipped: list[Entry]  # of unknown suffix
    beside: dict[Entry, str] = field(default_factory=dict)  # files that accompany the data, with their kind
    outside: list[str] = field(default_factory=list)  # links, and keys with "..", that were not followed


def expand(place: Location, kind: str, within: Location | None = None) -> Found:
    """Return the files of format ``kind`` at a location. Raises ``UsageError`` if it does not exist or is unreadable.

    Below a folder or a pattern, files are sorted by relative path; names that begin with a dot are skipped. Links that
    lead out of ``within`` are not followed.
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
    """Return the listing of a file that the user named; its suffix must be known."""
    if recognise(entry.path, kind) is None:
        if OLD_ARCHIVE.search(entry.path):
            raise UsageError(f"{entry.place}: {ARC}")
        raise UsageError(f"{entry.place}: unknown suffix; rewarm reads {supported()}; to override, set ingest.format")
    if entry.place.is_local and is_pointer(entry.place.path):
        raise UsageError(f"{entry.place}: a {POINTER}: {ADVICE}")
    return Found(str(PurePosixPath(entry.path).parent), [entry], [])


def sift(base: str, entries: Iterable[Entry], kind: str, nothing: str) -> Found:
    """Sort files by relative path; separate files of unknown suffix and files that accompany the data."""
    ordered = sorted(entries, key=lambda entry: PurePosixPath(entry.path).relative_to(base).parts)
    known = [entry for entry in ordered if recognise(entry.path, kind) is not None]
    if not known:
        old = next((f"; {entry.place.path}: {ARC}" for entry in ordered if OLD_ARCHIVE.search(entry.path)), "")
        raise UsageError(f"{nothing}: {supported()}{old}")
    beside = dict.fromkeys((entry for entry in known if entry.place.is_local and is_pointer(entry.place.path)), POINTER)
    rest = [entry for entry in known if entry not in beside]
    if not rest:
        raise UsageError(f"{known[0].place}: a {POINTER}, as are all {len(known)} files here: {ADVICE}")
    kinds = beside_data([entry.path for entry in rest])
    beside |= {entry: kind for entry, kind in zip(rest, kinds, strict=True) if kind is not None}
    skipped = [entry for entry in ordered if recognise(entry.path, kind) is None]
    return Found(base, [entry for entry in rest if entry not in beside], skipped, beside)


def refuse_unreadable(place: Location, error: OSError) -> NoReturn:
    """Refuse an unreadable file or folder with the reason: ``UnreachableError`` if a later attempt may succeed."""
    if isinstance(error, FileNotFoundError) and not place.is_local:
        raise UsageError(f"{place}: no such file or folder") from error
    advice = "check its permissions" if place.is_local else "check the address, the network and the credentials"
    if place.bucket:
        advice += "; for a public bucket, set ingest.storage.anonymous=true"
    message = f"{error.filename or place}: cannot be read ({error.strerror or error}); {advice}"
    if place.is_local or not may_pass(error):
        raise UsageError(message) from error
    raise UnreachableError(message, str(place)) from error


# -- disks -------------------------------------------------------------------------------------------------------


def expand_disk(place: Location, kind: str, within: Location | None) -> Found:
    """Return the files of a path on a disk."""
    path, outside = Path(place.path), list[str]()
    root = within.path if within else None
    if path.is_dir():
        below = walk(path, root, outside)
        found = sift(str(path), map(on_disk, below), kind, f"{place}: the folder contains no file that rewarm reads")
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
    found = sift(fixed_part(place.path), map(on_disk, files), kind, f"{place}: matches no file that rewarm reads")
    return replace(found, outside=outside)


def on_disk(path: Path) -> Entry:
    """Return the entry of a file on a disk."""
    return Entry(Location("", str(path)))


def entry_state(entry: Entry) -> State:
    """Return a file's state. Raises ``UsageError`` if a local file cannot be opened."""
    if entry.state is not None:
        return entry.state
    path = Path(entry.place.path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would block
            refuse_special(entry.place)
        with path.open("rb") as stream:
            found = os.fstat(stream.fileno())
    except OSError as error:
        refuse_unreadable(entry.place, error)
    return found.st_size, str(found.st_mtime_ns)


def refuse_special(place: Location) -> NoReturn:
    """Refuse a pipe, socket or device."""
    raise UsageError(f"{place}: neither a file nor a folder")


def walk(folder: Path, within: str | None = None, outside: list[str] | None = None) -> list[Path]:
    """Return all files below a folder except hidden ones; links are followed, but each folder is entered only once.

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
    """Return the folder above the first part with a wildcard; the whole path if it has no wildcard."""
    parts = PurePosixPath(pattern).parts
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(PurePosixPath(*parts[:fixed]))


# -- object stores -----------------------------------------------------------------------------------------------


def expand_store(place: Location, kind: str) -> Found:
    """Return the files of a key, a prefix or a pattern."""
    filesystem = place.filesystem()
    if glob.has_magic(place.path):
        base = fixed_part(place.path)
        parts = list(PurePosixPath(place.path).relative_to(base).parts)
        # Arrow lists only those folders of a Google bucket that have a marker object (apache/arrow#35993).
        by_level = place.scheme != "gs"
        below = matching(filesystem, base, parts) if by_level else matching_all(filesystem, base, parts)
        if not below:
            raise UsageError(f"{place}: nothing matches this pattern")
        return sift(base, entries_of(place, base, below), kind, f"{place}: matches no file that rewarm reads")
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
        f"{place}: the folder contains no file that rewarm reads",
    )
    odd = [one.path for one in below if one.type == pafs.FileType.File and is_odd(one.path.removeprefix(place.path))]
    return replace(found, outside=odd)


def children(filesystem: pafs.FileSystem, folder: str, recursive: bool) -> list[pafs.FileInfo]:
    """Return the contents of a folder; empty if the store has no such folder."""
    found: list[pafs.FileInfo] = filesystem.get_file_info(
        pafs.FileSelector(folder, recursive=recursive, allow_not_found=True)
    )
    return found


def matching(filesystem: pafs.FileSystem, folder: str, parts: list[str]) -> list[pafs.FileInfo]:
    """Return the matches of a pattern below a folder, and all files below matching folders.

    One level is listed at a time, so that ``crawl/2024-*/x`` does not list the whole bucket.
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
    """Return the result of ``matching`` from a listing of everything below the folder."""
    from fsspec.utils import glob_translate  # type: ignore[import-untyped]

    pattern = "/".join(one if one == "**" else re.sub(r"\*+", "*", one) for one in parts)
    matches = re.compile(glob_translate(pattern)).match
    return [
        info
        for info in children(filesystem, folder, recursive=True)
        if any(map(matches, ancestry(PurePosixPath(info.path).relative_to(folder))))
    ]


def ancestry(path: PurePosixPath) -> list[str]:
    """Return a relative path and its parent folders."""
    return [str(path), *(str(parent) for parent in path.parents[:-1])]


def entries_of(place: Location, base: str, infos: Iterable[pafs.FileInfo]) -> Iterator[Entry]:
    """Yield the files of a listing, each once, without hidden ones."""
    for path, info in sorted({info.path: info for info in infos if info.type == pafs.FileType.File}.items()):
        below = path.removeprefix(base)
        if not is_odd(below) and not any(part.startswith(".") for part in PurePosixPath(below).parts):
            yield Entry(place.at(path), (info.size, str(info.mtime_ns)))
