"""The command that takes arrivals in by itself."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rewarm.pipeline import watch as watching
from rewarm.pipeline.cli.app import app, print_json
from rewarm.pipeline.cli.options import JsonOption, SetOption, WorkspaceArgument
from rewarm.pipeline.terminal import echo, result_console
from rewarm.pipeline.watch.settings import WatchSettings
from rewarm.pipeline.watch.view import as_json as book_json
from rewarm.pipeline.watch.view import table
from rewarm.stages.core.errors import UsageError

DEFAULTS = {name: field.default for name, field in WatchSettings.model_fields.items()}


@app.command(rich_help_panel="Updates")
def watch(
    workspace: WorkspaceArgument,
    inbox: Annotated[
        str | None,
        typer.Option(
            "--inbox",
            metavar="URI",
            help="Each file and each direct subfolder in here is an arrival (path, s3://, gs://).",
        ),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option("--cron", metavar="'M H D M W'", help="When arrivals are taken in; by default at every look."),
    ] = None,
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="ZONE", help="Of --cron, as Europe/Berlin.")
    ] = DEFAULTS["timezone"],
    missed: Annotated[
        str, typer.Option("--missed", metavar="skip|catch-up", help="Ticks missed: nothing, or one tick for all.")
    ] = DEFAULTS["missed"],
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", help="Between two looks at the inbox.")
    ] = DEFAULTS["every"],
    marker: Annotated[
        str,
        typer.Option("--marker", metavar="NAME", help="File that says that a folder is complete (FILE.NAME: a file)."),
    ] = DEFAULTS["marker"],
    quiet: Annotated[
        float,
        typer.Option("--quiet", metavar="SECONDS", help="Complete without a marker after so long unchanged; 0: never."),
    ] = DEFAULTS["quiet"],
    retries: Annotated[
        int, typer.Option("--retries", metavar="N", help="How often a failed update is tried again.")
    ] = DEFAULTS["retries"],
    backoff: Annotated[
        float, typer.Option("--backoff", metavar="SECONDS", help="Before the first retry; doubles up to an hour.")
    ] = DEFAULTS["backoff"],
    after_failure: Annotated[
        str,
        typer.Option(
            "--after-failure",
            metavar="wait|discard",
            help="What becomes of an update that cannot go on: the queue waits for you, or it is dropped.",
        ),
    ] = DEFAULTS["after_failure"],
    max_cost: Annotated[
        float | None,
        typer.Option("--max-cost", metavar="AMOUNT", help="Hold an update that is predicted to cost more."),
    ] = None,
    max_total_cost: Annotated[
        float | None, typer.Option("--max-total-cost", metavar="AMOUNT", help="The same for all updates of a month.")
    ] = None,
    webhook: Annotated[
        list[str] | None,
        typer.Option(
            "--webhook",
            metavar="URL",
            help="POST every notice there as JSON; @FILE: to each line's address. Repeatable.",
        ),
    ] = None,
    notify_command: Annotated[
        str | None,
        typer.Option("--notify-command", metavar="COMMAND", help="Run this with every notice as JSON on its input."),
    ] = None,
    sets: SetOption = None,
    once: Annotated[bool, typer.Option("--once", help="One tick, then end: for cron and RayCronJob.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Take nothing in until --resume.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Take arrivals in again.")] = False,
    retry: Annotated[
        str | None, typer.Option("--retry", metavar="NAME", help="Try a held arrival again, whatever it costs.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Show the arrivals and what became of them.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be taken in now, and why not the others; write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take arrivals in as they come: wait until each is complete, plan it, update, tell people.

    Each is taken in exactly once, whatever is killed. One that is broken, too dear or changed under way is held, with
    a notice that says why. SIGTERM ends it; the same command goes on.
    """
    asked = [
        name for name, on in (("--pause", pause), ("--resume", resume), ("--retry", retry), ("--status", status)) if on
    ]
    if len(asked) + (once or dry_run) > 1 or (once and dry_run):
        raise UsageError("give one of --once, --dry-run, --pause, --resume, --retry and --status")
    if pause or resume:
        echo(watching.switch(workspace, pause))
    elif retry is not None:
        echo(watching.retry(workspace, retry))
    elif status:
        show_status(workspace, as_json)
    else:
        given: dict[str, Any] = {
            "inbox": inbox, "cron": cron, "timezone": timezone, "missed": missed, "every": every, "marker": marker,
            "quiet": quiet, "retries": retries, "backoff": backoff, "after_failure": after_failure,
            "max_cost": max_cost, "max_total_cost": max_total_cost, "webhooks": addresses(webhook or []),
            "command": notify_command, "sets": tuple(sets or ()),
        }  # fmt: skip
        if inbox is None:
            raise UsageError("where do arrivals come in? --inbox URI")
        settings = watching.settings_of(given)
        if dry_run:
            print_json(watching.outlook(workspace, settings))
        else:
            raise typer.Exit(watching.watch(workspace, settings, once))


def addresses(given: list[str]) -> tuple[str, ...]:
    """The webhooks' addresses, those in files among them; ``UsageError`` for a file that cannot be read."""
    found: list[str] = []
    for one in given:
        if not one.startswith("@"):
            found.append(one)
            continue
        try:
            lines = Path(one[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--webhook {one}: cannot be read ({error}); expected a file with an address a line"
            ) from error
        found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return tuple(found)


def show_status(workspace: str, as_json: bool) -> None:
    """Print what a watch knows."""
    book, watched = watching.status(workspace)
    if as_json:
        print_json(book_json(book, watched))
    else:
        result_console().print(table(workspace, book, watched))
