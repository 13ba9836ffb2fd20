"""Deduplication by content hash and the validation split, decided from the hashes alone.

Shared by the stages that write document shards (ingest, distill), so the source of a text does not matter.
Near-duplicates and addresses are handled in ``stages.ingest.dedup``. Hashes are numpy arrays of ``S16``: the 16 bytes
of ``doc_id``, big-endian, so they sort in numerical order.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc
import xxhash

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.storage import Folder

Hashes = npt.NDArray[np.bytes_]
DROP, TRAIN, VALIDATE = 0, 1, 2  # outcome of a row
INDEX_FILE = "doc_ids.arrow"
INDEX_SCHEMA = pa.schema([pa.field("doc_id", pa.binary(16), nullable=False)])


@dataclass(frozen=True)
class Split:
    """Outcome of every row of an arrival."""

    fates: npt.NDArray[np.uint8]  # one per row, in input order
    kept: Hashes  # of all documents that stay, sorted
    duplicates: int  # rows that repeat an earlier row of this arrival
    duplicates_earlier: int  # first rows with a text of an earlier dataset


def split_documents(hashes: Hashes, earlier: list[Hashes], validation_share: float) -> Split:
    """Decide the outcome of every row. ``earlier`` holds sorted hashes.

    Of equal texts the first row is kept. A document validates iff ``int(doc_id, 16) / 2**128 < validation_share``,
    independently of the others; but of two or more documents at least the one with the smallest hash validates, and at
    least the one with the largest hash trains.
    """
    unique, first = np.unique(hashes, return_index=True)
    known = np.zeros(len(unique), bool)
    for index in earlier:
        known |= contains(index, unique)
    kept, first = unique[~known], first[~known]
    num_validation = int(np.searchsorted(kept, training_bound([kept], validation_share)))
    fates = np.full(len(hashes), DROP, np.uint8)
    fates[first[num_validation:]] = TRAIN
    fates[first[:num_validation]] = VALIDATE
    return Split(fates, kept, len(hashes) - len(unique), int(known.sum()))


def training_bound(parts: Iterable[Hashes], validation_share: float) -> np.bytes_:
    """Return the smallest hash that trains, for documents given in parts without repeats; those below it validate.

    This is ``threshold(validation_share)`` unless all documents would be on one side: then it is the second smallest
    hash, or the largest. For a single document it is that document's hash.
    """
    low = high = np.empty(0, "S16")  # the two smallest, and the largest
    for part in parts:
        low = np.sort(np.concatenate([low, part if len(low) < 2 else part[part < low[1]]]))[:2]
        high = np.sort(np.concatenate([high, part[part > high[0]] if len(high) else part]))[-1:]
    bound = np.array([threshold(validation_share)], "S16")
    if len(low) < 2:
        bound = low if len(low) else bound
    elif low[:1] >= bound:
        bound = low[1:]
    elif high < bound:
        bound = high
    return np.bytes_(bound[0])


@dataclass(frozen=True)
class SplitSize:
    """Target size of a validation split."""

    share: float  # of the documents, by their hashes alone
    worth: int = 0  # minimum worth in documents of equal length …
    cap: float = 0.0  # … if that needs at most this share of the documents


def expected_share(size: SplitSize, documents: float, worth_each: float) -> float:
    """Return the expected share of a split, with documents worth ``worth_each`` of equal length on average."""
    if not size.share or size.cap <= size.share or documents <= 0 or worth_each <= 0:
        return size.share
    return max(size.share, min(size.cap, size.worth / worth_each / documents))


def worth_of(sizes: npt.NDArray[np.int64]) -> float:
    """Return the worth in documents of equal length, ``(Σ size)² / Σ size²`` (Kish 1965, section 11.7)."""
    squares = float((sizes.astype(np.float64) ** 2).sum())
    return float(sizes.sum()) ** 2 / squares if squares else 0.0


def grown_bound(
    bound: np.bytes_, parts: Iterable[tuple[Hashes, npt.NDArray[np.int64]]], total: int, size: SplitSize
) -> np.bytes_:
    """Return the bound of a split (``training_bound``), raised until the documents below it are worth ``size.worth``.

    ``parts`` are hashes and sizes of all ``total`` documents, without repeats. Documents are added in the order of
    their hashes until the worth or the cap is reached, so the same documents validate in any order, and growing a split
    moves none of it back to training. The bound is unchanged if it suffices, or is already at the cap.
    """
    most = min(int(total * size.cap), total - 1)
    hashes, sizes = np.empty(0, "S16"), np.empty(0, np.int64)  # of the smallest hashes
    for some, their in parts:
        hashes, sizes = np.concatenate([hashes, some]), np.concatenate([sizes, their])
        order = np.argsort(hashes, kind="stable")[: most + 1]
        hashes, sizes = hashes[order], sizes[order]
    below = int(np.searchsorted(hashes, bound))
    if below >= most or not size.worth:
        return bound
    weights = sizes[:most].astype(np.float64)
    worths = np.cumsum(weights) ** 2 / np.maximum(np.cumsum(weights**2), 1.0)
    reached = np.flatnonzero(worths[max(below, 1) - 1 :] >= size.worth)
    count = max(below, 1) + int(reached[0]) if len(reached) else most
    return np.bytes_(hashes[count]) if count > below else bound


def threshold(share: float) -> np.bytes_:
    """Return the smallest hash that does not validate."""
    return np.bytes_(math.ceil(Fraction(share) * 2**128).to_bytes(16, "big"))


def contains(index: Hashes, wanted: Hashes) -> npt.NDArray[np.bool_]:
    """Return a mask of the wanted hashes that a sorted index holds."""
    if not len(index):
        return np.zeros(len(wanted), bool)
    places = np.minimum(np.searchsorted(index, wanted), len(index) - 1)
    found: npt.NDArray[np.bool_] = index[places] == wanted
    return found


def content_digest(hashes: Hashes, fates: npt.NDArray[np.uint8]) -> str:
    """Return 32 hex digits of xxh3-128 over the hashes of training, then validation documents, in order."""
    return digest_parts(lambda: iter([(hashes, fates)]))


def digest_parts(parts: Callable[[], Iterator[tuple[Hashes, npt.NDArray[np.uint8]]]]) -> str:
    """Return the same digest for hashes and outcomes in parts; ``parts`` is called three times."""
    sides = (TRAIN, VALIDATE)
    counts = sum((np.array([(fates == side).sum() for side in sides]) for _, fates in parts()), np.zeros(2, int))
    state = xxhash.xxh3_128(":".join(map(str, counts.tolist())).encode())
    for side in sides:
        for hashes, fates in parts():
            state.update(hashes[fates == side].tobytes())
    return str(state.hexdigest())


FOLDED = b"rewarm.folded"


def write_index(index: Folder, hashes: Hashes, folded: bool = False) -> None:
    """Write the sorted hashes of a dataset's documents for later arrivals: 16 bytes each, Arrow IPC.

    ``folded``: they include the hashes of the folded texts, if those differ from the texts.
    """
    schema = INDEX_SCHEMA.with_metadata({FOLDED: b"1"}) if folded else INDEX_SCHEMA
    column = pa.Array.from_buffers(pa.binary(16), len(hashes), [None, pa.py_buffer(np.ascontiguousarray(hashes))])
    with index.writing(INDEX_FILE) as scratch, pa.ipc.new_file(scratch, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))


def read_index(index: Folder) -> Hashes:
    """Read the sorted hashes of an earlier dataset; memory-mapped from a local disk."""
    chunks = open_index(index).read_all()["doc_id"].chunks
    parts = [np.frombuffer(chunk.buffers()[1], "S16") for chunk in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, "S16"), *parts])


def has_folded(index: Folder) -> bool:
    """Return whether the index of an earlier dataset also has the hashes of its folded texts."""
    return FOLDED in (open_index(index).schema.metadata or {})


def open_index(index: Folder) -> pa.ipc.RecordBatchFileReader:
    """Open a reader of the hashes of an earlier dataset. Raises ``StageError`` if they are missing."""
    if not index.exists(INDEX_FILE):
        raise StageError(f"{index}: {INDEX_FILE} is missing, so duplicates of this dataset cannot be found; restore it")
    return pa.ipc.open_file(
        pa.memory_map(str(index.path / INDEX_FILE)) if index.is_local else pa.BufferReader(index.read(INDEX_FILE))
    )
