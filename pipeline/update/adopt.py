"""A release that was tuned from a release of the lineage by another program, as by instruction tuning.

It is an update of its own, without data and without a trunk, on a branch that no update continues: the next one starts
from the trunk, which no tuning has touched. It is checked as an import is, and measured and judged by the gate as any
release is, against the release that it was tuned from. If it passes, it is kept beside the current release.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewarm.pipeline.gate.verdict import Verdict
from rewarm.pipeline.lineage.lineage import Lineage, read_plan
from rewarm.pipeline.lineage.recorded import refuse_changed_model
from rewarm.pipeline.lineage.weights import require_weights
from rewarm.pipeline.lineage.workspace import Workspace, check_name
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.record import HELD_BACK, RELEASED, Adoption, UpdateRecord, Weights
from rewarm.pipeline.record.attempts import attempt
from rewarm.pipeline.update.context import UpdateContext
from rewarm.pipeline.update.gate import run_gate
from rewarm.pipeline.update.inputs import Arrival
from rewarm.pipeline.update.model_steps import conditions, measure
from rewarm.pipeline.update.record import commit, files_made, losses_before
from rewarm.pipeline.update.runner import Runner, Step, begin_or_resume, update_labels
from rewarm.pipeline.update.update import discarded_if_refused
from rewarm.stages import evaluate, train
from rewarm.stages.core.digests import now
from rewarm.stages.core.progress import Announcer
from rewarm.stages.core.storage import Folder

READ = ("evaluate.", "gate.", "card.", "cost.")  # groups of settings that it reads
NAME = "tuned-{}"  # of the update, by the arrival whose release was tuned
FAR = 0.5  # distance from the release beyond which the model was hardly tuned from it


@dataclass(frozen=True)
class Origin:
    """A tuned model, and who adopts it."""

    folder: Path
    source: str
    """The folder as it was named, or the model on the Hub with its commit."""
    by: str
    because: str = ""


def adopt(workspace: Workspace, name: str, origin: Origin, recipe: Recipe, progress: Announcer) -> UpdateRecord:
    """Adopt a model that was tuned from the release of the update ``name``, measure it and judge it."""
    context, source = begin(workspace, name, origin, recipe, progress)
    with closing(context), attempt(context.folder) as context.attempts:
        with discarded_if_refused(context):
            taken = run_adopt(context, source, origin.folder)
        scores = run_measure(context, taken)
        record = record_of(context, source, origin, taken, scores)
        return commit(context, record, run_gate(context))


def find_source(lineage: Lineage, name: str) -> UpdateRecord:
    """Return the update whose release was tuned; raises ``UsageError`` if its weights are gone."""
    source = lineage.find(name)
    require_weights(lineage.workspace, source.id)
    return source


def check(lineage: Lineage, source: UpdateRecord, folder: Path, recipe: Recipe) -> None:
    """Raise ``UsageError`` for a folder that was not tuned from the release, as far as its headers show."""
    workspace = lineage.workspace
    train.check_adoptable(folder, (workspace.update(source.id) / "release" / "model").local(), workspace.tokenizer)
    train.check_length(folder, recipe.train.seq_len)
    evaluate.check_tasks(recipe.evaluate)


def begin(
    workspace: Workspace, name: str, origin: Origin, recipe: Recipe, progress: Announcer
) -> tuple[UpdateContext, UpdateRecord]:
    """Begin the update, or resume the unfinished one of the same source, model and settings."""
    lineage = Lineage(workspace, recipe.gate.trunk)
    source = find_source(lineage, name)
    check(lineage, source, origin.folder, recipe)
    arrival = check_name(NAME.format(source.arrival.replace("+", "-")))
    wanted = f"{len(lineage.entries):04d}-{arrival}"
    begun: dict[str, Any] = {
        "arrival": arrival,
        "data": {},
        "recipe": recipe.identity(),
        "tuned_from": source.id,
        "model": train.digest_folder(origin.folder),
    }
    started = begin_or_resume(lineage, wanted, begun, "model", progress)
    if source.state in HELD_BACK:
        progress.note(f"{source.id} was not released by the gate ({source.state}): it is compared with it all the same")
    lineage.start_from(source.id)
    runner = Runner(progress, update_labels(workspace, wanted))
    context = UpdateContext(workspace, lineage, Arrival({}, {}), recipe, wanted, runner)
    context.started, context.tuned_from = started, source.id
    return context, source


def run_adopt(context: UpdateContext, source: UpdateRecord, folder: Path) -> train.Adopted:
    """Check the tuned model's weights and copy it as the release."""
    release = context.workspace.update(source.id) / "release" / "model"
    refuse_changed_model(context.lineage, release)
    out = context.folder / "release"
    step = Step(
        "adopt",
        lambda: train.adopt_model(folder, release.local(), out, context.workspace.tokenizer),
        train.Adopted,
        out,
        {},
        {"release": source.weights.release, "model": train.digest_folder(folder)},
    )
    return context.runner.run(step).outcome


