"""Digests: of the files of a folder, of what decides a step's result; and the time stamps of records."""

import errno
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import orjson
import xxhash

from rewarm.stages.core.errors import DamagedError, UnreachableError
from rewarm.stages.core.local_files import remove, set_aside
from rewarm.stages.core.patience import patiently
from rewarm.stages.core.storage import Folder

FILES: Final = "files.json"
ALGORITHM = "xxh3_128"
RESTORE = "restore the file from a copy of the workspace"
BLOCK = 1 << 20  # bytes hashed at a time: they stay in the processor's cache (5.7 GB/s; 16 MiB: 0.8 GB/s)
SHOWN = 10  # damaged files listed in a message
THREADS = 8  # files hashed at the same time: hashing and reading release the interpreter's lock
T = TypeVar("T")


@dataclass(frozen=True)
class FileDigest:
    """Size and digest of a file when it was written."""

    bytes: int
    digest: str  # 32 hex digits of xxh3-128
    counts: Mapping[str, int] = field(default_factory=dict)  # its writer's counts: tokens, documents

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON types."""
        return {"bytes": self.bytes, "digest": self.digest, **({"counts": dict(self.counts)} if self.counts else {})}


Table = dict[
    str, FileDigest
]  # by path relative to the folder, possibly outside of it (``../../dedup/news/near.arrow``)


@dataclass(frozen=True)
class Damage:
    """File that has changed since it was written."""

    file: str  # as in the table
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, found {self.found}"


def hash_stream(stream: IO[bytes]) -> FileDigest:
    """Return size and digest of the rest of a binary stream."""
    state, size = xxhash.xxh3_128(), 0
    while block := stream.read(BLOCK):
        state.update(block)
        size += len(block)
    return FileDigest(size, str(state.hexdigest()))


def digest_file(folder: Folder, name: str) -> FileDigest:
    """Return size and digest of a file, read once and not cached.

    Raises ``OSError`` if it cannot be read, ``UnreachableError`` if its disk or store did not respond.
    """
    place = folder.at(name)  # the path may contain ".."
    if place.is_local:
        return patiently(partial(hash_file, place.path), str(place))
    filesystem, path = place.filesystem()
    with filesystem.open_input_stream(path) as remote:
        return hash_stream(remote)


def hash_file(path: Path) -> FileDigest:
    """Return size and digest of a local file."""
    with path.open("rb", buffering=0) as stream:
        return hash_stream(stream)


def digest_files(folder: Folder, names: Iterable[str]) -> Table:
    """Return the table of some files of a folder, read concurrently."""
    listed = sorted(names)
    return dict(zip(listed, concurrently(lambda name: digest_file(folder, name), listed), strict=True))


def concurrently(work: Callable[[str], T], names: Iterable[str]) -> list[T]:
    """Return ``work(name)`` of every name, in order; this thread's limit on waits applies to all."""
    with ThreadPoolExecutor(THREADS) as pool:
        return [done.result() for done in [pool.submit(copy_context().run, work, name) for name in names]]


def files_in(folder: Folder, without: Collection[str] = ()) -> list[str]:
    """Return the sorted paths of all files in a folder and below, except the direct children named in ``without``."""
    found = [name for name in folder.files() if name not in without]
    for name in folder.folders():
        if name not in without:
            found += [f"{name}/{inner}" for inner in files_in(folder / name)]
    return sorted(found)


def write_table(folder: Folder, table: Mapping[str, FileDigest]) -> str:
    """Write ``files.json`` and return the digest of its bytes, which authenticates all files in it."""
    value = {"algorithm": ALGORITHM, "files": {name: table[name].to_json() for name in sorted(table)}}
    data = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    folder.write(FILES, data)
    return str(xxhash.xxh3_128_hexdigest(data))


def read_table(folder: Folder, expected: str) -> Table:
    """Return the table with the digest ``expected``, from the record; raises ``DamagedError`` if it is another one."""
    try:
        data = folder.read(FILES)
    except OSError as error:
        raise DamagedError(f"{folder}/{FILES}: expected digest {expected}, found no such file; {RESTORE}") from error
    found = str(xxhash.xxh3_128_hexdigest(data))
    if found != expected:
        raise DamagedError(f"{folder}/{FILES}: expected digest {expected} by the record, found {found}; {RESTORE}")
    return parse_table(orjson.loads(data)["files"])


