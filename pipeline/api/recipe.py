"""The function behind ``rewarm recipe``: a workspace's recipe, and its changes for later updates."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from rewarm.pipeline.api.releases import person
from rewarm.pipeline.escaping import in_one_line
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.terminal import Terminal
from rewarm.pipeline.update.inputs import recipe_of
from rewarm.pipeline.update.recipe_change import changed_recipe, changed_settings, changes_of, write_recipe


def recipe(
    uri: str,
    sets: Sequence[str],
    terminal: Terminal,
    *,
    because: str = "",
    by: str = "",
    dry_run: bool = False,
    wait_s: float = 0.0,
) -> dict[str, Any]:
    """Return a workspace's recipe and the changes of it; with ``sets``, change it for later updates first.

    ``changed`` maps the dotted key of each setting that this call changed to its value before and after.
    """
    workspace, changed, because, by = Workspace.open(uri), {}, in_one_line(because), in_one_line(by)
    if sets:
        with nullcontext() if dry_run else workspace.lease(wait_s=wait_s, note=terminal.note):
            before, after = recipe_of(workspace), changed_recipe(workspace, sets)
            changed = dict(changed_settings(before.model_dump(mode="json"), after.model_dump(mode="json")))
            if not dry_run:
                write_recipe(workspace, after, by or person(), because)
    return {
        "workspace": uri,
        "dry_run": dry_run,
        "changed": changed,
        "recipe": recipe_of(workspace).model_dump(mode="json"),
        "changes": [vars(change) for change in changes_of(workspace)],
        "lines": [line for change in changes_of(workspace) for line in change.lines()],
    }
