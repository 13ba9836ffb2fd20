"""Which arrival comes next, and what becomes of one whose update failed. Pure functions."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import xxhash

from rewarm.pipeline.failure import Failure
from rewarm.pipeline.watch.journal import Draft, read_stamp
from rewarm.pipeline.watch.settings import WatchSettings
from rewarm.pipeline.watch.state import (
    CHANGED,
    COMPLETE,
    DAMAGED,
    EXHAUSTED,
    FAILED,
    HELD,
    STARTED,
    VANISHED,
    Arrival,
    Book,
)
from rewarm.stages.core.errors import (
    BusyError,
    DamagedError,
    FullError,
    NoRoomError,
    RefusedError,
    UndecidedError,
    UnfinishedError,
    UnreachableError,
    UsageError,
)

LONGEST = 3600.0  # seconds between two attempts, at most
JITTER = 0.2  # of the wait, up or down: watches that failed together do not come back together
READY = (COMPLETE, STARTED, FAILED)  # a state "started" without an update that is begun was killed before that
FINISHED = (0, RefusedError.code, UndecidedError.code)  # exit codes of an update that has its record
NOT_BEGUN = (BusyError.kind, UnfinishedError.kind)  # the update waits for another command: nothing is wrong with it
HOLDING = {UsageError.kind: "", DamagedError.kind: DAMAGED}  # trying these again would change nothing; why it is held
PATIENT = (UnreachableError.kind, FullError.kind, NoRoomError.kind)  # tried again for as long as it takes


@dataclass(frozen=True)
class Choice:
    """What to do now: take an arrival, hold one, wait until a time, or nothing; and why nothing can be taken."""

    take: Arrival | None = None
    hold: Draft | None = None
    until: datetime | None = None
    blocked: str = ""


def choose(book: Book, unfinished: str | None, now: datetime) -> Choice:
    """The next of the arrivals that a tick called, in the order of their completion, then name.

    An unfinished update comes before all others, and is gone on with as it was begun or not at all.
    """
    if unfinished is not None:
        return go_on(book, unfinished, now)
    waiting = [one for one in book.arrivals.values() if one.state in READY and one.called and one.completed]
    due = [one for one in waiting if not one.retry_at or read_stamp(one.retry_at) <= now]
    if due:
        return Choice(take=min(due, key=lambda one: (one.completed, one.name)))
    return Choice(until=min((read_stamp(one.retry_at) for one in waiting), default=None))


def go_on(book: Book, unfinished: str, now: datetime) -> Choice:
    """Whether the unfinished update can be gone on with."""
    owner = book.named(begun_by(unfinished))
    if owner is None or owner.done:
        return Choice(
            blocked=f"update {unfinished} was begun by another command and is not finished: run that again, or drop "
            "it with `rewarm discard`"
        )
    if owner.state == HELD:
        return Choice(blocked=f"update {unfinished} is not finished, and {owner.name} is held: {owner.because}")
    if not owner.present:
        return Choice(hold=held(owner, VANISHED, gone_away(owner, unfinished)))
    if owner.begun and owner.begun != owner.fingerprint and not owner.approved:
        return Choice(hold=held(owner, CHANGED, changed(owner, unfinished)))
    if owner.retry_at and read_stamp(owner.retry_at) > now:
        return Choice(until=read_stamp(owner.retry_at))
    return Choice(take=owner)


def begun_by(update: str) -> str:
    """The arrival's name in an update's id."""
    return update.partition("-")[2]


def held(arrival: Arrival, why: str, because: str) -> Draft:
    """The draft that holds an arrival."""
    return Draft("held", arrival.path, {"why": why, "because": because})


def gone_away(arrival: Arrival, unfinished: str) -> str:
    """What to say of an arrival that is not there any more."""
    return (
        f"{arrival.path} is not in the inbox any more, and its update {unfinished} is not finished: put it back as it "
        "was, or drop the update with `rewarm discard`"
    )


def changed(arrival: Arrival, unfinished: str) -> str:
    """What to say of an arrival that has other files than those its update began with."""
    return (
        f"its files changed after its update {unfinished} began: put them back as they were, or drop the update with "
        "`rewarm discard`, and it begins anew with these"
    )


def after_failure(
    arrival: Arrival,
    failure: Failure | None,
    because: str,
    why: str,
    settings: WatchSettings,
    now: datetime,
    advanced: bool = False,
) -> Draft:
    """A further attempt, later; or the arrival is held: at once if its command was refused, else after the last.

    An attempt that ``advanced`` its update (a stage was finished, a checkpoint saved) starts the count of failures
    anew. ``why`` is the reason for which an arrival that cannot be used is held. A store that does not answer or is
    full, or a cluster without room, says nothing about the arrival, which is tried again until it does.
    """
    kind = failure.error if failure is not None else ""
    if kind in HOLDING:
        return held(arrival, HOLDING[kind] or why, because)
    failures = 1 if advanced else arrival.failures + 1
    if failures > settings.retries and kind not in PATIENT:
        attempts = f"{failures} attempts failed and saved nothing new, the last with: " if failures > 1 else ""
        return held(arrival, EXHAUSTED, attempts + because)
    wait = pause(arrival.name, failures, settings.backoff)
    retry_at = (now + timedelta(seconds=wait)).isoformat(timespec="milliseconds")
    details = {"because": because, "retry_at": retry_at, "error": kind, "advanced": advanced}
    return Draft("failed", arrival.path, details)


def pause(name: str, failures: int, first: float) -> float:
    """Seconds to wait after so many failures: doubling, at most an hour, with a jitter that name and count decide."""
    whole = min(first * 2.0 ** (failures - 1), LONGEST)
    draw = xxhash.xxh3_64_intdigest(f"{name}\0{failures}".encode()) / 2**64
    return whole * (1 + JITTER * (2 * draw - 1))
