"""The metrics of a workspace's arrivals, from the journal of its watch."""

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.watch.cron import CLOCK
from rewarm.pipeline.watch.journal import FOLDER, Journal, is_watched, read_stamp
from rewarm.pipeline.watch.run import now
from rewarm.pipeline.watch.state import ARRIVING, COMPLETE, DONE, FAILED, HELD, STARTED, Arrival, Book
from rewarm.stages.core.metrics import Reporter

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
        self.metrics.set("rewarm_watch_running", is_watched(self.folder))
        self.metrics.set("rewarm_watch_paused", self.book.paused)
        self.metrics.set("rewarm_watch_blocked", bool(self.book.trouble))
        if self.folder.exists(CLOCK):
            tick = read_stamp(self.folder.read_json(CLOCK)["handled"])
            self.metrics.set("rewarm_watch_tick_timestamp_seconds", tick.timestamp())


def waited(arrival: Arrival) -> float:
    """Seconds since an arrival that is not finished was complete."""
    if arrival.state not in WAITING or not arrival.completed:
        return 0.0
    return (now() - read_stamp(arrival.completed)).total_seconds()
