"""The model steps of an update: start, train, anneal and evaluate, each with its inputs, settings and folder.

An imported base is copied without changes. If its original training data is not available for replay, it generates
text to be replayed in its place.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rewarm.pipeline.lineage.optimizer import TRUNK_RUN, start_optimizer
from rewarm.pipeline.lineage.recorded import recorded_copies, recorded_files, refuse_changed_model
from rewarm.pipeline.lineage.workspace import CARD
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.update.context import Data, Start, Tokenizer, UpdateContext
from rewarm.pipeline.update.data_steps import PROVED, run_choose, run_tokenize, run_tokenizer
from rewarm.pipeline.update.measured import measured_note
from rewarm.pipeline.update.record import update_record
from rewarm.pipeline.update.runner import ALL, Done, Keeps, Step, seal
from rewarm.stages import anneal, distill, evaluate, ingest, replay, tokenize, train
from rewarm.stages.core.digests import FILES, Table
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet
from rewarm.stages.inference.actors import Reading
from rewarm.stages.inference.losses import VERSION as READING


def run_start(context: UpdateContext, tokenizer: Tokenizer) -> Start:
    """Return the starting weights: the previous trunk, or, for the base, random weights drawn from the seed."""
    head, recipe = context.lineage.head, context.recipe
    if head is not None:
        return Start(head.facts.weights.trunk, 0)
    step = Step(
        "initial weights",
        lambda: Start(
            **train.initial_model(
                recipe.model, context.workspace.tokenizer, recipe.train.seq_len, recipe.seed, context.folder / "initial"
            )
        ),
        Start,
        context.folder / "initial",
        {"model": recipe.model.identity(), "seq_len": recipe.train.seq_len, "seed": recipe.seed},
        {"tokenizer": tokenizer.digest},
    )
    return context.runner.run(step).outcome


def trunk_job(context: UpdateContext, start: Start) -> train.Job:
    """Describe the training of the trunk."""
    mixture, schedule = context.mixture(), context.schedule()
    names = [*context.measured(), *context.also_measured, *context.arrival.inputs]
    head = context.lineage.head
    model = context.lineage.trunk() if head else context.folder / "initial" / "model"
    optimizer = start_optimizer(context.lineage, context.recipe.train)
    return train.Job(
        name=TRUNK_RUN,
        mixture=mixture,
        first=0,
        steps=mixture.steps,
        position=context.lineage.position,
        schedule=schedule,
        start=model,
        start_digest=start.digest,
        start_files=recorded_files(context.lineage, model),
        start_checkpoint=None if optimizer is None else optimizer.uri,
        tokens=replay.token_sets(context.folder / "mixture", mixture, context.train_tokens),
        validation={
            name: context.validation_tokens(name) for name in names if context.validation_tokens(name).files(".arrow")
        },
        out=context.folder / "trunk",
        checkpoints=context.folder / "checkpoints",
        settings=context.recipe.train,
        seed=context.recipe.seed,
        snapshots=anneal.snapshot_steps(context.anneal_settings, schedule, mixture.steps),
        teacher=model,  # also for the anneal, which starts from the end of the trunk
        labels=context.runner.labels,
        shards=shard_tables(context, mixture),
        tokenizer=context.workspace.tokenizer,
    )


def shard_tables(context: UpdateContext, mixture: Mixture) -> dict[str, Table]:
    """Return the tables of the training shards by source key, without datasets that were recorded without one."""
    tables = {
        source.dataset: recorded_files(context.lineage, context.train_tokens(source.dataset))
        for source in mixture.sources
    }
    known = {name: table for name, table in tables.items() if table is not None}
    return {source.key: known[source.dataset] for source in mixture.sources if source.dataset in known}


def run_train(
    context: UpdateContext,
    job: train.Job,
    mixture: Done[replay.ReplayOutcome],
    tokens: dict[str, tokenize.TokenizeOutcome],
    group: train.Group,
) -> Done[train.TrainOutcome]:
    """Continue pre-training the trunk."""
    weight = context.recipe.train.kl_weight
    if weight and context.lineage.entries and not job.holds_to_teacher:
        context.runner.progress.note(f"train.kl_weight {weight:g} is ignored: this update does not replay any data")
    if (note := measured_note(list(context.lineage.datasets()), context.recipe.evaluate, context.id)) is not None:
        context.runner.progress.note(note)
    step = Step(
        "train",
        lambda: train.run(job, group, context.watchers),
        train.TrainOutcome,
        job.out,
        {**context.recipe.train.identity(), "schedule": job.schedule.to_json(), "snapshots": job.snapshots},
        {
            "start": job.start_digest,
            "mixture": mixture.fingerprint,
            "tokens": {name: tokenized.digest for name, tokenized in tokens.items()},
            "seed": context.recipe.seed,
        },
        keeps=Keeps(without=(train.SNAPSHOTS,)),
    )
    return context.runner.run(step)


def run_anneal(
    context: UpdateContext,
    job: train.Job,
    trunk: Done[train.TrainOutcome],
    tokens: dict[str, tokenize.TokenizeOutcome],
    group: train.Group,
) -> anneal.AnnealOutcome:
    """Anneal a release on a branch of the trunk, with the workers that have trained it."""
    settings, minimum = context.anneal_settings, context.recipe.schedule.minimum
    dtype = context.lineage.release_dtype()
    inputs: dict[str, Any] = {"trunk": trunk.outcome.digest, "training": trunk.fingerprint}
    best: dict[str, TokenSet] = {}
    if settings.data == anneal.BEST and not job.schedule.decayed:
        group.close()  # choosing needs the room of its workers
        for name, tokenized in tokens.items():
            chosen = context.folder / "best" / name
            label = f"best of {name}" if len(tokens) > 1 else "best"
            inputs[f"best of {name}"] = run_choose(context, label, name, tokenized, settings.best_share, chosen).digest
            best[name] = TokenSet(context.train_tokens(name), chosen)
    step = Step(
        "anneal",
        lambda: anneal.run(job, trunk.outcome, context.folder / "release", settings, minimum, group, best, dtype),
        anneal.AnnealOutcome,
        context.folder / "release",
        {**settings.identity(), "minimum": minimum, **({} if dtype == "float32" else {"dtype": dtype})},
        inputs,
        keeps=Keeps(without=(train.SNAPSHOTS,)),
    )
    return context.runner.run(step).outcome


def run_evaluate(
    context: UpdateContext,
    trunk: train.TrainOutcome,
    release: anneal.AnnealOutcome,
    tokens: dict[str, tokenize.TokenizeOutcome],
) -> evaluate.EvaluateOutcome:
    """Measure losses on every dataset so far, and run lm-eval on the release."""
    settings, out = context.recipe.evaluate, context.folder / "evaluation"
    same = trunk.digest == release.digest
    models = {
        "trunk": context.folder / ("release" if same else "trunk") / "model",
        "release": context.folder / "release" / "model",
    }
    names = [*context.measured(), *context.also_measured, *tokens]
    step = Step(
        "evaluate",
        lambda: measure(context, models, names, out, settings, word_order=tokens),
        evaluate.EvaluateOutcome,
        out,
        conditions(context, settings),
        {"trunk": trunk.digest, "release": release.digest, "datasets": names},
    )
    return context.runner.run(step).outcome


def measure(
    context: UpdateContext,
    models: dict[str, Folder],
    names: Iterable[str],
    out: Folder,
    settings: evaluate.EvaluateSettings,
    word_order: Collection[str] = (),
) -> evaluate.EvaluateOutcome:
    """Evaluate models on the validation splits of datasets, with this update's recipe.

    The order of words is asked for in the datasets ``word_order``.
    Raises ``DamagedError`` if a file of a model differs from the record.
    """
    for model in models.values():
        refuse_changed_model(context.lineage, model)
    pool = context.pool()
    sets = [
        evaluate.EvaluationSet(
            name, tokens, context.workspace.dataset(name) / "validation", word_order=name in word_order
        )
        for name in names
        if (tokens := context.validation_tokens(name)).files(".arrow")
    ]
    recorded = recorded_copies(context.lineage, [*models.values(), *(dataset.tokens for dataset in sets)])
    return evaluate.run(
        models,
        sets,
        out,
        settings,
        reading=Reading(context.recipe.train.seq_len, settings.batch_size, pool.gpus, recorded),
        pool=pool,
        progress=context.runner.progress,
    )


def conditions(context: UpdateContext, settings: evaluate.EvaluateSettings) -> dict[str, Any]:
    """Return the settings that the results of ``measure`` depend on."""
    return {**settings.identity(), "seq_len": context.recipe.train.seq_len, "reading": READING}


@dataclass(frozen=True)
class Imported:
    """An imported base: the lineage's tokenizer and first trunk."""

    tokenizer: Tokenizer
    start: Start


