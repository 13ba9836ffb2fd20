"""The inputs of a lineage: the workspace with its recipe, and arrivals of named datasets.

Everything is checked before compute is spent: the model, the recipe, the names and files of the data.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rewarm.pipeline.lineage.lineage import Lineage, read_plan
from rewarm.pipeline.lineage.workspace import FORMAT_VERSION, RECORD, Workspace, check_name
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.record import REFUSED, UNDECIDED, Entry
from rewarm.pipeline.update.runner import refuse_changes
from rewarm.stages import distill
from rewarm.stages.core.digests import now
from rewarm.stages.core.errors import DamagedError, UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.shapes import RESTORE, first_problem, read_as
from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary
from rewarm.stages.data.tokenizer import CONFIG, read_object
from rewarm.stages.ingest import IngestSettings, InputFile, Known, Read, find_inputs, identify
from rewarm.stages.tokenize import import_tokenizer
from rewarm.stages.train import check_importable, check_kind, check_length, model_config, read_model_config, remarks_on

DISTILLED_TOKENS = 10_000_000  # default if the budget of an update is unknown
DISTILLED_SHARE = 0.25  # share of an update's budget: replay for a strong shift (Ibrahim et al. 2024, section 6.4)


def create(workspace: Workspace, recipe: Recipe) -> None:
    """Write ``workspace.json``. If it exists, it must have the same recipe and an unfinished base."""
    if workspace.folder.exists(RECORD):
        refuse_second_base(Lineage(workspace))
        before = recipe_of(workspace).identity()
        refuse_changes(before, recipe.identity(), f"{workspace.folder}: was begun with another recipe")
        return
    workspace.folder.write_json(
        RECORD, {"format": FORMAT_VERSION, "created": now(), "recipe": recipe.model_dump(mode="json")}
    )


def refuse_second_base(lineage: Lineage) -> None:
    """Refuse to create a base where there is one, with the command for each thing that may be wanted."""
    if lineage.entries:
        uri = lineage.workspace.folder
        raise UsageError(
            f"{uri}: already has a base ({lineage.entries[0].id}). To add data `rewarm update {uri} --data NAME=PATH`, "
            f"to change its settings for later updates `rewarm recipe {uri} --set KEY=VALUE`, for another base name "
            "another folder"
        )


def check_model(recipe: Recipe) -> list[str]:
    """Refuse a model that cannot be created, imported or trained with these settings, before anything is written.

    Returns remarks for the user.
    """
    length = recipe.train.seq_len
    if recipe.model.path is not None:
        source = Path(recipe.model.path)
        check_importable(source)
        check_length(source, length)
        config = read_model_config(source)
    else:
        if recipe.tokenizer.path is not None:
            check_tokenizer(recipe.tokenizer.path, recipe.tokenizer.end_of_text)
        config = model_config(recipe.model, recipe.tokenizer.vocab_size, 0, length)
    check_kind(config, length, recipe.train.document_mask)
    chat = [] if recipe.model.path is None else chat_remarks(Folder(recipe.model.path))
    return [*remarks_on(config, recipe.model.path is not None), *chat]


def chat_remarks(model: Folder) -> list[str]:
    """Return what continual pre-training does to a model that was tuned to follow instructions; empty for others."""
    template = model.exists("chat_template.jinja") or model.exists("chat_template.json")
    if not template and model.exists(CONFIG):
        template = bool(read_object(model, CONFIG).get("chat_template"))
    if not template:
        return []
    return [
        "the model has a chat template, so it was probably tuned to follow instructions: training on plain documents "
        "weakens that, and the losses measured here do not show it. Import the base model that it was tuned from and "
        "tune the release afterwards, or tune this one's releases again (docs/instruction-tuning.md)"
    ]


def check_tokenizer(path: str, end_of_text: str | None) -> None:
    """Refuse a tokenizer that cannot be imported, before the documents are ingested that it is for."""
    source = Folder(path)
    if not source.exists():
        raise UsageError(f"tokenizer.path {path}: no such folder; expected one with tokenizer.json")
    with temporary("tokenizer") as scratch:
        import_tokenizer(source.local(), Folder(scratch), end_of_text)


def check_masked(workspace: Workspace, trunk: Folder, recipe: Recipe) -> None:
    """Refuse a document mask that the lineage began without, if its model cannot separate documents."""
    if recipe.train.document_mask and not recipe_of(workspace).train.document_mask:
        check_kind(read_model_config(trunk.local()), recipe.train.seq_len, document_mask=True)


def distilled_tokens(recipe: Recipe, datasets: Collection[str]) -> int:
    """Return how many tokens an imported model generates if it comes with ``datasets``; 0: none."""
    wanted, budget = recipe.distill.tokens, recipe.budget.update_tokens
    if wanted is not None:
        return wanted
    if recipe.model.path is None or datasets:
        return 0
    return DISTILLED_TOKENS if budget is None else max(1, int(DISTILLED_SHARE * budget))


def check_distill(recipe: Recipe, datasets: Collection[str]) -> None:
    """Refuse a distillation that is not possible, before anything is written."""
    if not distilled_tokens(recipe, datasets):
        return
    if recipe.model.path is None:
        raise UsageError(
            f"distill.tokens {recipe.distill.tokens}: only an imported model (--from) generates text for replay"
        )
    if distill.NAME in datasets:
        raise UsageError(f"--data {distill.NAME}=…: this name is reserved for the model's own text; choose another one")
    distill.check_model(Path(recipe.model.path), recipe.distill, recipe.train.seq_len)


def with_prompts(recipe: Recipe, datasets: Collection[str]) -> Recipe:
    """Return the recipe with the absolute path of ``distill.prompts``, so that it works from any directory."""
    prompts = recipe.distill.prompts
    if prompts is None or prompts in datasets:
        return recipe
    return recipe.model_copy(
        update={"distill": recipe.distill.model_copy(update={"prompts": str(Path(prompts).absolute())})}
    )


def with_tokenizer(recipe: Recipe, tokenizer: Folder) -> Recipe:
    """Return the recipe with this tokenizer for files of tokens, unless it names one."""
    if recipe.ingest.tokens.tokenizer is not None:
        return recipe
    tokens = recipe.ingest.tokens.model_copy(update={"tokenizer": tokenizer.uri})
    return recipe.model_copy(update={"ingest": recipe.ingest.model_copy(update={"tokens": tokens})})


def recipe_of(workspace: Workspace) -> Recipe:
    """Return the recipe of a workspace; raises ``DamagedError`` if it is not valid in this version."""
    try:
        return Recipe.model_validate(workspace.record()["recipe"])
    except ValidationError as error:
        raise DamagedError(f"{workspace.folder}/{RECORD}: recipe.{first_problem(error)}; {RESTORE}") from error


def refuse_fixed(before: Recipe, after: Recipe) -> None:
    """Refuse an update that changes settings which are fixed in a lineage: model, tokenizer and distillation."""
    for part in ("model", "tokenizer", "distill"):
        if getattr(before, part) != getattr(after, part):
            raise UsageError(
                f"{part}.*: fixed when the workspace was created; create a new workspace for another {part}"
            )


SOURCES = "sources"  # key of plan.json
LONGEST = 160  # characters of an arrival's name: names of files add further parts, and may have 255 bytes in all


@dataclass(frozen=True)
class Arrival:
    """The files of each new dataset, the digest of their contents, and what was read of the local ones for it."""

    inputs: dict[str, list[InputFile]]
    digests: dict[str, str]
    sources: dict[str, list[str]] = field(default_factory=dict)
    """Addresses on the Hub, with their commits, of the datasets that came from there."""
    read: dict[str, dict[str, Read]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The datasets' names, joined by ``+``; "imported" for a model without data."""
        return "+".join(self.inputs) or "imported"


