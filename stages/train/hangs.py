"""Detection of a hung worker: a step that takes much longer than the others, with the stacks of all threads.

Each worker watches itself in a thread, so a worker that waits in a collective names the line where it waits, and the
one that it waits for names another. The run is not ended: NCCL's or gloo's own timeout does that.
"""

import faulthandler
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime

from rewarm.stages.core.storage import Folder

FACTOR = 20.0  # times the median step
LEAST = 300.0  # seconds
WINDOW, ENOUGH = 32, 3  # steps of the median, and the fewest to judge by
FRAMES = 6  # innermost frames of a thread in the log


class Watchdog:
    """Watches the steps of a worker; does not count what is paused, such as a validation or a checkpoint."""

    def __init__(
        self, limit: float | None, report: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``limit`` is in seconds; None: ``FACTOR`` times the median step, at least ``LEAST``."""
        self.limit = limit
        self._report = report
        self._clock = clock
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._since: float | None = None  # of the current step; None: paused
        self._told = False
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch, name="rewarm-watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def begin(self) -> None:
        """Note that steps begin, at the start or after a pause."""
        with self._lock:
            self._since, self._told = self._clock(), False

    def step(self) -> None:
        """Note that a step is done."""
        with self._lock:
            now = self._clock()
            if self._since is not None:
                self._seconds.append(now - self._since)
            self._since, self._told = now, False

    def pause(self) -> None:
        """Note that what follows is no step."""
        with self._lock:
            self._since = None

    def allowed(self) -> float:
        """Return the seconds after which a step counts as hung."""
        if self.limit is not None:
            return self.limit
        return max(LEAST, FACTOR * self._median()) if len(self._seconds) >= ENOUGH else LEAST

    def look(self) -> None:
        """Report once if the current step is hung."""
        with self._lock:
            waited = None if self._since is None else self._clock() - self._since
            late = waited is not None and waited > self.allowed() and not self._told
            self._told = self._told or late
            median = self._median()
        if late:
            usual = f", a step takes {median:.3g} s" if median else ""
            self._report(f"no step for {waited:.0f} s{usual}; stacks of its threads:\n{stacks()}")

    def _median(self) -> float:
        return statistics.median(self._seconds) if self._seconds else 0.0

    def _watch(self) -> None:
        while not self._ended.wait(max(0.05, min(5.0, self.allowed() / 4))):
            self.look()


def stacks() -> str:
    """Return the stacks of all threads of this process, innermost frame first, as the interpreter writes them."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


def shortened(text: str) -> str:
    """Return stacks with the innermost ``FRAMES`` frames of each thread."""
    kept, frames = [], 0
    for line in text.splitlines():
        frames = frames + 1 if line.startswith("  ") else 0
        if frames <= FRAMES:
            kept.append(line)
        elif frames == FRAMES + 1:
            kept.append("  …")
    return "\n".join(kept)


def reporter(checkpoints: Folder, name: str, rank: int, note: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that writes a report to ``<run>-hangs`` beside the checkpoints, and a shorter one to a log."""

    def report(text: str) -> None:
        file = f"rank-{rank}-{datetime.now():%Y-%m-%d_%H-%M-%S}.txt"
        folder = checkpoints / f"{name}-hangs"
        note(f"worker {rank}: {shortened(text)}\nin full: {folder}/{file}")
        folder.write(file, text.encode())

    return report
