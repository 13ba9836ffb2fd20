"""Times, arrivals and finished updates for the tests of a watch."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from records import record

from rewarm.pipeline.lineage.lineage import Lineage, finished
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import Entry, UpdateRecord
from rewarm.pipeline.watch.inbox import Found, Listing
from rewarm.pipeline.watch.journal import Draft
from rewarm.pipeline.watch.observe import turn
from rewarm.pipeline.watch.state import Book

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def found(name: str, fingerprint: str = "a", marker: str = "", files: int = 1, path: str = "") -> Found:
    return Found(path or f"/in/{name}", name, fingerprint, files, 100, marker)


def listing(*arrivals: Found) -> Listing:
    return Listing(sorted(arrivals, key=lambda one: one.path), [])


def happen(book: Book, moment: datetime, *drafts: Draft) -> Book:
    """Take drafts into a book, one after the other, as if the journal had them."""
    turn(book, drafts, moment)
    return book


def ready(name: str, moment: datetime, fingerprint: str = "a") -> list[Draft]:
    """The drafts that bring an arrival to where it is called."""
    path = f"/in/{name}"
    return [
        Draft("seen", path, {"name": name, "fingerprint": fingerprint, "files": 1, "bytes": 100}),
        Draft("complete", path, {"by": "_SUCCESS", "marker": "1"}),
        Draft("called", details={"paths": [path]}),
    ]


def began(name: str, fingerprint: str = "a", attempts: int = 1) -> Draft:
    return Draft("started", f"/in/{name}", {"attempts": attempts, "begun": fingerprint, "sets": ["a=1"]})


def update(number: int, name: str, state: str = "released", **values: Any) -> UpdateRecord:
    """A finished update, empty but for what decides whether an arrival was taken in."""
    return record(f"{number:04d}-{name}", **{"state": state, "finished": "", **values})


def ended(*updates: UpdateRecord) -> tuple[dict[str, Entry], Callable[[str], UpdateRecord]]:
    """Finished updates as ``observe.settle`` is given them: the update of each dataset, and how a record is read."""
    records = {one.id: one for one in updates}
    entries = [Entry(one.id, finished(one), "", one.facts(0)) for one in updates]
    return {name: entry for entry in entries for name in entry.facts.datasets}, records.__getitem__


def with_base(workspace: Workspace) -> None:
    """Give a workspace a base's records alone: enough for all that comes before training."""
    Lineage(workspace).record(update(0, "docs"))
