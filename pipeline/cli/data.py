"""The commands that look into datasets."""

from typing import Annotated

import typer

from pipeline.cli.app import app, print_json
from pipeline.cli.options import JsonOption, WorkspaceArgument
from pipeline.dataset_view import account_view, dataset_account, quarantine, quarantine_view
from pipeline.terminal import result_console
from pipeline.workspace import Workspace

PANEL = "Data"

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The dataset's name.")]


@app.command(rich_help_panel=PANEL)
def data(workspace: WorkspaceArgument, name: NameArgument, as_json: JsonOption = False) -> None:
    """Show what became of a dataset's documents, step by step, and what its text is like."""
    found = dataset_account(Workspace.open(workspace), name)
    if as_json:
        print_json(found)
    else:
        result_console().print(account_view(found))


@app.command("quarantine", rich_help_panel=PANEL)
def show_quarantine(
    workspace: WorkspaceArgument,
    name: NameArgument,
    reason: Annotated[str | None, typer.Option("--reason", metavar="REASON", help="Only this reason.")] = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=0, help="Records to show of each reason.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Show what was refused of a dataset: counts by reason, what was measured, and samples."""
    found = quarantine(Workspace.open(workspace), name, reason, samples)
    if as_json:
        print_json(found)
    else:
        result_console().print(quarantine_view(found))
