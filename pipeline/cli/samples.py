"""The command ``rewarm samples``: texts of a release beside those of the release before."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rewarm.pipeline.cli.app import app, print_json
from rewarm.pipeline.cli.options import JsonOption, WorkspaceArgument, update_names
from rewarm.pipeline.terminal import echo, result_console

if TYPE_CHECKING:
    from rich.table import Table

    from rewarm.pipeline.lineage.samples import Sample

NAMED = 18  # columns of the names; a longer one is folded
WIDEST = 80  # columns of text that are read with ease


@app.command(rich_help_panel="Inspect")
def samples(
    workspace: WorkspaceArgument,
    update: Annotated[
        str | None,
        typer.Argument(
            metavar="UPDATE",
            help="Id, number or arrival of the update; by default the current release.",
            autocompletion=update_names,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a release writes after the beginnings of held-out documents, beside the release before.

    Both continue the same beginnings with the same random numbers. The texts were drawn when the release was evaluated.
    """
    from rewarm.pipeline.lineage.lineage import Lineage
    from rewarm.pipeline.lineage.samples import compared_with, read_samples
    from rewarm.pipeline.lineage.workspace import Workspace

    opened = Workspace.open(workspace)
    found = Lineage(opened).find(update)
    drawn, before = read_samples(opened, found), compared_with(found)
    if as_json:
        print_json({"update": found.id, "before": before, "samples": [asdict(one) for one in drawn]})
        return
    if not drawn:
        echo(f"{found.id}: no samples were drawn (evaluate.samples, or too short documents)")
        return
    temperature = drawn[0].temperature
    how = f"drawn at temperature {temperature:g}" if temperature else "the most likely tokens"
    echo(f"{found.id}: continuations of held-out documents, {how}")
    console = result_console()
    for one in drawn:
        console.print(sample_table(one, found.id, before), width=min(console.width, WIDEST))


def sample_table(one: "Sample", update: str, before: str | None) -> "Table":
    """Return one sample: the beginning, and three continuations of it, one below the other."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, show_header=False, padding=(0, 1, 0, 0), title=f"\n{one.dataset}", title_justify="left")
    made.add_column(max_width=NAMED, overflow="fold")
    made.add_column(overflow="fold")
    for name, text in lines_of(one, update, before):
        made.add_row(Text(name, style="bold" if name == update else ""), Text(text))
    return made


def lines_of(one: "Sample", update: str, before: str | None) -> Iterator[tuple[str, str]]:
    """Yield the lines of a sample: whose text it is, and the text in one line."""
    from rewarm.pipeline.escaping import visible

    texts = {"begins": one.prompt, "document": one.own}
    if one.before is not None and before is not None:
        texts[before] = one.before
    texts[update] = one.text + (" (end)" if one.ended else "")
    for name, text in texts.items():
        yield name, str(visible(" ".join(text.split()))) or "(nothing)"
