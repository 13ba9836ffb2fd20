"""The ``watch`` command: updates that start as arrivals appear in an inbox."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rewarm.pipeline.cli.app import app, print_json
from rewarm.pipeline.cli.options import JsonOption, SetOption, WaitOption, WorkspaceArgument
from rewarm.pipeline.terminal import echo, result_console
from rewarm.pipeline.watch.settings import WatchSettings
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
            help="Folder (path, s3://, gs://) whose files and direct subfolders are the arrivals.",
        ),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option("--cron", metavar="'M H D M W'", help="When to process arrivals; by default after every check."),
    ] = None,
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="ZONE", help="Time zone of --cron, e.g. Europe/Berlin.")
    ] = DEFAULTS["timezone"],
    missed: Annotated[
        str,
        typer.Option(
            "--missed", metavar="skip|catch-up", help="After missed ticks: skip them, or run once for all of them."
        ),
    ] = DEFAULTS["missed"],
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", help="Time between two checks of the inbox.")
    ] = DEFAULTS["every"],
    marker: Annotated[
        str,
        typer.Option("--marker", metavar="NAME", help="File that marks a folder as complete (for a file: FILE.NAME)."),
    ] = DEFAULTS["marker"],
    quiet: Annotated[
        float,
        typer.Option(
            "--quiet",
            metavar="SECONDS",
            help="Without a marker, an arrival is complete after this long without changes; 0: never.",
        ),
    ] = DEFAULTS["quiet"],
    retries: Annotated[
        int, typer.Option("--retries", metavar="N", help="How often to retry a failed update.")
    ] = DEFAULTS["retries"],
    backoff: Annotated[
        float, typer.Option("--backoff", metavar="SECONDS", help="Wait before the first retry; doubles up to an hour.")
    ] = DEFAULTS["backoff"],
    after_failure: Annotated[
        str,
        typer.Option(
            "--after-failure",
            metavar="wait|discard",
            help="If an update cannot continue, stop the queue and wait for you, or discard the update.",
        ),
    ] = DEFAULTS["after_failure"],
    max_cost: Annotated[
        float | None,
        typer.Option("--max-cost", metavar="AMOUNT", help="Hold an update whose predicted cost is higher."),
    ] = None,
    max_total_cost: Annotated[
        float | None,
        typer.Option("--max-total-cost", metavar="AMOUNT", help="The same limit, for all updates of a month together."),
    ] = None,
    webhook: Annotated[
        list[str] | None,
        typer.Option(
            "--webhook",
            metavar="URL",
            help="POST every notice to URL as JSON; @FILE: to the URL on each line. Repeatable.",
        ),
    ] = None,
    notify_command: Annotated[
        str | None,
        typer.Option("--notify-command", metavar="COMMAND", help="Run COMMAND with each notice as JSON on stdin."),
    ] = None,
    sets: SetOption = None,
    once: Annotated[bool, typer.Option("--once", help="Run one tick, then exit: for cron and RayCronJob.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Process no arrivals until --resume.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Process arrivals again.")] = False,
    retry: Annotated[
        str | None, typer.Option("--retry", metavar="NAME", help="Retry a held arrival, whatever it costs.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Show the arrivals and their outcomes.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be processed now, and why the rest would not; write nothing."),
    ] = False,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Run an update for each arrival in an inbox: wait until it is complete, plan, update, send a notice.

    Each arrival is processed exactly once, even after a crash. Arrivals that are corrupt, over budget or modified
    mid-update are put on hold, with a notice that gives the reason.

    SIGTERM stops the watch; run the same command again to resume.
    """
    from rewarm.pipeline.watch import actions as watching

    asked = [
        name for name, on in (("--pause", pause), ("--resume", resume), ("--retry", retry), ("--status", status)) if on
    ]
    if len(asked) + (once or dry_run) > 1 or (once and dry_run):
        raise UsageError("give only one of --once, --dry-run, --pause, --resume, --retry and --status")
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
            raise UsageError("no inbox given: add --inbox URI, the folder in which arrivals appear")
        settings = watching.settings_of(given)
        if dry_run:
            print_json(watching.outlook(workspace, settings))
        else:
            raise typer.Exit(watching.watch(workspace, settings, once, wait))


def addresses(given: list[str]) -> tuple[str, ...]:
    """Return the webhooks' addresses, with ``@FILE`` expanded; raise ``UsageError`` for an unreadable file."""
    found: list[str] = []
    for one in given:
        if not one.startswith("@"):
            found.append(one)
            continue
        try:
            lines = Path(one[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--webhook {one}: cannot be read ({error}); expected a file with one address per line"
            ) from error
        found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return tuple(found)


def show_status(workspace: str, as_json: bool) -> None:
    """Print the arrivals of a watch with their states."""
    from rewarm.pipeline.watch import actions as watching
    from rewarm.pipeline.watch.view import as_json as book_json
    from rewarm.pipeline.watch.view import table

    book, watched, seen = watching.status(workspace)
    if as_json:
        print_json(book_json(book, watched, seen))
    else:
        result_console().print(table(workspace, book, watched, seen))
