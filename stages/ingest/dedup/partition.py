"""One partition of a search: the rows whose key lies in a range, in the order of their keys, in bounded memory.

Rows come in input order and are sorted whenever as many are held as memory allows. Of a key that repeats, only the
rows that later ones are compared with stay held (its first and last), so a key that a million rows share costs no more
than one that two share. What a row is compared with does not depend on how often was sorted.

Runs a search's tasks: as a Ray Data job, or one after the other where that takes less than starting one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rewarm.stages.core.progress import Progress
from rewarm.stages.core.ray_data import map_shards
from rewarm.stages.ingest.dedup.columns import Column

ROW_BYTES = 128  # peak memory per row held: two keys, row and order, their sorted copies, and what they come from
Rows = npt.NDArray[np.int64]


def held_rows(memory_mb: int) -> int:
    """How many rows a task may hold."""
    return memory_mb * 2**20 // ROW_BYTES


def num_partitions(rows: int, memory_mb: int) -> int:
    """Into how many ranges the keys are cut: half of what may be held is to be expected, for keys vary."""
    return max(1, -(-2 * rows // held_rows(memory_mb)))


def in_range(keys: npt.NDArray[np.uint64], partition: int, partitions: int) -> npt.NDArray[np.bool_]:
    """Which uint64 keys lie in the range: ``partitions`` equal parts of all 64-bit numbers."""
    first, last = (np.uint64(min(-(-(place << 64) // partitions), 2**64 - 1)) for place in (partition, partition + 1))
    found: npt.NDArray[np.bool_] = (keys >= first) & ((keys < last) if partition + 1 < partitions else True)
    return found


@dataclass(frozen=True)
class Sorted:
    """Rows in the order of (keys, rows). Runs of equal keys: ``first`` holds the place where each row's run begins."""

    keys: list[Column]
    rows: Rows
    old: npt.NDArray[np.bool_]  # seen in an earlier ``Sorted``: there to compare with
    first: Rows

    @property
    def ends(self) -> npt.NDArray[np.bool_]:
        """Which rows are the last of their run."""
        places = np.arange(len(self.rows))
        return np.append(self.first[1:] == places[1:], True) if len(places) else np.empty(0, bool)


def sort_rows(keys: list[Column], rows: Rows, old: npt.NDArray[np.bool_], by: int) -> Sorted:
    """Order by the keys, then by row; the first ``by`` keys make a run, the others only order it."""
    order = np.lexsort((rows, *reversed(keys)))
    keys, rows, old = [key[order] for key in keys], rows[order], old[order]
    begins = np.zeros(len(rows), bool)
    begins[:1] = True
    for key in keys[:by]:
        begins[1:] |= key[1:] != key[:-1]
    return Sorted(keys, rows, old, np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0)))


def sorted_runs(blocks: Iterable[tuple[Rows, list[Column]]], limit: int, by: int | None = None) -> Iterator[Sorted]:
    """The rows of ``blocks``, sorted, at most about ``limit`` at a time; the first and last of a run come again."""
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
    """What is held, sorted; ``held`` is emptied, so that it does not lie in memory twice."""
    rows = np.concatenate([part[0] for part in held])
    keys = [np.concatenate(columns) for columns in zip(*(part[1] for part in held), strict=True)]
    old = np.concatenate([part[2] for part in held])
    held.clear()
    return sort_rows(keys, rows, old, len(keys) if by is None else by)


FEW_ROWS = 100_000  # of an arrival that is decided in the driver, in about the time that a job takes to start


def run_tasks(
    work: Callable[[dict[str, Any]], dict[str, Any]],
    tasks: Sequence[dict[str, Any]],
    rows: int,
    progress: Progress,
    label: str,
) -> None:
    """Do ``work`` for every task of an arrival of ``rows`` documents; each leaves its result in staging."""
    if rows > FEW_ROWS:
        map_shards(work, [{**task, "tasks": 1} for task in tasks], progress, label, "tasks")
        return
    progress.begin(label, len(tasks), "tasks")
    for task in tasks:
        work(task)
        progress.advance()
