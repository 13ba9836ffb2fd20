"""The Typer application: its commands' help, exit codes for errors, and printing of results."""

import inspect
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from rewarm.pipeline.cli.concealed import conceal
from rewarm.pipeline.escaping import INDENT
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
from rewarm.pipeline.terminal import echo, result_console
from rewarm.stages.core.cluster import hush
from rewarm.stages.core.errors import StageError

if TYPE_CHECKING:
    from rewarm.pipeline.lineage.status import Status

INTERRUPTED = 130  # Typer's exit code for a KeyboardInterrupt
NEXT_LINE = re.compile(r"\n(?=\S)")  # of a name or a text of others: it must not begin like a line of this program
AGAIN_S = 2.0  # after which an interruption that was swallowed is repeated


PANELS = ("Updates", "Inspect", "Releases", "Data")  # of the help, in this order
FIRST = ("init", "update", "status")  # of their panels; the others follow as they are defined
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


class Commands(TyperGroup):
    """The commands by panel. Each paragraph of their help is one line, because Typer keeps line breaks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        panels = {name: getattr(command, "rich_help_panel", "") for name, command in self.commands.items()}
        places = {name: (PANELS.index(panel), name not in FIRST) for name, panel in panels.items()}
        self.commands = {name: self.commands[name] for name in sorted(self.commands, key=places.__getitem__)}
        for command in self.commands.values():
            paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
            command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
            without_types(command.get_params(typer.Context(command, **HELP)))

    def get_params(self, ctx: Any) -> Any:
        """Return the options of ``rewarm`` itself."""
        return without_types(super().get_params(ctx))


def without_types(options: Any) -> Any:
    """Return a command's options, flags without a type: a flag takes no value, and Typer would show ``<bool>``."""
    for option in options:
        if getattr(option, "is_flag", False):
            option.metavar = ""
    return options


app = typer.Typer(
    name="rewarm",
    cls=Commands,
    help="Keep a language model up to date: turn each arrival of data into one safe, repeatable update.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={**HELP},
    epilog=f"Exit codes: {'; '.join(f'{code}: {meaning}' for code, meaning in code_lines().items())}. "
    "REWARM_ERRORS=json prints errors as one line of JSON; REWARM_ERROR_FILE=PATH writes the last error to that file.",
)


def print_version(wanted: bool) -> None:
    """Print the version of rewarm and exit."""
    if wanted:
        echo(version("rewarm"))
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version.")] = (
        False
    ),
) -> None:
    """Options of ``rewarm`` itself; typer takes the help from the application above."""


def show(found: "Status | dict[str, Any]", everything: bool = False, as_json: bool = False) -> None:
    """Print a lineage as tables (``everything``: every dataset), or a dry run as lines; or either as JSON."""
    from rewarm.pipeline.cli.lineage_tables import lines_of, losses_table, seconds_table, updates_table
    from rewarm.pipeline.cli.preview_view import preview_lines
    from rewarm.pipeline.lineage.status import Status

    if as_json:
        print_json(found.to_json() if isinstance(found, Status) else found)
        return
    if not isinstance(found, Status):
        for line in preview_lines(found):
            echo(line)
        return
    console = result_console()
    console.print(f"{found.name}: release {found.release or 'none'}\n", markup=False)
    losses = losses_table(found, everything)
    for table in (losses, updates_table(found), seconds_table(found)):
        if table is not None and table.row_count:
            console.print(table)
            console.print()
    for line in lines_of(found):
        console.print(line, markup=False)


def print_json(value: object) -> None:
    """Print one JSON object to stdout."""
    echo(json.dumps(value, indent=2, default=str))


@contextmanager
def exits() -> Iterator[None]:
    """Turn errors into one message (or one line of JSON) and an exit code; see ``pipeline.failure``."""
    try:
        yield
    except Exception as error:
        failure = failure_of(error)
        if failure.error == UNFORESEEN and os.environ.get(TRACEBACK):
            raise
        end(failure)


def end(failure: Failure) -> NoReturn:
    """Report a failure to people and machines, and exit with its code."""
    keep(failure)
    with suppress(OSError):  # stderr may be a log on the disk that failed: the exit code remains
        echo(failure.line() if as_json() else f"rewarm: {NEXT_LINE.sub(INDENT, failure.message)}", err=True)
    sys.exit(failure.code)


@contextmanager
def stoppable() -> Iterator[None]:
    """End the command cleanly on Ctrl-C and SIGTERM (``ray job stop``, node shutdown), with exit code 130 or 143.

    Both are raised as ``KeyboardInterrupt``, the only exception that can interrupt a wait for Ray. A bare ``except`` of
    a library that is being imported may swallow it: it is repeated until it is being handled.
    """
    caught: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        caught.append(number)
        before.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, repeat))
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
        raise KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread()
    before: dict[int, Any] = {}
    before |= {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM) if mine}
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as ended:
        if not caught or (isinstance(ended, SystemExit) and ended.code != INTERRUPTED):
            raise  # the interrupted command already ended by itself: cleanly (``status --watch``) or with an error
        name = signal.Signals(caught[0]).name
        end(Failure(STOPPED, 128 + caught[0], STOPPED_MESSAGE.format(name), StageError.remedy))
    finally:
        if caught:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def repeat(number: int, frame: FrameType | None) -> None:
    """Raise the interruption again, unless it is being handled now."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return
        error = error.__context__
    raise KeyboardInterrupt


@cache
def command_group() -> Callable[..., Any]:
    """Return the group of all commands; typer reads the signatures of all of them for it, at every call."""
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line."""
    conceal()
    hush()
    with stoppable(), exits():
        command_group()()
