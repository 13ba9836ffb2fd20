"""Where a lineage begins: the workspace, with the recipe that its updates follow."""

from pathlib import Path

from pipeline.config import Recipe
from pipeline.lineage import Lineage
from pipeline.steps import now, refuse_changes
from pipeline.workspace import FORMAT_VERSION, RECORD, Workspace
from stages.errors import UsageError
from stages.train import check_importable, check_length, model_config


def create(workspace: Workspace, recipe: Recipe) -> None:
    """Write ``workspace.json``. Where it is there already, it must be of the same recipe, with its base unfinished."""
    if workspace.folder.exists(RECORD):
        lineage = Lineage(workspace)
        if lineage.updates:
            raise UsageError(
                f"{workspace.folder}: has a base already ({lineage.updates[0].id}); take in data with `rewarm update`"
            )
        before = recipe_of(workspace).identity()
        refuse_changes(before, recipe.identity(), f"{workspace.folder}: was begun with another recipe")
        return
    workspace.folder.write_json(
        RECORD, {"format": FORMAT_VERSION, "created": now(), "recipe": recipe.model_dump(mode="json")}
    )


def check_model(recipe: Recipe) -> None:
    """Refuse a model that cannot be made, or imported, before anything is written."""
    if recipe.model.path is not None:
        check_importable(Path(recipe.model.path))
        check_length(Path(recipe.model.path), recipe.train.seq_len)
    else:
        model_config(recipe.model, recipe.tokenizer.vocab_size, 0, recipe.train.seq_len)


def recipe_of(workspace: Workspace) -> Recipe:
    """The recipe that a workspace was made with."""
    return Recipe.model_validate(workspace.record()["recipe"])


def refuse_fixed(before: Recipe, after: Recipe) -> None:
    """Refuse an update that changes what a lineage fixes when it begins: the model and the tokenizer."""
    for part in ("model", "tokenizer"):
        if getattr(before, part) != getattr(after, part):
            raise UsageError(
                f"{part}.*: fixed when the workspace was made; begin a workspace of its own for another {part}"
            )
