"""A running watch's memory: events are written down first, then acted on, then told."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from pipeline.watch.book import Book
from pipeline.watch.journal import Draft, Event, Journal
from pipeline.watch.notify import Command, Notifier, Target, Webhook
from pipeline.watch.settings import WatchSettings
from pipeline.watch.words import NOTABLE, make_notice, told
from stages.storage import Folder


class Records:
    """The journal, the book that it adds up to, and those who are told."""

    def __init__(self, folder: Folder, settings: WatchSettings, say: Callable[[str], None]) -> None:
        self.journal, self.book = Journal(folder), Book()
        self._workspace, self._inbox, self._say = str(folder.at("..")), settings.inbox, say
        events = self.journal.read()
        targets: list[Target] = [
            *map(Webhook, settings.webhooks),
            *([Command(settings.command)] if settings.command else []),
        ]
        self.notifier = Notifier.of(folder, targets, events[-1].seq if events else 0)
        self._take_in(events)

    def write(self, drafts: Iterable[Draft]) -> None:
        """Write events down, then act on them."""
        for draft in list(drafts):
            self.journal.append(draft, now())
        self.refresh()

    def refresh(self) -> None:
        """Take in what the journal has that is new, also by other processes."""
        for event in self._take_in(self.journal.read()):
            self._say(told(event, self.book.arrivals.get(event.path)))

    def _take_in(self, events: list[Event]) -> list[Event]:
        for event in events:
            self.book.turn([event])
            if event.kind in NOTABLE:
                arrival = self.book.arrivals.get(event.path)
                self.notifier.add(make_notice(event, arrival, self._workspace, self._inbox))
        return events

    def trouble(self, because: str) -> None:
        """Say once why nothing can be taken in at all, and once that it is over."""
        if because != self.book.trouble:
            self.write([Draft("trouble" if because else "recovered", details={"because": because})])

    def deliver(self) -> None:
        """Tell what can be told now."""
        for draft in self.notifier.deliver(now()):
            self.write([draft])


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)