def parse_data(values: Sequence[str]) -> dict[str, list[str]]:
    """Parse ``NAME=PATH`` arguments as name → paths; a repeated name has all of its paths."""
    paths: dict[str, list[str]] = {}
    for value in values:
        name, separator, path = value.partition("=")
        if not separator or not path:
            raise UsageError(f"--data {value}: expected NAME=PATH, for example --data news=/data/news/*.jsonl.zst")
        paths.setdefault(check_name(name), []).append(path)
    return paths


def begun_sources(lineage: Lineage) -> dict[str, list[str]]:
    """Return the addresses on the Hub that the unfinished update was begun with, by dataset; empty: there is none."""
    if lineage.unfinished is None:
        return {}
    return dict(read_plan(lineage.workspace, lineage.unfinished).get(SOURCES, {}))


def taken_in(
    paths: dict[str, list[str]], lineage: Lineage, settings: IngestSettings, progress: Progress
) -> Entry | None:
    """Return the finished update of the same files under the same names; None if there is none."""
    for update in lineage.entries:
        if update.facts.datasets == list(paths):
            begun = read_plan(lineage.workspace, update.id)["data"]
            files = {name: find_inputs(given, settings, progress) for name, given in paths.items()}
            known = read_before(lineage.workspace, update.id, progress)
            if arrival_of(files, known, progress).digests == begun:
                return update
    return None


