"""Shell completion: names from the workspace on the command line, recipes and settings.

A completion that finds nothing stays silent: a message would interrupt the user's typing.
"""

from collections.abc import Callable, Iterable

import typer

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.progress.log import logged_updates
from rewarm.pipeline.recipe.recipe import presets, settings
from rewarm.stages.core.errors import StageError, UsageError


def update_names(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of finished updates."""
    return _of_workspace(context, incomplete, lambda found: [update.id for update in Lineage(found).entries])


def dataset_names(context: typer.Context, incomplete: str) -> list[str]:
    """Datasets of the lineage."""
    return _of_workspace(context, incomplete, lambda found: Lineage(found).datasets())


def log_names(context: typer.Context, incomplete: str) -> list[str]:
    """Updates that have a log."""
    return _of_workspace(context, incomplete, lambda found: logged_updates(found.folder))


def recipe_names(incomplete: str) -> list[str]:
    """Recipes that come with rewarm."""
    return [name for name in presets() if name.startswith(incomplete)]


def setting_keys(incomplete: str) -> list[tuple[str, str]]:
    """Keys of settings, with what they mean."""
    return [
        (f"{name}=", " ".join((field.description or "").split()))
        for name, field, _ in settings()
        if f"{name}=".startswith(incomplete)
    ]


def _of_workspace(context: typer.Context, incomplete: str, names: Callable[[Workspace], Iterable[str]]) -> list[str]:
    try:
        workspace = Workspace.open(str(context.params.get("workspace") or ""))
    except (UsageError, StageError, OSError):
        return []
    return [name for name in names(workspace) if name.startswith(incomplete)]
