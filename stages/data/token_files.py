"""Token files of other programs: Megatron's ``.bin`` with ``.idx``, and datatrove's ``.ds`` with ``.ds.index``.

Megatron's index (``IndexedDataset`` in megatron/core/datasets/indexed_dataset.py), little-endian: 9 bytes of magic, u64
version 1, u8 code of the ids' type, u64 number of sequences S, u64 number of document bounds D, then S int32 lengths
(in ids), S int64 offsets (in bytes) and D int64 bounds: document ``i`` is the sequences from bound ``i`` to bound
``i + 1``. Bytes after that are something else's (modes of a multimodal set). The ``.bin`` is the ids and nothing else.

datatrove's ``.ds`` is the ids as u16 or u32; its ``.ds.index`` is the end of every document in ids, as u64.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rewarm.stages.core.storage import Folder

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}  # code: numpy's name; 6 and 7 are floats
CODES = {np.dtype(name): code for code, name in TYPES.items()}
BLOCK = 1 << 20  # documents whose offsets are computed at once


class TokenFileError(ValueError):
    """A token file does not match its format; the message has the file, and what was expected and found."""


@dataclass(frozen=True)
class TokenDocuments:
    """Documents of a token file: ``values`` (ids, memory-mapped), and the pieces of it that form each document."""

    values: np.ndarray
    starts: np.ndarray  # of every piece, in ids
    lengths: np.ndarray  # of every piece, in ids
    bounds: np.ndarray  # document i is the pieces bounds[i] to bounds[i + 1]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield the ids of the documents from ``start`` to before ``stop``, in order; an empty one has no ids."""
        for document in range(start, len(self) if stop is None else min(stop, len(self))):
            pieces = range(int(self.bounds[document]), int(self.bounds[document + 1]))
            parts = [self.values[self.starts[i] : self.starts[i] + self.lengths[i]] for i in pieces]
            yield parts[0] if len(parts) == 1 else np.concatenate([self.values[:0], *parts])


def megatron_files(prefix: Path) -> tuple[Path, Path]:
    """Return the ``.bin`` and ``.idx`` paths of a prefix, which may itself contain dots."""
    return prefix.with_name(f"{prefix.name}.bin"), prefix.with_name(f"{prefix.name}.idx")