def parse_table(value: Mapping[str, Any]) -> Table:
    """Restore a table from JSON types."""
    return {name: FileDigest(**entry) for name, entry in value.items()}


def compare(folder: Folder, table: Mapping[str, FileDigest], names: Iterable[str] | None = None) -> list[Damage]:
    """Return the files of a table (optionally only some) that are missing, truncated, changed or unreadable.

    A file that is still unreadable at the deadline (``EIO``, as of a bad sector) is damaged. Raises
    ``UnreachableError`` if the disk or store itself did not respond.
    """
    listed = sorted(table if names is None else names)

    def damage_of(name: str) -> Damage | None:
        expected = table[name]
        try:
            found = digest_file(folder, name)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError) or not folder.at(name).exists()
            return Damage(name, f"{expected.bytes:,} bytes", "no such file" if missing else f"unreadable: {error}")
        except UnreachableError as error:
            if getattr(error.__cause__, "errno", None) != errno.EIO:
                raise
            return Damage(name, f"{expected.bytes:,} bytes", f"unreadable: {error.__cause__}")
        if found.bytes != expected.bytes:
            return Damage(name, f"{expected.bytes:,} bytes", f"{found.bytes:,}")
        if found.digest != expected.digest:
            return Damage(name, f"digest {expected.digest}", found.digest)
        return None

    return [damage for damage in concurrently(damage_of, listed) if damage is not None]


def compare_here(folder: Folder, table: Mapping[str, FileDigest]) -> list[Damage]:
    """Verify the files that a reader on this machine gets: for a bucket, this machine's cached copies.

    A copy that does not match the table is fetched once more.
    """
    if folder.is_local:
        return compare(folder, table)
    found = []
    for name in sorted(table):
        place = folder.at(name).at("..")
        damages = _compare_copy(place, name.rpartition("/")[2], table[name])
        found += [Damage(name, damage.expected, damage.found) for damage in damages]
    return found


def compare_whole(folder: Folder, table: Mapping[str, FileDigest]) -> list[Damage]:
    """``compare_here`` for a folder that is read as a whole (a model), and of which one copy is kept."""
    damages: list[Damage] = []
    for _ in range(2):
        copy = folder.local()
        damages = compare(Folder(copy), table)
        if not damages or folder.is_local:
            break
        remove(set_aside(copy))
    return damages


def _compare_copy(folder: Folder, name: str, entry: FileDigest) -> list[Damage]:
    damages: list[Damage] = []
    for _ in range(2):
        try:
            copy = folder.local(name)
        except FileNotFoundError:
            return [Damage(name, f"{entry.bytes:,} bytes", "no such file")]
        damages = compare(Folder(copy.parent), {copy.name: entry})
        if not damages:
            break
        remove(copy)
    return damages


def table_of(folder: Folder, expected: str | None = None) -> Table | None:
    """Return the table of a finished step's files; None if the step was written without one.

    ``expected`` is its digest in the record; None: the digest in the step's manifest. Raises ``DamagedError`` if the
    table is missing or different.
    """
    if expected is None:
        expected = folder.manifest().get(FILES) if folder.committed() else None
    return None if expected is None else read_table(folder, expected)


def below(table: Mapping[str, FileDigest], folder: str) -> Table:
    """Return the part of a table for the files in a folder, with paths relative to that folder."""
    return {name.removeprefix(f"{folder}/"): one for name, one in table.items() if name.startswith(f"{folder}/")}


def refuse_damage(folder: Folder, damages: Iterable[Damage], remedy: str = RESTORE) -> None:
    """Raise ``DamagedError`` with the damaged files of a folder and the remedy, if there are any."""
    listed = [f"{folder.at(damage.file)}: expected {damage.expected}, found {damage.found}" for damage in damages]
    if listed:
        more = f"\n  and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        raise DamagedError("not as the record says:\n  " + "\n  ".join(listed[:SHOWN]) + f"{more}\nTo do: {remedy}")


def fingerprint(identity: Any) -> str:
    """Return 32 hex digits over a JSON value, regardless of the order of keys."""
    return str(xxhash.xxh3_128_hexdigest(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)))


def now() -> str:
    """Return the current time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
