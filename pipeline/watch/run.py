"""Loop of a watch: list the inbox, follow the schedule, process one arrival at a time, send notices.

Start at ``Watch.step``. Every event is first written to the journal, then applied to the book, then reported.
"""

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.watch import observe
from rewarm.pipeline.watch.advance import Advance, advance
from rewarm.pipeline.watch.child import Child, Ended, Logs
from rewarm.pipeline.watch.cron import CLOCK, answer, last_tick, next_tick, zone_of
from rewarm.pipeline.watch.inbox import look, place_of
from rewarm.pipeline.watch.journal import FOLDER, MODE, Draft, Event, Journal, handled_tick, stamp
from rewarm.pipeline.watch.notify import NOTABLE, Command, Notifier, Target, Webhook, make_notice, told
from rewarm.pipeline.watch.observer import Observer
from rewarm.pipeline.watch.policy import FINISHED, NOT_BEGUN, READY, after_failure, begun_by, choose, held
from rewarm.pipeline.watch.settings import WatchSettings
from rewarm.pipeline.watch.spending import Spending
from rewarm.pipeline.watch.state import BROKEN, CHANGED, COST, HELD, Arrival, Book
from rewarm.stages.core.errors import FullError, UnreachableError
from rewarm.stages.core.patience import CONTACT_S, limited
from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary


class Records:
    """The journal, the book computed from it, and the notifier."""

    def __init__(self, folder: Folder, settings: WatchSettings, say: Callable[[str], None]) -> None:
        self.journal, self.book = Journal(folder), Book()
        self._workspace, self._inbox, self._say = str(folder.at("..")), settings.inbox, say
        events = self.journal.read()
        commands = [Command(settings.command)] if settings.command else []
        targets: list[Target] = [*map(Webhook, settings.webhooks), *commands]
        self.notifier = Notifier.of(folder, targets, events[-1].seq if events else 0)
        self._take_in(events)

    def write(self, drafts: Iterable[Draft]) -> None:
        """Write events to the journal, then apply them."""
        if found := list(drafts):
            for draft in found:
                self.journal.append(draft, now())
            self.refresh()

    def refresh(self) -> None:
        """Apply the journal's new events, including those of other processes."""
        for event in self._take_in(self.journal.read()):
            self._say(told(event, self.book.arrivals.get(event.path)))

    def _take_in(self, events: list[Event]) -> list[Event]:
        for event in events:
            self.book.turn([event])
            if event.kind in NOTABLE and self.notifier.wants(event.seq):
                arrival = self.book.arrivals.get(event.path)
                self.notifier.add(make_notice(event, arrival, self._workspace, self._inbox))
        return events

    def trouble(self, because: str) -> None:
        """Report once why no arrival can be processed, and once that the reason is gone."""
        if because != self.book.trouble:
            self.write([Draft("trouble" if because else "recovered", details={"because": because})])

    def deliver(self) -> None:
        """Deliver the notices that are due."""
        for draft in self.notifier.deliver(now()):
            self.write([draft])


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


SLICE = 0.5  # seconds between two checks of the journal and of signals while idle
LAST_TELLING = 20.0  # seconds to wait for targets that do not answer before a process with --once ends
LINE_EVERY = 60.0  # seconds between two lines that only report waiting
PLANNED = ("cost", "currency", "hours", "steps", "tokens", "workers")


