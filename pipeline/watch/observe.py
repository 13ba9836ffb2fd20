"""What a look at the inbox and at the lineage means for the book: pure functions that give drafts of events.

What a tick would do now, for ``--dry-run``: the same decisions as the loop's, on a copy that nobody writes down.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from rewarm.pipeline.record import HELD_BACK, RELEASED, UNDECIDED, UpdateRecord
from rewarm.pipeline.watch.inbox import Found, Listing
from rewarm.pipeline.watch.journal import Draft, Event, read_stamp, stamp
from rewarm.pipeline.watch.policy import begun_by, choose
from rewarm.pipeline.watch.settings import WatchSettings
from rewarm.pipeline.watch.state import CHANGED, COST, HELD, NAME, VANISHED, Arrival, Book


def observe(book: Book, listing: Listing) -> Iterator[Draft]:
    """What is new, has other files than before, or is gone; each first sight of a listing begins a quiet period."""
    here = {one.path: one for one in listing.arrivals}
    names: dict[str, str] = {}  # that are new in this look
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
    """Why an arrival cannot have its name."""
    return f"its dataset would be called {name!r}, as that of {other}; rename the one that is to be taken in as well"


def complete(book: Book, listing: Listing, settings: WatchSettings, now: datetime) -> Iterator[Draft]:
    """Arrivals that are complete now: by a marker that did not complete them before, or by their quiet period."""
    for one in listing.arrivals:
        known = book.arrivals.get(one.path)
        if known is None or known.done or known.completed or known.fingerprint != one.fingerprint:
            continue
        if one.marker and one.marker != known.marker:
            yield Draft("complete", one.path, {"by": settings.marker, "marker": one.marker})
        elif still(known, one, settings, now):
            yield Draft("complete", one.path, {"by": f"{settings.quiet:g} s without a change", "marker": known.marker})


def still(known: Arrival, one: Found, settings: WatchSettings, now: datetime) -> bool:
    """Whether an arrival has files and has not changed for the quiet period."""
    if not settings.quiet or not one.files:
        return False
    return now - read_stamp(known.since) >= timedelta(seconds=settings.quiet)


def settle(book: Book, updates: Sequence[UpdateRecord], promoted: Collection[str] = ()) -> Iterator[Draft]:
    """Arrivals whose update is finished: the lineage is the truth, whatever became of the watch that began it.

    An undecided release that a person ``promoted`` is released from then on.
    """
    finished = {name: update for update in updates for name in update.datasets}
    for one in list(book.arrivals.values()):
        update = finished.get(one.name)
        if update is None or one.why == NAME:
            continue
        decided = update.state == UNDECIDED and update.id in promoted
        if not one.done or (decided and one.state == UNDECIDED):
            yield Draft(RELEASED if decided else update.state, one.path, account(update, one, decided))


def account(update: UpdateRecord, arrival: Arrival, decided: bool = False) -> dict[str, Any]:
    """What the journal keeps of a finished update."""
    verdict = update.gate
    if not arrival.attempts:
        because = f"the lineage has a dataset of this name, from {update.id}; nothing was done. Rename other data"
    else:
        because = "; ".join(verdict.because if verdict else []) if update.state in HELD_BACK else ""
        because = "promoted by a person; the gate could not decide" if decided else because
    if arrival.begun and arrival.begun != arrival.fingerprint:
        because += " (its files changed while it was taken in; what came late is not in it)"
    return {
        "update": update.id,
        "because": because.strip(),
        "losses": update.losses.get("release", {}),
        "forgetting": update.forgetting,
        "seconds": round(sum(update.seconds.values()), 1),
    }


def lift(book: Book, unfinished: str | None, settings: WatchSettings, now: datetime) -> Iterator[Draft]:
    """Arrivals that are held for a reason that is no more, and those whose update was dropped; between updates."""
    for one in list(book.arrivals.values()):
        begun = unfinished is not None and begun_by(unfinished) == one.name
        if one.begun and not begun and not one.done:
            yield Draft("dropped", one.path, {"begun": "", "sets": []})
        if one.state != HELD or not one.present:
            continue
        if (
            (one.why in (CHANGED, VANISHED) and (not begun or one.fingerprint == one.begun))
            or (one.why == COST and over(book, one, settings, now) is None)
            or (one.why == NAME and book.named(one.name) is None)
        ):
            yield Draft("lifted", one.path, {"was": one.because})


def over(book: Book, arrival: Arrival, settings: WatchSettings, now: datetime) -> str | None:
    """Why an arrival's update costs too much; None where it does not, or a person approved of it.

    What its attempts so far cost counts, and what is predicted for the rest: all of it for an update that begins, less
    what was spent for one that resumes. The month's total is that of every attempt that began in it.
    """
    limits = (settings.max_cost, settings.max_total_cost)
    if limits == (None, None) or arrival.approved:
        return None
    cost, currency = arrival.plan.get("cost"), arrival.plan.get("currency", "")
    if cost is None and not arrival.begun:
        return "what its update costs cannot be predicted (see `rewarm plan`), and there is a limit on cost"
    own = arrival.cost() if arrival.runs else 0.0
    rest = max(0.0, (cost or 0.0) - own) if arrival.begun else cost or 0.0
    predicted = f"its update is predicted to cost {rest:.2f} {currency}"
    if own:
        predicted += f" more, after {own:.2f} for {len(arrival.runs)} attempts"
    if settings.max_cost is not None and own + rest > settings.max_cost:
        return f"{predicted}, more than the {settings.max_cost:.2f} allowed"
    month = f"{now:%Y-%m}"
    others = sum(one.cost(month) for one in book.arrivals.values() if one.path != arrival.path)
    total = others + (arrival.cost(month) if arrival.runs else 0.0)
    if settings.max_total_cost is not None and total + rest > settings.max_total_cost:
        return (
            f"{predicted}; with {total:.2f} spent on all attempts of this month that is more than the "
            f"{settings.max_total_cost:.2f} allowed"
        )
    return None


def envisage(
    book: Book,
    listing: Listing,
    updates: Sequence[UpdateRecord],
    unfinished: str | None,
    settings: WatchSettings,
    moment: datetime,
) -> dict[str, Any]:
    """What would be taken in, in order, and why not the others, as JSON types; ``book`` is changed on the way."""
    turn(book, observe(book, listing), moment)
    turn(book, complete(book, listing, settings, moment), moment)
    turn(book, settle(book, updates), moment)
    turn(book, lift(book, unfinished, settings, moment), moment)
    ready = [one.path for one in book.arrivals.values() if one.completed]
    turn(book, [Draft("called", details={"paths": ready})], moment)
    choice = choose(book, unfinished, moment)
    first = choice.take.path if choice.take else None
    open_ones = [one for one in book.arrivals.values() if one.present and not one.done]
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
        "taken_in": {one.name: one.update for one in book.arrivals.values() if one.done},
        "passed_over": listing.passed_over,
        "outside": listing.outside,
    }


def turn(book: Book, drafts: Iterable[Draft], moment: datetime) -> None:
    """Take drafts into a book without writing them down."""
    book.turn([Event(0, stamp(moment), one.kind, one.path, one.details) for one in list(drafts)])


def why_not(arrival: Arrival, settings: WatchSettings, moment: datetime) -> str:
    """Why an arrival is not taken in now; empty where it is."""
    if arrival.state == HELD:
        return f"held ({arrival.why}): {arrival.because}"
    if not arrival.completed:
        seconds = (moment - read_stamp(arrival.since)).total_seconds()
        quiet = f", or {settings.quiet:g} s without a change (now {seconds:.0f} s)" if settings.quiet else ""
        return f"not complete: no new {settings.marker}{quiet}"
    if arrival.retry_at and read_stamp(arrival.retry_at) > moment:
        return f"failed, to be tried again at {arrival.retry_at}: {arrival.because}"
    return ""
