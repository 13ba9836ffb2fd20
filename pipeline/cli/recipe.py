"""The command ``rewarm recipe``."""

from typing import Annotated

import typer
import yaml

from rewarm.pipeline.cli.app import app, print_json
from rewarm.pipeline.cli.options import DryRunOption, JsonOption, SetOption, WaitOption, WorkspaceArgument
from rewarm.pipeline.terminal import Terminal, echo

PANEL = "Updates"


@app.command("recipe", rich_help_panel=PANEL)
def workspace_recipe(
    workspace: WorkspaceArgument,
    sets: SetOption = None,
    because: Annotated[str, typer.Option("--because", metavar="TEXT", help="Reason, recorded with the change.")] = "",
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="Who makes the change; by default REWARM_USER, else USER@HOST.")
    ] = "",
    wait: WaitOption = 0.0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show a workspace's recipe, or change it for later updates with --set.

    Each change is recorded with time, person, and values before and after. Settings that the lineage depends on (model,
    tokenizer, data order) are refused with the reason.
    """
    from rewarm.pipeline.api.recipe import recipe

    with Terminal(quiet=as_json) as terminal:
        found = recipe(workspace, sets or [], terminal, because=because, by=by, dry_run=dry_run, wait_s=wait)
    if as_json:
        print_json({key: value for key, value in found.items() if key != "lines"})
    elif sets:
        becomes = "would become" if dry_run else "is now"
        for key, (before, after) in found["changed"].items():
            echo(f"{key} was {before}, {becomes} {after}, for later updates")
        if not found["changed"]:
            echo("the recipe has these values already; nothing changed")
    else:
        for line in found["lines"]:
            echo(f"# {line}")
        echo(yaml.safe_dump(found["recipe"], sort_keys=False, allow_unicode=True).removesuffix("\n"))
