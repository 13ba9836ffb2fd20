"""The record of an update, built from the outcomes of its steps, and the commit that finishes it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rewarm.pipeline.gate.verdict import Verdict
from rewarm.pipeline.lineage.optimizer import drop_optimizers, keep_optimizer
from rewarm.pipeline.plan.cost import cost_of, plan_kept
from rewarm.pipeline.recipe.recipe import differences
from rewarm.pipeline.record import (
    RELEASED,
    Annealing,
    DatasetPart,
    Laid,
    Replay,
    State,
    Tokens,
    Training,
    UpdateRecord,
    Weights,
    part_of,
)
from rewarm.pipeline.record.attempts import counted
from rewarm.pipeline.record.gap import gaps
from rewarm.pipeline.update.card import write_card
from rewarm.pipeline.update.context import Data, UpdateContext
from rewarm.stages import anneal, distill, evaluate, replay, train
from rewarm.stages.core.digests import now
from rewarm.stages.core.shapes import outcome_of, stage_manifest

# State of an update by the outcome of the gate's verdict.
STATES: dict[str, State] = {"passed": "released", "refused": "refused", "held": "undecided"}


def losses_before(context: UpdateContext) -> tuple[Mapping[str, float], list[str]]:
    """Return the recorded losses of the current release, and notes; empty if they were measured in another way.

    Losses in windows of another length, or with documents read differently, differ without any forgetting.
    """
    current = context.compared_with()
    if current is None:
        return {}, []
    folders = (context.workspace.update(current.id) / "evaluation", context.folder / "evaluation")
    ways = [stage_manifest(folder)["identity"]["settings"] for folder in folders if folder.committed()]
    measured = [{name: way.get(name) for name in ("seq_len", "reading")} for way in ways]
    if measured and measured[0] != measured[-1]:
        changed = "; ".join(differences(measured[0], measured[-1]))
        return {}, [
            f"forgetting is omitted: {current.id} was measured under other settings ({changed}); see the gate's checks"
        ]
    return current.losses.get("release", {}), []


def update_record(
    context: UpdateContext,
    data: Data,
    mixture: replay.ReplayOutcome,
    trunk: train.TrainOutcome,
    release: anneal.AnnealOutcome,
    scores: evaluate.EvaluateOutcome,
    written: distill.DistillOutcome | None = None,
) -> UpdateRecord:
    """Build the update's record, except for the verdict and the figures that are known at the commit."""
    parts = {
        name: DatasetPart(found, data.tokens[name], data.selected.get(name), written if name == distill.NAME else None)
        for name, found in data.documents.items()
    }
    before, remarks = losses_before(context)
    after = scores.losses.get("release", {})
    carried = context.lineage.replayed().after(mixture.by_dataset)
    tokens, replayed = tokens_trained(context, mixture, trunk, release)
    resumed = [*trunk.resumed_from, *release.resumed_from]
    return UpdateRecord(
        id=context.id,
        arrival=context.arrival.name,
        datasets=list(parts),
        state=RELEASED,
        started=context.started,
        finished=now(),
        position=context.lineage.position + trunk.tokens,
        tokens=tokens,
        replay=part_of(Replay, {**vars(mixture), "by_dataset": replayed, "carried": carried.to_json()}),
        schedule=None if context.imports else laid(context),
        losses=scores.losses,
        window_losses=window_losses(context, trunk.digest == release.digest),
        bits_per_byte=scores.bits_per_byte,
        forgetting={name: after[name] - loss for name, loss in before.items() if name in after},
        lm_eval={task: {**metrics} for task, metrics in scores.lm_eval.items()},
        train=part_of(Training, {**vars(trunk), **began_with(context), "resumed_from": resumed}),
        anneal=part_of(Annealing, release),
        weights=Weights(trunk.digest, release.digest),
        order_seed=context.recipe.seed,
        follows=context.lineage.head.id if context.lineage.head else None,
        parameters=train.count_parameters(context.folder / "release" / "model"),
        gap={} if context.imports else gaps((context.folder / "trunk").read_json(train.CURVE)["validation"]),
        data=parts,
        steps=context.runner.taken,
        files=files_made(context),
        notes=[
            f"anneal: {release.because}",
            *(f"replay: {note}" for note in mixture.notes),
            *scores.notes,
            *remarks,
        ],
    )


