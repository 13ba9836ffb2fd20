"""The data steps of an update: ingest, tokenize, select and replay, each with its inputs, settings and folder.

They lead from an arrival's files to the order in which training reads its sequences. Selection has steps of its own:
scores, the choice by score, the classifier's reference set, and the model that ranks by perplexity.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rewarm.pipeline.gate.sites import documents_needed
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.recorded import recorded_copies, refuse_changed_model
from rewarm.pipeline.update.context import Tokenizer, UpdateContext, earlier_datasets
from rewarm.pipeline.update.runner import Done, Keeps, Step
from rewarm.stages import evaluate, ingest, replay, select, tokenize
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.inference.actors import Reading
from rewarm.stages.inference.losses import VERSION as READING

if TYPE_CHECKING:
    from rewarm.pipeline.update.context import UpdateContext


@dataclass(frozen=True)
class Reference:
    """The classifier's positive examples: a dataset of the lineage, or files to ingest."""

    dataset: str | None
    files: list[ingest.InputFile]


def find_reference(
    lineage: Lineage, settings: select.SelectSettings, reading: ingest.IngestSettings
) -> Reference | None:
    """Resolve ``select.reference``; None if documents are not ranked by a classifier.

    Raises ``UsageError`` if it is neither a dataset of the lineage nor a path to readable files.
    """
    if settings.by != "classifier" or settings.reference is None:
        return None
    known = list(lineage.datasets())
    if settings.reference in known:
        return Reference(settings.reference, [])
    if not Path(settings.reference).exists() and not any(sign in settings.reference for sign in "*?["):
        raise UsageError(
            f"select.reference: {settings.reference!r} is neither a dataset of this lineage "
            f"({', '.join(known) or 'it has none'}) nor a path to files"
        )
    return Reference(None, ingest.find_inputs([settings.reference], reading))


def run_choose(
    context: "UpdateContext", label: str, name: str, tokens: tokenize.TokenizeOutcome, share: float, out: Folder
) -> select.SelectOutcome:
    """Select the best ``share`` of an arrival into ``out``; its scores are computed once, for all shares."""
    settings, scores = context.recipe.select, context.folder / "scores" / name
    scored = run_score(context, name, tokens, scores)
    step = Step(
        label,
        lambda: select.run(scores, out, settings, share, context.runner.progress),
        select.SelectOutcome,
        out,
        {"by": settings.by, "share": share, "trim": settings.trim},
        {"scores": scored.digest},
    )
    return context.runner.run(step).outcome


def run_score(
    context: "UpdateContext", name: str, tokens: tokenize.TokenizeOutcome, out: Folder
) -> select.ScoreOutcome:
    """Score the quality of each document of an arrival."""
    recipe, settings = context.recipe, context.recipe.select
    decides, inputs = settings.scoring(), {"tokens": tokens.digest}
    reference, judge = run_reference(context), None
    if reference is not None:
        inputs["reference"] = reference[1]
    if settings.by == "perplexity":
        model, inputs["model"] = judging_model(context.lineage, settings)
        refuse_changed_model(context.lineage, model)
        gpus, actors = context.places()
        recorded = recorded_copies(context.lineage, [model, context.train_tokens(name)])
        reading = Reading(recipe.train.seq_len, settings.batch_size, gpus, recorded)
        judge = select.Judge(model, reading, actors)
        decides |= {"seq_len": reading.seq_len, "reading": READING}
    step = Step(
        f"score {name}" if len(context.arrival.inputs) > 1 else "score",
        lambda: select.score(
            context.workspace.dataset(name) / "documents",
            context.train_tokens(name),
            out,
            settings,
            recipe.seed,
            context.runner.progress,
            reference=None if reference is None else reference[0],
            judge=judge,
        ),
        select.ScoreOutcome,
        out,
        {**decides, "seed": recipe.seed},
        inputs,
    )
    return context.runner.run(step).outcome


