"""One update, top to bottom: read ``update`` first; ``making.py`` holds each stage's inputs, settings and folder.

The base is the update of an empty lineage: it also trains the tokenizer and draws the initial weights. Every line
of ``update`` commits a folder with a manifest, so after a crash the same call goes on with the first that is not done.
"""

from pathlib import Path
from typing import Any

from pipeline.arrival import Arrival
from pipeline.config import Recipe
from pipeline.lineage import PLAN, Lineage, Update
from pipeline.making import Making
from pipeline.steps import STARTED, Announcer, ChangedError, Runner, now, refuse_changes
from pipeline.workspace import Workspace
from stages import evaluate
from stages.errors import UsageError
from stages.storage import MANIFEST
from stages.train import check_length


def update(workspace: Workspace, arrival: Arrival, recipe: Recipe, progress: Announcer) -> Update:
    """Take in ``arrival``: the whole loop, from its files to a promoted release."""
    lineage = Lineage(workspace)
    making = begin(workspace, lineage, arrival, recipe, progress)
    try:
        documents = {name: making.run_ingest(name) for name in arrival.inputs}
        tokenizer = making.run_tokenizer()
        tokens = {name: making.run_tokenize(name, documents[name], tokenizer) for name in arrival.inputs}
        if making.imports:
            return making.take_over(documents, tokens)
        mixture = making.run_replay(tokens)
    except ChangedError:
        raise
    except UsageError:
        discard(workspace, lineage, making.id)  # nothing was spent on it: the same name can come again, mended
        raise
    start = making.run_start(tokenizer)
    trunk = making.run_train(start, mixture, tokens)
    release = making.run_anneal(trunk)
    scores = making.run_evaluate(trunk, release, tokens)
    return making.record(documents, tokens, mixture, trunk, release, scores)


def begin(workspace: Workspace, lineage: Lineage, arrival: Arrival, recipe: Recipe, progress: Announcer) -> Making:
    """Open an update, or take up the one that was left unfinished; refuses anything else under the same name."""
    evaluate.check_tasks(recipe.evaluate)
    source = lineage.trunk().local() if lineage.head else recipe.model.path and Path(recipe.model.path)
    if source:
        check_length(source, recipe.train.seq_len)
    wanted = f"{len(lineage.updates):04d}-{arrival.name}"
    plan: dict[str, Any] = {"arrival": arrival.name, "data": arrival.digests, "recipe": recipe.identity()}
    if lineage.unfinished is not None:
        if lineage.unfinished != wanted:
            raise UsageError(
                f"update {lineage.unfinished} is not finished: run it again as it was begun, or drop it with "
                f"`rewarm discard {workspace.folder}`"
            )
        before = workspace.update(wanted).read_json(PLAN)
        started = before.pop("started")
        refuse_changes(before, plan, f"update {wanted}, begun {started}, has other settings or data")
        progress.note(f"update {wanted}: going on with what was begun {started}")
    else:
        workspace.update(wanted).write_json(PLAN, {**plan, "started": now()})
    return Making(workspace, lineage, arrival, recipe, wanted, Runner(progress))


def discard(workspace: Workspace, lineage: Lineage, name: str) -> None:
    """Drop an unfinished update and the datasets that came with it; what was quarantined stays to be looked at."""
    known = lineage.datasets()
    for dataset in workspace.update(name).read_json(PLAN)["data"]:
        if dataset not in known:
            for part in ("documents", "validation", "tokens", MANIFEST, STARTED):
                workspace.dataset(dataset).delete(part)
            workspace.dedup(dataset).delete()
    if not lineage.updates:
        workspace.tokenizer.delete()
    workspace.update(name).delete()
