"""Partitions of a duplicate search: the rows whose key is in a range, sorted by key, in bounded memory.

Rows arrive in input order and are sorted whenever the memory limit is reached. Of equal keys, only the rows that later
ones are compared with (the first and the last) are kept, so a key shared by a million rows costs no more than one
shared by two. The comparisons of a row do not depend on the number of sorts.

The tasks of a search run as a Ray Data job, or sequentially if that is faster than starting a job.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rewarm.stages.core.progress import Progress
from rewarm.stages.core.ray_data import map_shards
from rewarm.stages.ingest.dedup.columns import Column

ROW_BYTES = 128  # peak memory per row: two keys, row and order, their sorted copies, and their sources
Rows = npt.NDArray[np.int64]


def held_rows(memory_mb: int) -> int:
    """Return the number of rows that a task may have in memory."""
    return memory_mb * 2**20 // ROW_BYTES


def num_partitions(rows: int, memory_mb: int) -> int:
    """Return the number of key ranges, such that a task is expected to use half of its memory, because keys vary."""
    return max(1, -(-2 * rows // held_rows(memory_mb)))


def in_range(keys: npt.NDArray[np.uint64], partition: int, partitions: int) -> npt.NDArray[np.bool_]:
    """Return a mask of the uint64 keys in the range, one of ``partitions`` equal parts of all 64-bit numbers."""
    first, last = (np.uint64(min(-(-(place << 64) // partitions), 2**64 - 1)) for place in (partition, partition + 1))
    found: npt.NDArray[np.bool_] = (keys >= first) & ((keys < last) if partition + 1 < partitions else True)
    return found


@dataclass(frozen=True)
class Sorted:
    """Rows sorted by (keys, rows), in runs of equal keys: ``first`` is the position at which each row's run begins."""

    keys: list[Column]
    rows: Rows
    old: npt.NDArray[np.bool_]  # already in an earlier ``Sorted``, included only for comparison
    first: Rows

    @property
    def ends(self) -> npt.NDArray[np.bool_]:
        """Mask of the rows that are the last of their run."""
        places = np.arange(len(self.rows))
        return np.append(self.first[1:] == places[1:], True) if len(places) else np.empty(0, bool)


def sort_rows(keys: list[Column], rows: Rows, old: npt.NDArray[np.bool_], by: int) -> Sorted:
    """Sort by keys, then by row; the first ``by`` keys define a run, the others only order it."""
    order = np.lexsort((rows, *reversed(keys)))
    keys, rows, old = [key[order] for key in keys], rows[order], old[order]
    begins = np.zeros(len(rows), bool)
    begins[:1] = True
    for key in keys[:by]:
        begins[1:] |= key[1:] != key[:-1]
    return Sorted(keys, rows, old, np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0)))


def sorted_runs(blocks: Iterable[tuple[Rows, list[Column]]], limit: int, by: int | None = None) -> Iterator[Sorted]:
    """Yield the rows of ``blocks`` sorted, about ``limit`` at a time; first and last row of a run are repeated."""
    held: list[tuple[Rows, list[Column], npt.NDArray[np.bool_]]] = []
    count = carried = 0
    for rows, keys in blocks:
        held.append((rows, keys, np.zeros(len(rows), bool)))
        count += len(rows)
        if count > max(limit, carried + limit // 4):
            found = joined(held, by)
            yield found
            stays = (found.first == np.arange(len(found.rows))) | found.ends
            held = [(found.rows[stays], [key[stays] for key in found.keys], np.ones(int(stays.sum()), bool))]
            count = carried = len(held[0][0])
    if count > carried:
        yield joined(held, by)


def joined(held: list[tuple[Rows, list[Column], npt.NDArray[np.bool_]]], by: int | None) -> Sorted:
    """Return the buffered rows sorted; ``held`` is emptied, so that they are not in memory twice."""
    rows = np.concatenate([part[0] for part in held])
    keys = [np.concatenate(columns) for columns in zip(*(part[1] for part in held), strict=True)]
    old = np.concatenate([part[2] for part in held])
    held.clear()
    return sort_rows(keys, rows, old, len(keys) if by is None else by)


FEW_ROWS = 100_000  # maximum size of an arrival that the driver decides, in about the time that a job takes to start


def run_tasks(
    work: Callable[[dict[str, Any]], dict[str, Any]],
    tasks: Sequence[dict[str, Any]],
    rows: int,
    progress: Progress,
    label: str,
) -> None:
    """Run ``work`` for every task of an arrival of ``rows`` documents; each writes its result to staging."""
    if rows > FEW_ROWS:
        map_shards(work, [{**task, "tasks": 1} for task in tasks], progress, label, "tasks")
        return
    progress.begin(label, len(tasks), "tasks")
    for task in tasks:
        work(task)
        progress.advance()
