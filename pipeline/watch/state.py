"""State of every arrival, computed from the journal's events. Pure, so that a dry run needs no journal file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_origin

from rewarm.pipeline.record import REFUSED, RELEASED, UNDECIDED
from rewarm.pipeline.watch.journal import MEND, Event
from rewarm.pipeline.watch.lines import JOURNAL
from rewarm.stages.core.errors import DamagedError

ARRIVING, COMPLETE, STARTED, FAILED, HELD = "arriving", "complete", "started", "failed", "held"
DONE = (RELEASED, REFUSED, UNDECIDED)
# Reasons for a hold.
BROKEN, COST, CHANGED, NAME, EXHAUSTED, VANISHED = "broken", "cost", "changed", "name", "exhausted", "vanished"
DAMAGED = "damaged"  # the workspace, not the arrival


@dataclass(frozen=True)
class Arrival:
    """One arrival and its progress. Times are ISO 8601, empty if not reached yet."""

    path: str
    name: str  # name of its dataset
    fingerprint: str  # digest of its listing, as last seen
    since: str  # when that listing was first seen; the quiet period starts here
    files: int = 0
    bytes: int = 0
    state: str = ARRIVING
    present: bool = True
    completed: str = ""
    marker: str = ""  # version of the marker that completed it, so that a changed arrival needs a new marker
    called: bool = False  # a tick has called it: it may be processed
    why: str = ""  # reason for the hold
    because: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)  # cost, currency, hours, steps, tokens
    planned: str = ""  # fingerprint for which it was planned
    begun: str = ""  # fingerprint with which its update began
    sets: Sequence[str] = ()  # settings with which its update began
    spent: str = ""  # when its update first began
    attempts: int = 0  # attempts of its update
    failures: int = 0  # failures since its update last advanced, or a person retried it
    retry_at: str = ""
    error: str = ""  # kind of the failure behind the retry (``stages.core.errors``); empty if killed
    approved: bool = False  # a person retried it: continue whatever the cost, changed or not
    update: str = ""  # id of its update
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # start time of each attempt -> seconds, cost

    @property
    def done(self) -> bool:
        """Whether the update is finished."""
        return self.state in DONE

    def cost(self, month: str = "") -> float:
        """Return the cost of the attempts that began in a month (``2026-11``; empty: all), failed and killed included.

        For attempts of an earlier rewarm, which did not measure them, the predicted cost of the update is used.
        """
        if not self.runs:
            return (self.plan.get("cost") or 0.0) if self.spent and self.spent.startswith(month) else 0.0
        return sum(run["cost"] or 0.0 for began, run in self.runs.items() if began.startswith(month))


KINDS: dict[str, Any] = {one.name: get_origin(one.type) or one.type for one in fields(Arrival)}


def checked(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return values for fields of an arrival; raises ``TypeError`` for one of another type than its field."""
    for name, value in values.items():
        if name in KINDS and not isinstance(value, KINDS[name]):
            raise TypeError(f"{name} is {value!r}")
    return values


class Book:
    """The state of a watch: all arrivals by path, and whether it is paused."""

    def __init__(self) -> None:
        self.arrivals: dict[str, Arrival] = {}
        self.paused = False
        self.trouble = ""  # reason why no arrival can be processed

    def turn(self, events: Iterable[Event]) -> None:
        """Apply events, in order. Raises ``DamagedError`` for one that does not say what an event of its kind says."""
        for event in events:
            try:
                self._apply(event)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DamagedError(
                    f"{JOURNAL}, line {event.seq}: not what an event {event.kind!r} says ({error!r}). {MEND}"
                ) from error

    def _apply(self, event: Event) -> None:
        if event.kind in ("paused", "resumed"):
            self.paused = event.kind == "paused"
        elif event.kind in ("trouble", "recovered"):
            self.trouble = str(event.details.get("because", ""))
        elif event.kind == "called":
            for path in event.details["paths"]:
                self._change(path, called=True)
        elif event.kind == "seen" and event.path not in self.arrivals:
            self.arrivals[event.path] = Arrival(event.path, since=event.at, **checked(event.details))
        elif event.kind == "ran" and event.path in self.arrivals:
            run = {name: event.details[name] for name in ("seconds", "cost")}  # repeating it changes nothing
            self._change(event.path, runs={**self.arrivals[event.path].runs, event.details["began"]: run})
        elif event.path in self.arrivals:
            self._change(event.path, **changes(self.arrivals[event.path], event))

    def _change(self, path: str, **values: Any) -> None:
        self.arrivals[path] = replace(
            self.arrivals[path], **{name: value for name, value in checked(values).items() if name in KINDS}
        )

    def shown(self) -> list[Arrival]:
        """Return the arrivals that are in the inbox, or whose update began or finished."""
        return [arrival for arrival in self.arrivals.values() if arrival.present or arrival.done or arrival.begun]

    def named(self, name: str) -> Arrival | None:
        """Return the owner of a dataset name: the first arrival of that name that is present or was begun."""
        owners = [arrival for arrival in self.arrivals.values() if arrival.name == name and arrival.why != NAME]
        return next((owner for owner in owners if owner.present or owner.begun or owner.done), None)


def changes(arrival: Arrival, event: Event) -> dict[str, Any]:
    """Return the fields of an arrival that an event changes; its details are named after the fields they set."""
    details, clean = dict(event.details), {"why": "", "because": "", "retry_at": "", "error": ""}
    back = COMPLETE if arrival.completed else ARRIVING
    changed: dict[str, Any] = {}  # planned, altered and dropped only set their details
    match event.kind:
        case "seen":  # with other files: its problem may be fixed; an update that began stays begun
            mended = arrival.state in (ARRIVING, COMPLETE) or (arrival.state == HELD and arrival.why != CHANGED)
            anew = {"since": event.at, "present": True, "completed": "", "called": False, "approved": False}
            changed = {**anew, **({"state": ARRIVING, "failures": 0, **clean} if mended else {})}
        case "gone":
            changed = {"present": False, "called": False, "completed": ""}
        case "complete":
            changed = {"completed": event.at, "state": COMPLETE if arrival.state == ARRIVING else arrival.state}
        case "started":
            changed = {**clean, "spent": arrival.spent or event.at, "state": STARTED}
        case "busy":  # the update did not begin
            changed = {"attempts": arrival.attempts - 1}
        case "failed":
            changed = {"state": FAILED, "failures": 1 if details.get("advanced") else arrival.failures + 1}
        case "held":
            changed = {"state": HELD, "retry_at": "", "approved": False}
        case "lifted" | "retry":  # the reason for the hold is gone, or a person retries it
            asked = {"called": arrival.called or bool(arrival.completed), "failures": 0, "approved": True}
            changed = {**clean, "state": back, **(asked if event.kind == "retry" else {})}
        case "released" | "refused" | "undecided":
            changed = {"state": event.kind, "why": "", "retry_at": ""}
    return {**details, **changed}
