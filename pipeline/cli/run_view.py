"""Views of a run from another process: a status line, the live view of ``status --watch``, and its log."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from rewarm.pipeline.cli.lineage_tables import updates_table
from rewarm.pipeline.lineage.lineage import ID
from rewarm.pipeline.lineage.status import Status
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.progress.log import DONE, RUNNING, Standing, logged_updates, read_log, read_standing
from rewarm.pipeline.progress.pace import duration
from rewarm.pipeline.record import is_number_of, number_of
from rewarm.pipeline.terminal import PLAIN_INTERVAL, short
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder

REFRESH = 2.0  # seconds between two refreshes


def run_line(standing: Standing | None, at: float) -> str:
    """Describe a run's progress in one line; ``at`` is the current time in seconds since the epoch."""
    if standing is None:
        return "no run is recorded for this workspace"
    ago = duration(max(0.0, at - standing.time))
    place = f"stage {standing.number} of {standing.stages}, {standing.stage}" if standing.stage else "beginning"
    if standing.state != RUNNING:
        where = "" if standing.state == DONE else f" in {place}; run the same command to resume"
        return f"{standing.update}: {standing.state} {ago} ago{where}"
    if not standing.alive(at):
        return f"{standing.update}: no sign of life for {ago}, last in {place}; run the same command to resume"
    parts = [f"{standing.update}: {place}"]
    if standing.label:
        parts.append(work_text(standing))
    if standing.run_left is not None:
        parts.append(f"about {duration(standing.run_left)} to the end")
    return "  ·  ".join([*parts, f"running for {duration(at - standing.began)} on {standing.host}"])


def work_text(standing: Standing) -> str:
    """The line of work inside a stage."""
    part = f" {min(1.0, standing.done / standing.total):.0%}" if standing.total else ""
    total = f"/{short(standing.total)}" if standing.total else ""
    label = "" if standing.label == standing.stage else f"{standing.label}:"
    rate = f", {short(standing.rate)}/s" if standing.rate is not None else ""
    left = f", {duration(standing.left)} left" if standing.left is not None else ""
    figures = "".join(f"  {name} {value:.4g}" for name, value in standing.figures.items())
    return f"{label}{part} {short(standing.done)}{total} {standing.unit}{rate}{left}{figures}".strip()


def run_record(standing: Standing | None, at: float) -> dict[str, Any] | None:
    """The same as JSON types, with whether the run is alive."""
    return None if standing is None else {**standing.__dict__, "alive": standing.alive(at)}


def watch(workspace: Workspace, status: Callable[[], Status], console: Console) -> None:
    """Show a workspace until Ctrl-C: its table and its run, live; without a terminal, a line when something changes."""
    try:
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                while True:
                    line = run_line(read_standing(workspace.folder), time.time())
                    live.update(Group(updates_table(status()), Text(line)), refresh=True)
                    time.sleep(REFRESH)
        for line in changes(workspace.folder):
            console.print(line, markup=False)
    except KeyboardInterrupt:
        return


def changes(home: Folder) -> Iterator[str]:
    """The run's line whenever its stage or state is another, and once a minute."""
    shown: tuple[object, ...] = ()
    said = -PLAIN_INTERVAL
    while True:
        found, at = read_standing(home), time.time()
        now = () if found is None else (found.update, found.state, found.stage, found.alive(at))
        if now != shown or time.monotonic() - said >= PLAIN_INTERVAL:
            shown, said = now, time.monotonic()
            yield run_line(found, at)
        time.sleep(REFRESH)


def chosen_log(home: Folder, name: str | None) -> str:
    """The update whose log is asked for, by id or number; by default the one that ran last."""
    there = logged_updates(home)
    if name is None:
        last = read_standing(home)
        if last is not None and last.update in there:
            return last.update
        if there:
            return there[-1]
        raise UsageError(f"{home}: no run has written a log")
    for update in there:
        if name == update or (ID.fullmatch(update) and is_number_of(name, number_of(update))):
            return update
    raise UsageError(f"no log of {name!r}; existing logs: {', '.join(there) or 'none'}")


def follow(home: Folder, update: str, on: bool) -> Iterator[str]:
    """An update's log so far; with ``on`` also what is added to it, until its run ends."""
    seen = 0
    while True:
        standing = read_standing(home)
        text = read_log(home, update)
        if text[seen:]:
            yield text[seen:].rstrip("\n")
            seen = len(text)
        if not on or standing is None or standing.update != update or standing.state != RUNNING:
            return
        time.sleep(REFRESH)
