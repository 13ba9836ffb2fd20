"""The commands that make updates, and those that say what an update should be."""

from pathlib import Path
from typing import Annotated

import typer

from rewarm.pipeline.api import updates
from rewarm.pipeline.cli.app import app, print_json, show
from rewarm.pipeline.cli.completion import recipe_names
from rewarm.pipeline.cli.options import DataOption, DryRunOption, JsonOption, SetOption, WaitOption, WorkspaceArgument
from rewarm.pipeline.cli.plan_view import plan_view
from rewarm.pipeline.cli.releases import verdict_lines
from rewarm.pipeline.lineage.status import Status
from rewarm.pipeline.record import REFUSED, UNDECIDED
from rewarm.pipeline.study import BASELINES, EARLY_STOP, Options
from rewarm.pipeline.study import table as study_table
from rewarm.pipeline.terminal import Terminal, echo, result_console
from rewarm.pipeline.update.inputs import parse_data
from rewarm.stages.core.errors import RefusedError, RewarmError, UndecidedError, UsageError

PANEL = "Updates"
# How a command ends whose update is finished, but whose release was not promoted.
ENDS: dict[str, tuple[type[RewarmError], str]] = {
    REFUSED: (RefusedError, "refused by the gate; the release before stays current"),
    UNDECIDED: (UndecidedError, "held, as the gate could not decide; `rewarm promote` makes it the current release"),
}


@app.command(rich_help_panel=PANEL)
def init(
    workspace: WorkspaceArgument,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            metavar="NAME|FILE",
            help="A preset's name (`rewarm recipes`) or a YAML file.",
            autocompletion=recipe_names,
        ),
    ],
    data: DataOption = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="HF_DIR", help="Import this model and tokenizer instead of pre-training."),
    ] = None,
    sets: SetOption = None,
    wait: WaitOption = 0.0,
    dry_run: DryRunOption = False,
) -> None:
    """Make a workspace and its base: train a tokenizer and pre-train on D0, or import a model.

    The recipe stays with the workspace; updates follow it. Killed at any moment, the same command goes on.
    """
    with Terminal() as terminal:
        show(updates.init(workspace, recipe, data or [], source, sets or [], dry_run, terminal, wait))


@app.command(rich_help_panel=PANEL)
def update(
    workspace: WorkspaceArgument,
    data: DataOption = None,
    sets: SetOption = None,
    wait: WaitOption = 0.0,
    dry_run: DryRunOption = False,
) -> None:
    """Take in one arrival: ingest, tokenize, replay, train, anneal, evaluate, release.

    Killed at any moment, the same command goes on where it stood, with the same result; after the end it does
    nothing. Exits with 3 if the gate refuses the release, with 4 if it is held
    because the gate could not decide: `rewarm promote` ends that.
    """
    with Terminal() as terminal:
        found = updates.update(workspace, data or [], sets or [], dry_run, terminal, wait)
    show(found)
    if not isinstance(found, Status):
        return
    name = "+".join(parse_data(data or []))
    done = next(one for one in found.updates if one.arrival == name)
    for line in verdict_lines(done.gate, done.id):
        echo(line)
    if done.state in ENDS:
        kind, told = ENDS[done.state]
        raise kind(f"{done.id}: {told}")


@app.command(rich_help_panel=PANEL)
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
        int, typer.Option("--seeds", min=1, help="How often each row is run, each time in another order and replay.")
    ] = 1,
    from_base: Annotated[
        bool, typer.Option("--from-base", help="Train a base anew for each further seed: its spread counts too.")
    ] = False,
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
    options = Options(concurrent, early_stop, old_weight, from_base)
    names = [one.strip() for one in baselines.split(",") if one.strip()]
    with Terminal() as terminal:
        found, made = updates.study(
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


@app.command(rich_help_panel=PANEL)
def discard(workspace: WorkspaceArgument, wait: WaitOption = 0.0) -> None:
    """Drop the unfinished update of a workspace, so that another can begin."""
    dropped = updates.discard(workspace, wait)
    echo(f"dropped {dropped}" if dropped else "nothing is unfinished")


@app.command(rich_help_panel=PANEL)
def demo(
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where the text and the workspace are put.")
    ] = Path("demo"),
    sets: SetOption = None,
) -> None:
    """Pre-train a small model on real text and take in two arrivals: no download, no GPU, some minutes on two cores."""
    with Terminal() as terminal:
        found, page = updates.demo(directory, sets or [], terminal)
    show(found)
    echo(f"\nreport: {page}")
