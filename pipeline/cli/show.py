"""Read-only commands: status, logs, report, export, schedule, trace, doctor, settings and recipes."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from rewarm.pipeline.cli.app import app, print_json, show
from rewarm.pipeline.cli.options import JsonOption, SetOption, WorkspaceArgument, log_names, recipe_names, update_names
from rewarm.pipeline.escaping import message
from rewarm.pipeline.terminal import Terminal, echo, ledger_table, result_console
from rewarm.stages.core.errors import DamagedError, UsageError

PANEL = "Inspect"
SHOWN_STEPS = 12  # steps printed for each document and update


@app.command(rich_help_panel=PANEL)
def status(
    workspace: WorkspaceArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C, including the current run.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Show all updates and datasets, not only the last 20.")
    ] = False,
    as_json: JsonOption = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Print Prometheus metrics from the records; needs no cluster.")
    ] = False,
) -> None:
    """Show the lineage (losses, forgetting, tokens, releases) and the progress of the current run."""
    from rewarm.pipeline.cli import run_view
    from rewarm.pipeline.lineage.lineage import Lineage
    from rewarm.pipeline.lineage.status import SHOWN
    from rewarm.pipeline.lineage.status import status as summarise
    from rewarm.pipeline.lineage.workspace import Workspace
    from rewarm.pipeline.progress.log import DONE, read_standing

    opened, shown = Workspace.open(workspace), None if everything else SHOWN
    if metrics:
        if watch or as_json:
            raise UsageError("--metrics prints once, in Prometheus' format: remove --watch and --json")
        from rewarm.pipeline.monitoring.exposition import exposition

        echo(exposition(opened).removesuffix("\n"))
        return
    if watch:
        if as_json:
            raise UsageError("--watch and --json exclude each other: give only one of them")
        run_view.watch(opened, lambda: summarise(Lineage(opened), shown), result_console())
        return
    found, at = summarise(Lineage(opened), shown), time.time()
    try:
        standing = read_standing(opened.folder)
    except DamagedError as error:  # only the run's record is damaged; still show the lineage
        echo(f"rewarm: {message(str(error))}", err=True)
        standing = None
    if as_json:
        print_json({**found.to_json(), "run": run_view.run_record(standing, at)})
        return
    show(found, everything)
    if standing is not None and standing.state != DONE:
        result_console().print(run_view.run_line(standing, at), markup=False)


@app.command(rich_help_panel=PANEL)
def logs(
    workspace: WorkspaceArgument,
    update: Annotated[
        str | None,
        typer.Argument(
            metavar="UPDATE", help="Id or number of the update; by default the last run.", autocompletion=log_names
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log until the run ends, or Ctrl-C.")
    ] = False,
) -> None:
    """Show the log of an update's runs, with times in UTC: stages, notes, one progress line a minute, errors."""
    from rewarm.pipeline.cli import run_view
    from rewarm.pipeline.lineage.workspace import Workspace

    home = Workspace.open(workspace).folder
    try:
        for text in run_view.follow(home, run_view.chosen_log(home, update), follow):
            echo(text)
    except KeyboardInterrupt:
        return


@app.command(rich_help_panel=PANEL)
def report(
    workspace: WorkspaceArgument,
    update: Annotated[
        str | None,
        typer.Argument(
            metavar="UPDATE",
            help="With --to: id or number of the update; by default the workspace's page.",
            autocompletion=update_names,
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE.html", help="Write one page as one file, to mail or archive.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also rewrite the pages of all older updates.")] = False,
) -> None:
    """Write the HTML report, rewriting only pages that have changed, and print its path."""
    from rewarm.pipeline.api import reports

    echo(reports.report(workspace, update, to, everything))


@app.command(rich_help_panel=PANEL)
def export(
    workspace: WorkspaceArgument,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder to create; it must be empty or not exist.")],
    update: Annotated[
        str | None,
        typer.Argument(
            metavar="UPDATE",
            help="Id, number or arrival of the update; by default the current release.",
            autocompletion=update_names,
        ),
    ] = None,
) -> None:
    """Export a release as a Hugging Face model folder, for AutoModelForCausalLM.from_pretrained."""
    from rewarm.pipeline.api import updates

    echo(updates.export(workspace, update, to))


@app.command(rich_help_panel=PANEL)
def schedule(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="Name of a preset (`rewarm recipes`) or a YAML file.", autocompletion=recipe_names
        ),
    ],
    arrivals: Annotated[
        int | None,
        typer.Option(
            "--arrivals", metavar="N", min=0, max=10_000, help="Number of updates after the base; by default 3."
        ),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens",
            metavar="N,N,…",
            help="Tokens of the base and of each update, e.g. 300B,200B; the last value is repeated. "
            "By default the recipe's budget.",
        ),
    ] = None,
    imported: Annotated[
        bool, typer.Option("--imported", help="The base is an imported model: show only updates.")
    ] = False,
    sets: SetOption = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the learning rate in the terminal.")] = False,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE.html", help="Write the plot as a self-contained HTML page.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a recipe's learning rate over a base and several updates, including anneals; train nothing."""
    from rewarm.pipeline.api import updates
    from rewarm.pipeline.schedule_preview import phases_table, terminal_chart

    if plot and as_json:
        raise UsageError("--plot and --json exclude each other: give only one of them")
    found = updates.schedule(recipe, arrivals, tokens, imported, sets or [], to)
    if as_json:
        print_json(found.to_json())
        return
    console = result_console()
    if plot:
        console.print(terminal_chart(found, console.width))
    console.print(phases_table(found))
    if to is not None:
        echo(f"page: {to}")


