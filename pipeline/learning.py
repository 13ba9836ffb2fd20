"""From data to a measured release: each stage with its inputs, its settings, its folder and what decides its result."""

from collections.abc import Iterable
from typing import Any

from pipeline.handover import TRUNK_RUN, start_optimizer
from pipeline.making import Making, Start, Tokenizer, evaluation_places
from pipeline.recorded import recorded_table, refuse_changed_model
from pipeline.selecting import run_choose
from pipeline.steps import Keeps
from stages import anneal, evaluate, replay, tokenize, train
from stages.digests import Table, below
from stages.losses import VERSION as READING
from stages.mixture import Mixture
from stages.shapes import outcome_of
from stages.storage import Folder
from stages.tokens import TokenSet


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
