"""Arguments and options that several commands have."""

import re
from typing import Annotated

import typer

from rewarm.pipeline.cli.completion import setting_keys

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


def duration(text: str | float) -> float:
    """Seconds of a duration as ``90``, ``90s``, ``1.5h`` or ``2d``."""
    found = DURATION.fullmatch(str(text).strip().lower())
    if found is None:
        raise typer.BadParameter(f"{text!r}: expected a duration such as 90s, 30m, 2h or 1d")
    return float(found[1]) * UNITS[found[2]]


WorkspaceArgument = Annotated[str, typer.Argument(metavar="WORKSPACE", help="The workspace's folder.")]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="NAME=PATH",
        help="A dataset: a file, a folder or a glob of JSONL (.gz, .zst), Parquet or text. Repeatable.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting, for example replay.share=0.25. Repeatable; `rewarm settings` lists all.",
        autocompletion=setting_keys,
    ),
]
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="DURATION",
        parser=duration,
        help="How long to wait for another command to end (90, 90s, 30m, 2h); by default a busy workspace is refused.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and say what would be done; write nothing.")
]
