"""From data to a measured release: each stage with its inputs, its settings, its folder and what decides its result.

A base that someone else trained: taken over as it is, with the text that it writes itself where D0 is not there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rewarm.pipeline.lineage.optimizer import TRUNK_RUN, start_optimizer
from rewarm.pipeline.lineage.recorded import recorded_table, refuse_changed_model
from rewarm.pipeline.lineage.workspace import CARD
from rewarm.pipeline.recipe.recipe import Recipe, evaluation_places
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.update.context import Data, Making, Start, Tokenizer
from rewarm.pipeline.update.data_steps import PROVED, run_choose, run_tokenize, run_tokenizer
from rewarm.pipeline.update.record import account
from rewarm.pipeline.update.runner import ALL, Keeps, seal
from rewarm.stages import anneal, distill, evaluate, ingest, replay, tokenize, train
from rewarm.stages.core.digests import FILES, Table, below
from rewarm.stages.core.shapes import outcome_of
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet
from rewarm.stages.inference.losses import VERSION as READING


def run_start(making: Making, tokenizer: Tokenizer) -> Start:
    """The trunk of the update before; for the base, weights drawn from the seed."""
    head, recipe = making.lineage.head, making.recipe
    if head is not None:
        return Start(head.facts.weights.trunk, 0)
    return making.runner.run(
        "initial weights",
        lambda: Start(
            **train.initial_model(
                recipe.model, making.workspace.tokenizer, recipe.train.seq_len, recipe.seed, making.folder / "initial"
            )
        ),
        Start,
        making.folder / "initial",
        {"model": recipe.model.identity(), "seq_len": recipe.train.seq_len, "seed": recipe.seed},
        {"tokenizer": tokenizer.digest},
    )


def trunk_job(making: Making) -> train.Job:
    """The training of the trunk."""
    mixture, schedule = making.mixture(), making.schedule()
    names = [*making.lineage.datasets(), *making.also_measured, *making.arrival.inputs]
    head = making.lineage.head
    start = making.lineage.trunk() if head else making.folder / "initial" / "model"
    made = recorded_table(making.lineage, start.at(".."))
    optimizer = start_optimizer(making.lineage, making.recipe.train)
    return train.Job(
        name=TRUNK_RUN,
        mixture=mixture,
        first=0,
        steps=mixture.steps,
        position=making.lineage.position,
        schedule=schedule,
        start=start,
        start_digest=head.facts.weights.trunk if head else outcome_of(making.folder / "initial", Start).digest,
        start_files=None if made is None else below(made, "model"),
        start_checkpoint=None if optimizer is None else optimizer.uri,
        tokens=replay.token_sets(making.folder / "mixture", mixture, making.train_tokens),
        validation={
            name: making.validation_tokens(name) for name in names if making.validation_tokens(name).files(".arrow")
        },
        out=making.folder / "trunk",
        checkpoints=making.folder / "checkpoints",
        settings=making.recipe.train,
        seed=making.recipe.seed,
        snapshots=anneal.snapshot_steps(making.anneal_settings, schedule, mixture.steps),
        teacher=start,  # the anneal's too, which itself starts from the trunk's end
        labels=making.runner.labels,
        shards=shard_tables(making, mixture),
        tokenizer=making.workspace.tokenizer,
    )


def shard_tables(making: Making, mixture: Mixture) -> dict[str, Table]:
    """The tables of the training shards, by the key of a source; without datasets that were recorded without one."""
    tables = {
        source.dataset: recorded_table(making.lineage, making.train_tokens(source.dataset).at(".."))
        for source in mixture.sources
    }
    found = {name: below(table, "train") for name, table in tables.items() if table is not None}
    return {source.key: found[source.dataset] for source in mixture.sources if source.dataset in found}


def run_train(
    making: Making, start: Start, mixture: replay.ReplayOutcome, tokens: dict[str, tokenize.TokenizeOutcome]
) -> train.TrainOutcome:
    """Continue pre-training: the trunk."""
    job, weight = trunk_job(making), making.recipe.train.kl_weight
    if weight and making.lineage.entries and not job.holds_to_teacher:
        making.runner.progress.note(f"train.kl_weight {weight:g} is not applied: this update replays nothing")
    return making.runner.run(
        "train",
        lambda: train.run(job, making.runner.progress, making.watchers),
        train.TrainOutcome,
        job.out,
        {**making.recipe.train.identity(), "schedule": job.schedule.to_json(), "snapshots": job.snapshots},
        {
            "start": start.digest,
            "mixture": making.runner.digests["replay"],
            "tokens": {name: made.digest for name, made in tokens.items()},
            "seed": making.recipe.seed,
        },
        keeps=Keeps(without=(train.SNAPSHOTS,)),
    )


def run_anneal(
    making: Making, trunk: train.TrainOutcome, tokens: dict[str, tokenize.TokenizeOutcome]
) -> anneal.AnnealOutcome:
    """A release, on a branch off the trunk."""
    settings, minimum, job = making.anneal_settings, making.recipe.schedule.minimum, trunk_job(making)
    dtype = making.lineage.release_dtype()
    inputs: dict[str, Any] = {"trunk": trunk.digest, "training": making.runner.digests["train"]}
    best: dict[str, TokenSet] = {}
    if settings.data == anneal.BEST and not job.schedule.decayed:
        for name, made in tokens.items():
            place = making.folder / "best" / name
            label = f"best of {name}" if len(tokens) > 1 else "best"
            inputs[f"best of {name}"] = run_choose(making, label, name, made, settings.best_share, place).digest
            best[name] = TokenSet(making.train_tokens(name), place)
    return making.runner.run(
        "anneal",
        lambda: anneal.run(
            job, trunk, making.folder / "release", settings, minimum, making.runner.progress, best, dtype
        ),
        anneal.AnnealOutcome,
        making.folder / "release",
        {**settings.identity(), "minimum": minimum, **({} if dtype == "float32" else {"dtype": dtype})},
        inputs,
    )


def run_evaluate(
    making: Making,
    trunk: train.TrainOutcome,
    release: anneal.AnnealOutcome,
    tokens: dict[str, tokenize.TokenizeOutcome],
) -> evaluate.EvaluateOutcome:
    """Losses on every dataset so far, and lm-eval on the release."""
    settings, out = making.recipe.evaluate, making.folder / "evaluation"
    same = trunk.digest == release.digest
    models = {
        "trunk": making.folder / ("release" if same else "trunk") / "model",
        "release": making.folder / "release" / "model",
    }
    names = [*making.lineage.datasets(), *making.also_measured, *tokens]
    return making.runner.run(
        "evaluate",
        lambda: measure(making, models, names, out, settings),
        evaluate.EvaluateOutcome,
        out,
        conditions(making, settings),
        {"trunk": trunk.digest, "release": release.digest, "datasets": names},
    )


def measure(
    making: Making, models: dict[str, Folder], names: Iterable[str], out: Folder, settings: evaluate.EvaluateSettings
) -> evaluate.EvaluateOutcome:
    """Evaluate models on the validation splits of datasets, as this update's recipe says.

    Raises ``DamagedError`` if a file of a model is not what the record says.
    """
    for model in models.values():
        refuse_changed_model(making.lineage, model)
    train_settings = making.recipe.train
    gpus, actors = evaluation_places(making.recipe)
    return evaluate.run(
        models,
        [
            evaluate.EvaluationSet(name, making.validation_tokens(name), making.workspace.dataset(name) / "validation")
            for name in names
            if making.validation_tokens(name).files(".arrow")
        ],
        out,
        settings,
        seq_len=train_settings.seq_len,
        num_actors=actors,
        gpus=gpus,
        progress=making.runner.progress,
    )


def conditions(making: Making, settings: evaluate.EvaluateSettings) -> dict[str, Any]:
    """The settings that decide what ``measure`` finds."""
    return {**settings.identity(), "seq_len": making.recipe.train.seq_len, "reading": READING}


@dataclass(frozen=True)
class Imported:
    """A base that was trained elsewhere, as the lineage's tokenizer and first trunk."""

    tokenizer: Tokenizer
    start: Start


