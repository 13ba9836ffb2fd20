"""The ``monitoring`` command: configuration files for Grafana and Prometheus."""

from pathlib import Path
from typing import Annotated

import typer

from rewarm.pipeline.cli.app import app
from rewarm.pipeline.terminal import echo

PANEL = "Inspect"


@app.command(rich_help_panel=PANEL)
def monitoring(
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Folder for the files; files that you have edited are kept.")
    ],
) -> None:
    """Write a Grafana dashboard, Prometheus alert rules and scrape settings for rewarm's metrics; print their paths."""
    from rewarm.pipeline.monitoring.files import write_files

    for path in write_files(to):
        echo(str(path))
