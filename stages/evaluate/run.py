"""The evaluate stage: plans the missing pieces of work, runs them on actors and joins their files."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.data.tokens import TokenStream
from rewarm.stages.evaluate.lm_eval import Conditions, Evaluator, Task, TaskPiece
from rewarm.stages.evaluate.losses import Totals, read_totals, write_losses
from rewarm.stages.evaluate.own_tasks import TaskMaker, account_file, make_tasks
from rewarm.stages.evaluate.samples import SamplePiece, join_samples, missing
from rewarm.stages.evaluate.settings import EvaluateSettings
from rewarm.stages.evaluate.task_sets import averages, chosen, expand
from rewarm.stages.inference.actors import LossPiece, Pool, Reading
from rewarm.stages.inference.losses import plan_pieces

RELEASE = "release"  # name of the model that lm-eval runs on, and that samples are drawn from
Piece = LossPiece | TaskPiece | SamplePiece
READ_ME = "README.md"  # next to the generated tasks


@dataclass(frozen=True)
class EvaluationSet:
    """Validation split of a dataset: its token shards (contract 2) and document shards (contract 1)."""

    name: str
    tokens: Folder
    documents: Folder
    word_order: bool = False
    """Generate the word-order task too: for new datasets, since a model that has learned one gets nearly all right."""


@dataclass(frozen=True)
class EvaluateOutcome:
    """Outcome of an evaluation, in plain JSON types (``dataclasses.asdict``)."""

    losses: dict[str, dict[str, float]] = field(default_factory=dict)
    """By model and dataset: mean nats per target token over the full validation split."""
    bits_per_byte: dict[str, dict[str, float]] = field(default_factory=dict)
    """By model and dataset: nats of all targets / ln 2 / UTF-8 bytes of the validation documents."""
    tokens: dict[str, int] = field(default_factory=dict)
    """By dataset: number of target tokens of its loss."""
    lm_eval: dict[str, dict[str, float]] = field(default_factory=dict)
    """By task: metrics by plain name (``acc``), and ``<metric>_stderr`` if lm-eval gives one; by set of tasks: their
    ``mean``."""
    notes: list[str] = field(default_factory=list)
    """Tasks and losses that were left out, with reasons."""


def run(
    models: dict[str, Folder],
    sets: list[EvaluationSet],
    out: Folder,
    settings: EvaluateSettings,
    *,
    reading: Reading,
    pool: Pool,
    progress: Progress,
) -> EvaluateOutcome:
    """Measure every model's loss on every dataset, and run lm-eval and samples on ``models["release"]``, on ``pool``.

    ``models`` are Hugging Face folders; two names of one folder are evaluated once and reported twice. The pool's
    environment must be ``worker_environment(settings)``, or that of settings with more tasks. Each actor verifies its
    machine's copies from a bucket against ``reading.recorded``. Work that an earlier call finished in ``out`` is not
    repeated. Files in ``out``:

    - ``losses/<model>-<dataset>.parquet``: ``doc_id``, ``nats``, ``num_tokens``, ``num_bytes`` per document;
    - ``generated.json``: what the release writes after the beginnings of some documents of each dataset;
    - ``tasks/``: the generated tasks and a command to run them; ``samples/<task>.jsonl``: results per sample;
      ``scores/<task>.json``: lm-eval's metrics; ``notes/<task>.json``, if a run deviates from a task's definition.

    Raises:
        DamagedError: a copy of a model or of token shards does not match ``reading.recorded``.
        StageError: a piece of work failed, or a loss is not a number.
    """
    streams = {one.name: TokenStream(one.tokens) for one in sets}
    notes = [
        f"{name}: its validation split holds no documents, so it has no loss"
        for name, stream in streams.items()
        if not stream.num_documents
    ]
    measured = [one for one in sets if streams[one.name].num_documents]
    generated = _generate(measured, out / "tasks", models[RELEASE], settings, reading.seq_len, pool, progress)
    owners = _owners(models)
    pieces: list[Piece] = []
    for owner in sorted(
        set(owners.values()), key=lambda name: name == owners[RELEASE]
    ):  # the release stays loaded for lm-eval
        for one in measured:
            pieces += _loss_pieces(owner, models[owner], one, streams[one.name], out / "losses")
    named = expand(settings.tasks, settings.num_fewshot)
    prefixes = _prefixes(generated, streams)
    tasks = [TaskPiece(models[RELEASE], Task(name, True, prefix), out) for name, prefix in prefixes.items()]
    tasks += [TaskPiece(models[RELEASE], Task(name, shots=shots), out) for name, shots in named.items()]
    if prefixes and not (out / "tasks").exists(READ_ME):
        (out / "tasks").write(READ_ME, command_line(prefixes, reading.seq_len, reading.gpus).encode())
    sampled = {one.name: one for one in measured} if settings.samples else {}
    pieces += [SamplePiece(models[RELEASE], name, sampled[name].documents, out) for name in missing([*sampled], out)]
    finished = set((out / "scores").files(".json"))
    pieces += [piece for piece in tasks if f"{piece.task.name}.json" not in finished]
    if pieces:
        pool.work_through(Evaluator, Conditions(settings, reading), pieces, "evaluate", progress)
    if sampled:
        join_samples([*sampled], out)
    totals = _totals(owners, measured, streams, out / "losses")
    notes += [note for _, more in generated.values() for note in more]
    notes += [note for name in (out / "notes").files(".json") for note in (out / "notes").read_json(name)]
    wanted = [piece.task.name for piece in tasks if piece.task.generated] + list(settings.tasks)
    scores = chosen(wanted, {piece.task.name: (out / "scores").read_json(f"{piece.task.name}.json") for piece in tasks})
    means, remarks = averages(settings.tasks, scores)
    return _outcome(totals, measured, scores | means, notes + remarks)


def _generate(
    sets: list[EvaluationSet],
    out: Folder,
    release: Folder,
    settings: EvaluateSettings,
    seq_len: int,
    pool: Pool,
    progress: Progress,
) -> dict[str, tuple[list[str], list[str]]]:
    """Generate the offline tasks on the pool, which may have all there is; return their names and notes by dataset."""
    if not settings.task_documents or not sets:
        return {}
    special = tuple(load_definition(release).special_tokens())
    records: list[dict[str, Any]] = [
        {"dataset": one.name, "documents": str(one.documents), "word_order": one.word_order} for one in sets
    ]
    if missing := [record for record in records if not out.exists(account_file(record["dataset"]))]:
        make = partial(make_tasks, out=out, settings=settings, seq_len=seq_len, special=special)
        pool.work_through(TaskMaker, make, missing, "making tasks", progress)
    accounts = {one.name: out.read_json(account_file(one.name)) for one in sets}
    return {name: (account["tasks"], account["notes"]) for name, account in accounts.items()}


def _prefixes(
    generated: dict[str, tuple[list[str], list[str]]], streams: dict[str, TokenStream]
) -> dict[str, int | None]:
    """Return, by generated task, the end-of-text id that predicts its first token; None if the tokenizer adds BOS."""
    formats = {name: stream.format for name, stream in streams.items()}
    return {
        task: None if one.prefix else one.end_of_text
        for name, (tasks, _) in generated.items()
        if (one := formats[name])
        for task in tasks
    }


def command_line(prefixes: dict[str, int | None], seq_len: int, gpus: bool) -> str:
    """Return the lm-eval command that runs the generated tasks with the same result, as Markdown."""
    prefix = next(iter(prefixes.values()))
    options = f"pretrained=MODEL,max_length={seq_len},dtype={'bfloat16' if gpus else 'float32'},softmax_dtype=float32"
    if prefix is not None:
        options += f",prefix_token_id={prefix},add_bos_token=False"
    return (
        "Run in this folder with a release as MODEL, lm-eval reproduces the scores that rewarm recorded:\n\n"
        f"    lm_eval --model hf --model_args {options} \\\n"
        f"        --include_path . --tasks {','.join(prefixes)}\n"
    )


def _owners(models: dict[str, Folder]) -> dict[str, str]:
    """Return, for each model, the first name with the same folder, usually its own."""
    return {name: next(other for other in models if models[other] == folder) for name, folder in models.items()}


def losses_file(model: str, dataset: str) -> str:
    """Return the file name of a model's losses by document on a dataset."""
    return f"{model}-{dataset}.parquet"


