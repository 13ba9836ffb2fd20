"""What a tick would do now, for ``--dry-run``: the same decisions as the loop's, on a copy that nobody writes down."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pipeline.record import UpdateRecord
from pipeline.watch import observe
from pipeline.watch.book import HELD, Arrival, Book
from pipeline.watch.inbox import Listing
from pipeline.watch.journal import Draft, Event, read_stamp, stamp
from pipeline.watch.policy import choose
from pipeline.watch.settings import WatchSettings


def envisage(
    book: Book,
    listing: Listing,
    updates: Sequence[UpdateRecord],
    unfinished: str | None,
    settings: WatchSettings,
    moment: datetime,
) -> dict[str, Any]:
    """What would be taken in, in order, and why not the others, as JSON types; ``book`` is changed on the way."""
    turn(book, observe.observe(book, listing), moment)
    turn(book, observe.complete(book, listing, settings, moment), moment)
    turn(book, observe.settle(book, updates), moment)
    turn(book, observe.lift(book, unfinished, settings, moment), moment)
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
