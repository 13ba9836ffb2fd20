"""A release annealed from a trunk that is finished, at any later time (Ibrahim et al. 2024, section 7.3).

It is an update of its own, without data: its trunk is that of the update it anneals, and its release is measured and
judged by the gate like any other. The branch reads on in the order of that update, with its optimizer state if the
workspace still has it.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from rewarm.pipeline.lineage.lineage import Lineage, read_plan
from rewarm.pipeline.lineage.optimizer import OPTIMIZER
from rewarm.pipeline.lineage.recorded import recorded_files, refuse_changed_model
from rewarm.pipeline.lineage.workspace import Workspace, check_name
from rewarm.pipeline.recipe.recipe import Recipe, given_names, is_placed
from rewarm.pipeline.record import RELEASED, Annealing, Laid, Tokens, Training, UpdateRecord, Weights, part_of
from rewarm.pipeline.record.attempts import attempt
from rewarm.pipeline.update.context import UpdateContext
from rewarm.pipeline.update.gate import run_gate
from rewarm.pipeline.update.inputs import Arrival
from rewarm.pipeline.update.model_steps import run_evaluate, shard_tables
from rewarm.pipeline.update.record import commit, files_made, losses_before
from rewarm.pipeline.update.runner import Keeps, Runner, Step, begin_or_resume, update_labels
from rewarm.stages import anneal, evaluate, replay, train
from rewarm.stages.core.digests import now
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Announcer
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture

READ = ("anneal.", "evaluate.", "gate.", "card.", "cost.")  # groups of settings that it reads
NAME = "anneal-{}"  # of the update, by the arrival whose trunk it anneals


def find_source(lineage: Lineage, name: str | None) -> UpdateRecord:
    """Return the update whose trunk is annealed, by default the one that the next update starts from.

    Raises ``UsageError`` if there is none, if its trunk has decayed, or if a release of it would take the next update
    back behind what was learned since.
    """
    if lineage.head is None:
        raise UsageError(f"{lineage.workspace.folder}: there is no trunk to anneal yet; finish `rewarm init`")
    source = lineage.find(name) if name is not None else lineage.read(lineage.head.id)
    asked = source.id
    while source.schedule is None and source.follows is not None:
        source = lineage.read(source.follows)
    if source.schedule is None:
        raise UsageError(f"{asked}: the model was imported, and nothing is known of its training that could continue")
    if source.schedule.schedule.decayed:
        raise UsageError(f"{asked}: its {source.schedule.kind} schedule has decayed, so nothing is left to anneal")
    trunks = {entry.facts.weights.trunk for entry in lineage.possible_starts()}
    if lineage.policy == "continue":
        trunks = {lineage.head.facts.weights.trunk}
    if source.weights.trunk not in trunks:
        raise UsageError(
            f"{asked}: the next update starts from the trunk of {lineage.head.id}, and a release of an earlier one "
            "would take it back; anneal that one, or roll back first"
        )
    if not (lineage.workspace.update(source.id) / "mixture").exists(replay.MIXTURE):
        raise UsageError(f"{asked}: the order of its training data is missing, so a branch cannot read on in it")
    return source


def refuse_unread(sets: Sequence[str], read: tuple[str, ...] = READ) -> None:
    """Raise ``UsageError`` for a setting that a release of a finished trunk does not read."""
    if unread := [name for name in given_names(sets) if not name.startswith(read) and not is_placed(name)]:
        raise UsageError(
            f"--set {', '.join(unread)}: would have no effect: the trunk is finished; a release of it reads "
            f"{', '.join(name + '*' for name in read)} and where it runs"
        )


def check_settings(settings: anneal.AnnealSettings) -> None:
    """Raise ``UsageError`` for settings that a finished trunk cannot follow."""
    if settings.shape == "average":
        raise UsageError(
            "anneal.shape=average: the states of a finished trunk are deleted; set anneal.shape to exponential, linear "
            "or 1-sqrt"
        )
    if settings.data == anneal.BEST:
        raise UsageError(
            "anneal.data=best: the arrival is ranked while its update runs; set anneal.data to tail, next or replay"
        )


def anneal_trunk(workspace: Workspace, name: str | None, recipe: Recipe, progress: Announcer) -> UpdateRecord:
    """Anneal a release from a finished trunk, evaluate it, and promote it if it passes the gate."""
    context, source = begin(workspace, name, recipe, progress)
    with closing(context), attempt(context.folder) as context.attempts:
        trunk = copy_trunk(context, source)
        release = run_branch(context, source, trunk)
        scores = run_evaluate(context, trunk, release, {})
        record = record_of(context, source, release, scores)
        return commit(context, record, run_gate(context))


def begin(
    workspace: Workspace, name: str | None, recipe: Recipe, progress: Announcer
) -> tuple[UpdateContext, UpdateRecord]:
    """Begin the update, or resume the unfinished one of the same source and settings."""
    lineage = Lineage(workspace, recipe.gate.trunk)
    source = find_source(lineage, name)
    check_settings(recipe.anneal)
    evaluate.check_tasks(recipe.evaluate)
    arrival = check_name(NAME.format(source.arrival.replace("+", "-")))
    wanted = f"{len(lineage.entries):04d}-{arrival}"
    begun: dict[str, Any] = {"arrival": arrival, "data": {}, "recipe": recipe.identity(), "anneals": source.id}
    started = begin_or_resume(lineage, wanted, begun, "trunk", progress)
    lineage.start_from(source.id)
    current = lineage.compared_with()
    known = current.losses.get("release", {}) if current else {}
    new = [dataset for dataset in source.datasets if dataset not in known]
    runner = Runner(progress, update_labels(workspace, wanted))
    context = UpdateContext(workspace, lineage, Arrival({one: [] for one in new}, {}), recipe, wanted, runner)
    context.started = started
    return context, source


def copy_trunk(context: UpdateContext, source: UpdateRecord) -> train.TrainOutcome:
    """Copy the trunk's model: every update has its own, so that each can be pruned by itself."""
    folder, trunk = context.workspace.update(source.id) / "trunk", context.folder / "trunk"
    refuse_changed_model(context.lineage, folder / "model")

    def copy() -> train.TrainOutcome:
        anneal.copy_model(folder, trunk)
        return train.TrainOutcome(0, 0, 0.0, source.weights.trunk, "", 0, 0.0, [])

    step = Step("trunk", copy, train.TrainOutcome, trunk, {}, {"start": source.weights.trunk})
    return context.runner.run(step).outcome


