"""Verification of cached copies of a bucket's files against the record, once on each machine of a stage.

The process that starts a stage verifies its own copies. Workers on other machines have their own copies, which can be
damaged in transit or on disk, so each machine verifies the files that its workers are about to read.
"""

import fcntl
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from rewarm.stages.core.digests import Damage, Table, compare_here, compare_whole, refuse_damage
from rewarm.stages.core.local_files import cache_root
from rewarm.stages.core.storage import Folder


@dataclass(frozen=True)
class Recorded:
    """The tables of the folders that a stage's workers read; a folder without one is read as it is.

    Made anew for each run of a stage and sent to its workers: what one run has compared is compared again by the next.
    A workspace on a disk is not compared here, since the process that starts the stage has compared the same files.
    """

    tables: Mapping[Folder, Table] = field(default_factory=dict)
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def of(cls, tables: Iterable[tuple[Folder, Table | None]]) -> "Recorded":
        """Return the tables that there are: what was recorded without one is left out."""
        return cls({folder: table for folder, table in tables if table is not None})

    def model(self, folder: Folder) -> Path:
        """Return the local path of a folder that is read as a whole; ``DamagedError`` if it is not what the record
        says."""
        self._compare(folder, compare_whole)
        return folder.local()

    def shards(self, folder: Folder) -> Folder:
        """Return a folder whose files are read one by one; ``DamagedError`` if they are not what the record says."""
        self._compare(folder, compare_here)
        return folder

    def _compare(self, folder: Folder, compared: Callable[[Folder, Table], list[Damage]]) -> None:
        table = self.tables.get(folder)
        if table is None or folder.is_local:
            return
        with first_here(f"{self.run}\0{folder}") as first:
            if first:
                refuse_damage(folder, compared(folder, table))


@contextmanager
def first_here(name: str) -> Iterator[bool]:
    """Whether the block is to do what ``name`` stands for: no process of this machine has done it before.

    Others wait for a block that is under way, and do it themselves if it fails. The note that it was done is removed
    with the copies that nobody has asked for.
    """
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{xxhash.xxh3_128_hexdigest(name.encode())}.compared").open("a+b") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        first = os.fstat(note.fileno()).st_size == 0  # now, and not when it was opened
        yield first
        if first:
            note.write(b"\n")
