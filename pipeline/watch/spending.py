"""What the attempts of a watch's updates really cost: the seconds that each ran, also if it failed or was killed.

An attempt is priced as a plan is: hours × workers × ``cost.per_worker_hour``. While one runs, ``watch/running.json`` is
written every 20 seconds; a watch that was killed together with its attempt leaves it behind for the next to count.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rewarm.pipeline.plan.cost import HOUR, price
from rewarm.pipeline.recipe.settings import CostSettings
from rewarm.pipeline.watch.journal import Draft, stamp
from rewarm.pipeline.watch.state import Arrival
from rewarm.stages.core.errors import StageError
from rewarm.stages.core.storage import Folder

RUNNING = "running.json"
INTERVAL = 20.0  # seconds between two records of a running attempt; a kill loses no more


@dataclass
class Attempt:
    """An attempt that runs."""

    path: str  # of the arrival
    began: str
    workers: int
    since: float  # by the monotonic clock
    kept: float = 0.0  # when it was last written down


class Spending:
    """The running attempt, and what a killed watch left of one."""

    def __init__(self, folder: Folder, workers: int, settings: CostSettings) -> None:
        """``workers`` are the recipe's, for arrivals whose plan does not say how many."""
        self.folder, self.workers, self.settings = folder, workers, settings
        self.attempt: Attempt | None = None

    def left(self) -> list[Draft]:
        """The attempt that a killed watch left, at its last sign of life; ``forget`` it once this is written down."""
        if not self.folder.exists(RUNNING):
            return []
        found: Mapping[str, Any] = self.folder.read_json(RUNNING)
        return [Draft("ran", found["path"], {name: found[name] for name in ("began", "seconds", "cost")})]

    def forget(self) -> None:
        """Remove the record of an attempt that is in the journal; what is counted twice counts once."""
        self.folder.delete(RUNNING)

    def begin(self, arrival: Arrival, now: datetime) -> None:
        """An attempt begins."""
        workers = arrival.plan.get("workers") or self.workers
        self.attempt = Attempt(arrival.path, stamp(now), workers, time.monotonic())
        self.keep()

    def beat(self) -> None:
        """Write down how long the attempt has run, if it is time for that."""
        if self.attempt is not None and time.monotonic() - self.attempt.kept >= INTERVAL:
            self.keep()

    def keep(self) -> None:
        """Write it down; a storage that does not answer now is asked again at the next beat."""
        if self.attempt is not None:
            self.attempt.kept = time.monotonic()
            with suppress(OSError, StageError):
                self.folder.write_json(RUNNING, {"path": self.attempt.path, **self.spent(self.attempt)})

    def end(self) -> list[Draft]:
        """The attempt ended, however it did; ``forget`` it once this is written down."""
        attempt, self.attempt = self.attempt, None
        return [] if attempt is None else [Draft("ran", attempt.path, self.spent(attempt))]

    def spent(self, attempt: Attempt) -> dict[str, Any]:
        """Seconds so far, and their price in ``cost.currency``; None without the price of a worker."""
        seconds = time.monotonic() - attempt.since
        cost = price(seconds / HOUR, attempt.workers, self.settings)
        return {
            "began": attempt.began,
            "seconds": round(seconds, 1),
            "cost": None if cost is None else round(cost, 6),
        }
