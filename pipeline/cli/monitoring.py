"""The command that writes what Grafana and Prometheus read."""

from pathlib import Path
from typing import Annotated

import typer

from rewarm.pipeline.cli.app import app
from rewarm.pipeline.monitoring.files import write_files
from rewarm.pipeline.terminal import echo

PANEL = "Looking"


@app.command(rich_help_panel=PANEL)
def monitoring(
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Where the files are put; files you have edited are kept.")
    ],
) -> None:
    """Write a Grafana dashboard, alert rules and settings of Prometheus for rewarm's metrics; print their paths."""
    for path in write_files(to):
        echo(str(path))
