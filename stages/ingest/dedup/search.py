"""Tasks of the duplicate search: a kind, a band and a range of keys. Plain Python over files; idempotent.

Each task finds edges: a row, and the earlier row of the arrival or the document of an earlier dataset that it repeats.

    url    all rows of a URL except the latest, each with a later row
    exact  every row whose text, folded to one normal form, occurs in an earlier row or an earlier dataset
    near   every row that agrees with others in the band and whose sketch is similar. In a run of equal keys, a row is
           compared with the first and with the previous row, and in an earlier dataset's run with the first and the
           last: linear time in the size of the arrival, regardless of how often a key occurs
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.split import contains, read_index
from rewarm.stages.ingest.dedup.columns import Column, ColumnSink
from rewarm.stages.ingest.dedup.index import NearSegment
from rewarm.stages.ingest.dedup.minhash import similar
from rewarm.stages.ingest.dedup.partition import Rows, Sorted, held_rows, in_range, sorted_runs
from rewarm.stages.ingest.dedup.staged import BAND, FOLDED, ID, TIMESTAMP, URL, SketchReader, Staged
from rewarm.stages.ingest.settings import DuplicateSettings

INSIDE = -1  # in place of a dataset's number: the original is a row of the arrival
UNKNOWN = -1  # in place of an original: the document with the same text
PAIRS = 2**16  # compared at a time
EDGES = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("dataset", pa.int32(), nullable=False),  # position in ``earlier``, or INSIDE
        pa.field("original", pa.int64(), nullable=False),  # a row, or a document's number in the dataset's index
    ]
)


def edges_file(task: dict[str, Any]) -> str:
    """Return the name of a task's edges in staging."""
    return f"{task['kind']}-{task['band']:03d}-{task['partition']:05d}-of-{task['partitions']:05d}.edges"


def find_edges(
    task: dict[str, Any], staged: Staged, earlier: Sequence[Folder], settings: DuplicateSettings
) -> dict[str, Any]:
    """Write the edges of one task, unless they exist."""
    name = edges_file(task)
    if not staged.staging.exists(name):
        find = {"url": older_urls, "exact": exact_edges, "near": near_edges}[task["kind"]]
        with ColumnSink(staged.staging, name, EDGES) as sink:
            for rows, dataset, originals in find(task, staged, earlier, settings):
                if len(rows):
                    sink.add([rows, np.full(len(rows), dataset, np.int32), originals])
    return {}


Edges = Iterator[tuple[Rows, int, Rows]]


def older_urls(task: dict[str, Any], staged: Staged, earlier: Sequence[Folder], settings: DuplicateSettings) -> Edges:
    """Return rows whose URL occurs again with a later time, or with the same time in a later row."""

    def blocks() -> Iterator[tuple[Rows, list[Column]]]:
        for rows, urls, times in staged.blocks([URL, TIMESTAMP]):
            chosen = (urls != 0) & in_range(urls, task["partition"], task["partitions"])
            yield rows[chosen], [urls[chosen], times[chosen]]

    for run in sorted_runs(blocks(), held_rows(settings.memory_mb), by=1):
        latest = np.flatnonzero(run.ends)
        places = np.flatnonzero(~run.ends)
        yield run.rows[places], INSIDE, run.rows[latest[np.searchsorted(latest, places)]]


def exact_edges(task: dict[str, Any], staged: Staged, earlier: Sequence[Folder], settings: DuplicateSettings) -> Edges:
    """Return rows with the folded id of an earlier row, or with an id of an earlier dataset (the first).

    Rows whose folded text differs are also looked up by their own id: earlier releases indexed no folded ids.
    """

    def blocks() -> Iterator[tuple[Rows, list[Column]]]:
        for rows, ids in staged.blocks([FOLDED], task["without"]):
            halves = ids.view(">u8").reshape(-1, 2)
            chosen = in_range(halves[:, 0], task["partition"], task["partitions"])
            yield rows[chosen], [half.astype(np.uint64) for half in halves[chosen].T]

    known = [read_index(folder) for folder in earlier]
    if known and not task["partition"]:
        for rows, ids, folded in staged.blocks([ID, FOLDED], task["without"]):
            places = np.flatnonzero(ids != folded)
            for dataset, index in enumerate(known):
                there = contains(index, ids[places])
                yield rows[places[there]], dataset, np.full(int(there.sum()), UNKNOWN)
                places = places[~there]
    for run in sorted_runs(blocks(), held_rows(settings.memory_mb)):
        begins = run.first == np.arange(len(run.rows))
        places = np.flatnonzero(~run.old & ~begins)
        yield run.rows[places], INSIDE, run.rows[run.first[places]]
        places = np.flatnonzero(~run.old & begins)
        for dataset, index in enumerate(known):
            ids = np.stack([half[places] for half in run.keys], axis=1).astype(">u8").view("S16").reshape(-1)
            there = contains(index, ids)
            yield run.rows[places[there]], dataset, np.full(int(there.sum()), UNKNOWN)
            places = places[~there]


def near_edges(task: dict[str, Any], staged: Staged, earlier: Sequence[Folder], settings: DuplicateSettings) -> Edges:
    """Return verified pairs that agree in the task's band: of rows, and of rows with earlier datasets' documents."""

    def blocks() -> Iterator[tuple[Rows, list[Column]]]:
        for rows, keys in staged.blocks([BAND + task["band"]], task["without"]):
            chosen = in_range(keys, task["partition"], task["partitions"])
            yield rows[chosen], [keys[chosen]]

    reader = SketchReader(staged)
    segments = {number: NearSegment.open(folder, settings) for number, folder in enumerate(earlier)}
    for run in sorted_runs(blocks(), held_rows(settings.memory_mb)):
        yield from edges_inside(run, reader, settings.similarity)
        for dataset, segment in segments.items():
            if segment is not None:
                yield from edges_to(segment, dataset, run, task["band"], reader, settings.similarity)


def edges_inside(run: Sorted, reader: SketchReader, similarity: float) -> Edges:
    """Return similar pairs of each row with the first row of its run and the previous row."""
    members = np.flatnonzero(~run.old & (run.first != np.arange(len(run.rows))))
    for start in range(0, len(members), PAIRS):
        places = members[start : start + PAIRS]
        before = places - 1
        others = before != run.first[places]
        rows = run.rows[np.concatenate([places, places[others]])]
        originals = run.rows[np.concatenate([run.first[places], before[others]])]
        alike = similar(reader.take(rows), reader.take(originals), similarity)
        yield rows[alike], INSIDE, originals[alike]


def edges_to(
    segment: NearSegment, dataset: int, run: Sorted, band: int, reader: SketchReader, similarity: float
) -> Edges:
    """Return similar pairs of each row with the first and last document of the same key in an earlier dataset."""
    entries = segment.band(band)
    fresh = np.flatnonzero(~run.old)
    for start in range(0, len(fresh), PAIRS):
        places = fresh[start : start + PAIRS]
        first, last, found = segment.lookup(entries, run.keys[0][places])
        rows = run.rows[places[found]]
        rows, originals = pairs(rows, first, last)
        alike = similar(reader.take(rows), segment.sketches[originals], similarity)
        yield rows[alike], dataset, originals[alike]


def pairs(rows: Rows, first: Rows, last: Rows) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Pair rows with their first and, if different, their last candidate."""
    others = first != last
    return np.concatenate([rows, rows[others]]), np.concatenate([first, last[others]])
