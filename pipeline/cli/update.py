"""Commands that create, plan, run and discard updates."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rewarm.pipeline.cli.app import app, print_json, show
from rewarm.pipeline.cli.options import (
    DataOption,
    DryRunOption,
    JsonOption,
    SetOption,
    WaitOption,
    WorkspaceArgument,
    finite,
    recipe_names,
)
from rewarm.pipeline.cli.releases import finish
from rewarm.pipeline.study.settings import BASELINES, EARLY_STOP, Options
from rewarm.pipeline.terminal import Terminal, echo, result_console
from rewarm.stages.core.errors import UsageError

PANEL = "Updates"


@app.command(rich_help_panel=PANEL)
def init(
    workspace: WorkspaceArgument,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            metavar="NAME|FILE",
            help="Name of a preset (`rewarm recipes`) or a YAML file.",
            autocompletion=recipe_names,
        ),
    ],
    data: DataOption = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="HF_DIR|ORG/NAME",
            help="Import this model and tokenizer, from a folder or the Hub (@REVISION), instead of pre-training.",
        ),
    ] = None,
    sets: SetOption = None,
    wait: WaitOption = 0.0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Create a workspace and its base: train a tokenizer and pre-train a model, or import one.

    The recipe is stored in the workspace, and later updates follow it. If interrupted, run the same command again to
    resume.
    """
    from rewarm.pipeline.api import updates

    with Terminal() as terminal:
        found = updates.init(workspace, recipe, data or [], source, sets or [], dry_run, terminal, wait)
    show(found, as_json=as_json)


