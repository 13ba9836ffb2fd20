"""Changes of a workspace's recipe after its base: what later updates follow, with a record of each change.

``workspace.json`` holds the recipe and the record of its changes, so that both are written in one atomic step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import RECORD, Workspace
from rewarm.pipeline.recipe.recipe import Recipe, apply_settings
from rewarm.pipeline.update.effects import refuse_carried, refuse_without_effect
from rewarm.pipeline.update.inputs import recipe_of, refuse_fixed
from rewarm.pipeline.update.update import check
from rewarm.stages.core.digests import now
from rewarm.stages.core.errors import DamagedError, UnfinishedError, UsageError
from rewarm.stages.core.shapes import RESTORE, first_problem

CHANGES = "recipe_changes"  # key of workspace.json


@dataclass(frozen=True)
class RecipeChange:
    """One change of a workspace's recipe."""

    __pydantic_config__ = ConfigDict(extra="allow")

    at: str
    """Time of the change, ISO 8601, UTC."""
    by: str
    """Who made it."""
    because: str
    """The reason given; may be empty."""
    after: str
    """The last finished update before the change; later updates follow it."""
    settings: dict[str, tuple[Any, Any]]
    """Dotted key of each changed setting → value before, value after."""

    def lines(self) -> list[str]:
        """Return the change as text, a line for each setting."""
        why = f" ({self.because})" if self.because else ""
        head = f"after {self.after}, {self.at[:16].replace('T', ' ')} UTC, by {self.by}{why}"
        return [f"{head}: {key}: {before} → {after}" for key, (before, after) in self.settings.items()]


SHAPE = TypeAdapter(list[RecipeChange])


def changes_of(workspace: Workspace) -> list[RecipeChange]:
    """Return the changes of a workspace's recipe, oldest first; raises ``DamagedError`` if they cannot be read."""
    try:
        return SHAPE.validate_python(workspace.record().get(CHANGES, []))
    except ValidationError as error:
        raise DamagedError(f"{workspace.folder}/{RECORD}: {CHANGES}.{first_problem(error)}; {RESTORE}") from error


def changed_recipe(workspace: Workspace, sets: Sequence[str]) -> Recipe:
    """Return the workspace's recipe with ``sets`` applied; refuse what no later update of the lineage could follow.

    Raises ``UsageError`` with the reason, and ``UnfinishedError`` while an update is unfinished: it resumes only under
    the recipe that it was begun with.
    """
    before, lineage = recipe_of(workspace), Lineage(workspace)
    if not lineage.entries:
        raise UsageError(f"{workspace.folder}: has no base yet; give its settings to `rewarm init` with --set")
    if lineage.unfinished is not None:
        raise UnfinishedError(
            f"update {lineage.unfinished} is not finished and resumes only with its own recipe: run its "
            f"command again, or discard it with `rewarm discard {workspace.folder}`"
        )
    recipe = apply_settings(before, sets)
    refuse_fixed(before, recipe)
    refuse_other_order(before, recipe)
    refuse_without_effect(before, recipe, sets, lineage)
    refuse_carried(lineage, recipe)
    check(workspace, Lineage(workspace, recipe.gate.trunk), [], recipe)
    return recipe


def refuse_other_order(before: Recipe, after: Recipe) -> None:
    """Refuse changes of what the order of the data and the comparison with earlier documents were made with."""
    if before.seed != after.seed:
        raise UsageError(
            f"seed={after.seed}: the lineage's data order was drawn with seed={before.seed}, and its records refer to "
            "it; give another seed to a single update with `rewarm update --set seed=N`"
        )
    old, new = before.ingest.duplicates, after.ingest.duplicates
    if old.near and new.near and old.signature() != new.signature():
        made = ", ".join(f"{name}={value}" for name, value in old.signature().items() if name != "version")
        raise UsageError(
            f"ingest.duplicates.*: the documents of this lineage were indexed with {made}, and other signatures "
            f"cannot be compared with them; near duplicates of earlier documents would be missed"
        )


def write_recipe(workspace: Workspace, recipe: Recipe, by: str, because: str = "") -> RecipeChange:
    """Make ``recipe`` the workspace's recipe and record the change; the caller holds the workspace's lease."""
    lineage, record = Lineage(workspace), workspace.record()
    settings = dict(changed_settings(record["recipe"], recipe.model_dump(mode="json")))
    change = RecipeChange(now(), by, because, lineage.entries[-1].id if lineage.entries else "", settings)
    if settings:
        done = [*record.get(CHANGES, []), asdict(change)]
        workspace.folder.write_json(RECORD, {**record, "recipe": recipe.model_dump(mode="json"), CHANGES: done})
    return change


def changed_settings(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the dotted key of each setting that differs, with its value before and after; None: not there."""
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from changed_settings(cast(dict[str, Any], old), cast(dict[str, Any], new), f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", (old, new)