class Watch:
    """A watch of one inbox; a workspace has at most one at a time (``journal.only_watch``)."""

    def __init__(
        self, workspace: Workspace, recipe: Recipe, settings: WatchSettings, say: Callable[[str], None]
    ) -> None:
        self.workspace, self.settings, self.say = workspace, settings, say
        self.folder = workspace.folder / FOLDER
        self.place, self.format = place_of(settings.inbox, recipe.ingest), recipe.ingest.format
        self.records = Records(self.folder, settings, say)
        self.book = self.records.book
        self.spending = Spending(self.folder, recipe.train.num_workers, recipe.cost)
        self.looked, self._unlisted = now(), ""
        self._outside: set[str] = set()  # links already reported
        self.stopping = False
        self.busy_until: datetime | None = None
        self.failed = False  # an update failed in this process
        self._interrupted = False  # a step was interrupted by a workspace that did not answer
        self._said_at = 0.0
        self._lineage = Lineage(workspace)
        self.logs = Logs(self.folder / "logs")
        self.observer = Observer(workspace.folder.uri, self.logs.file("observer.log"))

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self, once: bool) -> None:
        """Watch until ``stop``; with ``once``, run one tick until all arrivals that it calls are done or must wait."""
        try:
            with limited(stopping=lambda: self.stopping):
                self.folder.write_json(MODE, {"once": once})
                self._count(self.spending.left())
                if once:
                    self._tick()
                while not (once or self.stopping):
                    self._step_or_wait()
        finally:
            self.observer.end()

    def _step_or_wait(self) -> None:
        """Run one step; keep waiting, without a limit, for a workspace that does not answer before the deadline.

        No state is lost: the next action of a step depends only on the journal and the lineage.
        """
        try:
            if self._interrupted:
                self._count(self.spending.left())
                self._interrupted = False
            self.step()
        except (UnreachableError, FullError) as error:
            self._interrupted = True
            if not self.stopping:
                self.say(f"waiting: {error}")

    def _tick(self) -> None:
        """Run one tick, and all arrivals that it calls."""
        self.look()
        self._reconcile()
        self._call()
        while self._take_next():
            self.look()
        self.folder.write_json(CLOCK, {"handled": stamp(now())})  # shows monitoring of the schedule that it ran
        self._deliver_all()

    def stop(self) -> None:
        """Stop soon: a running update is interrupted, and the next watch resumes it."""
        self.stopping = True

    def step(self) -> None:
        """Check the inbox, follow the schedule, and process the next arrival or wait for the next event."""
        self.records.refresh()
        self.look()
        self._reconcile()
        if not self.book.paused:
            self._answer_schedule()
        if self._take_next():
            return
        self._deliver()
        self._wait()

    def lineage(self) -> Lineage:
        """Return the lineage as it is now; of its log, only commits that are new since the last call are read."""
        self._lineage = self._lineage.reopened()
        return self._lineage

    def look(self) -> None:
        """List the inbox and record arrivals that are new, changed, gone or complete."""
        self.observer.keep()
        self.looked, self._unlisted = now(), ""
        try:
            with limited(CONTACT_S):
                found = look(self.place, self.format, self.settings.marker)
        except (OSError, UnreachableError) as error:
            self._unlisted = f"{self.settings.inbox} cannot be listed: {error}"
            return
        for path in found.outside:
            if path not in self._outside:
                self.say(f"{path}: not followed, because it leads out of the inbox")
        self._outside.update(found.outside)
        self.records.write(observe.observe(self.book, found))
        self.records.write(observe.complete(self.book, found, self.settings, now()))

    def _reconcile(self) -> None:
        """Record the updates that finished according to the lineage, and lift holds whose reason is gone."""
        lineage = self.lineage()
        promoted = {entry["update"] for entry in lineage.history}
        self.records.write(observe.settle(self.book, lineage.ingested(), lineage.read, promoted))
        self.records.write(observe.lift(self.book, lineage.unfinished, self.settings, now()))

    def _answer_schedule(self) -> None:
        cron = self.settings.cron
        if cron is None:
            self._call()
            return
        moment, zone = now(), zone_of(self.settings.timezone)
        tick = last_tick(cron, zone, self._handled(), moment)
        reply = answer(tick, moment, self.settings.missed)
        if tick is None:
            return
        if reply == "run":
            self._call()
        else:
            self.say(f"skipped the missed tick of {stamp(tick)}")
        self.folder.write_json(CLOCK, {"handled": stamp(tick)})  # last: after a kill before this, the tick is repeated

    def _handled(self) -> datetime:
        """Return the last handled tick; ticks before the first start of a watch were not missed."""
        handled = handled_tick(self.folder)
        if handled is None:
            handled = now()
            self.folder.write_json(CLOCK, {"handled": stamp(handled)})
        return handled

    def _call(self) -> None:
        """Call all complete arrivals, so that they can be processed."""
        ready = [
            arrival
            for arrival in self.book.arrivals.values()
            if arrival.state in READY and arrival.completed and not arrival.called
        ]
        if ready:
            self.records.write([Draft("called", details={"paths": [one.path for one in ready]})])

    # -- one arrival ---------------------------------------------------------------------------------------------

    def _take_next(self) -> bool:
        """Perform the next action; return False if all remaining arrivals must wait."""
        unfinished = self.lineage().unfinished
        choice = choose(self.book, unfinished, now())
        self.records.trouble(self._unlisted or choice.blocked)
        if self.stopping or self.book.paused or (self.busy_until is not None and now() < self.busy_until):
            return False
        if choice.hold is not None:
            self._hold(choice.hold)
            return True
        if choice.take is None:
            return False
        return self._take(choice.take, going_on=unfinished is not None)

    def _take(self, arrival: Arrival, going_on: bool) -> bool:
        if not going_on and arrival.planned != arrival.fingerprint:
            return self._plan(arrival)
        if (because := observe.over(self.book, arrival, self.settings, now())) is not None:
            self.records.write([held(arrival, COST, because)])  # an update that began is never discarded for its cost
            return True
        sets = arrival.sets if going_on and arrival.begun else self.settings.sets
        begun = {"attempts": arrival.attempts + 1, "begun": arrival.fingerprint, "sets": list(sets)}
        self.records.write([Draft("started", arrival.path, begun)])
        self.spending.begin(arrival, now())
        before = self._advance(arrival)
        ended = self._child("update", arrival, f"{arrival.attempts + 1}", sets)
        self._count(self.spending.end())
        if self.stopping and ended.code not in FINISHED:
            self.records.write([Draft("interrupted", arrival.path)])
            return False
        self._reconcile()
        if self.book.arrivals[arrival.path].done:
            return True
        unfinished = self.lineage().unfinished
        own = unfinished is not None and begun_by(unfinished) == arrival.name
        if ended.failure is not None and ended.failure.error in NOT_BEGUN:
            return self._busy(arrival)
        self._failed(arrival.path, ended, CHANGED if own else BROKEN, self._advance(arrival).beyond(before))
        return True

    def _count(self, drafts: list[Draft]) -> None:
        """Record the cost of an attempt in the journal."""
        if drafts:
            self.records.write(drafts)
            self.spending.forget()

    def _advance(self, arrival: Arrival) -> Advance:
        """Return the saved progress of an arrival's unfinished update."""
        unfinished = self.lineage().unfinished
        if unfinished is None or begun_by(unfinished) != arrival.name:
            return Advance()
        return advance(self.workspace, unfinished, arrival.name)

    def _plan(self, arrival: Arrival) -> bool:
        """Predict the cost of an arrival's update; this also detects corrupt arrivals before an update begins."""
        with temporary("watch") as scratch:
            output = scratch / "plan.json"
            ended = self._child("plan", arrival, "plan", self.settings.sets, output)
            made = json.loads(output.read_bytes()) if ended.code == 0 else {}
        if self.stopping and ended.code != 0:
            return False
        if ended.code == 0:
            plan = {name: made.get(name) for name in PLANNED}
            self.records.write([Draft("planned", arrival.path, {"plan": plan, "planned": arrival.fingerprint})])
            self.look()  # an arrival that changed meanwhile is no longer complete
        else:
            self._failed(arrival.path, ended, BROKEN)
        return True

    def _child(
        self, command: str, arrival: Arrival, label: str, sets: Iterable[str], output: Path | None = None
    ) -> Ended:
        """Run a command on an arrival to its end."""
        arguments = [command, self.workspace.folder.uri, "--data", f"{arrival.name}={arrival.path}"]
        within = f"ingest.within={json.dumps(str(self.place))}"
        arguments += [word for one in (*sets, within) for word in ("--set", one)]
        arguments += ["--json"] if output else []
        self.say(f"{arrival.name}: {command}")
        log = f"{arrival.name}-{label}.log"
        child = Child(arguments, self.logs.file(log), output)
        ended = child.wait(self._meanwhile, lambda: self.stopping)
        self._keep_log(log)
        return ended

    def _keep_log(self, log: str) -> None:
        """Store a log; report one that cannot be uploaded, without ending the watch."""
        try:
            self.logs.keep(log)
        except (UnreachableError, FullError) as error:
            self.say(f"{log} could not be stored in the workspace: {error}")

    def _meanwhile(self) -> None:
        """Continue quiet periods and the delivery of notices while an update runs.

        A store that does not answer does not end the update: the next call tries again.
        """
        try:
            with limited(0):
                self._deliver()
                self.spending.beat()
                if now() - self.looked >= timedelta(seconds=self.settings.every):
                    self.records.refresh()
                    self.look()
        except (UnreachableError, FullError) as error:
            self._say_now_and_then(f"waiting, while the update continues: {error}")

    def _failed(self, path: str, ended: Ended, why: str, advanced: bool = False) -> None:
        """Retry or hold an arrival whose command failed; ``advanced``: the attempt advanced its update."""
        arrival, because = self.book.arrivals[path], ended.because
        if ended.code in FINISHED:
            because = f"exit code {ended.code}, but the lineage has no finished update of {arrival.name}"
        draft = after_failure(arrival, ended.failure, because, why, self.settings, now(), advanced)
        if draft.kind != HELD or draft.details["why"] != why:
            self.failed = True
        if draft.kind == HELD:
            self._hold(draft)
        else:
            self.records.write([draft])

    def _hold(self, draft: Draft) -> None:
        """Hold an arrival; if the settings ask for it, discard its unfinished update to unblock the others."""
        self.records.write([draft])
        if self.settings.after_failure == "discard" and self.lineage().unfinished is not None:
            arguments = ["discard", self.workspace.folder.uri]
            Child(arguments, self.logs.file("discard.log")).wait(self._meanwhile, lambda: False)
            self._keep_log("discard.log")

    def _busy(self, arrival: Arrival) -> bool:
        """Try again later because another command is writing to the workspace; the arrival is not at fault."""
        self.busy_until = now() + timedelta(seconds=self.settings.every)
        self.records.write([Draft("busy", arrival.path)])
        return False

    # -- waiting -------------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        if not self.stopping:
            self.records.deliver()

    def _deliver_all(self) -> None:
        """Deliver the remaining notices before this process ends, with a little time for targets that are down."""
        deadline = time.monotonic() + LAST_TELLING
        self._deliver()
        while self.records.notifier.queue and not self.stopping and time.monotonic() < deadline:
            time.sleep(SLICE)
            self._deliver()

    def _wait(self) -> None:
        """Wait for the next check, tick, retry or notice, a signal, or an event of another process."""
        latest = time.monotonic() + self.settings.every  # the clock may be set back
        moments = [self.looked + timedelta(seconds=self.settings.every), self.records.notifier.due, self.busy_until]
        if not self.book.paused:
            moments.append(choose(self.book, self._lineage.unfinished, now()).until)
            if self.settings.cron is not None:
                moments.append(next_tick(self.settings.cron, zone_of(self.settings.timezone), now()))
        until = min(moment for moment in moments if moment is not None and (moment > now() or moment == moments[0]))
        while time.monotonic() < latest and now() < until and not (self.stopping or self.records.journal.grown()):
            self._say_waiting()
            time.sleep(SLICE)

    def _say_waiting(self) -> None:
        states = [arrival.state for arrival in self.book.arrivals.values() if arrival.present]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "no arrivals"
        self._say_now_and_then(f"{'paused' if self.book.paused else 'waiting'}: {counts}")

    def _say_now_and_then(self, line: str) -> None:
        if time.monotonic() - self._said_at >= LINE_EVERY:
            self._said_at = time.monotonic()
            self.say(line)
