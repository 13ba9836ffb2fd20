"""A set of 64-bit numbers too large for memory, written as one sorted file."""

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

NUMBER = np.dtype("<u8")
IN_MEMORY = 2**22  # numbers (32 MiB) held, sorted and merged at a time


class SortedSet:
    """Takes numbers in any order; ``finish`` writes those that differ to ``path``, ascending.

    Full buffers are sorted and put aside in a folder beside ``path``. Hashes spread evenly, so the merge goes range by
    range: the part of every sorted buffer that falls into a range fits into memory.
    """

    def __init__(self, path: Path, in_memory: int = IN_MEMORY) -> None:
        self._path = path
        self._in_memory = in_memory
        self._held: list[np.ndarray] = []
        self._num_held = 0
        self._sorted: list[Path] = []

    def __enter__(self) -> "SortedSet":
        self._aside = tempfile.TemporaryDirectory(prefix=".sorting-", dir=self._path.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aside.cleanup()

    def add(self, numbers: np.ndarray) -> None:
        """Add numbers (uint64)."""
        self._held.append(numbers)
        self._num_held += len(numbers)
        if self._num_held >= self._in_memory:
            self._put_aside()

    def finish(self) -> int:
        """Write the file and return how many numbers it holds."""
        if self._held:
            self._put_aside()
        buffers = [mapped(path) for path in self._sorted]
        ranges = max(1, -(-sum(map(len, buffers)) // self._in_memory))
        starts = np.array([2**64 * part // ranges for part in range(1, ranges)], NUMBER)
        cuts = [[0, *np.searchsorted(buffer, starts).tolist(), len(buffer)] for buffer in buffers]
        count = 0
        with self._path.open("wb") as file:
            for part in range(ranges):
                pieces = [buffer[cut[part] : cut[part + 1]] for buffer, cut in zip(buffers, cuts, strict=True)]
                numbers = np.unique(np.concatenate(pieces)) if pieces else np.empty(0, NUMBER)
                file.write(numbers.astype(NUMBER, copy=False).tobytes())
                count += len(numbers)
        return count

    def _put_aside(self) -> None:
        path = Path(self._aside.name) / str(len(self._sorted))
        np.unique(np.concatenate(self._held)).astype(NUMBER, copy=False).tofile(path)
        self._sorted.append(path)
        self._held.clear()
        self._num_held = 0


def mapped(path: Path) -> np.ndarray:
    """A file's numbers, read as they are looked at; uint64 [count]."""
    return np.asarray(np.memmap(path, NUMBER, "r")) if path.stat().st_size else np.empty(0, NUMBER)
