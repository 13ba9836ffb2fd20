"""The cost of comparing files with the record before they are used: bytes a second, beside reading them alone.

    .venv/bin/python benchmarks/record_check.py --megabytes 1024
    .venv/bin/python benchmarks/record_check.py --uncached --folder /data     # from the disk, not from memory

Prints gigabytes a second of reading the files (the peer: nothing can compare them without that) and of comparing them,
and how long it takes to find the shards that a mixture reads.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rewarm.stages.core.digests import BLOCK, THREADS, FileDigest, compare, digest_files
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.data.tokens import TokenSet
from rewarm.stages.train.inputs import shards_read

FILES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--folder", default=None, help="where to write the files")
    parser.add_argument("--uncached", action="store_true", help="take the files out of the page cache first")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Folder(scratch)
        names = write(folder, options.megabytes << 20)
        table = digest_files(folder, names)
        size = sum(one.bytes for one in table.values())
        before = partial(forget, folder, names) if options.uncached else lambda: None
        reading = timed(lambda: read(folder, names), before)
        comparing = timed(lambda: compare(folder, table), before)
        print(f"{size / 1e9:.2f} GB in {len(names)} files, {THREADS} threads, {os.cpu_count()} CPUs")
        print(f"reading    {size / reading / 1e9:6.2f} GB/s")
        print(
            f"comparing  {size / comparing / 1e9:6.2f} GB/s   {comparing / reading:.2f} times as long as reading alone"
        )
    seconds, found = finding()
    print(f"finding the shards of 10 million sequences: {seconds:.2f} s ({found} of 2,000)")


def write(folder: Folder, size: int) -> list[str]:
    """Files of random bytes."""
    names = [f"{number}.bin" for number in range(FILES)]
    for name in names:
        with folder.writing(name) as scratch, scratch.open("wb") as sink:
            for _ in range(size // FILES // BLOCK):
                sink.write(os.urandom(BLOCK))
    return names


def read(folder: Folder, names: list[str]) -> None:
    """Read the files as ``compare`` does, and nothing else."""

    def one(name: str) -> None:
        with (folder.path / name).open("rb", buffering=0) as stream:
            while stream.read(BLOCK):
                pass

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, names))


def forget(folder: Folder, names: list[str]) -> None:
    """Take the files out of the page cache."""
    for name in names:
        handle = os.open(folder.path / name, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def timed(work: Callable[[], object], before: Callable[[], None]) -> float:
    """The best of three."""
    best = float("inf")
    for _ in range(3):
        before()
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def finding() -> tuple[float, int]:
    """Seconds to find the shards, and how many, of a mixture of ten million sequences over two datasets."""
    tables = {
        name: {
            f"{number:05d}.arrow": FileDigest(0, "", {"tokens": 20_480_000, "documents": 1}) for number in range(1000)
        }
        for name in ("new", "old")
    }
    count = 1000 * 20_480_000 // 2048 - 1
    mixture = Mixture((Source("new", count, 1),), (Source("old", count, 2),), "1/20", 2048, 1000, 10_000)
    start = time.perf_counter()
    found = shards_read(mixture, 0, mixture.steps, tables, {name: TokenSet(Folder(name)) for name in tables})
    return time.perf_counter() - start, sum(map(len, found.values()))


if __name__ == "__main__":
    main()
