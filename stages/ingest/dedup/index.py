"""Index of a dataset for later arrivals: the ids of its documents, and their keys and sketches.

    doc_ids.arrow  16 bytes per document: sorted ids (stages.data.split), and those of folded texts that differ
    near.arrow     20 * 8 + 16 bytes per document: for each band a batch of sorted 64-bit entries, then the sketches.
                   The low bits of an entry, as many as needed to number the documents, are the document's position
                   among the sketches (its number among the kept rows, in input order); the high bits are from its key

192 bytes per document with 20 bands. An entry lacks the low bits of its key: for a dataset of 2^30 documents 34 bits
remain, so a lookup occasionally returns a document with another key, which the sketch rejects.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.split import TRAIN, VALIDATE, Hashes, write_index
from rewarm.stages.ingest.dedup.columns import Column, blocks, open_columns, to_arrow, to_numpy
from rewarm.stages.ingest.dedup.partition import Rows, in_range, num_partitions, run_tasks
from rewarm.stages.ingest.dedup.staged import BAND, FOLDED, ID, SKETCH, SUFFIX, Staged
from rewarm.stages.ingest.settings import COMPARABLE_VERSIONS, SIGNATURE_VERSION, DuplicateSettings

NEAR_FILE = "near.arrow"
NEAR_SCHEMA = pa.schema([pa.field("entries", pa.uint64(), nullable=False)])
SIGNATURE = b"rewarm.signature"
IDS = -1  # the band of a task that sorts the ids


# -- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NearSegment:
    """Memory-mapped near.arrow of an earlier dataset."""

    reader: pa.ipc.RecordBatchFileReader
    sketches: npt.NDArray[np.uint64]  # [documents, 2]
    folder: Folder
    version: int = SIGNATURE_VERSION  # of its signatures

    @classmethod
    def open(cls, folder: Folder, settings: DuplicateSettings) -> Self | None:
        """Open the segment; return None if the dataset was indexed without near-duplicates.

        Raises ``UsageError`` if its signatures were made with other settings, ``StageError`` if the file is truncated.
        """
        if not folder.exists(NEAR_FILE):
            return None
        try:
            local = folder.local(NEAR_FILE)
            reader = open_columns(Folder(local.parent), local.name)
            made = orjson.loads(reader.schema.metadata[SIGNATURE])
            check_signature(folder, made, settings.signature())
            sketches = to_numpy(reader.get_batch(reader.num_record_batches - 1).column(0)).reshape(-1, 2)
        except (pa.ArrowException, OSError, IndexError, KeyError, TypeError, orjson.JSONDecodeError) as error:
            raise StageError(
                f"{folder}: {NEAR_FILE} cannot be read ({error}), so near-duplicates of this dataset cannot be "
                "detected; restore the file"
            ) from error
        return cls(reader, sketches, folder, made["version"])

    def band(self, band: int) -> npt.NDArray[np.uint64]:
        """Return the sorted entries of a band."""
        entries: npt.NDArray[np.uint64] = to_numpy(self.reader.get_batch(band).column(0))
        return entries

    def lookup(
        self, entries: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]
    ) -> tuple[Rows, Rows, npt.NDArray[np.bool_]]:
        """Return first and last document of the keys that exist, and a mask of them; sorted keys read each page
        once."""
        if not len(entries):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(len(keys), bool)
        mask = number_mask(len(self.sketches))
        left = np.searchsorted(entries, keys & ~mask)
        found = (left < len(entries)) & ((entries[np.minimum(left, len(entries) - 1)] | mask) == (keys | mask))
        right = np.searchsorted(entries, keys[found] | mask, "right")
        first, last = entries[left[found]] & mask, entries[right - 1] & mask
        return first.astype(np.int64), last.astype(np.int64), found


def check_signature(folder: Folder, made: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse an index whose signatures are not comparable."""
    if made["version"] in COMPARABLE_VERSIONS:
        wanted = {**wanted, "version": made["version"]}
    elif made["version"] > SIGNATURE_VERSION:
        raise UsageError(
            f"{folder}: this dataset's near-duplicate index is from a later release (version {made['version']}; this "
            f"release reads up to {SIGNATURE_VERSION}). Use that release, or set duplicates.near to false to detect "
            "only exact duplicates"
        )
    if made != wanted:
        there, here = (
            {name: value for name, value in side.items() if made.get(name) != wanted.get(name)}
            for side in (made, wanted)
        )
        raise UsageError(
            f"{folder}: this dataset's near-duplicate index was made with {listed(there)}, but the settings are "
            f"{listed(here)}; these signatures are not comparable. Restore the previous duplicates settings, or set "
            "near to false to detect only exact duplicates"
        )


def listed(values: dict[str, Any]) -> str:
    """Return settings as text for a message."""
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "others"


def number_mask(documents: int) -> np.uint64:
    """Return the mask of the low bits with a document's number."""
    return np.uint64((1 << max(documents - 1, 1).bit_length()) - 1)


# -- writing -----------------------------------------------------------------------------------------------------


