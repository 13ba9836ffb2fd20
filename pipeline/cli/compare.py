"""The command ``rewarm compare``, and its table for a terminal of 80 columns."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rewarm.pipeline.cli.app import app, print_json
from rewarm.pipeline.cli.options import JsonOption
from rewarm.pipeline.terminal import Terminal, compact, figures, result_console

if TYPE_CHECKING:
    from rich.table import Table

    from rewarm.pipeline.compare import Comparison, Row

PANEL = "Releases"
BETTER = {"a": "A better", "b": "B better", "neither": ""}


@app.command(rich_help_panel=PANEL)
def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="WORKSPACE (its current release), WORKSPACE@UPDATE, HF_DIR or ORG/NAME.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The model to compare with A, given in one of the same ways.")],
    on: Annotated[
        str | None,
        typer.Option(
            "--on", metavar="WORKSPACE", help="Workspace whose validation documents are used; by default A's, else B's."
        ),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            "--scratch",
            metavar="DIR",
            help="Folder for measurements, visible to all nodes; by default a temporary one.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two releases or Hugging Face models on a lineage's validation documents.

    The paired tests are those of the gate, in both directions and corrected for the number of rows, each with the
    smallest difference that it could detect. Nothing is written to a workspace.
    """
    from rewarm.pipeline.api.releases import comparison

    with Terminal(quiet=as_json) as terminal:
        found = comparison(a, b, on, scratch, terminal)
    if as_json:
        print_json(asdict(found))
        return
    console = result_console()
    console.print(comparison_table(found))
    for line in lines_of(found):
        console.print(line, markup=False)


def comparison_table(found: "Comparison") -> "Table":
    """One row a dataset or task: both models, the change, p, and the smallest difference that the test detects."""
    metrics = ", ".join(dict.fromkeys(row.metric for row in found.rows))
    table = compact(
        "B against A",
        f"{metrics}; losses: less is better. p: of no difference, corrected over all rows. detects: the smallest "
        f"difference found with probability {found.power:g}.",
    )
    table.add_column("on", overflow="fold")
    figures(table, "A", "B", "B - A", "p", "detects", "n")
    table.add_column("")
    for row in found.rows:
        table.add_row(*cells(row))
    return table


def cells(row: "Row") -> list[str]:
    """One row's cells."""
    p = "" if row.p_adjusted is None else f"{row.p_adjusted:.2g}" if row.p_adjusted >= 1e-4 else "<1e-4"
    detects = "nothing" if row.detectable is None else f"{row.detectable:.3f}"
    count = str(row.n) if row.units == row.n else f"{row.n} ({row.units} sites)"
    return [row.name, f"{row.a:.3f}", f"{row.b:.3f}", f"{row.change:+.3f}", p, detects, count, BETTER[row.better]]


def lines_of(found: "Comparison") -> Iterator[str]:
    """Yield what A and B are, on whose documents, and what was not compared."""
    yield f"A: {found.a}"
    yield f"B: {found.b}"
    yield f"on the validation documents of {found.workspace}"
    yield from found.notes
