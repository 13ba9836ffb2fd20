"""The commands that look into datasets."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import app, print_json
from pipeline.cli.completion import dataset_names
from pipeline.cli.options import JsonOption, WorkspaceArgument
from pipeline.dataset_view import account_view, dataset_account, quarantine, quarantine_view
from pipeline.terminal import Terminal, result_console
from pipeline.token_actions import export_tokens, verify_tokens
from pipeline.workspace import Workspace
from stages.errors import UsageError

PANEL = "Data"

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The dataset's name.", autocompletion=dataset_names)]


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


@app.command(rich_help_panel=PANEL)
def tokenize(
    workspace: WorkspaceArgument,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A dataset; by default all of them.", autocompletion=dataset_names),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Encode texts again with Hugging Face's tokenizer and compare all ids.")
    ] = False,
    documents: Annotated[
        int, typer.Option("--documents", metavar="N", min=1, help="How many texts of a dataset to compare.")
    ] = 1000,
    everything: Annotated[bool, typer.Option("--all", help="Compare every text.")] = False,
    to: Annotated[
        Path | None,
        typer.Option("--export", metavar="PREFIX", help="Write NAME's tokens as Megatron's .bin and .idx."),
    ] = None,
    end_of_text: Annotated[
        bool, typer.Option("--end-of-text/--no-end-of-text", help="Whether exported documents end in end-of-text.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Prove the stored tokens, or write them for other programs; `init` and `update` make them.

    With --verify the exit code is 1 where any id differs.
    """
    if verify == (to is not None):
        raise UsageError("rewarm tokenize: give --verify, or --export PREFIX")
    if to is not None and name is None:
        raise UsageError("--export writes one dataset: give its name")
    with Terminal(quiet=as_json) as terminal:
        if to is not None and name is not None:
            found = export_tokens(workspace, name, to, end_of_text, terminal)
        else:
            found = verify_tokens(workspace, name, None if everything else documents, terminal)
    print_json(found)
    if not found.get("equal", True):
        raise typer.Exit(1)
