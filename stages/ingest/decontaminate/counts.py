"""Counts of training documents per shared run, collected by shard and summed into one table for the arrival.

A sum over documents does not depend on the order or the number of workers.
"""

import shutil
from collections.abc import Sequence
from typing import Self

import numpy as np
import pyarrow as pa
import xxhash

from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary
from rewarm.stages.ingest.decontaminate.sorted_numbers import NUMBER, mapped
from rewarm.stages.ingest.dedup.columns import blocks, write_columns

COUNT = np.dtype("<u4")
COUNTS_SCHEMA = pa.schema(
    [pa.field("gram", pa.uint64(), nullable=False), pa.field("documents", pa.int64(), nullable=False)]
)
IN_MEMORY = 2**22  # numbers (64 MiB with their counts) in memory or merged at a time


class Counter:
    """Counter of a shard's runs; memory grows with the number of different runs."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._grams = [np.empty(0, np.uint64)]
        self._counts = [np.empty(0, np.int64)]
        self._held = 0

    def add(self, grams: np.ndarray, documents: np.ndarray) -> None:
        """Add different numbers (uint64) and the count of documents with each of them (int64)."""
        self._grams.append(grams)
        self._counts.append(documents)
        self._held += len(grams)
        if self._held >= self._in_memory:
            grams, counts = self.total()
            self._grams, self._counts, self._held = [grams], [counts], len(grams) // 2

    def total(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the different numbers, ascending, and their sums."""
        return summed(np.concatenate(self._grams), np.concatenate(self._counts))

    def write(self, staging: Folder, name: str) -> None:
        """Write the sums as columns."""
        write_columns(staging, name, COUNTS_SCHEMA, self.total())


class RunCounts:
    """Table of an arrival: a file of sorted numbers, and a file of their counts."""

    def __init__(self, grams: np.ndarray, documents: np.ndarray) -> None:
        self.grams, self.documents = grams, documents  # uint64 ascending, and counts as ``COUNT``

    @classmethod
    def open(cls, staging: Folder, digest: str) -> Self:
        """Open the table that ``sum_counts`` wrote under this digest."""
        documents = staging.local(f"{digest}.documents")
        held = np.memmap(documents, COUNT, "r") if documents.stat().st_size else np.empty(0, COUNT)
        return cls(mapped(staging.local(f"{digest}.runs")), np.asarray(held))

    def of(self, grams: np.ndarray) -> np.ndarray:
        """Return the number of the arrival's documents with each run; int64 [len(grams)]."""
        if not len(self.grams):
            return np.zeros(len(grams), np.int64)
        places = np.minimum(np.searchsorted(self.grams, grams), len(self.grams) - 1)
        return np.where(self.grams[places] == grams, self.documents[places].astype(np.int64), 0)


def sum_counts(staging: Folder, names: Sequence[str], in_memory: int = IN_MEMORY) -> str:
    """Sum the files of ``Counter.write``; return the digest under which the table is opened.

    Hashes are uniformly distributed, so the files are summed range by range: one range of all files fits into memory.
    """
    total = sum(len(grams) for name in names for grams, _ in blocks(staging, name))
    ranges = max(1, -(-total // in_memory))
    digest = xxhash.xxh3_128()
    with temporary("counts") as aside:
        runs, documents = aside / "runs", aside / "documents"
        with runs.open("wb") as numbers, documents.open("wb") as counts:
            for part in range(ranges):
                first, last = (2**64 * edge // ranges for edge in (part, part + 1))
                found = summed(*in_range(staging, names, first, last - 1))
                contents = found[0].astype(NUMBER).tobytes(), np.minimum(found[1], 2**32 - 1).astype(COUNT).tobytes()
                for file, content in zip((numbers, counts), contents, strict=True):
                    file.write(content)
                    digest.update(content)
        name = str(digest.hexdigest())
        for source, suffix in ((runs, "runs"), (documents, "documents")):
            with staging.writing(f"{name}.{suffix}") as scratch:
                shutil.copyfile(source, scratch)
    return name


def in_range(staging: Folder, names: Sequence[str], first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the runs of all files with numbers from ``first`` to ``last``, and their counts."""
    bounds = np.array([first, last], np.uint64)
    parts = [(np.empty(0, np.uint64), np.empty(0, np.int64))]
    for name in names:
        for grams, counts in blocks(staging, name):
            start, stop = np.searchsorted(grams, bounds[0], "left"), np.searchsorted(grams, bounds[1], "right")
            parts.append((grams[start:stop], counts[start:stop]))
    return np.concatenate([grams for grams, _ in parts]), np.concatenate([counts for _, counts in parts])


def summed(grams: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different numbers, ascending, and the sums of their counts."""
    order = np.argsort(grams, kind="stable")
    grams, counts = grams[order], counts[order]
    starts = np.flatnonzero(np.append(True, grams[1:] != grams[:-1])[: len(grams)])
    return grams[starts], np.add.reduceat(counts, starts) if len(starts) else counts