def index_documents(
    index: Folder,
    staging: Folder,
    shards: Sequence[tuple[str, int]],
    settings: DuplicateSettings,
    progress: Progress,
    others: Hashes | None = None,
) -> None:
    """Write the index of the documents that the ``.fates`` files keep (TRAIN or VALIDATE), and the ids of ``others``.

    Runs as one Ray Data job over bands and key ranges; the driver streams its parts into the files, one at a time. The
    fates must be final: sorted parts are kept in staging for a resumed run. The ids are written last.
    """
    staged = Staged(staging, tuple(name for name, _ in shards), tuple(rows for _, rows in shards))
    documents = sum(int(stays(read_fates(staging, name)).sum()) for name in staged.names)
    partitions = num_partitions(documents, settings.memory_mb)
    bands = range(IDS, settings.bands if settings.near else 0)
    tasks = [
        {"band": band, "partition": part, "partitions": partitions} for band in bands for part in range(partitions)
    ]
    run_tasks(partial(sort_part, staged=staged, documents=documents), tasks, staged.num_rows, progress, "indexing")
    index.delete(NEAR_FILE)
    if settings.near:
        write_near(index, staged, documents, partitions, settings)
    others = np.empty(0, "S16") if others is None else others
    differing = sum(int((ids != folded).sum()) for ids, folded in kept_blocks(staged, [ID, FOLDED]))
    with scratch_array(staging, documents + differing + len(others), "S16") as ids:
        gather(ids[len(others) :], staging, IDS, partitions)
        if len(others):
            ids[: len(others)] = others
            ids.sort()
        write_index(index, ids, folded=True)


def write_near(index: Folder, staged: Staged, documents: int, partitions: int, settings: DuplicateSettings) -> None:
    """Write bands from the tasks' parts and sketches from staging, each through a file on disk."""
    schema = NEAR_SCHEMA.with_metadata({SIGNATURE: orjson.dumps(settings.signature())})
    with index.writing(NEAR_FILE) as scratch, pa.ipc.new_file(scratch, schema) as writer:
        for band in range(settings.bands):
            with scratch_array(staged.staging, documents, "<u8") as entries:
                gather(entries, staged.staging, band, partitions)
                writer.write_batch(pa.record_batch([to_arrow(entries, pa.uint64())], schema=schema))
        with scratch_array(staged.staging, documents, "S16") as sketches:
            number = 0
            for kept in kept_blocks(staged, [SKETCH]):
                sketches[number : number + len(kept[0])] = kept[0]
                number += len(kept[0])
            writer.write_batch(pa.record_batch([to_arrow(sketches.view("<u8"), pa.uint64())], schema=schema))


def sort_part(task: dict[str, Any], staged: Staged, documents: int) -> dict[str, Any]:
    """Write the sorted entries (or ids) of one band and key range as plain bytes, unless they exist.

    Keys are compared without the bits that their entries lack, so that the concatenated parts are sorted.
    """
    name = part_file(task["band"], task["partition"], task["partitions"])
    if staged.staging.exists(name):
        return {}
    parts: list[npt.NDArray[Any]] = []
    mask, number = number_mask(documents), 0
    for keys, *folded in kept_blocks(staged, [ID, FOLDED] if task["band"] == IDS else [BAND + task["band"]]):
        if task["band"] == IDS:
            ids = np.concatenate([keys, folded[0][folded[0] != keys]])
            parts.append(ids[in_range(ids.view(">u8")[::2], task["partition"], task["partitions"])])
            continue
        high = keys & ~mask
        chosen = in_range(high, task["partition"], task["partitions"])
        parts.append(high[chosen] | (np.flatnonzero(chosen) + number).astype(np.uint64))
        number += len(keys)
    entries = np.concatenate([np.empty(0, "S16" if task["band"] == IDS else "<u8"), *parts])
    entries.sort()
    staged.staging.write(name, entries.tobytes())
    return {}


def part_file(band: int, partition: int, partitions: int) -> str:
    """Return the name of a part in staging."""
    return f"index-{band + 1:03d}-{partition:05d}-of-{partitions:05d}.part"


def kept_blocks(staged: Staged, fields: Sequence[int]) -> Iterator[list[Column]]:
    """Yield the columns of the kept documents, block by block."""
    for name in staged.names:
        kept = stays(read_fates(staged.staging, name))
        row = 0
        for columns in blocks(staged.staging, name + SUFFIX, fields):
            chosen = kept[row : row + len(columns[0])]
            row += len(chosen)
            yield [column[chosen] for column in columns]


def gather(target: npt.NDArray[Any], staging: Folder, band: int, partitions: int) -> None:
    """Concatenate a band's parts."""
    start = 0
    for partition in range(partitions):
        part = np.frombuffer(staging.read(part_file(band, partition, partitions)), target.dtype)
        target[start : start + len(part)] = part
        start += len(part)
    assert start == len(target), f"band {band}: {start} entries for {len(target)} documents"


@contextmanager
def scratch_array(staging: Folder, length: int, kind: str) -> Iterator[npt.NDArray[Any]]:
    """Provide an array in an unnamed temporary file for the duration of the block."""
    if not length:
        yield np.empty(0, kind)
        return
    with tempfile.TemporaryFile(dir=staging.path if staging.is_local else None) as space:
        yield np.memmap(space, kind, "w+", shape=(length,))


def read_fates(staging: Folder, name: str) -> npt.NDArray[np.uint8]:
    """Return the fate of every row of a shard."""
    return np.frombuffer(staging.read(f"{name}.fates"), np.uint8)


def stays(fates: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows that the dataset keeps."""
    kept: npt.NDArray[np.bool_] = (fates == TRAIN) | (fates == VALIDATE)
    return kept
