"""Events derived from a listing of the inbox and from the lineage, as pure functions that return drafts of events.

``envisage`` answers ``--dry-run`` by the same decisions as the loop, without writing any event.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.record import HELD_BACK, RELEASED, UNDECIDED, Entry, UpdateRecord
from rewarm.pipeline.watch.inbox import Found, Listing
from rewarm.pipeline.watch.journal import Draft, Event, read_stamp, stamp
from rewarm.pipeline.watch.policy import begun_by, choose, retry_time
from rewarm.pipeline.watch.settings import WatchSettings
from rewarm.pipeline.watch.state import CHANGED, COST, HELD, NAME, VANISHED, Arrival, Book


def observe(book: Book, listing: Listing) -> Iterator[Draft]:
    """Yield arrivals that are new, changed or gone; each new listing of an arrival starts its quiet period."""
    here = {arrival.path: arrival for arrival in listing.arrivals}
    names: dict[str, str] = {}  # names that are new in this listing
    for path, one in here.items():
        known = book.arrivals.get(path)
        if known is not None and known.present and known.fingerprint == one.fingerprint:
            continue
        details = {"fingerprint": one.fingerprint, "files": one.files, "bytes": one.bytes}
        if known is not None and known.done:
            yield Draft("altered", path, details)
            continue
        yield Draft("seen", path, {"name": one.name, **details})
        owner = book.named(one.name)
        other = owner.path if owner else names.setdefault(one.name, path)
        if other != path:
            yield Draft("held", path, {"why": NAME, "because": clash(one.name, other)})
    for path, known in list(book.arrivals.items()):
        if known.present and not known.done and path not in here:
            yield Draft("gone", path)


def clash(name: str, other: str) -> str:
    """Describe a conflict of dataset names."""
    return f"its dataset name would be {name!r}, already used by {other}; rename one of them to ingest both"


def complete(book: Book, listing: Listing, settings: WatchSettings, now: datetime) -> Iterator[Draft]:
    """Yield arrivals that became complete, by a new marker or by their quiet period."""
    for arrival in listing.arrivals:
        known = book.arrivals.get(arrival.path)
        if known is None or known.done or known.completed or known.fingerprint != arrival.fingerprint:
            continue
        if arrival.marker and arrival.marker != known.marker:
            yield Draft("complete", arrival.path, {"by": settings.marker, "marker": arrival.marker})
        elif still(known, arrival, settings, now):
            yield Draft(
                "complete", arrival.path, {"by": f"{settings.quiet:g} s without a change", "marker": known.marker}
            )


def still(known: Arrival, one: Found, settings: WatchSettings, now: datetime) -> bool:
    """Return whether an arrival has files and has not changed for the quiet period."""
    if not settings.quiet or not one.files:
        return False
    return now - read_stamp(known.since) >= timedelta(seconds=settings.quiet)


def settle(
    book: Book, finished: Mapping[str, Entry], read: Callable[[str], UpdateRecord], promoted: Collection[str] = ()
) -> Iterator[Draft]:
    """Yield arrivals whose update is finished according to the lineage, whatever happened to the watch that began it.

    ``finished`` has the update of each dataset. Only the records of updates that the book did not know to be finished
    are read. An undecided release counts as released once a person ``promoted`` it.
    """
    for arrival in list(book.arrivals.values()):
        update = finished.get(arrival.name)
        if update is None or arrival.why == NAME:
            continue
        decided = update.state == UNDECIDED and update.id in promoted
        if not arrival.done or (decided and arrival.state == UNDECIDED):
            state = RELEASED if decided else update.state
            yield Draft(state, arrival.path, account(read(update.id), arrival, decided))


def account(update: UpdateRecord, arrival: Arrival, decided: bool = False) -> dict[str, Any]:
    """Return the details of a finished update that the journal records."""
    verdict = update.gate
    if not arrival.attempts:
        because = (
            f"{update.id} already ingested a dataset of this name; nothing was done. Rename it if it is other data"
        )
    else:
        because = "; ".join(verdict.because if verdict else []) if update.state in HELD_BACK else ""
        because = "promoted manually; the gate could not decide" if decided else because
    if arrival.begun and arrival.begun != arrival.fingerprint:
        because += " (its files changed during the update; the late changes are not included)"
    return {
        "update": update.id,
        "because": because.strip(),
        "losses": update.losses.get("release", {}),
        "forgetting": update.forgetting,
        "seconds": round(sum(update.seconds.values()), 1),
    }


def lift(book: Book, unfinished: str | None, settings: WatchSettings, now: datetime) -> Iterator[Draft]:
    """Yield held arrivals whose reason is gone, and arrivals whose update was discarded; runs between updates."""
    for arrival in list(book.arrivals.values()):
        begun = unfinished is not None and begun_by(unfinished) == arrival.name
        if arrival.begun and not begun and not arrival.done:
            yield Draft("dropped", arrival.path, {"begun": "", "sets": []})
        if arrival.state != HELD or not arrival.present:
            continue
        if (
            (arrival.why in (CHANGED, VANISHED) and (not begun or arrival.fingerprint == arrival.begun))
            or (arrival.why == COST and over(book, arrival, settings, now) is None)
            or (arrival.why == NAME and book.named(arrival.name) is None)
        ):
            yield Draft("lifted", arrival.path, {"was": arrival.because})


def over(book: Book, arrival: Arrival, settings: WatchSettings, now: datetime) -> str | None:
    """Return why an arrival's update exceeds a cost limit; None if it does not, or a person approved it.

    The cost of its attempts so far counts, plus the predicted rest: the full prediction for a new update, less the
    amount spent for a resumed one. The month's total is that of all attempts that began in it.
    """
    limits = (settings.max_cost, settings.max_total_cost)
    if limits == (None, None) or arrival.approved:
        return None
    cost, currency = arrival.plan.get("cost"), arrival.plan.get("currency", "")
    if cost is None and not arrival.begun:
        return "the cost of its update cannot be predicted (see `rewarm plan`), but a cost limit is set"
    own = arrival.cost() if arrival.runs else 0.0
    rest = max(0.0, (cost or 0.0) - own) if arrival.begun else cost or 0.0
    predicted = f"its predicted cost is {rest:.2f} {currency}"
    if own:
        predicted += f" on top of {own:.2f} for {len(arrival.runs)} attempts"
    if settings.max_cost is not None and own + rest > settings.max_cost:
        return f"{predicted}, more than the {settings.max_cost:.2f} allowed"
    month = f"{now:%Y-%m}"
    others = sum(one.cost(month) for one in book.arrivals.values() if one.path != arrival.path)
    total = others + (arrival.cost(month) if arrival.runs else 0.0)
    if settings.max_total_cost is not None and total + rest > settings.max_total_cost:
        return (
            f"{predicted}; with {total:.2f} already spent on attempts this month, that is more than the "
            f"{settings.max_total_cost:.2f} allowed"
        )
    return None


def envisage(
    book: Book,
    listing: Listing,
    lineage: Lineage,
    settings: WatchSettings,
    moment: datetime,
) -> dict[str, Any]:
    """Return what would be processed, in order, and why the rest would not, as JSON types; changes ``book``."""
    turn(book, observe(book, listing), moment)
    turn(book, complete(book, listing, settings, moment), moment)
    unfinished = lineage.unfinished
    turn(book, settle(book, lineage.ingested(), lineage.read), moment)
    turn(book, lift(book, unfinished, settings, moment), moment)
    ready = [arrival.path for arrival in book.arrivals.values() if arrival.completed]
    turn(book, [Draft("called", details={"paths": ready})], moment)
    choice = choose(book, unfinished, moment)
    first = choice.take.path if choice.take else None
    open_ones = [arrival for arrival in book.arrivals.values() if arrival.present and not arrival.done]
    reasons = {one.path: "" if one.path == first else why_not(one, settings, moment) for one in open_ones}
    queue = sorted(
        (one for one in open_ones if not reasons[one.path]),
        key=lambda one: (one.path != first, one.completed, one.name),
    )
    blocked = choice.blocked or (choice.hold.details["because"] if choice.hold else "")
    return {
        "paused": book.paused,
        "blocked": blocked,
        "goes_on_with": unfinished,
        "takes": [] if blocked or book.paused else [{"name": one.name, "path": one.path} for one in queue],
        "waits": [
            {"name": one.name, "path": one.path, "because": reasons[one.path]} for one in open_ones if reasons[one.path]
        ],
        "taken_in": {arrival.name: arrival.update for arrival in book.arrivals.values() if arrival.done},
        "passed_over": listing.passed_over,
        "outside": listing.outside,
    }


def turn(book: Book, drafts: Iterable[Draft], moment: datetime) -> None:
    """Apply drafts to a book without writing them to the journal."""
    book.turn([Event(0, stamp(moment), draft.kind, draft.path, draft.details) for draft in list(drafts)])


def why_not(arrival: Arrival, settings: WatchSettings, moment: datetime) -> str:
    """Return why an arrival would not be processed now; empty if it would be."""
    if arrival.state == HELD:
        return f"held ({arrival.why}): {arrival.because}"
    if not arrival.completed:
        seconds = (moment - read_stamp(arrival.since)).total_seconds()
        quiet = f", or {settings.quiet:g} s without a change (now {seconds:.0f} s)" if settings.quiet else ""
        return f"not complete: waiting for a new {settings.marker}{quiet}"
    if retry_time(arrival, moment):
        return f"failed, retry at {arrival.retry_at}: {arrival.because}"
    return ""
