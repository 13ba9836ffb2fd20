"""The story of an update: read ``update`` first, then ``prepare`` and ``learn``.

Each ``run_…`` function (``data_steps.py``, ``model_steps.py``) gives a stage its inputs, its settings and its folder,
and commits that folder with a manifest. After a crash the same call therefore resumes with the first step that has no
manifest. The base is the update of an empty lineage: it also trains the tokenizer and draws the initial weights.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rewarm.pipeline.lineage.lineage import PLAN, UPDATE, Lineage, read_plan
from rewarm.pipeline.lineage.optimizer import start_optimizer
from rewarm.pipeline.lineage.recorded import compare_with_record
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.plan.plan import resolve_auto
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.record.attempts import ATTEMPTS, attempt
from rewarm.pipeline.update.context import Data, Tokenizer, UpdateContext, earlier_datasets
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
from rewarm.pipeline.update.inputs import SOURCES, Arrival, check_masked, keep_read
from rewarm.pipeline.update.model_steps import (
    import_base,
    run_anneal,
    run_evaluate,
    run_start,
    run_train,
    take_over,
    trunk_job,
)
from rewarm.pipeline.update.record import commit, update_record
from rewarm.pipeline.update.runner import STARTED, ChangedError, Runner, refuse_changes, update_labels
from rewarm.stages import distill, evaluate, ingest, replay, tokenize
from rewarm.stages.core.digests import now
from rewarm.stages.core.errors import UnfinishedError, UsageError
from rewarm.stages.core.progress import Announcer
from rewarm.stages.core.storage import MANIFEST
from rewarm.stages.train import Group, check_length


def update(workspace: Workspace, arrival: Arrival, recipe: Recipe, progress: Announcer) -> UpdateRecord:
    """Ingest ``arrival`` and update the model: from its files to a release that is promoted if it passes the gate."""
    context = open_update(workspace, arrival, recipe, progress)
    with closing(context), attempt(context.folder) as context.attempts:
        with discarded_if_refused(context):
            base = import_base(context) if context.imports else None
            data = prepare(context, base.tokenizer if base else None)
            imported = take_over(context, data, base.start) if base else None
        record = imported or learn(context, data)
        verdict = run_gate(context)
        return commit(context, record, verdict)


def prepare(context: UpdateContext, imported: Tokenizer | None) -> Data:
    """Prepare an arrival, from its files to the order in which they are read; refuse what cannot be trained.

    ``imported`` is the tokenizer of an imported model. None: the lineage's, which a base trains on its documents.
    """
    names = list(context.arrival.inputs)
    documents = {name: run_ingest(context, name) for name in names}
    tokenizer = imported or run_tokenizer(context)
    tokens = {name: run_tokenize(context, name, documents[name], tokenizer) for name in names}
    return put_in_order(context, documents, tokenizer, tokens)


def put_in_order(
    context: UpdateContext,
    documents: dict[str, ingest.IngestOutcome],
    tokenizer: Tokenizer,
    tokens: dict[str, tokenize.TokenizeOutcome],
) -> Data:
    """Select documents of the arrival and mix in replayed ones; an imported model reads nothing."""
    if context.imports:
        return Data(documents, tokenizer, tokens)
    selected = run_select(context, tokens)
    return Data(documents, tokenizer, tokens, selected, run_replay(context, tokens, selected))


def learn(context: UpdateContext, data: Data) -> UpdateRecord:
    """Train, anneal and evaluate; return the record of the update without the gate's verdict."""
    assert data.mixture is not None, "only a model that is taken over has none"
    job = trunk_job(context, run_start(context, data.tokenizer))
    with Group(context.runner.progress) as group:
        trunk = run_train(context, job, data.mixture, data.tokens, group)
        release = run_anneal(context, job, trunk, data.tokens, group)
    scores = run_evaluate(context, trunk.outcome, release, data.tokens)
    return update_record(context, data, data.mixture.outcome, trunk.outcome, release, scores)


def open_update(workspace: Workspace, arrival: Arrival, recipe: Recipe, progress: Announcer) -> UpdateContext:
    """Begin an update, or resume the unfinished one of the same name, settings and data; refuse anything else."""
    lineage = Lineage(workspace, recipe.gate.trunk)
    check(workspace, lineage, list(arrival.inputs), recipe)
    compare_with_record(lineage, start_optimizer(lineage, recipe.train), progress)
    wanted = f"{len(lineage.entries):04d}-{arrival.name}"
    if lineage.unfinished not in (None, wanted):
        raise UnfinishedError(
            f"update {lineage.unfinished} is not finished: run the same command again to resume it, or discard it with "
            f"`rewarm discard {workspace.folder}`"
        )
    before = read_plan(workspace, wanted) if lineage.unfinished else {}
    started, stored, _ = before.pop("started", None), before.pop("plan", None), before.pop(SOURCES, None)
    recipe, plan = resolve_auto(lineage, arrival.inputs, recipe, stored, progress, arrival.digests)
    refuse_carried(lineage, recipe)
    begun: dict[str, Any] = {"arrival": arrival.name, "data": arrival.digests, "recipe": recipe.identity()}
    if lineage.unfinished is not None:
        refuse_changes(before, begun, f"update {wanted}, begun {started}, has other settings or data")
        progress.note(f"update {wanted}: resuming what was begun {started}")
    else:
        started = now()
        sources = {SOURCES: arrival.sources} if arrival.sources else {}
        workspace.update(wanted).write_json(PLAN, {**begun, "plan": plan, "started": started, **sources})
    keep_read(workspace, wanted, arrival)
    runner = Runner(progress, update_labels(workspace, wanted))
    return UpdateContext(workspace, lineage, arrival, recipe, wanted, runner, plan, started=started or "")


def check(workspace: Workspace, lineage: Lineage, arrivals: list[str], recipe: Recipe) -> None:
    """Raise ``UsageError`` if no update of this lineage can have these settings, before anything is spent."""
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


@contextmanager
def discarded_if_refused(context: UpdateContext) -> Iterator[None]:
    """Discard the update if its block refuses it: nothing has been spent yet, and its name is free again."""
    try:
        yield
    except ChangedError:
        raise
    except UsageError:
        if not has_record(context.workspace, context.lineage, context.id):
            discard(context.workspace, context.lineage, context.id)
        raise


def has_record(workspace: Workspace, lineage: Lineage, name: str) -> bool:
    """Return whether an update has a finished record, committed or not yet committed."""
    return name in lineage.log.finished or workspace.update(name).exists(UPDATE)


def discard(workspace: Workspace, lineage: Lineage, name: str) -> None:
    """Discard an unfinished update and the datasets that came with it; quarantined records are kept for inspection.

    Raises ``UsageError`` if the update has a finished record, with a commit or without one.
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
