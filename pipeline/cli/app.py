"""The application object, errors as exit codes, and how results are printed."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from pipeline.terminal import lineage_table, result_console, seconds_table
from stages.errors import StageError, UsageError

app = typer.Typer(
    name="rewarm",
    help="Keeps a language model up to date: each arrival of data becomes one safe, repeatable update.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed (the same command goes on from there), 2 wrong usage (nothing was spent), "
    "3 done, but the gate refused the release.",
)


def show(found: dict[str, Any] | None, dry_run: bool) -> None:
    """Print a lineage as tables; what a dry run found as JSON."""
    if found is None:
        return
    if dry_run:
        print_json(found)
        return
    console = result_console()
    console.print(lineage_table(found))
    console.print(seconds_table(found))


def print_json(value: object) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(value, indent=2, default=str))


@contextmanager
def exits() -> Iterator[None]:
    """Errors as one message and an exit code."""
    try:
        yield
    except UsageError as error:
        typer.echo(f"rewarm: {error}", err=True)
        sys.exit(2)
    except StageError as error:
        typer.echo(f"rewarm: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("rewarm: interrupted; the same command goes on from here", err=True)
        sys.exit(130)


def main() -> None:
    """Run the command line."""
    with exits():
        app()
