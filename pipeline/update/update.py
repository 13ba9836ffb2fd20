"""One update, top to bottom: read ``update`` first, then ``prepare`` and ``learn``.

Each ``run_…`` gives a stage its inputs, its settings and its folder (``gathering.py``, ``learning.py``) and commits
that folder with a manifest, so after a crash the same call goes on with the first that is not done. The base is the
update of an empty lineage: it also trains the tokenizer and draws the initial weights.
"""

from pathlib import Path
from typing import Any

from rewarm.pipeline.lineage.lineage import PLAN, UPDATE, Lineage, read_plan
from rewarm.pipeline.lineage.optimizer import start_optimizer
from rewarm.pipeline.lineage.recorded import compare_with_record
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.plan.plan import settle
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.record.attempts import ATTEMPTS, attempt
from rewarm.pipeline.update.context import Data, Making, Tokenizer, earlier_datasets
from rewarm.pipeline.update.data_steps import (
    find_reference,
    run_ingest,
    run_replay,
    run_select,
    run_tokenize,
    run_tokenizer,
)
from rewarm.pipeline.update.effects import refuse_carried
from rewarm.pipeline.update.gate import run_gate
from rewarm.pipeline.update.inputs import Arrival, check_masked
from rewarm.pipeline.update.model_steps import import_base, run_anneal, run_evaluate, run_start, run_train, take_over
from rewarm.pipeline.update.record import account, commit
from rewarm.pipeline.update.runner import STARTED, ChangedError, Runner, refuse_changes, update_labels
from rewarm.stages import distill, evaluate, ingest, replay, tokenize
from rewarm.stages.core.errors import UnfinishedError, UsageError
from rewarm.stages.core.identity import now
from rewarm.stages.core.progress import Announcer
from rewarm.stages.core.storage import MANIFEST
from rewarm.stages.train import check_length


def update(workspace: Workspace, arrival: Arrival, recipe: Recipe, progress: Announcer) -> UpdateRecord:
    """Take in ``arrival``: the whole loop, from its files to a release that is promoted if it passes the gate."""
    lineage = Lineage(workspace, recipe.gate.trunk)
    making = begin(workspace, lineage, arrival, recipe, progress)
    with attempt(making.folder) as making.attempts:
        return carry_out(making)


def carry_out(making: Making) -> UpdateRecord:
    """One attempt of an update that was begun."""
    workspace, lineage = making.workspace, making.lineage
    try:
        base = import_base(making) if making.imports else None  # what cannot be imported is refused before ingest
        data = prepare(making, base.tokenizer if base else None)
        imported = take_over(making, data, base.start) if base else None
    except ChangedError:
        raise
    except UsageError:
        if not has_record(workspace, lineage, making.id):
            discard(workspace, lineage, making.id)  # nothing was spent on it: the same name can come again, mended
        raise
    done = imported or learn(making, data)
    verdict = run_gate(making)
    return commit(making, done, verdict)


def prepare(making: Making, imported: Tokenizer | None) -> Data:
    """From the arrival's files to the order in which they will be read; what cannot be trained is refused here.

    ``imported`` is the tokenizer that came with a model; null: the lineage's, which a base trains on its documents.
    """
    names = list(making.arrival.inputs)
    documents = {name: run_ingest(making, name) for name in names}
    tokenizer = imported or run_tokenizer(making)
    tokens = {name: run_tokenize(making, name, documents[name], tokenizer) for name in names}
    return put_in_order(making, documents, tokenizer, tokens)


def put_in_order(
    making: Making,
    documents: dict[str, ingest.IngestOutcome],
    tokenizer: Tokenizer,
    tokens: dict[str, tokenize.TokenizeOutcome],
) -> Data:
    """Choose what of the arrival is read, and mix in what is replayed; a model that is taken over reads nothing."""
    if making.imports:
        return Data(documents, tokenizer, tokens)
    selected = run_select(making, tokens)
    return Data(documents, tokenizer, tokens, selected, run_replay(making, tokens, selected))


