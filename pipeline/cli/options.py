"""Arguments and options that several commands have."""

from typing import Annotated

import typer

from pipeline.cli.completion import setting_keys

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
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and say what would be done; write nothing.")
]