def run_reference(context: "UpdateContext") -> tuple[Folder, str] | None:
    """Return the documents from which the classifier's positive examples are drawn, and their digest."""
    reading, lineage = context.recipe.ingest, context.lineage
    reference = find_reference(lineage, context.recipe.select, reading)
    if reference is None:
        return None
    if reference.dataset is not None:
        update = lineage.datasets()[reference.dataset]
        return context.workspace.dataset(reference.dataset) / "documents", lineage.read(update.id).data[
            reference.dataset
        ].ingest.digest
    folder = context.folder / "reference"
    step = Step(
        "reference",
        lambda: ingest.run(reference.files, folder, reading, [], folder / "dedup", context.runner.progress),
        ingest.IngestOutcome,
        folder,
        reading.identity(),
        {"data": ingest.digest_inputs(reference.files, context.runner.progress)},
        version=ingest.VERSION,
    )
    return folder / "documents", context.runner.run(step).outcome.digest


def judging_model(lineage: Lineage, settings: select.SelectSettings) -> tuple[Folder, str]:
    """Return the model that ranks by perplexity and its digest: the start of the update, or the base's trunk."""
    update = lineage.learned[0 if settings.model == "base" else -1]
    return lineage.workspace.update(update.id) / "trunk" / "model", update.facts.weights.trunk


PROVED = ("tokens",)  # part of a dataset's folder that belongs to another step


@dataclass(frozen=True)
class GuardOutcome:
    """The tasks whose texts are excluded from training."""

    tasks: list[str]


def run_guards(context: UpdateContext) -> dict[str, Folder]:
    """Write the texts of evaluation tasks, which ingest removes from training data; returns task → folder."""
    recipe, folder = context.recipe, context.folder / "guards"
    names = list(dict.fromkeys([*recipe.evaluate.tasks, *recipe.ingest.decontaminate.tasks]))
    if not names or not recipe.ingest.decontaminate.enabled:
        return {}

    def make() -> GuardOutcome:
        tasks = []
        for task, texts in evaluate.task_texts(recipe.evaluate, names):
            context.runner.progress.note(f"excluding the texts of {task} from training")
            ingest.write_guard(folder / task, task, texts, recipe.ingest.decontaminate)
            tasks.append(task)
        return GuardOutcome(tasks)

    settings = recipe.ingest.decontaminate.identity()
    guards = context.runner.run(Step("guards", make, GuardOutcome, folder, {**settings, "tasks": names}, {})).outcome
    return {task: folder / task for task in guards.tasks}


def run_ingest(context: UpdateContext, name: str) -> ingest.IngestOutcome:
    """Ingest an arrival: files → document shards, without duplicates of earlier datasets."""
    earlier = [*context.lineage.datasets(), *_new_before(context, name)]
    before = [context.workspace.dedup(other) for other in earlier]
    folder, settings, tasks = context.workspace.dataset(name), context.recipe.ingest, run_guards(context)
    guarded = len(context.lineage.datasets()) + len(context.arrival.inputs)  # once this arrival is an earlier dataset
    worth = documents_needed(context.recipe.gate, guarded)
    step = Step(
        context.named("ingest", name),
        lambda: ingest.run(
            context.arrival.inputs[name],
            folder,
            settings,
            before,
            context.workspace.dedup(name),
            context.runner.progress,
            tasks,
            worth,
        ),
        ingest.IngestOutcome,
        folder,
        {**settings.identity(), "validation_worth": worth},
        {"data": context.arrival.digests[name], "earlier": earlier, "tasks": sorted(tasks)},
        version=ingest.VERSION,
        keeps=Keeps(PROVED, (context.workspace.dedup(name),)),
    )
    return context.runner.run(step).outcome


def _new_before(context: UpdateContext, name: str) -> list[str]:
    names = list(context.arrival.inputs)
    return names[: names.index(name)]


