"""Arguments and options shared by several commands."""

import re
from typing import Annotated

import typer

from rewarm.pipeline.cli.completion import setting_keys

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


def duration(text: str | float) -> float:
    """Return the seconds of a duration such as ``90``, ``90s``, ``1.5h`` or ``2d``."""
    found = DURATION.fullmatch(str(text).strip().lower())
    if found is None:
        raise typer.BadParameter(f"{text!r}: expected a duration such as 90s, 30m, 2h or 1d")
    return float(found[1]) * UNITS[found[2]]


WorkspaceArgument = Annotated[str, typer.Argument(metavar="WORKSPACE", help="Path or URI of the workspace.")]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="NAME=PATH",
        help="A dataset: a file, folder or glob (path, s3://, gs://, https://) of JSON lines, CSV, text, HTML, "
        "Parquet, WARC, … Repeatable.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting, e.g. replay.share=0.25. Repeatable; `rewarm settings` lists them.",
        autocompletion=setting_keys,
    ),
]
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="DURATION",
        parser=duration,
        help="How long to wait if another command is using the workspace (90, 90s, 30m, 2h); 0 fails at once.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and show what would be done; write nothing.")
]
