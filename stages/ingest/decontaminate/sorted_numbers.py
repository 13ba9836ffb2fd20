"""Sorted set of 64-bit numbers larger than memory, written as one file."""

from pathlib import Path

import numpy as np
import xxhash

NUMBER = np.dtype("<u8")
IN_MEMORY = 2**22  # numbers (32 MiB) in memory, sorted and merged at a time


class SortedSet:
    """Set that accepts numbers in any order; ``finish`` writes the different ones, ascending.

    Full buffers are sorted and written to a local folder. Hashes are uniformly distributed, so buffers are merged range
    by range: one range of all buffers fits into memory.
    """

    def __init__(self, aside: Path, in_memory: int = IN_MEMORY) -> None:
        self._aside = aside
        self._in_memory = in_memory
        self._held: list[np.ndarray] = []
        self._num_held = 0
        self._sorted: list[Path] = []

    def add(self, numbers: np.ndarray) -> None:
        """Add numbers (uint64)."""
        self._held.append(numbers)
        self._num_held += len(numbers)
        if self._num_held >= self._in_memory:
            self._put_aside()

    def finish(self, path: Path) -> tuple[int, str]:
        """Write the file; return the count of its numbers and its digest (32 hex digits of xxh3-128)."""
        if self._held:
            self._put_aside()
        buffers = [mapped(path) for path in self._sorted]
        ranges = max(1, -(-sum(map(len, buffers)) // self._in_memory))
        starts = np.array([2**64 * part // ranges for part in range(1, ranges)], NUMBER)
        cuts = [[0, *np.searchsorted(buffer, starts).tolist(), len(buffer)] for buffer in buffers]
        count, digest = 0, xxhash.xxh3_128()
        with path.open("wb") as file:
            for part in range(ranges):
                pieces = [buffer[cut[part] : cut[part + 1]] for buffer, cut in zip(buffers, cuts, strict=True)]
                numbers = np.unique(np.concatenate(pieces)) if pieces else np.empty(0, NUMBER)
                content = numbers.astype(NUMBER, copy=False).tobytes()
                file.write(content)
                digest.update(content)
                count += len(numbers)
        return count, str(digest.hexdigest())

    def _put_aside(self) -> None:
        path = self._aside / f"sorted-{len(self._sorted)}"
        np.unique(np.concatenate(self._held)).astype(NUMBER, copy=False).tofile(path)
        self._sorted.append(path)
        self._held.clear()
        self._num_held = 0


def mapped(path: Path) -> np.ndarray:
    """Return a file's memory-mapped numbers; uint64 [count]."""
    return np.asarray(np.memmap(path, NUMBER, "r")) if path.stat().st_size else np.empty(0, NUMBER)