def run_tokenizer(context: UpdateContext) -> Tokenizer:
    """Return the lineage's tokenizer, which is trained or imported once, with the base, and then fixed."""
    folder, settings = context.workspace.tokenizer, context.recipe.tokenizer
    if context.lineage.entries:
        return Tokenizer(tokenize.tokenizer_digest(folder))
    path = context.recipe.model.path or settings.path
    source = None if path is None else Folder(path).local()

    def make() -> Tokenizer:
        form = ""
        if source is not None:
            form = tokenize.import_tokenizer(source, folder, settings.end_of_text).note
            context.runner.progress.note(f"the imported tokenizer: {form}")
        else:
            first = context.workspace.dataset(next(iter(context.arrival.inputs)))
            tokenize.train_tokenizer(first / "documents", folder, settings, context.runner.progress)
        return Tokenizer(tokenize.tokenizer_digest(folder), form)

    decides = (
        {"imported": tokenize.source_digest(source, settings.end_of_text)}
        if source
        else {**settings.identity(), "data": context.arrival.digests}
    )
    return context.runner.run(Step("tokenizer", make, Tokenizer, folder, decides, {})).outcome


def run_tokenize(
    context: UpdateContext, name: str, documents: ingest.IngestOutcome, tokenizer: Tokenizer
) -> tokenize.TokenizeOutcome:
    """Tokenize a dataset: document shards → token shards."""
    dataset = context.workspace.dataset(name)
    step = Step(
        context.named("tokenize", name),
        lambda: tokenize.run(
            dataset, context.workspace.tokenizer, dataset / "tokens", context.recipe.tokenize, context.runner.progress
        ),
        tokenize.TokenizeOutcome,
        dataset / "tokens",
        context.recipe.tokenize.identity(),
        {"documents": documents.digest, "tokenizer": tokenizer.digest},
    )
    return context.runner.run(step).outcome


def run_select(context: UpdateContext, tokens: dict[str, tokenize.TokenizeOutcome]) -> dict[str, select.SelectOutcome]:
    """Select the part of each arrival to train on; returns an empty mapping if all of it is used."""
    settings = context.recipe.select
    if not (settings.chooses and context.lineage.entries):
        return {}
    return {
        name: run_choose(
            context,
            f"select {name}" if len(tokens) > 1 else "select",
            name,
            made,
            settings.share,
            context.folder / "selection" / name,
        )
        for name, made in tokens.items()
    }


def update_budget(context: UpdateContext) -> tuple[int | None, int]:
    """Return the tokens to train on (None: all tokens of the arrival), and the number of epochs over the arrival."""
    recipe, epochs = context.recipe, context.recipe.select.epochs
    if not context.lineage.entries:
        return recipe.budget.base_tokens, 1
    budget = recipe.budget.update_tokens
    if budget is not None and epochs is not None:
        context.runner.progress.note(
            f"select.epochs {epochs} is ignored: budget.update_tokens {budget:,} sets the number of tokens"
        )
    return budget, epochs or 1


def run_replay(
    context: UpdateContext, tokens: dict[str, tokenize.TokenizeOutcome], selected: dict[str, select.SelectOutcome]
) -> Done[replay.ReplayOutcome]:
    """Build the mixture: the order of the new and replayed sequences that training reads."""
    recipe, carried = context.recipe, context.lineage.replayed()
    earlier = earlier_datasets(context.workspace, context.lineage)
    budget, passes = update_budget(context)
    branch = recipe.branch
    settings = recipe.replay if context.lineage.entries else replay.ReplaySettings(share=0)
    step = Step(
        "replay",
        lambda: replay.run(
            replay.Arrival(
                {name: context.new_tokens(name, selected) for name in tokens}, context.weights, select.SELECTED
            ),
            earlier,
            carried,
            replay.Budget(recipe.train.seq_len, recipe.train.global_batch, budget, passes, branch),
            replay.Draw(recipe.seed, context.id),
            context.folder / "mixture",
            settings,
            context.runner.progress,
        ),
        replay.ReplayOutcome,
        context.folder / "mixture",
        {
            **settings.identity(),
            "seq_len": recipe.train.seq_len,
            "global_batch": recipe.train.global_batch,
            "budget": budget,
            "passes": passes,
            "seed": recipe.seed,
            **({"branch": str(branch)} if branch else {}),
        },
        {
            "new": {name: (selected if name in selected else tokens)[name].digest for name in tokens},
            "earlier": {one.name: one.order_seed for one in earlier},
            "carried": carried.to_json(),
            "weights": context.weights,
        },
    )
    return context.runner.run(step)
