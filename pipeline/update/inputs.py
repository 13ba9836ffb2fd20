"""Where a lineage begins: the workspace, with the recipe that its updates follow.

What arrives: named datasets and their files, looked at before anything is spent.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from rewarm.pipeline.lineage.lineage import Lineage, read_plan
from rewarm.pipeline.lineage.workspace import FORMAT_VERSION, RECORD, Workspace, check_name
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.record import REFUSED, UNDECIDED, Entry
from rewarm.pipeline.update.runner import refuse_changes
from rewarm.stages import distill
from rewarm.stages.core.errors import DamagedError, UsageError
from rewarm.stages.core.identity import now
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.shapes import RESTORE, first_problem
from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest import IngestSettings, InputFile, digest_inputs, find_inputs
from rewarm.stages.train import check_importable, check_kind, check_length, model_config, read_model_config, remarks_on

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


LONGEST = 160  # characters of an arrival's name: files named after it have further parts, and 255 bytes in all


@dataclass(frozen=True)
class Arrival:
    """The files of each new dataset, and their content's digest."""

    inputs: dict[str, list[InputFile]]
    digests: dict[str, str]

    @property
    def name(self) -> str:
        """The datasets' names, joined; "imported" where a model came without data."""
        return "+".join(self.inputs) or "imported"


def parse_data(values: Sequence[str]) -> dict[str, list[str]]:
    """``NAME=PATH`` arguments as name → paths; a name given twice has both paths."""
    paths: dict[str, list[str]] = {}
    for value in values:
        name, separator, path = value.partition("=")
        if not separator or not path:
            raise UsageError(f"--data {value}: expected NAME=PATH, for example --data news=/data/news/*.jsonl.zst")
        paths.setdefault(check_name(name), []).append(path)
    return paths


def taken_in(
    paths: dict[str, list[str]], lineage: Lineage, settings: IngestSettings, progress: Progress
) -> Entry | None:
    """The finished update of these very files under these very names, if there is one."""
    for update in lineage.entries:
        if update.facts.datasets == list(paths):
            begun = read_plan(lineage.workspace, update.id)["data"]
            files = {name: find_inputs(given, settings, progress) for name, given in paths.items()}
            if {name: digest_inputs(found, progress) for name, found in files.items()} == begun:
                return update
    return None


def look(paths: dict[str, list[str]], lineage: Lineage, settings: IngestSettings, progress: Progress) -> Arrival:
    """Find and identify an arrival's files; refuses names that the lineage already has, and data that is not there."""
    inputs = find(paths, lineage, settings, progress)
    return Arrival(inputs, {name: digest_inputs(files, progress) for name, files in inputs.items()})


def find(
    paths: dict[str, list[str]], lineage: Lineage, settings: IngestSettings, progress: Progress
) -> dict[str, list[InputFile]]:
    """The files of each dataset, without reading them for their digests."""
    known = lineage.ingested()
    if len(joined := "+".join(paths)) > LONGEST:
        raise UsageError(
            f"{len(paths)} datasets, whose names make a name of {len(joined)} characters for the update; {LONGEST} at "
            "most fit into the names of files: choose shorter ones, or ingest the datasets one after the other"
        )
    for name in paths:
        if name in known:
            refused = {REFUSED: ", which the gate refused", UNDECIDED: ", whose release is held, undecided"}.get(
                known[name].state, ""
            )
            raise UsageError(
                f"dataset {name!r} was already ingested, by update {known[name].id}{refused}; "
                "every arrival needs a name of its own"
            )
    return {name: find_inputs(given, settings, progress) for name, given in paths.items()}