def source_job(context: UpdateContext, source: UpdateRecord) -> train.Job:
    """Describe the training of the trunk that is annealed, as its own update ran it, on the workers of this one."""
    assert source.schedule is not None, "find_source refuses others"
    home, recipe = context.workspace.update(source.id), context.recipe
    mixture = Mixture.from_json((home / "mixture").read_json(replay.MIXTURE))
    before = read_plan(context.workspace, source.id)["recipe"]
    placement = recipe.train.model_dump(mode="json", exclude=set(recipe.train.identity()))
    kept = {name: value for name, value in before["train"].items() if name in train.TrainSettings.model_fields}
    settings = train.TrainSettings.model_validate({**placement, **kept, "kl_weight": 0.0})
    names = list(context.lineage.datasets())
    return train.Job(
        name="train",
        mixture=mixture,
        first=0,
        steps=mixture.steps,
        position=source.position - mixture.steps * mixture.tokens_per_step,
        schedule=source.schedule.schedule,
        start=home / "trunk" / "model",
        start_digest=source.weights.trunk,
        start_checkpoint=None,
        tokens=replay.token_sets(home / "mixture", mixture, context.train_tokens),
        validation={
            name: context.validation_tokens(name) for name in names if context.validation_tokens(name).files(".arrow")
        },
        out=context.folder / "trunk",
        checkpoints=context.folder / "checkpoints",
        settings=settings,
        seed=before.get("seed", 0),
        start_files=recorded_files(context.lineage, home / "trunk" / "model"),
        labels=context.runner.labels,
        shards=shard_tables(context, mixture),
        tokenizer=context.workspace.tokenizer,
    )


