"""Arguments and options that several commands share, and the values that a shell completes for them."""

import math
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from rewarm.stages.core.errors import StageError, UsageError

if TYPE_CHECKING:
    from rewarm.pipeline.lineage.workspace import Workspace


def update_names(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of finished updates."""
    from rewarm.pipeline.lineage.lineage import Lineage

    return _of_workspace(context, incomplete, lambda found: [update.id for update in Lineage(found).entries])


def dataset_names(context: typer.Context, incomplete: str) -> list[str]:
    """Datasets of the lineage."""
    from rewarm.pipeline.lineage.lineage import Lineage

    return _of_workspace(context, incomplete, lambda found: Lineage(found).datasets())


def log_names(context: typer.Context, incomplete: str) -> list[str]:
    """Updates that have a log."""
    from rewarm.pipeline.progress.log import logged_updates

    return _of_workspace(context, incomplete, lambda found: logged_updates(found.folder))


def recipe_names(incomplete: str) -> list[str]:
    """Recipes that come with rewarm."""
    from rewarm.pipeline.recipe.recipe import presets

    return [name for name in presets() if name.startswith(incomplete)]


def setting_keys(incomplete: str) -> list[tuple[str, str]]:
    """Keys of settings, with what they mean."""
    from rewarm.pipeline.recipe.recipe import settings

    return [
        (f"{name}=", " ".join((field.description or "").split()))
        for name, field, _ in settings()
        if f"{name}=".startswith(incomplete)
    ]


def _of_workspace(context: typer.Context, incomplete: str, names: "Callable[[Workspace], Iterable[str]]") -> list[str]:
    from rewarm.pipeline.lineage.workspace import Workspace

    try:
        workspace = Workspace.open(str(context.params.get("workspace") or ""))
    except (UsageError, StageError, OSError):
        return []
    return [name for name in names(workspace) if name.startswith(incomplete)]


def refuse_repeated(values: list[str] | None) -> list[str] | None:
    """Refuse a setting that is given two values: one of them would be ignored."""
    if values:
        from rewarm.pipeline.recipe.recipe import refuse_twice

        refuse_twice(values)
    return values


def finite(value: float | None) -> float | None:
    """Refuse ``nan`` and ``inf``, which the bounds of an option let pass."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, found {value}")
    return value


UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


def duration(text: str | float) -> float:
    """Return the seconds of a duration such as ``90``, ``90s``, ``1.5h`` or ``2d``."""
    found = DURATION.fullmatch(str(text).strip().lower())
    if found is None:
        raise typer.BadParameter(f"{text!r}: expected a duration such as 90s, 30m, 2h or 1d")
    if not math.isfinite(seconds := float(found[1]) * UNITS[found[2]]):
        raise typer.BadParameter("expected a duration of at most some years")
    return seconds


WorkspaceArgument = Annotated[str, typer.Argument(metavar="WORKSPACE", help="Path or URI of the workspace.")]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="NAME=PATH",
        help="A dataset: a file, folder or glob (path, s3://, gs://, https://, hf://datasets/ORG/NAME) of JSON lines, "
        "CSV, text, HTML, Parquet, WARC, … Repeatable.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting, e.g. replay.share=0.25. Repeatable; `rewarm settings` lists them.",
        autocompletion=setting_keys,
        callback=refuse_repeated,
    ),
]
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="DURATION",
        parser=duration,
        show_default=False,
        help="How long to wait if another command is using the workspace (90, 90s, 30m, 2h); default 0: fail at once.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and show what would be done; write nothing.")
]