def import_base(making: Making) -> Imported:
    """Tokenizer and weights, before any document: ``UsageError`` where they are no whole model."""
    return Imported(run_tokenizer(making), run_import(making))


def take_over(making: Making, data: Data, start: Start) -> UpdateRecord:
    """Trunk and release as the model is. Datasets that come with it are D0's, or stand for them, or it writes one."""
    documents, tokens = data.documents, data.tokens
    trained = train.TrainOutcome(0, 0, 0.0, start.digest, "", 0, 0.0, [])
    release = anneal.AnnealOutcome(False, "the model was imported as it is", 0, 0, start.digest, 0.0, 0.0, [])
    copied = making.folder / "release"
    copied.delete(FILES)  # of an attempt that was killed
    anneal.copy_model(making.folder / "trunk", copied)
    (copied / "model").delete(CARD)  # the imported model's, which the trunk keeps: the release gets one of its own
    making.runner.files[copied] = seal(copied, ALL)
    written = run_distill(making, start, documents) if making.distilled_tokens else None
    if written is not None:
        documents = {**documents, distill.NAME: as_ingested(written)}
        tokens = {**tokens, distill.NAME: run_tokenize(making, distill.NAME, documents[distill.NAME], data.tokenizer)}
    scores = run_evaluate(making, trained, release, tokens) if tokens else evaluate.EvaluateOutcome()
    nothing = replay.ReplayOutcome(0, 0, 0, 0.0, 0.0, "none", 0.0, {})
    made = account(making, documents, tokens, {}, nothing, trained, release, scores, written)
    return replace(made, notes=[*made.notes, f"tokenizer: {data.tokenizer.form}"])


