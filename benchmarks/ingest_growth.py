"""How ingest grows: a series of equal arrivals, and memory with the size of the input.

    python benchmarks/ingest_growth.py --series 10 --megabytes 30
    python benchmarks/ingest_growth.py --memory 1,4,16 --megabytes 20

Real text: source and documentation of the installed packages, cut into documents of some kilobytes, each part of it
taken once. ``--series`` ingests equal arrivals one after the other into one index, each against all before, and prints
the time of each relative to the first's. ``--memory`` ingests 1, 4 and 16 times the text, each in a process of its
own, and prints the most memory that the driver and the largest worker had to themselves (unique set size): without
the object store that they share, and without files that are mapped and that the kernel may drop.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

DOCUMENT = 4000  # characters
FILES = 8


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=0, help="arrivals")
    parser.add_argument("--memory", default="", help="multiples of the text, such as 1,4,16")
    parser.add_argument("--megabytes", type=float, default=20, help="of one arrival")
    parser.add_argument("--out", type=Path, default=Path("bench-results/ingest-growth"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(peak_memory(given.one, given.out, given.processes)))
        return
    shutil.rmtree(given.out, ignore_errors=True)
    if given.series:
        show_series(given)
    if given.memory:
        show_memory(given)


def documents() -> Iterator[str]:
    """The text, in documents; its files in an order by chance, so that no arrival is all of one package."""
    paths = sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*"))
    random.Random(0).shuffle(paths)
    for path in paths:
        if path.suffix in {".py", ".pyi", ".md", ".rst", ".txt", ".js", ".json", ".h", ".html"} and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            yield from (text[start : start + DOCUMENT] for start in range(0, len(text), DOCUMENT))


def write(folder: Path, source: Iterator[str], num_bytes: float) -> float:
    """Write documents of so many bytes into a folder of JSON lines; the bytes written."""
    folder.mkdir(parents=True)
    files = [(folder / f"{number}.jsonl").open("w", encoding="utf-8") for number in range(FILES)]
    written = 0
    for number, text in enumerate(source):
        line = json.dumps({"text": text}) + "\n"
        files[number % FILES].write(line)
        written += len(line)
        if written >= num_bytes:
            break
    for file in files:
        file.close()
    return written


def ingest(folder: Path, out: Path, earlier: list[Path]) -> float:
    """Ingest a folder; seconds."""
    from rewarm.stages.core.progress import Silent
    from rewarm.stages.core.storage import Folder
    from rewarm.stages.ingest import IngestSettings, find_inputs, run

    settings = IngestSettings(shard_bytes=8 * 2**20)
    begin = time.perf_counter()
    inputs = find_inputs([str(folder)], settings)
    indexes = [Folder(path / "index") for path in earlier]
    run(inputs, Folder(out), settings, indexes, Folder(out / "index"), Silent())
    return time.perf_counter() - begin


def start(processes: int) -> None:
    """A Ray of its own, with its workers up."""
    import ray

    ray.init(address="local", num_cpus=processes, include_dashboard=False, log_to_driver=False)
    ray.data.from_items([0] * 16).map(lambda row: row, num_cpus=1).materialize()


def show_series(given: argparse.Namespace) -> None:
    """Equal arrivals, each against all before."""
    source, done = documents(), []
    sizes = [write(given.out / f"text-{number}", source, given.megabytes * 2**20) for number in range(given.series + 1)]
    start(given.processes)
    ingest(given.out / f"text-{given.series}", given.out / "first-is-slower", [])
    print("| arrival | MB | seconds | relative to the first |\n|--:|--:|--:|--:|")
    times: list[float] = []
    for number in range(given.series):
        out = given.out / f"set-{number}"
        times.append(ingest(given.out / f"text-{number}", out, done))
        done.append(out)
        size = sizes[number] / 2**20
        print(f"| {number + 1} | {size:.1f} | {times[-1]:.2f} | {times[-1] / times[0]:.2f} |", flush=True)


def show_memory(given: argparse.Namespace) -> None:
    """Multiples of the text, each in a process of its own."""
    print("| input | MB | driver, MiB | largest worker, MiB | seconds |\n|--:|--:|--:|--:|--:|")
    for multiple in (int(one) for one in given.memory.split(",")):
        folder = given.out / f"text-x{multiple}"
        size = write(folder, documents(), multiple * given.megabytes * 2**20)
        command = [sys.executable, __file__, "--one", str(folder), "--out", str(given.out / f"set-x{multiple}")]
        done = subprocess.run(
            [*command, "--processes", str(given.processes)], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        figures = f"{found['driver']:.0f} | {found['worker']:.0f} | {found['seconds']:.1f}"
        print(f"| {multiple} × | {size / 2**20:.0f} | {figures} |", flush=True)


def peak_memory(folder: Path, out: Path, processes: int) -> dict[str, float]:
    """Ingest one folder; the most that the driver and the largest worker held, in MiB."""
    start(processes)
    watcher = Watched()
    watcher.start()
    seconds = ingest(folder, out, [])
    watcher.stop.set()
    watcher.join()
    workers = (held for pid, held in watcher.held.items() if pid != os.getpid())
    return {"driver": watcher.held[os.getpid()], "worker": max(workers), "seconds": seconds}


class Watched(threading.Thread):
    """Looks at the driver and Ray's workers five times a second; ``held``: the most that each had, in MiB, by pid."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.held: dict[int, float] = {}

    def run(self) -> None:
        """Look until ``stop``."""
        me = psutil.Process()
        while not self.stop.wait(0.2):
            for process in (me, *me.children(recursive=True)):
                with suppress(psutil.Error):
                    if process.pid == me.pid or "ray::" in " ".join(process.cmdline()[:1]):
                        own = process.memory_full_info().uss / 2**20
                        self.held[process.pid] = max(self.held.get(process.pid, 0.0), own)


if __name__ == "__main__":
    main()