def run_measure(context: UpdateContext, taken: train.Adopted) -> evaluate.EvaluateOutcome:
    """Measure losses on every dataset that the release was measured on, and run lm-eval."""
    settings, out, names = context.recipe.evaluate, context.folder / "evaluation", context.measured()
    models: dict[str, Folder] = {"release": context.folder / "release" / "model"}
    step = Step(
        "evaluate",
        lambda: measure(context, models, names, out, settings),
        evaluate.EvaluateOutcome,
        out,
        conditions(context, settings),
        {"release": taken.digest, "datasets": names},
    )
    return context.runner.run(step).outcome


def record_of(
    context: UpdateContext,
    source: UpdateRecord,
    origin: Origin,
    taken: train.Adopted,
    scores: evaluate.EvaluateOutcome,
) -> UpdateRecord:
    """Build the update's record, except for the verdict and the figures that are known at the commit."""
    before, remarks = losses_before(context)
    after = scores.losses.get("release", {})
    plan = read_plan(context.workspace, context.id)
    return UpdateRecord(
        id=context.id,
        arrival=plan["arrival"],
        datasets=[],
        state=RELEASED,
        started=context.started,
        finished=now(),
        position=source.position,
        follows=source.id,
        parameters=taken.parameters,
        order_seed=source.order_seed,
        adopted=Adoption(
            tuned_from=source.id,
            release=source.weights.release,
            source=origin.source,
            digest=plan["model"],
            by=origin.by,
            because=origin.because,
            tokenizer=taken.tokenizer,
            added_tokens=taken.added_tokens,
            tensors=taken.tensors,
            changed=taken.changed,
            distance=taken.distance,
            chat_template=taken.chat_template,
        ),
        losses=scores.losses,
        bits_per_byte=scores.bits_per_byte,
        forgetting={name: after[name] - loss for name, loss in before.items() if name in after},
        lm_eval={task: {**metrics} for task, metrics in scores.lm_eval.items()},
        weights=Weights("", taken.digest),
        steps=context.runner.taken,
        files=files_made(context),
        notes=[*remarks_on(taken), *scores.notes, *remarks],
    )


def remarks_on(taken: train.Adopted) -> list[str]:
    """Return sentences on what the tuning changed."""
    distance = f"{taken.distance:.2%}" if taken.distance < FAR else f"{taken.distance:.0%}"
    remarks = [
        f"tuned: {taken.changed:,} of {taken.tensors:,} tensors changed, by {distance} of the release's norm",
    ]
    if taken.distance >= FAR:
        remarks.append(f"its weights are far from the release's ({distance}): was it tuned from another model?")
    if taken.added_tokens:
        remarks.append(f"{len(taken.added_tokens):,} special tokens were added: {', '.join(taken.added_tokens[:8])}")
    return remarks


def lines_of(done: UpdateRecord, verdict: Verdict | None, current: str | None) -> Sequence[str]:
    """Return a sentence on the verdict on an adopted release, and the command that makes it the current one."""
    if verdict is not None and verdict.outcome != "passed":
        return []
    return [
        f"{done.id}: kept beside the current release, {current}. `rewarm export WORKSPACE {done.id}` copies it, and "
        f"`rewarm promote WORKSPACE {done.id}` makes it current. The next update starts from the trunk"
    ]
