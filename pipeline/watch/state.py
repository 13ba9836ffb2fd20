"""What the journal's events add up to: every arrival's state. Pure; a dry run turns pages without a journal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rewarm.pipeline.record import REFUSED, RELEASED, UNDECIDED
from rewarm.pipeline.watch.journal import Event

ARRIVING, COMPLETE, STARTED, FAILED, HELD = "arriving", "complete", "started", "failed", "held"
DONE = (RELEASED, REFUSED, UNDECIDED)
# Why an arrival is held.
BROKEN, COST, CHANGED, NAME, EXHAUSTED, VANISHED = "broken", "cost", "changed", "name", "exhausted", "vanished"
DAMAGED = "damaged"  # not the arrival: the workspace


@dataclass(frozen=True)
class Arrival:
    """One arrival and how far it has come. Times are ISO 8601, empty where it has not come to that."""

    path: str
    name: str  # of its dataset
    fingerprint: str  # of its listing, as last seen
    since: str  # when that was first seen: the quiet period counts from here
    files: int = 0
    bytes: int = 0
    state: str = ARRIVING
    present: bool = True
    completed: str = ""
    marker: str = ""  # the version of the marker that completed it, so that a changed arrival needs a new one
    called: bool = False  # by a tick: it may be taken in
    why: str = ""  # it is held
    because: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)  # cost, currency, hours, steps, tokens
    planned: str = ""  # the fingerprint that was planned
    begun: str = ""  # the fingerprint that its update was begun with
    sets: Sequence[str] = ()  # its update was begun with
    spent: str = ""  # when its update was first begun
    attempts: int = 0  # of its update
    failures: int = 0  # since its update last advanced, or a person looked
    retry_at: str = ""
    error: str = (
        ""  # the kind of the failure that it is tried again after: ``stages.core.errors``, empty if it was killed
    )
    approved: bool = False  # a person said: go on, whatever it costs and whether or not it changed
    update: str = ""  # its update's id
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # attempts by their beginning: seconds, cost

    @property
    def done(self) -> bool:
        """Whether its update is finished."""
        return self.state in DONE

    def cost(self, month: str = "") -> float:
        """What its attempts that began in a month (``2026-11``; in all) cost, failed and killed ones included.

        Of attempts that an earlier rewarm made, which did not measure them, what was predicted for the update.
        """
        if not self.runs:
            return (self.plan.get("cost") or 0.0) if self.spent and self.spent.startswith(month) else 0.0
        return sum(run["cost"] or 0.0 for began, run in self.runs.items() if began.startswith(month))


FIELDS = frozenset(one.name for one in fields(Arrival))


class Book:
    """All arrivals by path, and whether the watch is paused."""

    def __init__(self) -> None:
        self.arrivals: dict[str, Arrival] = {}
        self.paused = False
        self.trouble = ""  # why nothing can be taken in at all

    def turn(self, events: Iterable[Event]) -> None:
        """Take events in, in their order."""
        for event in events:
            if event.kind in ("paused", "resumed"):
                self.paused = event.kind == "paused"
            elif event.kind in ("trouble", "recovered"):
                self.trouble = event.details.get("because", "")
            elif event.kind == "called":
                for path in event.details["paths"]:
                    self._change(path, called=True)
            elif event.kind == "seen" and event.path not in self.arrivals:
                self.arrivals[event.path] = Arrival(event.path, since=event.at, **event.details)
            elif event.kind == "ran" and event.path in self.arrivals:
                run = {name: event.details[name] for name in ("seconds", "cost")}  # again the same changes nothing
                self._change(event.path, runs={**self.arrivals[event.path].runs, event.details["began"]: run})
            elif event.path in self.arrivals:
                self._change(event.path, **changes(self.arrivals[event.path], event))

    def _change(self, path: str, **values: Any) -> None:
        self.arrivals[path] = replace(
            self.arrivals[path], **{name: value for name, value in values.items() if name in FIELDS}
        )

    def shown(self) -> list[Arrival]:
        """The arrivals that are there, were begun or were taken in."""
        return [one for one in self.arrivals.values() if one.present or one.done or one.begun]

    def named(self, name: str) -> Arrival | None:
        """The arrival that a dataset's name belongs to: the first that had it and is there, or was begun."""
        owners = [one for one in self.arrivals.values() if one.name == name and one.why != NAME]
        return next((one for one in owners if one.present or one.begun or one.done), None)


def changes(arrival: Arrival, event: Event) -> dict[str, Any]:
    """What an event changes of an arrival, beside its details, which are named as the fields that they set."""
    details, clean = dict(event.details), {"why": "", "because": "", "retry_at": "", "error": ""}
    back = COMPLETE if arrival.completed else ARRIVING
    changed: dict[str, Any] = {}  # nothing beside its details: planned, altered, dropped
    match event.kind:
        case "seen":  # with other files: what was wrong with it may be mended; what was begun stays begun
            mended = arrival.state in (ARRIVING, COMPLETE) or (arrival.state == HELD and arrival.why != CHANGED)
            anew = {"since": event.at, "present": True, "completed": "", "called": False, "approved": False}
            changed = {**anew, **({"state": ARRIVING, "failures": 0, **clean} if mended else {})}
        case "gone":
            changed = {"present": False, "called": False, "completed": ""}
        case "complete":
            changed = {"completed": event.at, "state": COMPLETE if arrival.state == ARRIVING else arrival.state}
        case "started":
            changed = {**clean, "spent": arrival.spent or event.at, "state": STARTED}
        case "busy":  # its update did not begin
            changed = {"attempts": arrival.attempts - 1}
        case "failed":
            changed = {"state": FAILED, "failures": 1 if details.get("advanced") else arrival.failures + 1}
        case "held":
            changed = {"state": HELD, "retry_at": "", "approved": False}
        case "lifted" | "retry":  # the reason why it was held is gone, or a person says so
            asked = {"called": arrival.called or bool(arrival.completed), "failures": 0, "approved": True}
            changed = {**clean, "state": back, **(asked if event.kind == "retry" else {})}
        case "released" | "refused" | "undecided":
            changed = {"state": event.kind, "why": "", "retry_at": ""}
    return {**details, **changed}