def import_base(context: UpdateContext) -> Imported:
    """Import tokenizer and weights, before any ingest; raises ``UsageError`` if the model is incomplete."""
    return Imported(run_tokenizer(context), run_import(context))


def take_over(context: UpdateContext, data: Data, start: Start) -> UpdateRecord:
    """Finish an imported base: trunk and release are the unchanged model.

    Its datasets are the model's original training data, a substitute for it, or text that the model generates.
    """
    documents, tokens = data.documents, data.tokens
    trained = train.TrainOutcome(0, 0, 0.0, start.digest, "", 0, 0.0, [])
    release = anneal.AnnealOutcome(False, "the model was imported as it is", 0, 0, start.digest, 0.0, 0.0, [])
    copied = context.folder / "release"
    copied.delete(FILES)  # from a killed attempt
    anneal.copy_model(context.folder / "trunk", copied)
    (copied / "model").delete(CARD)  # the imported model's card stays in the trunk; the release gets its own
    context.runner.files[copied] = seal(copied, ALL)
    written = run_distill(context, start, documents) if context.distilled_tokens else None
    if written is not None:
        documents = {**documents, distill.NAME: as_ingested(written)}
        tokens = {**tokens, distill.NAME: run_tokenize(context, distill.NAME, documents[distill.NAME], data.tokenizer)}
    scores = run_evaluate(context, trained, release, tokens) if tokens else evaluate.EvaluateOutcome()
    nothing = replay.ReplayOutcome(0, 0, 0, 0.0, 0.0, "none", 0.0, {})
    record = update_record(context, Data(documents, data.tokenizer, tokens), nothing, trained, release, scores, written)
    return replace(record, notes=[*record.notes, f"tokenizer: {data.tokenizer.form}"])