def open_megatron(prefix: Path) -> TokenDocuments:
    """Open ``prefix.bin`` and ``prefix.idx``; ``TokenFileError`` if they do not match the format or each other."""
    data, index = megatron_files(prefix)
    for file in (data, index):
        if not file.is_file():
            raise TokenFileError(f"{file}: not there; Megatron's .bin and .idx belong together, side by side")
    dtype, lengths, offsets, bounds = _megatron_index(index)
    if data.stat().st_size % dtype.itemsize:
        raise TokenFileError(f"{data}: {data.stat().st_size} bytes are no whole number of {dtype} ids")
    values = mapped(data, dtype)
    if len(lengths):
        end = int((offsets + lengths.astype(np.int64) * dtype.itemsize).max())
        if lengths.min() < 0 or offsets.min() < 0 or (offsets % dtype.itemsize).any() or end > values.nbytes:
            raise TokenFileError(f"{index}: it names ids up to byte {end}, {data.name} has {values.nbytes}")
    if bounds[0] != 0 or bounds[-1] != len(lengths) or (np.diff(bounds) < 0).any():
        raise TokenFileError(f"{index}: document bounds from 0 to {len(lengths)} expected, ascending")
    return TokenDocuments(values, offsets // dtype.itemsize, lengths, bounds)


def _megatron_index(index: Path) -> tuple[np.dtype, np.ndarray, np.ndarray, np.ndarray]:
    """Read the type of the ids, and lengths, offsets and bounds as stored."""
    raw = mapped(index, np.dtype("u1"))
    if len(raw) < HEADER.size or raw[: len(MAGIC)].tobytes() != MAGIC:
        raise TokenFileError(f"{index}: no Megatron index: it should begin with {MAGIC!r}")
    _, version, code, sequences, documents = HEADER.unpack(raw[: HEADER.size].tobytes())
    if version != VERSION or code not in TYPES:
        raise TokenFileError(
            f"{index}: version {VERSION} and a code of {sorted(TYPES)} for the ids' type expected, "
            f"found version {version} and code {code}"
        )
    parts = [(sequences, "<i4"), (sequences, "<i8"), (documents, "<i8")]
    sizes = [count * np.dtype(kind).itemsize for count, kind in parts]
    if len(raw) < HEADER.size + sum(sizes) or not documents:
        raise TokenFileError(
            f"{index}: {sequences} sequences and {documents} bounds take {HEADER.size + sum(sizes)} bytes, "
            f"found {len(raw)}; it is cut off or torn"
        )
    starts = [HEADER.size, HEADER.size + sizes[0], HEADER.size + sizes[0] + sizes[1]]
    lengths, offsets, bounds = (
        np.frombuffer(raw, dtype=kind, count=count, offset=start)
        for (count, kind), start in zip(parts, starts, strict=True)
    )
    return np.dtype(TYPES[code]), lengths, offsets, bounds


def read_megatron(prefix: Path) -> Iterator[np.ndarray]:
    """Yield the ids of each document of ``prefix.bin`` and ``prefix.idx``."""
    return open_megatron(prefix).read()


def write_megatron(prefix: Path, dtype: np.dtype, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[int, int]:
    """Write ``prefix.bin`` and ``prefix.idx``, one sequence per document; return the numbers of documents and ids.

    A batch is its documents' ids one after another (any unsigned type that fits ``dtype``: uint16, or int32 for more
    than 65,536 ids, as Megatron has no uint32) and their lengths. Held in memory are four bytes a document. The
    ``.idx`` comes last: where it is, the pair is whole.
    """
    data, index = megatron_files(prefix)
    folder = Folder(prefix.parent)
    lengths = [np.empty(0, dtype="<i4")]
    with folder.writing(data.name) as scratch, scratch.open("wb") as sink:
        for values, counts in batches:
            sink.write(np.ascontiguousarray(values, dtype=dtype).data)
            lengths.append(counts.astype("<i4"))
    sizes = np.concatenate(lengths)
    with folder.writing(index.name) as scratch, scratch.open("wb") as sink:
        sink.write(HEADER.pack(MAGIC, VERSION, CODES[dtype], len(sizes), len(sizes) + 1))
        sink.write(sizes.data)
        offset = 0
        for low in range(0, len(sizes), BLOCK):
            ends = offset + np.cumsum(sizes[low : low + BLOCK], dtype="<i8") * dtype.itemsize
            sink.write(np.concatenate([[offset], ends[:-1]]).astype("<i8").data)
            offset = int(ends[-1])
        for low in range(0, len(sizes) + 1, BLOCK):
            sink.write(np.arange(low, min(low + BLOCK, len(sizes) + 1), dtype="<i8").data)
    return len(sizes), offset // dtype.itemsize


def open_datatrove(file: Path) -> TokenDocuments:
    """Open a ``.ds`` file with its ``.ds.index``; ``TokenFileError`` if they do not match."""
    index = file.with_name(f"{file.name}.index")
    if not index.is_file():
        raise TokenFileError(f"{index}: not there; datatrove's .ds and .ds.index belong together (save_index)")
    if index.stat().st_size % 8:
        raise TokenFileError(
            f"{index}: {index.stat().st_size} bytes are no whole number of document ends (8 bytes each)"
        )
    ends = mapped(index, np.dtype("<u8")).astype(np.int64)
    count, size = int(ends[-1]) if len(ends) else 0, file.stat().st_size
    if size not in (2 * count, 4 * count):
        raise TokenFileError(
            f"{file}: its index ends at id {count}, which takes {2 * count} or {4 * count} bytes, found {size}"
        )
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    if (ends < starts).any():
        raise TokenFileError(f"{index}: ends of documents expected, ascending")
    values = mapped(file, np.dtype("<u4" if size == 4 * count else "<u2"))
    return TokenDocuments(values, starts, ends - starts, np.arange(len(ends) + 1))


def mapped(file: Path, dtype: np.dtype) -> np.ndarray:
    """Memory-map a file as a read-only array; an empty file gives an empty array."""
    if not file.stat().st_size:
        return np.empty(0, dtype=dtype)
    return np.memmap(file, dtype=dtype, mode="r")