def run_import(making: Making) -> Start:
    """Someone's Hugging Face folder → the trunk."""
    source, trunk = Path(str(making.recipe.model.path)), making.folder / "trunk"
    return making.runner.run(
        "import",
        lambda: Start(
            **train.import_model(source, trunk, making.workspace.tokenizer, making.recipe.train.document_mask)
        ),
        Start,
        trunk,
        {},
        {"model": train.digest_folder(source)},
    )


def run_distill(making: Making, start: Start, documents: dict[str, ingest.IngestOutcome]) -> distill.DistillOutcome:
    """The imported model → document shards that it writes itself."""
    recipe, wanted, earlier = making.recipe, making.distilled_tokens, list(making.arrival.inputs)
    folder, index = making.workspace.dataset(distill.NAME), making.workspace.dedup(distill.NAME)
    prompts, digest = find_prompts(making, documents)
    gpus, actors = distill_places(recipe)
    done = making.runner.run(
        "distill",
        lambda: distill.run(
            making.folder / "trunk" / "model",
            start.digest,
            making.workspace.tokenizer,
            prompts,
            folder,
            recipe.distill,
            [making.workspace.dedup(name) for name in earlier],
            index,
            tokens=wanted,
            seq_len=recipe.train.seq_len,
            validation_share=recipe.ingest.validation_share,
            seed=recipe.seed,
            num_actors=actors,
            gpus=gpus,
            progress=making.runner.progress,
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
    distill.discard_drafts(folder)
    return done


def find_prompts(making: Making, documents: dict[str, ingest.IngestOutcome]) -> tuple[Folder | None, str | None]:
    """Document shards to take prompts from, and their digest: of a dataset that came along, or of files."""
    given, settings, progress = making.recipe.distill.prompts, making.recipe.ingest, making.runner.progress
    if given is None:
        return None, None
    if given in documents:
        return making.workspace.dataset(given) / "documents", documents[given].digest
    inputs, folder = ingest.find_inputs([given], settings, progress), making.folder / "prompts"
    taken = making.runner.run(
        "ingest prompts",
        lambda: ingest.run(inputs, folder, settings, [], folder / "dedup", progress),
        ingest.IngestOutcome,
        folder,
        settings.identity(),
        {"data": ingest.digest_inputs(inputs, progress)},
        version=ingest.VERSION,
    )
    return folder / "documents", taken.digest


def distill_places(recipe: Recipe) -> tuple[bool, int]:
    """Whether the model writes on GPUs, and on how many actors."""
    gpus, most = train.model_places(recipe.train)
    return gpus, min(recipe.distill.num_actors or most, most)


def as_ingested(written: distill.DistillOutcome) -> ingest.IngestOutcome:
    """The counts of a distilled dataset, as those of any other are kept."""
    counted = [field.name for field in fields(ingest.IngestOutcome) if hasattr(written, field.name)]
    return ingest.IngestOutcome(**{name: getattr(written, name) for name in counted})