def run_import(context: UpdateContext) -> Start:
    """Import a Hugging Face model folder as the trunk."""
    source, trunk = Path(str(context.recipe.model.path)), context.folder / "trunk"
    step = Step(
        "import",
        lambda: Start(
            **train.import_model(source, trunk, context.workspace.tokenizer, context.recipe.train.document_mask)
        ),
        Start,
        trunk,
        {},
        {"model": train.digest_folder(source)},
    )
    return context.runner.run(step).outcome


def run_distill(
    context: UpdateContext, start: Start, documents: dict[str, ingest.IngestOutcome]
) -> distill.DistillOutcome:
    """Generate document shards with the imported model."""
    recipe, wanted, earlier = context.recipe, context.distilled_tokens, list(context.arrival.inputs)
    folder, index = context.workspace.dataset(distill.NAME), context.workspace.dedup(distill.NAME)
    prompts, digest = find_prompts(context, documents)
    model = context.folder / "trunk" / "model"
    step = Step(
        "distill",
        lambda: distill.run(
            distill.Author(model, start.digest, context.workspace.tokenizer, recorded_copies(context.lineage, [model])),
            prompts,
            distill.Duplicates([context.workspace.dedup(name) for name in earlier], index),
            folder,
            recipe.distill,
            distill.Wanted(wanted, recipe.train.seq_len, recipe.ingest.validation_share, recipe.seed),
            distill_actors(recipe),
            context.runner.progress,
        ),
        distill.DistillOutcome,
        folder,
        {
            **recipe.distill.identity(),
            "tokens": wanted,
            "max_tokens": recipe.distill.length(recipe.train.seq_len),
            "validation_share": recipe.ingest.validation_share,
            "seed": recipe.seed,
        },
        {"model": start.digest, "prompts": digest, "earlier": earlier},
        version=distill.VERSION,
        keeps=Keeps(PROVED, (index,)),
    )
    written = context.runner.run(step).outcome
    distill.discard_drafts(folder)
    return written


def find_prompts(
    context: UpdateContext, documents: dict[str, ingest.IngestOutcome]
) -> tuple[Folder | None, str | None]:
    """Return document shards for prompts, and their digest: from a dataset of the arrival, or from files."""
    given, settings, progress = context.recipe.distill.prompts, context.recipe.ingest, context.runner.progress
    if given is None:
        return None, None
    if given in documents:
        return context.workspace.dataset(given) / "documents", documents[given].digest
    inputs, folder = ingest.find_inputs([given], settings, progress), context.folder / "prompts"
    step = Step(
        "ingest prompts",
        lambda: ingest.run(inputs, folder, settings, [], folder / "dedup", progress),
        ingest.IngestOutcome,
        folder,
        settings.identity(),
        {"data": ingest.digest_inputs(inputs, progress)},
        version=ingest.VERSION,
    )
    return folder / "documents", context.runner.run(step).outcome.digest


def distill_actors(recipe: Recipe) -> distill.Actors:
    """Return the actors on which the model generates."""
    gpus, most = train.model_places(recipe.train)
    return distill.Actors(min(recipe.distill.num_actors or most, most), gpus)


def as_ingested(written: distill.DistillOutcome) -> ingest.IngestOutcome:
    """Convert the counts of a distilled dataset to those of an ingested one."""
    counted = [field.name for field in fields(ingest.IngestOutcome) if hasattr(written, field.name)]
    return ingest.IngestOutcome(**{name: getattr(written, name) for name in counted})
