"""Commands that inspect a dataset: its ingest record, its quarantine, its tokens."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rewarm.pipeline.cli.app import app, print_json
from rewarm.pipeline.cli.options import JsonOption, WorkspaceArgument, dataset_names
from rewarm.pipeline.terminal import Terminal, result_console
from rewarm.stages.core.cluster import connected
from rewarm.stages.core.errors import UsageError

if TYPE_CHECKING:
    from rewarm.pipeline.lineage.workspace import Workspace
    from rewarm.stages.core.progress import Progress

PANEL = "Data"

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the dataset.", autocompletion=dataset_names)]


@app.command(rich_help_panel=PANEL)
def data(workspace: WorkspaceArgument, name: NameArgument, as_json: JsonOption = False) -> None:
    """Show how many documents and bytes each ingest step kept, and the languages, hosts and lengths of the text."""
    from rewarm.pipeline.cli.data_view import account_view, dataset_account
    from rewarm.pipeline.lineage.workspace import Workspace

    found = dataset_account(Workspace.open(workspace), name)
    if as_json:
        print_json(found)
    else:
        result_console().print(account_view(found))


@app.command("quarantine", rich_help_panel=PANEL)
def show_quarantine(
    workspace: WorkspaceArgument,
    name: NameArgument,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="REASON", help="Show only the records refused for this reason.")
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", min=0, help="Number of records to show for each reason.")
    ] = 3,
    as_json: JsonOption = False,
) -> None:
    """Show the refused records of a dataset: counts by reason, measurements and samples."""
    from rewarm.pipeline.cli.data_view import quarantine, quarantine_view
    from rewarm.pipeline.lineage.workspace import Workspace

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
        typer.Argument(metavar="NAME", help="Name of the dataset; all by default.", autocompletion=dataset_names),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Encode texts again with Hugging Face's tokenizer and compare all ids.")
    ] = False,
    documents: Annotated[
        int, typer.Option("--documents", metavar="N", min=1, help="Number of texts per dataset to compare.")
    ] = 1000,
    everything: Annotated[bool, typer.Option("--all", help="Compare every text.")] = False,
    to: Annotated[
        Path | None,
        typer.Option("--export", metavar="PREFIX", help="Write the dataset's tokens as Megatron .bin and .idx files."),
    ] = None,
    end_of_text: Annotated[
        bool,
        typer.Option("--end-of-text/--no-end-of-text", help="End each exported document with the end-of-text token."),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Verify the stored tokens, or export them for other programs; `init` and `update` create them.

    With --verify, the exit code is 1 if any id differs.
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


def verify_tokens(uri: str, name: str | None, documents: int | None, progress: "Progress") -> dict[str, Any]:
    """Compare the tokens of a dataset (``None``: every dataset) with Hugging Face's, for ``documents`` texts or all.

    Returns JSON types; ``equal`` is true if all ids agree.
    """
    from rewarm.pipeline.lineage.workspace import Workspace
    from rewarm.stages import tokenize as tokens

    workspace = Workspace.open(uri)
    found = {}
    with connected(models=False):
        for dataset in datasets_of(workspace, name):
            folder = workspace.dataset(dataset)
            outcome = tokens.verify(folder, workspace.tokenizer, folder / "tokens", documents, progress)
            found[dataset] = asdict(outcome)
    return {"workspace": uri, "equal": not any(each["mismatches"] for each in found.values()), "datasets": found}


def export_tokens(uri: str, name: str, to: Path, end_of_text: bool, progress: "Progress") -> dict[str, Any]:
    """Write a dataset's tokens as Megatron ``.bin`` and ``.idx`` files, one pair per split, with the prefix ``to``."""
    from rewarm.pipeline.lineage.workspace import Workspace
    from rewarm.stages import tokenize as tokens

    workspace = Workspace.open(uri)
    (dataset,) = datasets_of(workspace, name)
    return asdict(tokens.export_megatron(workspace.dataset(dataset) / "tokens", to, progress, end_of_text))


def datasets_of(workspace: "Workspace", name: str | None) -> Sequence[str]:
    """Return the named dataset, or all with tokens; raise ``UsageError`` if there are no tokens under that name."""
    folders = (workspace.folder / "datasets").folders()
    tokenized = [each for each in folders if (workspace.dataset(each) / "tokens").committed()]
    if name is None and tokenized:
        return tokenized
    if name not in tokenized:
        known = ", ".join(tokenized) or "none yet"
        raise UsageError(f"{workspace.folder}: dataset {name!r} has no tokens; tokenized datasets: {known}")
    return [name]
