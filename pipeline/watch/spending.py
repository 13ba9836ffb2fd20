"""Actual cost of the attempts of a watch's updates: the seconds each one ran, including failed and killed attempts.

An attempt is priced like a plan: hours × workers × ``cost.per_worker_hour``. While it runs, ``watch/running.json`` is
written every 20 seconds; if the watch is killed together with its attempt, the next watch counts that file.
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
from rewarm.stages.core.shapes import understood
from rewarm.stages.core.storage import Folder

RUNNING = "running.json"
INTERVAL = 20.0  # seconds between two records of a running attempt; a kill loses at most this much


@dataclass
class Attempt:
    """A running attempt."""

    path: str  # path of the arrival
    began: str
    workers: int
    since: float  # start, by the monotonic clock
    kept: float = 0.0  # when it was last recorded


class Spending:
    """Record of the running attempt, including one interrupted by a killed watch."""

    def __init__(self, folder: Folder, workers: int, settings: CostSettings) -> None:
        """``workers`` is the recipe's number, for arrivals whose plan has none."""
        self.folder, self.workers, self.settings = folder, workers, settings
        self.attempt: Attempt | None = None

    def left(self) -> list[Draft]:
        """Return the attempt recorded by a killed watch, as of its last record; ``forget`` it once that is written."""
        if not self.folder.exists(RUNNING):
            return []
        with understood(f"{self.folder}/{RUNNING}"):
            found: Mapping[str, Any] = self.folder.read_json(RUNNING)
            return [Draft("ran", found["path"], {name: found[name] for name in ("began", "seconds", "cost")})]

    def forget(self) -> None:
        """Delete the record of an attempt that the journal has; counting an attempt twice has no effect."""
        self.folder.delete(RUNNING)

    def begin(self, arrival: Arrival, now: datetime) -> None:
        """Begin an attempt."""
        workers = arrival.plan.get("workers") or self.workers
        self.attempt = Attempt(arrival.path, stamp(now), workers, time.monotonic())
        self.keep()

    def beat(self) -> None:
        """Record how long the attempt has run, if the last record is old enough."""
        if self.attempt is not None and time.monotonic() - self.attempt.kept >= INTERVAL:
            self.keep()

    def keep(self) -> None:
        """Record the attempt; if the storage does not answer, the next beat tries again."""
        if self.attempt is not None:
            self.attempt.kept = time.monotonic()
            with suppress(OSError, StageError):
                self.folder.write_json(RUNNING, {"path": self.attempt.path, **self.spent(self.attempt)})

    def end(self) -> list[Draft]:
        """End the attempt, whatever its outcome; ``forget`` it once the result is written."""
        attempt, self.attempt = self.attempt, None
        return [] if attempt is None else [Draft("ran", attempt.path, self.spent(attempt))]

    def spent(self, attempt: Attempt) -> dict[str, Any]:
        """Return the seconds so far and their price in ``cost.currency`` (None without a price per worker)."""
        seconds = time.monotonic() - attempt.since
        cost = price(seconds / HOUR, attempt.workers, self.settings)
        return {
            "began": attempt.began,
            "seconds": round(seconds, 1),
            "cost": None if cost is None else round(cost, 6),
        }
