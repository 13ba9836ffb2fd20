"""Where a lineage begins: the workspace, with the recipe that its updates follow."""

from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from pipeline.config import Recipe
from pipeline.lineage import Lineage
from pipeline.steps import refuse_changes
from pipeline.workspace import FORMAT_VERSION, RECORD, Workspace
from stages import distill
from stages.errors import DamagedError, UsageError
from stages.identity import now
from stages.shapes import RESTORE, first_problem
from stages.storage import Folder
from stages.train import check_importable, check_kind, check_length, model_config, read_model_config, remarks_on

DISTILLED_TOKENS = 10_000_000  # where nothing says how much an update will replay
DISTILLED_SHARE = 0.25  # of an update's budget: what it replays for a strong shift (Ibrahim et al. 2024, section 6.4)


def create(workspace: Workspace, recipe: Recipe) -> None:
    """Write ``workspace.json``. Where it is there already, it must be of the same recipe, with its base unfinished."""
    if workspace.folder.exists(RECORD):
        lineage = Lineage(workspace)
        if lineage.entries:
            raise UsageError(
                f"{workspace.folder}: has a base already ({lineage.entries[0].id}); take in data with `rewarm update`"
            )
        before = recipe_of(workspace).identity()
        refuse_changes(before, recipe.identity(), f"{workspace.folder}: was begun with another recipe")
        return
    workspace.folder.write_json(
        RECORD, {"format": FORMAT_VERSION, "created": now(), "recipe": recipe.model_dump(mode="json")}
    )


def check_model(recipe: Recipe) -> list[str]:
    """Refuse a model that cannot be made, or imported, or trained as asked, before anything is written.

    Returns what its owner should know of it, in words.
    """
    length = recipe.train.seq_len
    if recipe.model.path is not None:
        source = Path(recipe.model.path)
        check_importable(source)
        check_length(source, length)
        config = read_model_config(source)
    else:
        config = model_config(recipe.model, recipe.tokenizer.vocab_size, 0, length)
    check_kind(config, length, recipe.train.document_mask)
    return remarks_on(config, recipe.model.path is not None)


def check_masked(workspace: Workspace, trunk: Folder, recipe: Recipe) -> None:
    """Refuse a document mask that the lineage began without, if its model does not keep documents apart."""
    if recipe.train.document_mask and not recipe_of(workspace).train.document_mask:
        check_kind(read_model_config(trunk.local()), recipe.train.seq_len, document_mask=True)


def distilled_tokens(recipe: Recipe, datasets: Collection[str]) -> int:
    """How many tokens an imported model writes when it comes with ``datasets``; 0: it writes nothing."""
    wanted, budget = recipe.distill.tokens, recipe.budget.update_tokens
    if wanted is not None:
        return wanted
    if recipe.model.path is None or datasets:
        return 0
    return DISTILLED_TOKENS if budget is None else max(1, int(DISTILLED_SHARE * budget))


def check_distill(recipe: Recipe, datasets: Collection[str]) -> None:
    """Refuse a distillation that cannot be done, before anything is written."""
    if not distilled_tokens(recipe, datasets):
        return
    if recipe.model.path is None:
        raise UsageError(
            f"distill.tokens {recipe.distill.tokens}: only a model that is imported (--from) writes text to be replayed"
        )
    if distill.NAME in datasets:
        raise UsageError(f"--data {distill.NAME}=…: that is the name of the text the model writes; choose another one")
    distill.check_model(Path(recipe.model.path), recipe.distill, recipe.train.seq_len)


def with_prompts(recipe: Recipe, datasets: Collection[str]) -> Recipe:
    """The recipe with the files of ``distill.prompts`` by their absolute path, so that it holds from anywhere."""
    given = recipe.distill.prompts
    if given is None or given in datasets:
        return recipe
    return recipe.model_copy(
        update={"distill": recipe.distill.model_copy(update={"prompts": str(Path(given).absolute())})}
    )


def with_tokenizer(recipe: Recipe, tokenizer: Folder) -> Recipe:
    """The recipe that reads files of tokens by this tokenizer, where it names none itself."""
    if recipe.ingest.tokens.tokenizer is not None:
        return recipe
    tokens = recipe.ingest.tokens.model_copy(update={"tokenizer": tokenizer.uri})
    return recipe.model_copy(update={"ingest": recipe.ingest.model_copy(update={"tokens": tokens})})


def recipe_of(workspace: Workspace) -> Recipe:
    """The recipe that a workspace was made with; ``DamagedError`` where it is none of this version's."""
    try:
        return Recipe.model_validate(workspace.record()["recipe"])
    except ValidationError as error:
        raise DamagedError(f"{workspace.folder}/{RECORD}: recipe.{first_problem(error)}; {RESTORE}") from error


def refuse_fixed(before: Recipe, after: Recipe) -> None:
    """Refuse an update that changes what a lineage fixes when it begins: the model, the tokenizer, its own text."""
    for part in ("model", "tokenizer", "distill"):
        if getattr(before, part) != getattr(after, part):
            raise UsageError(
                f"{part}.*: fixed when the workspace was made; begin a workspace of its own for another {part}"
            )
