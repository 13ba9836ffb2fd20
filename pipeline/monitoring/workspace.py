"""Metrics of a workspace: lineage, disk, lease and arrivals, reported by the command that holds the workspace.

Run as a process, it reports them until its parent ends (``observer.Observer``):

python -m rewarm.pipeline.monitoring.workspace PARENT WORKSPACE
"""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from rewarm.pipeline.lineage.lease import find_holder
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import RELEASED, UpdateRecord
from rewarm.pipeline.watch.child import tie
from rewarm.pipeline.watch.journal import FOLDER, Journal, handled_tick, keeps_watching, last_watched, read_stamp
from rewarm.pipeline.watch.run import now
from rewarm.pipeline.watch.state import ARRIVING, COMPLETE, DONE, FAILED, HELD, STARTED, Arrival, Book
from rewarm.stages.core.cluster import joined
from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.metrics import Reporter
from rewarm.stages.core.patience import CONTACT_S, limited

WAITING = (COMPLETE, STARTED, FAILED, HELD)
STATES = (ARRIVING, *WAITING, *DONE)


class ArrivalReport:
    """Reporter of a watch's arrivals; zeros for a workspace that was never watched."""

    def __init__(self, workspace: Workspace, metrics: Reporter) -> None:
        self.metrics = metrics
        self.folder = workspace.folder / FOLDER
        self.journal, self.book = Journal(self.folder), Book()

    def report(self) -> None:
        """Report the current state of the journal. Raises ``UsageError`` if it cannot be read."""
        self.book.turn(self.journal.read())
        shown = self.book.shown()
        for state in STATES:
            self.metrics.set("rewarm_arrivals", sum(one.state == state for one in shown), state=state)
        self.metrics.set("rewarm_arrivals_longest_wait_seconds", max(map(waited, shown), default=0.0))
        self.metrics.set("rewarm_watch_running", keeps_watching(self.folder))
        self.metrics.set("rewarm_watch_paused", self.book.paused)
        self.metrics.set("rewarm_watch_blocked", bool(self.book.trouble))
        if (tick := handled_tick(self.folder)) is not None:
            self.metrics.set("rewarm_watch_tick_timestamp_seconds", tick.timestamp())
        if (seen := last_watched(self.folder)) is not None:
            self.metrics.set("rewarm_watch_seen_timestamp_seconds", seen.timestamp())


def waited(arrival: Arrival) -> float:
    """Seconds since an arrival that is not finished was complete."""
    if arrival.state not in WAITING or not arrival.completed:
        return 0.0
    return (now() - read_stamp(arrival.completed)).total_seconds()


INTERVAL = 10.0  # seconds between two looks at disk and lease
UPDATES = 20  # of the last ones, each is reported
SILENT = (OSError, UsageError, StageError)  # of a store that does not answer: no reason to end what is being reported

Lease = Callable[[], Mapping[str, Any] | None]  # {"age_s", "expires_in_s"}, or None where nobody holds the workspace


@contextmanager
def observed(workspace: Workspace, lease: Lease) -> Iterator[None]:
    """Report the workspace's metrics while the block runs: its record before and after, disk and lease all along.

    ``lease`` looks the lease up.
    """
    report = WorkspaceReport(workspace, lease)
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(INTERVAL):
            report.surroundings()

    report.surroundings()
    report.lineage()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        report.lineage()


class WorkspaceReport:
    """Reporter of a workspace's lineage, disk, lease and arrivals."""

    def __init__(self, workspace: Workspace, lease: Lease, metrics: Reporter | None = None) -> None:
        """``metrics`` is where it is reported; by default to Ray."""
        self.workspace = workspace
        self.lease = lease
        self.metrics = metrics or Reporter({"workspace": workspace.folder.name})
        self.arrivals = ArrivalReport(workspace, self.metrics)
        self._seen: Mapping[str, Any] | None = None
        self._at = time.monotonic()

    def surroundings(self) -> None:
        """Disk, lease and arrivals, now."""
        with suppress(OSError):
            self.disk()
        with suppress(*SILENT), limited(0):  # the next report is the next try
            self._seen, self._at = self.lease(), time.monotonic()
        self._lease(self._seen, time.monotonic() - self._at)
        with suppress(*SILENT), limited(0):
            self.arrivals.report()

    def disk(self) -> None:
        """The filesystem that the workspace is on; nothing for a bucket."""
        if self.workspace.folder.is_local:
            usage = shutil.disk_usage(self.workspace.folder.path)
            self.metrics.set("rewarm_disk_free_bytes", usage.free)
            self.metrics.set("rewarm_disk_used_bytes", usage.used)

    def _lease(self, seen: Mapping[str, Any] | None, ago: float) -> None:
        """The lease as it was seen some seconds ago: if the storage does not answer, its age keeps growing."""
        expires = seen.get("expires_in_s") if seen else None
        for name, value in (
            ("rewarm_lease_age_seconds", seen["age_s"] + ago if seen else None),
            ("rewarm_lease_expires_in_seconds", None if expires is None else expires - ago),
        ):
            if value is None:
                self.metrics.drop(name)
            else:
                self.metrics.set(name, value)

    def lineage(self) -> None:
        """The last updates' records, as far as they can be read."""
        with suppress(*SILENT), limited(CONTACT_S):  # a command that ends because of the store does not wait again
            self.record()

    def record(self) -> None:
        """The last updates' records."""
        lineage = Lineage(self.workspace)
        for update in lineage.updates[-UPDATES:]:
            self._update(update, update.id == lineage.release)

    def _update(self, update: UpdateRecord, current: bool) -> None:
        finished = datetime.fromisoformat(update.finished).timestamp()
        self.metrics.set("rewarm_update_finished_timestamp_seconds", finished, update=update.id)
        self.metrics.set("rewarm_release_current", current, update=update.id)
        self.metrics.set("rewarm_gate_accepted", update.state == RELEASED, update=update.id)
        checks = update.gate.checks if update.gate else []
        failed = sum(not check.passed and check.outcome != "undecided" for check in checks)
        self.metrics.set("rewarm_gate_failed_checks", failed, update=update.id)
        for dataset, loss in update.losses.get("release", {}).items():
            self.metrics.set("rewarm_release_loss_nats", loss, update=update.id, dataset=dataset)
        for dataset, change in update.forgetting.items():
            self.metrics.set("rewarm_forgetting_nats", change, update=update.id, dataset=dataset)


def main() -> None:
    """Report, every few seconds."""
    tie(int(sys.argv[1]))
    workspace = Workspace.open(sys.argv[2])
    with joined():
        report = WorkspaceReport(workspace, lambda: find_holder(workspace.folder))
        while True:
            report.surroundings()
            report.lineage()
            time.sleep(INTERVAL)


if __name__ == "__main__":
    main()