def identify_arrival(
    paths: dict[str, list[str]], lineage: Lineage, settings: IngestSettings, progress: Progress
) -> Arrival:
    """Find and digest an arrival's files; refuses names that the lineage already has, and missing data.

    Files that the unfinished update identified before, and that are in the same state, are not read again.
    """
    inputs = find(paths, lineage, settings, progress)
    known = read_before(lineage.workspace, lineage.unfinished, progress) if lineage.unfinished else {}
    return arrival_of(inputs, known, progress)


def arrival_of(inputs: dict[str, list[InputFile]], known: Mapping[str, Known], progress: Progress) -> Arrival:
    """Identify the files of each dataset; ``known`` are those of each dataset that were identified before."""
    found = {name: identify(files, known.get(name, {}), progress) for name, files in inputs.items()}
    read = {name: one[1] for name, one in found.items()}
    return Arrival(inputs, {name: one[0] for name, one in found.items()}, read=read)


READ = "arrival.json"  # in an update's folder: states and digests of the files, so that they are read once
READS = TypeAdapter(dict[str, dict[str, Read]])


def keep_read(workspace: Workspace, update: str, arrival: Arrival) -> None:
    """Write what was read of an arrival's local files, for a command that resumes the update or repeats it."""
    if any(arrival.read.values()):
        value = {name: {file: asdict(one) for file, one in read.items()} for name, read in arrival.read.items()}
        workspace.update(update).write_json(READ, value)


def read_before(workspace: Workspace, update: str, progress: Progress) -> dict[str, dict[str, Read]]:
    """Return what an earlier command read of an update's local files; nothing, with a note, if the file is damaged."""
    folder = workspace.update(update)
    if not folder.exists(READ):
        return {}
    try:
        return read_as(folder, READ, READS)
    except DamagedError as error:
        progress.note(f"all files are read again: {error}")
        return {}


def find(
    paths: dict[str, list[str]], lineage: Lineage, settings: IngestSettings, progress: Progress
) -> dict[str, list[InputFile]]:
    """Find the files of each dataset, without computing their digests."""
    known = lineage.ingested()
    if len(joined := "+".join(paths)) > LONGEST:
        raise UsageError(
            f"{len(paths)} datasets: the update's name would have {len(joined)} characters, but names of files allow "
            f"at most {LONGEST}: choose shorter names, or ingest the datasets one after the other"
        )
    for name in paths:
        if name in known:
            refused = {REFUSED: ", which the gate refused", UNDECIDED: ", whose release is held, undecided"}.get(
                known[name].state, ""
            )
            raise UsageError(
                f"dataset {name!r} was already ingested, by update {known[name].id}{refused}; "
                "every arrival needs a new name"
            )
    found = {name: find_inputs(given, settings, progress) for name, given in paths.items()}
    refuse_shared(found)
    return found


def refuse_shared(inputs: Mapping[str, Sequence[InputFile]]) -> None:
    """Raise ``UsageError`` if two datasets have a file in common: the second would lose it as duplicates."""
    owners: dict[str, str] = {}
    for name, files in inputs.items():
        for file in files:
            if (other := owners.setdefault(file.path, name)) != name:
                shared = len({one.path for one in files} & {one.path for one in inputs[other]})
                raise UsageError(
                    f"{file.path} is in two datasets, {other!r} and {name!r}, which share {shared} of {len(files)} "
                    f"files of {name!r}: leave each file in one of them"
                )
