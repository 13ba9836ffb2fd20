"""The application object, errors as exit codes, and how results are printed."""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from pipeline.cluster import hush
from pipeline.terminal import lineage_table, removal_lines, result_console, seconds_table, visible
from stages.errors import StageError, UsageError

TRACEBACK = "REWARM_TRACEBACK"  # environment variable: errors that no check foresaw are shown in full
INTERRUPTED = 130  # what Typer makes of a KeyboardInterrupt

app = typer.Typer(
    name="rewarm",
    help="Keeps a language model up to date: each arrival of data becomes one safe, repeatable update.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed (the same command goes on from there), 2 wrong usage (nothing was spent), "
    "3 done, but the gate refused the release, 4 done, but the release is held for a person (undecided).",
)


def show(found: dict[str, Any] | None, dry_run: bool) -> None:
    """Print a lineage as tables; what a dry run found as JSON."""
    if found is None:
        return
    if dry_run:
        print_json(found)
        return
    console = result_console()
    shown = visible(found)
    console.print(lineage_table(shown))
    console.print(seconds_table(shown))
    for line in removal_lines(shown):
        console.print(line, markup=False)


def print_json(value: object) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(value, indent=2, default=str))


@contextmanager
def exits() -> Iterator[None]:
    """Errors as one message and an exit code."""
    try:
        yield
    except UsageError as error:
        typer.echo(f"rewarm: {visible(str(error))}", err=True)
        sys.exit(2)
    except StageError as error:
        typer.echo(f"rewarm: {visible(str(error))}", err=True)
        sys.exit(1)
    except OSError as error:
        typer.echo(f"rewarm: {visible(describe(error))}", err=True)
        sys.exit(1)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        typer.echo(f"rewarm: {visible(unexpected(error))}", err=True)
        sys.exit(1)


def describe(error: OSError) -> str:
    """A file or network error in one line."""
    if error.filename is None:
        return " ".join(str(error).split()) or type(error).__name__
    missing = isinstance(error, FileNotFoundError)
    advice = "; if it belongs to a workspace, restore it from a copy" if missing else ""
    return f"{os.fsdecode(error.filename)}: {error.strerror or type(error).__name__}{advice}"


def unexpected(error: Exception) -> str:
    """An error that no check foresaw, in one line: of our own making, or of a file that is damaged in a new way."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    said = " ".join(str(error).split())[:300]
    return (
        f"{type(error).__name__}{place}: {said}. `rewarm verify WORKSPACE` names damaged files; if it finds none, this "
        f"is a fault of rewarm ({TRACEBACK}=1 shows all of it)"
    )


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM (``ray job stop``, a node that goes) end the command in order: 130 or 143.

    Both arrive as ``KeyboardInterrupt``, the one exception that waiting for Ray lets through.
    """
    caught: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM) if mine}
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as ended:
        if not caught or (isinstance(ended, SystemExit) and ended.code != INTERRUPTED):
            raise  # what was interrupted ended in its own way: well, as a view that is watched, or with an error
        name = signal.Signals(caught[0]).name
        typer.echo(f"rewarm: stopped by {name}; an update that was under way goes on with the same command", err=True)
        sys.exit(128 + caught[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> None:
    """Run the command line."""
    hush()
    with stoppable(), exits():
        app()