@app.command(rich_help_panel=PANEL)
def trace(
    workspace: WorkspaceArgument,
    documents: Annotated[
        list[str] | None, typer.Argument(metavar="DOC_ID", help="Ids of documents, or prefixes of ids.")
    ] = None,
    update: Annotated[
        str | None,
        typer.Option("--update", metavar="U", help="Only this update (id or number).", autocompletion=update_names),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="TEXT", help="Trace documents that contain TEXT.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Write every replayed document to this Parquet file, one per row."),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(
            "--step", metavar="N", help="Show the documents that step N of an update read; the first step is 1."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show when documents were trained on, new or replayed; without a document, show what every update replayed.

    Covers the trunks only: documents read on annealed branches are not counted.
    """
    from rewarm.pipeline.api import updates

    if step is not None:
        from rewarm.pipeline.lineage.lineage import Lineage
        from rewarm.pipeline.lineage.workspace import Workspace
        from rewarm.pipeline.trace import trace_step

        if documents or text is not None or to is not None:
            raise UsageError("--step names the documents of a step; leave out documents' ids, --text and --to")
        show_step(trace_step(Lineage(Workspace.open(workspace)), update, step), as_json)
        return
    with Terminal(quiet=as_json) as terminal:
        found = updates.trace(workspace, documents or [], text, update, to, terminal)
    if as_json:
        print_json(found)
    elif "documents" in found:
        show_documents(found["documents"])
    else:
        result_console().print(ledger_table(found))


def show_step(found: dict[str, Any], as_json: bool) -> None:
    """Print the documents of a step, one per line."""
    if as_json:
        print_json(found)
        return
    count = sum(map(len, found["documents"].values()))
    left = f", not trained on: {found['left_out']}" if "left_out" in found else ""
    echo(f"{found['update']}, step {found['step']}: {count} documents{left}")
    for dataset, ids in found["documents"].items():
        for each in ids:
            echo(f"  {dataset}  {each}")


def show_documents(documents: list[dict[str, Any]]) -> None:
    """Print documents with the steps that read them."""
    console = result_console()
    for one in documents:
        origin = ", ".join(str(one[name]) for name in ("source", "url", "timestamp") if one[name]) or "no source given"
        console.print(Text.assemble((one["doc_id"], "bold"), "  ", one["excerpt"]), soft_wrap=True)
        echo(f"    {one['dataset']}/{one['split']}, row {one['row']} ({one['shard']}): {one['num_tokens']} tokens")
        echo(f"    from {origin}")
        for reads in one["trained"]:
            steps = ", ".join(map(str, reads["steps"][:SHOWN_STEPS])) + (" …" if reads["steps"][SHOWN_STEPS:] else "")
            echo(f"    {reads['update']}: {reads['role']}, {reads['times']} × (step {steps})")
        if not one["trained"]:
            echo("    not trained on" + (": held out for validation" if one["split"] == "validation" else ""))


@app.command("doctor", rich_help_panel=PANEL)
def examine(
    workspace: Annotated[
        str | None,
        typer.Argument(metavar="WORKSPACE", help="Also check its disk and the resources for its training."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check compiler, operators, Ray, GPUs, disk and versions; report what is missing and how to install it."""
    from rewarm.pipeline import doctor

    if workspace is not None and "://" in workspace.removeprefix("file://"):
        raise UsageError(
            f"{workspace}: the doctor examines this machine, which has no bucket; name a folder, or nothing"
        )
    checks = doctor.examine(None if workspace is None else Path(workspace.removeprefix("file://")))
    if as_json:
        echo(doctor.as_json(checks))
        raise typer.Exit(1 if doctor.missing(checks) else 0)
    raise typer.Exit(doctor.print_report(checks))


@app.command("settings", rich_help_panel=PANEL)
def list_settings(
    group: Annotated[
        str, typer.Argument(metavar="GROUP", help="Only these settings, e.g. replay or train.zero_stage.")
    ] = "",
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
) -> None:
    """List settings with their defaults and meanings: all, or those of a group."""
    from rewarm.pipeline.recipe.recipe import settings, settings_page

    if markdown:
        if group:
            raise UsageError("--markdown prints all settings: leave out the group")
        if as_json:
            raise UsageError("--markdown and --json exclude each other: give only one of them")
        echo(settings_page().removesuffix("\n"))
        return
    chosen = [one for one in settings() if not group or one[0] == group or one[0].startswith(f"{group}.")]
    if not chosen:
        groups = dict.fromkeys(name.partition(".")[0] for name, _, _ in settings())
        raise UsageError(f"no setting {group!r}; the groups are {', '.join(groups)}")
    if as_json:
        print_json({name: {"default": default, "meaning": plain(field.description)} for name, field, default in chosen})
        return
    console = result_console()
    for name, field, default in chosen:
        shown = json.dumps(default, default=str)
        console.print(Text.assemble((name, "bold"), f" = {shown}\n    {plain(field.description)}"), soft_wrap=True)


def plain(text: str | None) -> str:
    """Return a docstring's text as one line."""
    return " ".join((text or "").split())


@app.command("recipes", rich_help_panel=PANEL)
def list_recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Print this recipe as YAML, to start one of your own.", autocompletion=recipe_names
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the recipes that come with rewarm, or print one: `rewarm recipes tiny > mine.yaml`.

    A recipe that begins with `extends: tiny` needs only the settings that differ.
    """
    from rewarm.pipeline.recipe.recipe import load_recipe, preset_text, presets

    if name is not None and name not in presets():
        raise UsageError(f"no recipe {name!r}; the recipes are {', '.join(presets())}")
    if as_json:
        print_json({one: load_recipe(one).model_dump(mode="json") for one in presets() if name in (None, one)})
    elif name is not None:
        echo(preset_text(name).removesuffix("\n"))
    else:
        for one in presets():
            echo(f"{one:<20} {load_recipe(one).description}")