@app.command(rich_help_panel=PANEL)
def update(
    workspace: WorkspaceArgument,
    data: DataOption = None,
    sets: SetOption = None,
    wait: WaitOption = 0.0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Update the model with one arrival: ingest, tokenize, replay, train, anneal, evaluate, gate, release.

    If interrupted, run the same command again: it resumes and gives the same result. Running it after the update has
    finished does nothing.

    Exits with 3 if the gate refuses the release, and with 4 if the release is held because the gate could not decide;
    `rewarm promote` then makes it current.
    """
    from rewarm.pipeline.api import updates
    from rewarm.pipeline.lineage.status import Status
    from rewarm.pipeline.update.inputs import parse_data

    with Terminal() as terminal:
        found = updates.update(workspace, data or [], sets or [], dry_run, terminal, wait)
    show(found, as_json=as_json)
    if not isinstance(found, Status):
        return
    name = "+".join(parse_data(data or []))
    done = next(each for each in found.updates if each.arrival == name)
    finish(done, (), as_json)


@app.command(rich_help_panel=PANEL)
def anneal(
    workspace: WorkspaceArgument,
    update: Annotated[
        str | None,
        typer.Argument(
            metavar="UPDATE",
            help="Update whose trunk is annealed; by default the one that the next update starts from.",
        ),
    ] = None,
    sets: SetOption = None,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Anneal another release from a finished trunk, evaluate it, and promote it if it passes the gate.

    The trunk does not change. Use this to anneal for longer or in another way (--set anneal.share, anneal.shape,
    anneal.data), or after the gate refused a release. If interrupted, run the same command again.

    Exits with 3 if the gate refuses the release, and with 4 if it is held because the gate could not decide.
    """
    from rewarm.pipeline.api import updates

    with Terminal() as terminal:
        found = updates.anneal(workspace, update, sets or [], terminal, wait)
    show(found, as_json=as_json)
    finish(found.updates[-1], (), as_json)


@app.command(rich_help_panel=PANEL)
def plan(
    workspace: WorkspaceArgument,
    data: DataOption = None,
    sets: SetOption = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write the plan to FILE as JSON.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure an arrival's shift, choose settings for its update and predict the cost; change nothing.

    Settings that are `auto` take these choices when the update begins.
    """
    from rewarm.pipeline.api import updates
    from rewarm.pipeline.cli.plan_view import plan_view

    with Terminal() as terminal:
        found = updates.plan(workspace, data or [], sets or [], save, terminal)
    if as_json:
        print_json(found)
    else:
        result_console().print(plan_view(found))


@app.command(rich_help_panel=PANEL)
def study(
    workspace: WorkspaceArgument,
    data: DataOption = None,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="KEY=V1,V2,…", help="A setting and its values; several grids are combined."),
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            "--row", metavar="'LABEL: KEY=VALUE …'", help="One more combination of settings, besides the grid."
        ),
    ] = None,
    baselines: Annotated[
        str, typer.Option("--baselines", metavar="NAME,…", help=f"Rows to compare with: {', '.join(BASELINES)}.")
    ] = "",
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds",
            metavar="N",
            min=1,
            max=1000,
            help="Number of runs per row, each with its own data order and replay.",
        ),
    ] = 1,
    from_base: Annotated[
        bool, typer.Option("--from-base", help="Also train a new base for each further seed, to include its spread.")
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="Name of the study; by default the arrival's. Reusing a name extends it."
        ),
    ] = None,
    concurrent: Annotated[
        int | None,
        typer.Option(
            "--concurrent", metavar="N", min=1, help="Number of trials run at the same time; by default as many as fit."
        ),
    ] = None,
    early_stop: Annotated[
        str, typer.Option("--early-stop", metavar="|".join(EARLY_STOP), help="Stop trials whose score falls behind.")
    ] = "none",
    old_weight: Annotated[
        float | None,
        typer.Option(
            "--old-weight",
            metavar="W",
            min=0,
            max=1,
            help="Weight of the earlier datasets' mean loss in the score; by default all datasets count alike.",
        ),
    ] = None,
    forecast_tokens: Annotated[
        float | None,
        typer.Option(
            "--forecast-tokens",
            metavar="N",
            min=1,
            callback=finite,
            help="Tokens of the update to forecast; by default those of the longest run.",
        ),
    ] = None,
    sets: SetOption = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the settings of the best row to the workspace's recipe.")
    ] = False,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    wait: WaitOption = 0.0,
) -> None:
    """Train one arrival under many settings and compare losses on old and new data, their spread, and cost.

    Nothing is promoted. If interrupted, run the same command again to resume; a larger grid adds trials to the study.
    """
    from rewarm.pipeline.api import studies
    from rewarm.pipeline.study.table import table as study_table

    if early_stop not in EARLY_STOP:
        raise UsageError(f"--early-stop {early_stop}: expected one of {', '.join(EARLY_STOP)}")
    options = Options(concurrent, early_stop, old_weight, from_base)
    names = [name.strip() for name in baselines.split(",") if name.strip()]
    with Terminal() as terminal:
        found, made = studies.study(
            workspace,
            studies.StudyRequest(
                data or [], grid or [], row or [], names, seeds, name, options, forecast_tokens, sets or [], apply
            ),
            dry_run,
            terminal,
            wait,
        )
    if as_json or found is None:
        print_json(made)
    else:
        console = result_console()
        console.print(study_table(found, console.width))


@app.command(rich_help_panel=PANEL)
def discard(workspace: WorkspaceArgument, wait: WaitOption = 0.0) -> None:
    """Discard the unfinished update of a workspace, so that another can begin."""
    from rewarm.pipeline.api import updates

    discarded = updates.discard(workspace, wait, partial(echo, err=True))
    echo(f"discarded {discarded}" if discarded else "there is no unfinished update")


@app.command(rich_help_panel=PANEL)
def demo(
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Folder for the text and the workspace.")
    ] = Path("demo"),
    sets: SetOption = None,
    wait: WaitOption = 0.0,
) -> None:
    """Pre-train a small model on real text and update it twice: no download, no GPU, a few minutes on two cores."""
    from rewarm.pipeline.api import updates

    with Terminal() as terminal:
        found, page = updates.demo(directory, sets or [], terminal, wait)
    show(found)
    echo(f"\nreport: {page}")