def tokens_trained(
    context: UpdateContext, mixture: replay.ReplayOutcome, trunk: train.TrainOutcome, release: anneal.AnnealOutcome
) -> tuple[Tokens, dict[str, Any]]:
    """Return the tokens of an update, and its replay by source, without those of steps that were not applied."""
    steps = [step - 1 for step in train.steps_without_effect(trunk.decisions)]
    if not steps and not release.left_out:
        return Tokens(mixture.planned, mixture.new, mixture.replayed, release.tokens), mixture.by_dataset
    order = context.mixture()
    counts = [order.seq_len * count for count in replay.sequences_of_steps(order, steps)]
    new, replayed = sum(counts[: len(order.new)]), sum(counts[len(order.new) :])
    left = {source.key: count for source, count in zip(order.sources, counts, strict=True) if count}
    tokens = Tokens(
        planned=mixture.planned,
        new=mixture.new - new,
        replayed=mixture.replayed - replayed,
        annealed=release.tokens - release.left_out,
        left_out=new + replayed + release.left_out,
    )
    parts = {key: {**part, "left_out": left[key]} if key in left else part for key, part in mixture.by_dataset.items()}
    return tokens, parts


def began_with(context: UpdateContext) -> dict[str, str]:
    """Return the optimizer of an update, and whether it began with the trunk's state."""
    settings = context.recipe.train
    kept = settings.keep_optimizer and bool(context.lineage.entries) and not context.imports
    return {"optimizer": settings.optimizer, "moments": "kept" if kept else "empty"}


def laid(context: UpdateContext) -> Laid:
    """Return the schedule of the trunk, with the settings from which it was computed."""
    return part_of(Laid, {**vars(context.schedule()), "settings": context.recipe.schedule.identity()})


def commit(context: UpdateContext, done: UpdateRecord, verdict: Verdict | None) -> UpdateRecord:
    """Write the update's record, and promote its release if the gate passes it; a base has no verdict.

    If it is killed before the commit, the update counts as unfinished, and the same command finishes it.
    """
    if verdict is not None:
        done = replace(done, state=STATES[verdict.outcome], gate=verdict)
    done = replace(done, steps=context.runner.taken, files=files_made(context), attempts=counted(context.attempts()))
    done = replace(
        done, cost=cost_of(done, context.recipe.cost), plan=plan_kept(context.plan) if context.plan else None
    )
    if not context.imports and context.tuned_from is None:
        checkpoint = outcome_of(context.folder / "trunk", train.TrainOutcome).checkpoint
        keep_optimizer(context.folder, checkpoint, context.recipe.train)
    done = replace(done, card=write_card(context, done))
    (context.folder / "checkpoints").delete()  # only needed to resume; trunk and release are separate folders
    for folder in ("trunk", "release"):
        (context.folder / folder / train.SNAPSHOTS).delete()  # only needed to write the release
    context.lineage.record(done)
    drop_optimizers(context.lineage)
    return done


def files_made(context: UpdateContext) -> dict[str, str]:
    """Return folder of each step, relative to the workspace → digest of the table of its files."""
    root = context.workspace.folder
    return {folder.relative_to(root): digest for folder, digest in context.runner.files.items()}


def window_losses(context: UpdateContext, same: bool) -> dict[str, dict[str, float]]:
    """Read the final losses of training for trunk and release; with ``same`` weights, the trunk's for both."""
    curves = {"trunk": context.folder / "trunk", "release": context.folder / ("trunk" if same else "release")}
    return {
        name: final
        for name, folder in curves.items()
        if folder.exists(train.CURVE) and (final := folder.read_json(train.CURVE).get("final"))
    }
