"""Functions behind the options of ``rewarm watch``; the loop is in ``run.py``."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

from pydantic import ValidationError

from rewarm.pipeline.escaping import entry
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.plan.plan import require_base
from rewarm.pipeline.recipe.recipe import Recipe, apply_settings
from rewarm.pipeline.update import inputs
from rewarm.pipeline.update.effects import refuse_carried, refuse_without_effect
from rewarm.pipeline.update.room import refuse_on_machine
from rewarm.pipeline.watch.inbox import look, place_of
from rewarm.pipeline.watch.journal import FOLDER, Draft, Journal, is_watched, last_watched, only_watch
from rewarm.pipeline.watch.observe import envisage
from rewarm.pipeline.watch.run import Watch, now
from rewarm.pipeline.watch.settings import WatchSettings
from rewarm.pipeline.watch.state import HELD, Book
from rewarm.stages.core.errors import UsageError

OPTIONS = {"webhooks": "webhook", "command": "notify-command", "sets": "set"}  # settings with an option of another name


def settings_of(values: dict[str, Any]) -> WatchSettings:
    """Validate the options; raise ``UsageError`` that names the invalid ones."""
    try:
        return WatchSettings.model_validate(values)
    except ValidationError as error:
        problems = [(one["loc"], one["msg"].removeprefix("Value error, ")) for one in error.errors()]
        raise UsageError("; ".join(f"{option_of(place)}{said}" for place, said in problems)) from error


def option_of(place: tuple[int | str, ...]) -> str:
    """Return the option of a setting, for a message; empty if several settings do not fit together."""
    name = str(place[0]) if place else ""
    return f"--{OPTIONS.get(name, name).replace('_', '-')} " if name else ""


def opened(uri: str, settings: WatchSettings) -> tuple[Workspace, Recipe]:
    """Open the workspace with the recipe of its updates; refuse settings with which no update could begin."""
    workspace = Workspace.open(uri)
    recipe = inputs.recipe_of(workspace)
    changed = apply_settings(recipe, settings.sets)
    inputs.refuse_fixed(recipe, changed)
    lineage = Lineage(workspace, changed.gate.trunk)
    require_base(lineage)
    refuse_without_effect(recipe, changed, settings.sets, lineage)
    refuse_carried(lineage, changed)
    limited = settings.max_cost is not None or settings.max_total_cost is not None
    if limited and changed.cost.per_worker_hour is None:
        raise UsageError("a limit on cost needs the price of a worker: --set cost.per_worker_hour=PRICE")
    refuse_on_machine(changed.train)  # otherwise every arrival would be held although none is at fault
    return workspace, changed


def watch(uri: str, settings: WatchSettings, once: bool, wait_s: float = 0.0) -> int:
    """Watch until SIGTERM or SIGINT, or for one tick; return the exit code.

    Waits up to ``wait_s`` seconds for another watch of the workspace to end.
    """
    if once and settings.cron is not None:
        raise UsageError("--once runs a single tick at once and excludes --cron: remove one of them")
    workspace, recipe = opened(uri, settings)
    with only_watch(workspace.folder / FOLDER, wait_s, say):
        made = Watch(workspace, recipe, settings, say)
        with stopped_by_signals(made):
            when = f"at {settings.cron} ({settings.timezone})" if settings.cron else f"every {settings.every:g} s"
            say(f"watching {settings.inbox} for {workspace.folder}, {'once' if once else when}")
            made.run(once)
    say("ended" if not made.stopping else "stopped; the next watch resumes from here")
    return 1 if once and made.failed else 0


@contextmanager
def stopped_by_signals(made: Watch) -> Iterator[None]:
    """Stop the watch on SIGTERM and SIGINT; restore the previous handlers afterwards."""

    def stop(number: int, frame: FrameType | None) -> None:
        made.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(line: str) -> None:
    """Print one line with its time."""
    sys.stdout.write(f"{now():%Y-%m-%d %H:%M:%S} {entry(line)}\n")
    sys.stdout.flush()


def read(uri: str) -> tuple[Workspace, Journal, Book]:
    """Read a workspace, its journal and the state of its watch."""
    workspace = Workspace.open(uri)
    journal, book = Journal(workspace.folder / FOLDER), Book()
    book.turn(journal.read())
    return workspace, journal, book


def switch(uri: str, paused: bool) -> str:
    """Pause or resume; the state persists, also for a watch started later."""
    _, journal, book = read(uri)
    if book.paused == paused:
        return "already paused" if paused else "not paused"
    journal.append(Draft("paused" if paused else "resumed"), now())
    return "paused; a running update continues to its end" if paused else "resumed"


def retry(uri: str, name: str) -> str:
    """Retry a held or failed arrival at once, whatever it costs."""
    _, journal, book = read(uri)
    found = [
        arrival
        for arrival in book.arrivals.values()
        if arrival.name == name and not arrival.done and arrival.why != "name"
    ]
    waiting = [one for one in found if one.state == HELD or one.retry_at]
    if not waiting:
        state = f"it is {found[-1].state}" if found else "no pending arrival has this name"
        held = ", ".join(arrival.name for arrival in book.arrivals.values() if arrival.state == HELD) or "none"
        raise UsageError(f"{name}: not held ({state}); held arrivals: {held}")
    journal.append(Draft("retry", waiting[-1].path), now())
    return f"{name}: will be retried"


def status(uri: str) -> tuple[Book, bool, datetime | None]:
    """Return the state of the watch, whether it is running, and when one was last alive (None: never)."""
    workspace, _, book = read(uri)
    folder = workspace.folder / FOLDER
    return book, is_watched(folder), last_watched(folder)


def outlook(uri: str, settings: WatchSettings) -> dict[str, Any]:
    """Return the arrivals that a tick would process now, in order, and why it would not process the rest."""
    workspace, recipe = opened(uri, settings)
    _, _, book = read(uri)
    place = place_of(settings.inbox, recipe.ingest)
    try:
        listing = look(place, recipe.ingest.format, settings.marker)
    except OSError as error:
        raise UsageError(f"{settings.inbox}: cannot be listed: {error}") from error
    lineage = Lineage(workspace)
    return envisage(book, listing, lineage, settings, now())