def learn(making: Making, data: Data) -> UpdateRecord:
    """From data to a measured release, and the record of how it came about."""
    assert data.mixture is not None, "only a model that is taken over has none"
    start = run_start(making, data.tokenizer)
    trunk = run_train(making, start, data.mixture, data.tokens)
    release = run_anneal(making, trunk, data.tokens)
    scores = run_evaluate(making, trunk, release, data.tokens)
    return account(making, data.documents, data.tokens, data.selected, data.mixture, trunk, release, scores)


def begin(workspace: Workspace, lineage: Lineage, arrival: Arrival, recipe: Recipe, progress: Announcer) -> Making:
    """Open an update, or take up the one that was left unfinished; refuses anything else under the same name."""
    check(workspace, lineage, list(arrival.inputs), recipe)
    compare_with_record(lineage, start_optimizer(lineage, recipe.train), progress)
    wanted = f"{len(lineage.entries):04d}-{arrival.name}"
    if lineage.unfinished not in (None, wanted):
        raise UnfinishedError(
            f"update {lineage.unfinished} is not finished: run it again as it was begun, or drop it with "
            f"`rewarm discard {workspace.folder}`"
        )
    before = read_plan(workspace, wanted) if lineage.unfinished else {}
    started, stored = before.pop("started", None), before.pop("plan", None)
    recipe, plan = settle(lineage, arrival.inputs, recipe, stored, progress)
    refuse_carried(lineage, recipe)
    begun: dict[str, Any] = {"arrival": arrival.name, "data": arrival.digests, "recipe": recipe.identity()}
    if lineage.unfinished is not None:
        refuse_changes(before, begun, f"update {wanted}, begun {started}, has other settings or data")
        progress.note(f"update {wanted}: going on with what was begun {started}")
    else:
        started = now()
        workspace.update(wanted).write_json(PLAN, {**begun, "plan": plan, "started": started})
    runner = Runner(progress, update_labels(workspace, wanted))
    return Making(workspace, lineage, arrival, recipe, wanted, runner, plan, started=started or "")


def check(workspace: Workspace, lineage: Lineage, arrivals: list[str], recipe: Recipe) -> None:
    """Refuse what no update of this lineage can be, before anything is spent: ``UsageError`` says what and why."""
    evaluate.check_tasks(recipe.evaluate)
    start_optimizer(lineage, recipe.train)
    if lineage.entries:
        find_reference(lineage, recipe.select, recipe.ingest)
        earlier = earlier_datasets(workspace, lineage)
        replay.check(recipe.replay, earlier, arrivals, recipe.train.seq_len)
    source = lineage.trunk().local() if lineage.head else recipe.model.path and Path(recipe.model.path)
    if source:
        check_length(source, recipe.train.seq_len)
    if lineage.head:
        check_masked(workspace, lineage.trunk(), recipe)


def has_record(workspace: Workspace, lineage: Lineage, name: str) -> bool:
    """Whether an update was finished, with a commit or stopped just before it."""
    return name in lineage.log.finished or workspace.update(name).exists(UPDATE)


def discard(workspace: Workspace, lineage: Lineage, name: str) -> None:
    """Drop an unfinished update and the datasets that came with it; what was quarantined stays to be looked at.

    Raises ``UsageError`` where the update has a finished record, with a commit or without one.
    """
    if has_record(workspace, lineage, name):
        raise UsageError(
            f"{workspace.update(name)}/{UPDATE}: update {name} has a finished record, so it is not discarded; the "
            f"command that began it commits it, and so does `rewarm verify --repair {workspace.folder}`"
        )
    known = lineage.ingested()
    if distill.NAME not in known:
        distill.discard_drafts(workspace.dataset(distill.NAME))
    for dataset in [*read_plan(workspace, name)["data"], distill.NAME]:
        if dataset not in known:
            for part in ("documents", "validation", "tokens", MANIFEST, STARTED, ATTEMPTS):
                workspace.dataset(dataset).delete(part)
            workspace.dedup(dataset).delete()
    if not lineage.entries:
        workspace.tokenizer.delete()
    workspace.update(name).delete()
