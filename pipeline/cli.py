"""The command line: parse, call, print. ``rewarm --help``."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import actions, doctor
from pipeline.config import presets, settings
from pipeline.planner.view import plan_view
from pipeline.schedule_plot import phases_table, terminal_chart
from pipeline.study import BASELINES, EARLY_STOP, Options
from pipeline.study import table as study_table
from pipeline.terminal import Terminal, ledger_table, lineage_table, result_console, seconds_table
from stages.errors import StageError, UsageError

app = typer.Typer(
    name="rewarm",
    help="Keeps a language model up to date: each arrival of data becomes one safe, repeatable update.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed (the same command goes on from there), 2 wrong usage (nothing was spent).",
)

SHOWN_STEPS = 12  # of a document's reads

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
def plan(
    workspace: WorkspaceArgument,
    data: DataOption = None,
    sets: SetOption = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Keep the plan as JSON.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure an arrival's shift, choose its update's settings, predict what it costs; changes nothing.

    Settings that say `auto` take these choices when the update begins.
    """
    with Terminal() as terminal:
        found = actions.plan(workspace, data or [], sets or [], save, terminal)
    if as_json:
        print_json(found)
    else:
        result_console().print(plan_view(found))


@app.command()
def study(
    workspace: WorkspaceArgument,
    data: DataOption = None,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="KEY=V1,V2,…", help="A setting and its values; several make all combinations."),
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option("--row", metavar="'LABEL: KEY=VALUE …'", help="A combination of its own, beside the grid."),
    ] = None,
    baselines: Annotated[
        str, typer.Option("--baselines", metavar="NAME,…", help=f"Rows to compare with: {', '.join(BASELINES)}.")
    ] = "",
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="How often each row is run, each time in another order.")
    ] = 1,
    name: Annotated[
        str | None, typer.Option("--name", help="The study's name; by default the arrival's. The same name adds to it.")
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option("--concurrent", min=1, help="Trials side by side; by default as many as fit.")
    ] = None,
    early_stop: Annotated[
        str, typer.Option("--early-stop", metavar="|".join(EARLY_STOP), help="End trials whose score lags behind.")
    ] = "none",
    old_weight: Annotated[
        float, typer.Option("--old-weight", min=0, max=1, help="Weight of the earlier datasets' loss in the score.")
    ] = 0.5,
    forecast_tokens: Annotated[
        float | None,
        typer.Option(
            "--forecast-tokens",
            metavar="N",
            min=1,
            help="Length of the update to forecast; by default the longest run's.",
        ),
    ] = None,
    sets: SetOption = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the best row's settings into the workspace's recipe.")
    ] = False,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Take in one arrival under many settings and compare: losses on old and new data, their spread, the cost.

    Nothing is promoted. Killed at any moment, the same command goes on; with a larger grid it adds to what is there.
    """
    if early_stop not in EARLY_STOP:
        raise UsageError(f"--early-stop {early_stop}: expected one of {', '.join(EARLY_STOP)}")
    options = Options(concurrent, early_stop, old_weight)
    names = [one.strip() for one in baselines.split(",") if one.strip()]
    with Terminal() as terminal:
        found, made = actions.study(
            workspace,
            data or [],
            grid=grid or [],
            rows=row or [],
            baselines=names,
            seeds=seeds,
            name=name,
            options=options,
            forecast_tokens=forecast_tokens,
            sets=sets or [],
            apply=apply,
            dry_run=dry_run,
            terminal=terminal,
        )
    if as_json or found is None:
        print_json(made)
    else:
        result_console().print(study_table(found))


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
def schedule(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A preset's name (`rewarm recipes`) or a YAML file.")],
    arrivals: Annotated[
        int | None, typer.Option("--arrivals", metavar="N", min=0, help="How many updates follow the base (3).")
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens",
            metavar="N,N,…",
            help="Tokens of the base and of each update, as 300B,200B; the last goes for all that follow. "
            "By default the recipe's budget.",
        ),
    ] = None,
    imported: Annotated[bool, typer.Option("--imported", help="The base is an imported model: only updates.")] = False,
    sets: SetOption = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the learning rate in the terminal.")] = False,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE.html", help="Write the plot as a page that needs no network.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a recipe's learning rate over a base and several arrivals, anneals included; nothing is trained."""
    found = actions.schedule(recipe, arrivals, tokens, imported, sets or [], to)
    if as_json:
        print_json(found.to_json())
        return
    console = result_console()
    if plot:
        console.print(terminal_chart(found, console.width))
    console.print(phases_table(found))
    if to is not None:
        typer.echo(f"page: {to}")


@app.command()
def trace(
    workspace: WorkspaceArgument,
    documents: Annotated[
        list[str] | None, typer.Argument(metavar="[DOC_ID]...", help="Ids of documents, or their first digits.")
    ] = None,
    update: Annotated[str | None, typer.Option("--update", metavar="U", help="Only this update: id or number.")] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help="Documents that hold this text.")] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Write every replayed document as a row of this Parquet file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show when documents were trained, new or replayed; without a document, what every update replayed.

    It covers the trunks; what an annealed branch reads again is not counted.
    """
    with Terminal(quiet=as_json) as terminal:
        found = actions.trace(workspace, documents or [], text, update, to, terminal)
    if as_json:
        print_json(found)
    elif "documents" in found:
        show_documents(found["documents"])
    else:
        result_console().print(ledger_table(found))


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
def list_settings(as_json: JsonOption = False) -> None:
    """List every setting with its default and meaning."""
    if as_json:
        print_json(
            {name: {"default": default, "meaning": plain(field.description)} for name, field, default in settings()}
        )
        return
    for name, field, default in settings():
        shown = json.dumps(default, default=str)
        typer.echo(f"{typer.style(name, bold=True)} = {shown}\n    {plain(field.description)}")


def plain(text: str | None) -> str:
    """A docstring's text in one line."""
    return " ".join((text or "").split())


@app.command("recipes")
def list_recipes(as_json: JsonOption = False) -> None:
    """List the recipes that come with rewarm."""
    from pipeline.config import load_recipe

    if as_json:
        print_json({name: load_recipe(name).model_dump(mode="json") for name in presets()})
        return
    for name in presets():
        typer.echo(f"{name:<20} {load_recipe(name).description}")


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


def show_documents(documents: list[dict[str, Any]]) -> None:
    """Print documents and their reads."""
    for one in documents:
        origin = ", ".join(str(one[name]) for name in ("source", "url", "timestamp") if one[name]) or "no source given"
        typer.echo(f"{typer.style(one['doc_id'], bold=True)}  {one['excerpt']}")
        typer.echo(
            f"    {one['dataset']}/{one['split']}, row {one['row']} ({one['shard']}): {one['num_tokens']} tokens"
        )
        typer.echo(f"    from {origin}")
        for reads in one["trained"]:
            steps = ", ".join(map(str, reads["steps"][:SHOWN_STEPS])) + (" …" if reads["steps"][SHOWN_STEPS:] else "")
            typer.echo(f"    {reads['update']}: {reads['role']}, {reads['times']} × (step {steps})")
        if not one["trained"]:
            typer.echo("    not trained" + (", as it is for validation" if one["split"] == "validation" else ""))


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
