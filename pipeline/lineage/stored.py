"""The stored records of finished updates, each verified against its commit when it is read.

Opening a lineage compares only the sizes of all records with the log; digests are compared when a record is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import pyarrow.fs as pafs

from rewarm.pipeline.lineage.commits import Commit, digest
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record.entry import Entry
from rewarm.pipeline.record.files import RESTORE, UPDATE, decode
from rewarm.pipeline.record.update import UpdateRecord
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.storage import Folder


class Records(Sequence[UpdateRecord]):
    """A lazy sequence of records: each is read, and verified against its commit, on first access."""

    def __init__(self, workspace: Workspace, entries: Sequence[Entry], known: dict[str, UpdateRecord]) -> None:
        """``known`` has the records that were read before, by update id."""
        self.workspace, self.entries, self.known = workspace, entries, known

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, place: int) -> UpdateRecord: ...
    @overload
    def __getitem__(self, place: slice) -> "Records": ...
    def __getitem__(self, place: int | slice) -> "UpdateRecord | Records":
        if isinstance(place, slice):
            return Records(self.workspace, self.entries[place], self.known)
        entry = self.entries[place]
        if entry.id not in self.known:
            self.known[entry.id] = read_record(self.workspace, entry.id, entry.record)[0]
        return self.known[entry.id]


def read_entries(
    workspace: Workspace, finished: Mapping[str, Commit], records: dict[str, UpdateRecord]
) -> Iterator[Entry]:
    """Yield the entries of finished updates, from their commits.

    The records of updates that were committed without their facts (format 1) are read, and added to ``records``.
    """
    for name, commit in finished.items():
        facts = commit.facts
        if facts is None and name in records:
            facts = records[name].facts(0)
        elif facts is None:
            records[name], size = read_record(workspace, name, commit.record)
            facts = records[name].facts(size)
        assert commit.state is not None, name
        yield Entry(name, commit.state, commit.record, facts)


def refuse_other_sizes(workspace: Workspace, sizes: Mapping[str, int]) -> None:
    """Raise ``DamagedError`` if a record is missing or has the wrong size in bytes; does not read any record."""
    if not sizes:
        return
    filesystem, _ = workspace.folder.filesystem()
    paths = [f"{workspace.update(name).filesystem()[1]}/{UPDATE}" for name in sizes]
    for (name, size), found in zip(sizes.items(), filesystem.get_file_info(paths), strict=True):
        if found.type == pafs.FileType.NotFound:
            raise missing(workspace.update(name))
        if found.type != pafs.FileType.File or found.size != size:
            what = f"{found.size} bytes" if found.type == pafs.FileType.File else "something else"
            raise DamagedError(
                f"{workspace.update(name)}/{UPDATE}: expected the committed record of {size} bytes, found {what}; "
                f"{RESTORE}"
            )


def read_record(workspace: Workspace, name: str, expected: str) -> tuple[UpdateRecord, int]:
    """Read a finished update's record and its size in bytes; raises ``DamagedError`` if its digest is another."""
    folder = workspace.update(name)
    try:
        data = folder.read(UPDATE)
    except FileNotFoundError as error:
        raise missing(folder) from error
    if (found := digest(data)) != expected:
        raise DamagedError(
            f"{folder}/{UPDATE}: expected the committed record with digest {expected}, found digest {found}; {RESTORE}"
        )
    return decode(data, f"{folder}/{UPDATE}"), len(data)


def missing(folder: Folder) -> DamagedError:
    """Return the error for a finished update without a record."""
    return DamagedError(f"{folder}/{UPDATE}: the record of a finished update is missing; {RESTORE}")
