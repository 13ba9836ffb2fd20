"""The command line: parse, call, print. ``rewarm --help``."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pipeline import actions, doctor
from pipeline.config import presets, settings
from pipeline.terminal import Terminal, lineage_table, result_console, seconds_table
from stages.errors import StageError, UsageError

app = typer.Typer(
    name="rewarm",
    help="Keeps a language model up to date: each arrival of data becomes one safe, repeatable update.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed (the same command goes on from there), 2 wrong usage (nothing was spent).",
)

WorkspaceArgument = Annotated[str, typer.Argument(metavar="WORKSPACE", help="The workspace's folder.")]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="NAME=PATH",
        help="A dataset: a file, a folder or a glob of JSONL (.gz, .zst), Parquet or text. Repeatable.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting, for example replay.share=0.25. Repeatable; `rewarm settings` lists all.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and say what would be done; write nothing.")
]


@app.command()
def init(
    workspace: WorkspaceArgument,
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME|FILE", help="A preset's name (`rewarm recipes`) or a YAML file.")
    ],
    data: DataOption = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="HF_DIR", help="Import this model and tokenizer instead of pre-training."),
    ] = None,
    sets: SetOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make a workspace and its base: train a tokenizer and pre-train on D0, or import a model.

    The recipe stays with the workspace; updates follow it. Killed at any moment, the same command goes on.
    """
    with Terminal() as terminal:
        show(actions.init(workspace, recipe, data or [], source, sets or [], dry_run, terminal), dry_run)


@app.command()
def update(
    workspace: WorkspaceArgument, data: DataOption = None, sets: SetOption = None, dry_run: DryRunOption = False
) -> None:
    """Take in one arrival: ingest, tokenize, replay, train, anneal, evaluate, release.

    Killed at any moment, the same command goes on where it stood, with the same result.
    """
    with Terminal() as terminal:
        show(actions.update(workspace, data or [], sets or [], dry_run, terminal), dry_run)


@app.command()
def status(workspace: WorkspaceArgument, as_json: JsonOption = False) -> None:
    """Show the lineage: losses, forgetting, tokens and releases."""
    found = actions.status(workspace)
    if as_json:
        print_json(found)
    else:
        show(found, dry_run=False)


@app.command()
def report(workspace: WorkspaceArgument) -> None:
    """Write the HTML report again and print its path."""
    typer.echo(actions.report(workspace))


@app.command()
def export(
    workspace: WorkspaceArgument,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to make; it must be empty or not there.")],
    update: Annotated[
        str | None, typer.Argument(metavar="[UPDATE]", help="An update's id or number; the current release by default.")
    ] = None,
) -> None:
    """Write a release as a plain Hugging Face folder, for AutoModelForCausalLM.from_pretrained."""
    typer.echo(actions.export(workspace, update, to))


@app.command()
def discard(workspace: WorkspaceArgument) -> None:
    """Drop the unfinished update of a workspace, so that another can begin."""
    dropped = actions.discard(workspace)
    typer.echo(f"dropped {dropped}" if dropped else "nothing is unfinished")


@app.command("doctor")
def examine(
    workspace: Annotated[
        Path | None, typer.Argument(metavar="[WORKSPACE]", help="Where the free disk is looked up.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check compiler, operators, Ray, GPUs, disk and versions: what is missing and how to get it."""
    checks = doctor.examine(workspace)
    if as_json:
        typer.echo(doctor.as_json(checks))
        raise typer.Exit(1 if doctor.missing(checks) else 0)
    raise typer.Exit(doctor.print_report(checks))


@app.command()
def demo(
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where the text and the workspace are put.")
    ] = Path("demo"),
    sets: SetOption = None,
) -> None:
    """Pre-train a small model on real text and take in two arrivals: no download, no GPU, 8 minutes on two cores."""
    with Terminal() as terminal:
        found = actions.demo(directory, sets or [], terminal)
    show(found, dry_run=False)
    typer.echo(f"\nreport: {found['report']}")


@app.command("settings")
def list_settings() -> None:
    """List every setting with its default and meaning."""
    for name, field, default in settings():
        meaning = " ".join((field.description or "").split())
        typer.echo(f"{typer.style(name, bold=True)} = {json.dumps(default, default=str)}\n    {meaning}")


@app.command("recipes")
def list_recipes() -> None:
    """List the recipes that come with rewarm."""
    from pipeline.config import load_recipe

    for name in presets():
        typer.echo(f"{name:<14} {load_recipe(name).description}")


def show(found: dict[str, object] | None, dry_run: bool) -> None:
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
