"""Arrivals of a watch as a table or as JSON, for ``rewarm watch --status``."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.table import Table

from rewarm.pipeline.watch.journal import stamp
from rewarm.pipeline.watch.notify import prediction
from rewarm.pipeline.watch.state import HELD, Arrival, Book


def as_json(book: Book, watched: bool, seen: datetime | None) -> dict[str, Any]:
    """Return the state of a watch as JSON types; ``seen`` is when one was last alive."""
    return {
        "watched": watched,
        "seen": None if seen is None else stamp(seen),
        "paused": book.paused,
        "trouble": book.trouble,
        "arrivals": [asdict(one) for one in ordered(book)],
    }


def ordered(book: Book) -> list[Arrival]:
    """Return the arrivals that are present or were begun, in order of completion, then of name."""
    return sorted(book.shown(), key=lambda one: (one.spent or one.completed or "9", one.name))


def table(workspace: str, book: Book, watched: bool, seen: datetime | None) -> Table:
    """Return a table with one arrival per row; ``seen`` is when a watch was last alive."""
    since = "never watched" if seen is None else f"not being watched since {seen:%Y-%m-%d %H:%M:%S} UTC"
    words = ["watched" if watched else since, *(["paused"] if book.paused else [])]
    title = f"{workspace}: {', '.join(words)}" + (f"\n{book.trouble}" if book.trouble else "")
    made = Table(title=title, title_justify="left")
    for name in ("arrival", "state", "unchanged since", "complete", "attempts", "planned", "update", "because"):
        made.add_column(name, overflow="fold", no_wrap=name in ("arrival", "state"))
    for one in ordered(book):
        state = f"{one.state} ({one.why})" if one.state == HELD else one.state
        times = [time.partition(".")[0].replace("T", " ") for time in (one.since, one.completed)]
        planned = prediction(one.plan) if one.plan else ""
        attempts = str(one.attempts) if one.attempts else ""
        if one.runs and one.cost():
            attempts += f", {one.cost():.2f} {one.plan.get('currency', '')}"
        because = f"retry at {one.retry_at}: {one.because}" if one.retry_at else one.because
        made.add_row(one.name, state, *times, attempts, planned, one.update, because)
    return made
