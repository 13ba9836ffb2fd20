"""The application object, errors as exit codes, and how results are printed."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import typer

from rewarm.pipeline.cli.concealed import conceal
from rewarm.pipeline.cli.lineage_tables import lineage_table, lines_of, seconds_table
from rewarm.pipeline.failure import (
    STOPPED,
    STOPPED_MESSAGE,
    TRACEBACK,
    UNFORESEEN,
    Failure,
    as_json,
    code_lines,
    failure_of,
    keep,
)
from rewarm.pipeline.lineage.status import Status
from rewarm.pipeline.terminal import echo, result_console
from rewarm.stages.core.cluster import hush
from rewarm.stages.core.errors import StageError

INTERRUPTED = 130  # what Typer makes of a KeyboardInterrupt

app = typer.Typer(
    name="rewarm",
    help="Keeps a language model up to date: each arrival of data becomes one safe, repeatable update.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning in code_lines().items())}. "
    "REWARM_ERRORS=json prints errors as one line of JSON; REWARM_ERROR_FILE=PATH keeps the last one.",
)


def show(found: Status | dict[str, Any]) -> None:
    """Print a lineage as tables; what a dry run found as JSON."""
    if not isinstance(found, Status):
        print_json(found)
        return
    console = result_console()
    console.print(lineage_table(found))
    console.print(seconds_table(found))
    for line in lines_of(found):
        console.print(line, markup=False)


def print_json(value: object) -> None:
    """One JSON object on stdout."""
    echo(json.dumps(value, indent=2, default=str))


@contextmanager
def exits() -> Iterator[None]:
    """Errors as one message (or one line of JSON) and an exit code; see ``pipeline.failure``."""
    try:
        yield
    except Exception as error:
        failure = failure_of(error)
        if failure.error == UNFORESEEN and os.environ.get(TRACEBACK):
            raise
        end(failure)


def end(failure: Failure) -> NoReturn:
    """Tell people and machines of a failure, and end the process with its code."""
    keep(failure)
    echo(failure.line() if as_json() else f"rewarm: {failure.message}", err=True)
    sys.exit(failure.code)


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
        end(Failure(STOPPED, 128 + caught[0], STOPPED_MESSAGE.format(name), StageError.remedy))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> None:
    """Run the command line."""
    conceal()
    hush()
    with stoppable(), exits():
        app()