def optimizer_state(context: UpdateContext, source: UpdateRecord, job: train.Job) -> Folder | None:
    """Return the trunk's optimizer state, if it is kept and these workers can load it; a line says if not."""
    kept = context.workspace.update(source.id) / "trunk" / OPTIMIZER
    why = "" if kept.exists() else f"{kept} is missing"
    if not why and job.settings.needs_same_workers:
        saved = train.read_progress(kept).world_size
        if saved != job.settings.num_workers:
            why = f"it was saved by {saved} workers, and Muon's cannot be divided anew"
    if why:
        context.runner.progress.note(f"anneal: the branch begins with an empty optimizer: {why}")
    return None if why else kept


def run_branch(context: UpdateContext, source: UpdateRecord, trunk: train.TrainOutcome) -> anneal.AnnealOutcome:
    """Anneal the release on a branch off the trunk."""
    settings, dtype, job = context.recipe.anneal, context.lineage.release_dtype(), source_job(context, source)
    minimum = minimum_of(source.schedule)
    kept = optimizer_state(context, source, job)
    ended = replace(trunk, tokens=job.steps * job.mixture.tokens_per_step, checkpoint=kept.uri if kept else "")
    identity: dict[str, Any] = {**settings.identity(), "minimum": minimum, "train": job.settings.identity()}
    group = train.Group(context.runner.progress)
    step = Step(
        "anneal",
        lambda: anneal.run(job, ended, context.folder / "release", settings, minimum, group, {}, dtype),
        anneal.AnnealOutcome,
        context.folder / "release",
        {**identity, "dtype": dtype},
        {"trunk": trunk.digest, "optimizer": kept is not None},
        keeps=Keeps(without=(train.SNAPSHOTS,)),
    )
    return context.runner.run(step).outcome


def minimum_of(laid: Laid | None) -> float:
    """Return η_min of the settings from which a schedule was laid out."""
    assert laid is not None
    return train.ScheduleSettings.model_validate(laid.settings).minimum


def record_of(
    context: UpdateContext, source: UpdateRecord, release: anneal.AnnealOutcome, scores: evaluate.EvaluateOutcome
) -> UpdateRecord:
    """Build the update's record, except for the verdict and the figures that are known at the commit."""
    before, remarks = losses_before(context)
    after = scores.losses.get("release", {})
    return UpdateRecord(
        id=context.id,
        arrival=NAME.format(source.arrival.replace("+", "-")),
        datasets=[],
        state=RELEASED,
        started=context.started,
        finished=now(),
        position=source.position,
        follows=source.id,
        parameters=source.parameters,
        order_seed=source.order_seed,
        tokens=Tokens(annealed=release.tokens - release.left_out, left_out=release.left_out),
        train=Training(resumed_from=release.resumed_from, optimizer=optimizer_name(source)),
        anneal=part_of(Annealing, release),
        losses=scores.losses,
        bits_per_byte=scores.bits_per_byte,
        forgetting={name: after[name] - loss for name, loss in before.items() if name in after},
        lm_eval={task: {**metrics} for task, metrics in scores.lm_eval.items()},
        weights=Weights(source.weights.trunk, release.digest),
        steps=context.runner.taken,
        files=files_made(context),
        notes=[f"anneal: the trunk of {source.id}, {release.because}", *scores.notes, *remarks],
    )


def optimizer_name(source: UpdateRecord) -> str:
    """Return the optimizer that an update was trained with."""
    return source.train.optimizer if source.train else "adamw"
