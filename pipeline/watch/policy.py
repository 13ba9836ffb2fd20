"""Pure decision functions of a watch: the next arrival to process, and retry or hold after a failure."""

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
JITTER = 0.2  # share of the wait, up or down, so that watches that failed together do not retry together
READY = (COMPLETE, STARTED, FAILED)  # "started" without an unfinished update: killed before the update began
FINISHED = (0, RefusedError.code, UndecidedError.code)  # exit codes of an update that wrote its record
NOT_BEGUN = (BusyError.kind, UnfinishedError.kind)  # the update must wait for another command; the arrival is fine
HOLDING = {UsageError.kind: "", DamagedError.kind: DAMAGED}  # errors that a retry cannot fix -> reason for the hold
PATIENT = (UnreachableError.kind, FullError.kind, NoRoomError.kind)  # retried without a limit


@dataclass(frozen=True)
class Choice:
    """Next action: process an arrival, hold one, wait until a time, or nothing; ``blocked`` is the reason for none."""

    take: Arrival | None = None
    hold: Draft | None = None
    until: datetime | None = None
    blocked: str = ""


def choose(book: Book, unfinished: str | None, now: datetime) -> Choice:
    """Choose the next of the arrivals called by a tick, in order of completion, then of name.

    An unfinished update goes first, and is only resumed with the files it began with.
    """
    if unfinished is not None:
        return go_on(book, unfinished, now)
    waiting = [
        arrival for arrival in book.arrivals.values() if arrival.state in READY and arrival.called and arrival.completed
    ]
    due = [one for one in waiting if retry_time(one, now) is None]
    if due:
        return Choice(take=min(due, key=lambda one: (one.completed, one.name)))
    return Choice(until=min((at for one in waiting if (at := retry_time(one, now))), default=None))


def retry_time(arrival: Arrival, now: datetime) -> datetime | None:
    """Return the time of an arrival's planned retry; None if it is due, or none is planned.

    A time that is further away than the longest pause was planned before the clock was set back: that retry is due.
    """
    if not arrival.retry_at:
        return None
    at = read_stamp(arrival.retry_at)
    return at if now < at <= now + timedelta(seconds=LONGEST * (1 + JITTER)) else None


def go_on(book: Book, unfinished: str, now: datetime) -> Choice:
    """Decide whether the unfinished update can be resumed."""
    owner = book.named(begun_by(unfinished))
    if owner is None or owner.done:
        return Choice(
            blocked=f"update {unfinished} is unfinished and was begun by another command: run that command again, or "
            "discard the update with `rewarm discard`"
        )
    if owner.state == HELD:
        return Choice(blocked=f"update {unfinished} is unfinished, and {owner.name} is held: {owner.because}")
    if not owner.present:
        return Choice(hold=held(owner, VANISHED, gone_away(owner, unfinished)))
    if owner.begun and owner.begun != owner.fingerprint and not owner.approved:
        return Choice(hold=held(owner, CHANGED, changed(owner, unfinished)))
    if at := retry_time(owner, now):
        return Choice(until=at)
    return Choice(take=owner)


def begun_by(update: str) -> str:
    """Return the arrival's name from an update's id."""
    return update.partition("-")[2]


def held(arrival: Arrival, why: str, because: str) -> Draft:
    """Return the draft of an event that holds an arrival."""
    return Draft("held", arrival.path, {"why": why, "because": because})


def gone_away(arrival: Arrival, unfinished: str) -> str:
    """Describe an unfinished arrival that was removed from the inbox."""
    return (
        f"{arrival.path} was removed from the inbox, but its update {unfinished} is unfinished: restore the same "
        "files, or discard the update with `rewarm discard`"
    )


def changed(arrival: Arrival, unfinished: str) -> str:
    """Describe an arrival whose files changed after its update began."""
    return (
        f"its files changed after its update {unfinished} began: restore the original files, or run `rewarm discard` "
        "to begin a new update with the changed ones"
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
    """Schedule a retry, or hold the arrival: at once if its command was refused, else after the last retry.

    An attempt that ``advanced`` its update (finished a stage, saved a checkpoint) resets the count of failures.
    ``why`` is the reason under which an unusable arrival is held. If a store does not answer or is full, or the
    cluster lacks resources, the arrival is not at fault and is retried without a limit.
    """
    kind = failure.error if failure is not None else ""
    if kind in HOLDING:
        return held(arrival, HOLDING[kind] or why, because)
    failures = 1 if advanced else arrival.failures + 1
    if failures > settings.retries and kind not in PATIENT:
        attempts = f"{failures} attempts failed without progress, the last one with: " if failures > 1 else ""
        return held(arrival, EXHAUSTED, attempts + because)
    wait = pause(arrival.name, failures, settings.backoff)
    retry_at = (now + timedelta(seconds=wait)).isoformat(timespec="milliseconds")
    details = {"because": because, "retry_at": retry_at, "error": kind, "advanced": advanced}
    return Draft("failed", arrival.path, details)


def pause(name: str, failures: int, first: float) -> float:
    """Return the seconds to wait after ``failures``: doubling, at most an hour, with jitter from name and count."""
    whole = min(first * 2.0 ** (failures - 1), LONGEST)
    draw = xxhash.xxh3_64_intdigest(f"{name}\0{failures}".encode()) / 2**64
    return whole * (1 + JITTER * (2 * draw - 1))