def _piece_names(model: str, dataset: str, runs: list[tuple[int, int]]) -> list[str]:
    return [f"{model}-{dataset}-{number:05d}.npz" for number in range(len(runs))]


def _loss_pieces(name: str, model: Folder, one: EvaluationSet, stream: TokenStream, out: Folder) -> list[Piece]:
    """Return the pieces of one model and dataset that no earlier call has finished."""
    if out.exists(losses_file(name, one.name)):
        return []
    runs, pieces = plan_pieces(stream.document_spans()[0]), out / "pieces"
    finished = set(pieces.files(".npz"))
    names = _piece_names(name, one.name, runs)
    return [
        LossPiece(model, one.tokens, documents, pieces, file)
        for documents, file in zip(runs, names, strict=True)
        if file not in finished
    ]


def _totals(
    owners: dict[str, str], sets: list[EvaluationSet], streams: dict[str, TokenStream], out: Folder
) -> dict[str, dict[str, Totals]]:
    """Join pieces that are not joined yet, and sum every file, by model and dataset."""
    totals: dict[str, dict[str, Totals]] = {}
    for model, owner in owners.items():
        totals[model] = {}
        for one in sets:
            file, stream = losses_file(model, one.name), streams[one.name]
            if not out.exists(file):
                if model == owner:
                    names = _piece_names(owner, one.name, plan_pieces(stream.document_spans()[0]))
                    write_losses(out, file, stream, out / "pieces", names)
                else:
                    out.write(file, out.read(losses_file(owner, one.name)))
            totals[model][one.name] = found = read_totals(out, file)
            if not math.isfinite(found.nats):
                raise StageError(
                    f"evaluate: the loss of {model} on {one.name} is {found.nats}: its weights have diverged. The same "
                    "command would end in the same way; rewarm discard deletes the update, and a lower schedule.peak "
                    "may prevent it"
                )
    out.delete("pieces")
    return totals


def _outcome(
    totals: dict[str, dict[str, Totals]],
    sets: list[EvaluationSet],
    scores: dict[str, dict[str, float]],
    notes: list[str],
) -> EvaluateOutcome:
    by_set = next(iter(totals.values()), {})
    return EvaluateOutcome(
        losses={model: {name: total.loss for name, total in row.items()} for model, row in totals.items()},
        bits_per_byte={
            model: {name: total.bits_per_byte for name, total in row.items() if total.num_bytes}
            for model, row in totals.items()
        },
        tokens={one.name: by_set[one.name].num_tokens for one in sets if one.name in by_set},
        lm_eval=scores,
        notes=notes,
    )
