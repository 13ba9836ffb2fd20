"""Preview of an update (``--dry-run``): what it would read, train and need, as far as known before reading the data."""

from collections.abc import Sequence
from typing import Any

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.optimizer import start_optimizer
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.update.disk_space import Demand, text_bytes, text_of
from rewarm.pipeline.update.expected import foresee
from rewarm.pipeline.update.inputs import Arrival, distilled_tokens
from rewarm.pipeline.update.room import room_for
from rewarm.stages.data.mixture import trunk_steps

TEXT_PER_TOKEN = 3.5  # bytes, before the lineage has a dataset to measure


def preview(lineage: Lineage, arrival: Arrival, recipe: Recipe, room: Sequence[Demand]) -> dict[str, Any]:
    """Return what an update would do, as JSON types. The data is not read: tokens are estimated from file sizes."""
    optimizer = start_optimizer(lineage, recipe.train)
    files = {
        name: [{"file": file.name, "bytes": file.size, "format": file.format} for file in found]
        for name, found in arrival.inputs.items()
    }
    distilled = 0 if lineage.entries else distilled_tokens(recipe, arrival.inputs)
    name = f"{len(lineage.entries):04d}-{arrival.name}"
    return {
        "workspace": str(lineage.workspace.folder),
        "update": name,
        "goes_on_with": lineage.unfinished,
        "starts_from": lineage.head.id if lineage.head else recipe.model.path or "random weights",
        "optimizer": "empty" if optimizer is None else optimizer.uri,
        "files": files,
        "distills": distilled,
        "replays": list(lineage.datasets()) if recipe.replay.share else [],
        "estimate": estimate(lineage, arrival, recipe),
        "seconds": foreseen(lineage, name, arrival, recipe),
        "awaits": room_for(lineage, arrival, recipe),
        "disk": [one.to_json() for one in room],
        "recipe": recipe.model_dump(mode="json"),
    }


def estimate(lineage: Lineage, arrival: Arrival, recipe: Recipe) -> dict[str, Any]:
    """Return the tokens that the arrival may hold, and the tokens, steps and passes of the training that follows.

    ``text_tokens`` is estimated from the size of the files, with the bytes per token of the lineage's last dataset. A
    workspace that imports a model trains nothing on its first data: its steps are 0.
    """
    text = sum(text_bytes(file) for files in arrival.inputs.values() for file in files)
    tokens = round(text / bytes_per_token(lineage))
    imports = not lineage.entries and recipe.model.path is not None
    budget = recipe.budget.update_tokens if lineage.entries else recipe.budget.base_tokens
    share = recipe.replay.share if lineage.entries and recipe.replay.share != "auto" else 0.0
    passes = (recipe.select.epochs or 1) if lineage.entries else 1
    step = recipe.train.seq_len * recipe.train.global_batch
    trained = 0 if imports else budget or round(passes * tokens / (1 - share))
    steps = trunk_steps(trained // step, recipe.branch)
    return {
        "text_bytes": round(text),
        "text_tokens": tokens,
        "budget": None if imports else budget,
        "trained_tokens": steps * step,
        "tokens_per_step": step,
        "steps": steps,
        "replay_share": share,
        "passes": None if imports or not tokens else trained * (1 - share) / tokens,
    }


def bytes_per_token(lineage: Lineage) -> float:
    """Return the bytes of text per token of the last dataset, or what is usual if there is none."""
    known = list(lineage.datasets().items())
    if known:
        name, entry = known[-1]
        part = lineage.read(entry.id).data.get(name)
        if part is not None and part.tokenize.num_tokens and text_of(part):
            return text_of(part) / (part.tokenize.num_tokens + part.tokenize.validation_tokens)
    return TEXT_PER_TOKEN


def foreseen(lineage: Lineage, name: str, arrival: Arrival, recipe: Recipe) -> float | None:
    """Return the seconds that the update will take by the previous one; None if a stage cannot be predicted."""
    expected = foresee(lineage, name, list(arrival.inputs), recipe).expected
    known = [seconds for seconds in expected.values() if seconds is not None]
    return sum(known) if known and len(known) == len(expected) else None
