"""A lineage whose models were drawn instead of trained: all else is what the stages themselves leave.

Ingest, tokenizer, tokens, mixtures and records are real, so is every manifest; trunks and releases are random weights
of a tiny model, and the losses by document are made up. UpdateContext one takes seconds instead of minutes.
"""

import importlib
import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.optimizer import drop_optimizers
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import Recipe, load_recipe
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.terminal import Terminal
from rewarm.pipeline.update.card import write_card
from rewarm.pipeline.update.context import Data, Start, UpdateContext
from rewarm.pipeline.update.data_steps import run_ingest, run_replay, run_tokenize, run_tokenizer
from rewarm.pipeline.update.inputs import create, identify_arrival
from rewarm.pipeline.update.model_steps import run_start
from rewarm.pipeline.update.record import update_record
from rewarm.pipeline.update.runner import Keeps, Step
from rewarm.pipeline.update.update import open_update
from rewarm.stages import anneal, evaluate, train
from rewarm.stages.core.digests import digest_files, files_in
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenStream
from rewarm.stages.evaluate.losses import LOSS_SCHEMA, read_totals
from rewarm.stages.evaluate.run import losses_file
from rewarm.stages.train.checkpoints import Saved, write_progress
from rewarm.stages.train.job import Log

SETTINGS = [
    "tokenizer.vocab_size=400",
    "model.config={hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64, "
    "max_position_embeddings: 64}",
    *("train.seq_len=32", "train.global_batch=4", "train.save_optimizer=true", "replay.share=0.25"),
    *("budget.base_tokens=2560", "budget.update_tokens=1280", "ingest.validation_share=0.2"),
    *("evaluate.task_documents=0", "card.license=apache-2.0"),
]
MODULES = {"docs": "numpy", "news": "pyarrow", "code": "json inspect pathlib", "more": "numpy.linalg numpy.random"}


def write_texts(folder: Path) -> dict[str, Path]:
    """Docstrings of some modules, as JSON lines: a dataset each."""
    files = {}
    for name, modules in MODULES.items():
        members = [
            member for module in modules.split() for _, member in inspect.getmembers(importlib.import_module(module))
        ]
        texts = list(dict.fromkeys(doc for member in members if (doc := inspect.getdoc(member)) and len(doc) > 80))[:60]
        files[name] = folder / f"{name}.jsonl"
        lines = [json.dumps({"text": f"{text} ({name})", "language": "en", "source": name}) for text in texts]
        files[name].write_text("\n".join([*lines, "not json"]))
    return files


def recipe() -> Recipe:
    """The lineage's."""
    return load_recipe("tiny", SETTINGS)


def make_lineage(root: Path, names: list[str]) -> Workspace:
    """A workspace with an update for each of the names, the first of them the base. Ray must be initialised."""
    workspace = Workspace(str(root / "lm"))
    files = write_texts(root)
    create(workspace, recipe())
    for name in names:
        take_in(workspace, name, files[name])
    return workspace


def begun(workspace: Workspace, name: str, file: Path) -> UpdateContext:
    """An update in the context, with its plan written and nothing else done."""
    lineage, settings, terminal = Lineage(workspace), recipe(), Terminal(quiet=True)
    arrival = identify_arrival({name: [str(file)]}, lineage, settings.ingest, terminal)
    return open_update(workspace, arrival, settings, terminal)


def take_in(workspace: Workspace, name: str, file: Path, **changed: Any) -> UpdateRecord:
    """One update, to its record; ``changed`` are fields of the record."""
    context = begun(workspace, name, file)
    documents = {name: run_ingest(context, name)}
    tokenizer = run_tokenizer(context)
    tokens = {name: run_tokenize(context, name, documents[name], tokenizer)}
    ordered = run_replay(context, tokens, {})
    mixture = ordered.outcome
    start = run_start(context, tokenizer)
    inputs = {"start": start.digest, "mixture": ordered.fingerprint, "seed": context.recipe.seed}
    training = Step(
        "train",
        lambda: drawn_trunk(context, mixture.planned),
        train.TrainOutcome,
        context.folder / "trunk",
        {},
        inputs,
        keeps=Keeps(without=("optimizer",)),
    )
    trained = context.runner.run(training)
    trunk = trained.outcome
    annealing = Step(
        "anneal",
        lambda: drawn_release(context),
        anneal.AnnealOutcome,
        context.folder / "release",
        {},
        {"trunk": trunk.digest, "training": trained.fingerprint},
    )
    release = context.runner.run(annealing).outcome
    evaluation = Step(
        "evaluate",
        lambda: made_up(context),
        evaluate.EvaluateOutcome,
        context.folder / "evaluation",
        {},
        {"trunk": trunk.digest, "release": release.digest},
    )
    scores = context.runner.run(evaluation).outcome
    done = update_record(context, Data(documents, tokenizer, tokens), mixture, trunk, release, scores)
    done = replace(done, **changed)
    done = replace(done, card=write_card(context, done))
    context.lineage.record(done)
    drop_optimizers(context.lineage)
    return done


def draw(context: UpdateContext, part: str, seed: int) -> Start:
    """Random weights in the place of a trunk or a release."""
    settings, length = context.recipe.model, context.recipe.train.seq_len
    return Start(**train.initial_model(settings, context.workspace.tokenizer, length, seed, context.folder / part))


def drawn_trunk(context: UpdateContext, tokens: int) -> train.TrainOutcome:
    """A trunk, its curve, and the optimizer state that it hands over."""
    made = draw(context, "trunk", 2 * len(context.lineage.updates) + 1)
    looks = [{"step": step, "tokens": 0, "losses": {context.arrival.name: 5.0 - step}} for step in (0, 1)]
    (context.folder / "trunk").write_json(train.CURVE, {"steps": [], "validation": looks, "final": {}})
    kept = context.folder / "trunk" / "optimizer"
    kept.write("state/optim_states.pt", bytes(range(256)))
    write_progress(kept, Saved(1, 1, made.digest, {}, Log(), digest_files(kept, files_in(kept))))
    return train.TrainOutcome(tokens // 128, tokens, 1e-3, made.digest, "", 1, 100.0, [])


def drawn_release(context: UpdateContext) -> anneal.AnnealOutcome:
    """A release, and the curve of its branch."""
    made = draw(context, "release", 2 * len(context.lineage.updates) + 2)
    (context.folder / "release").write_json(train.CURVE, {"steps": [], "validation": [], "final": {}})
    return anneal.AnnealOutcome(True, "drawn", 1, 128, made.digest, 1e-4, 100.0, [])


def made_up(context: UpdateContext) -> evaluate.EvaluateOutcome:
    """Losses by document, of every dataset so far."""
    losses: dict[str, dict[str, float]] = {"trunk": {}, "release": {}}
    bits: dict[str, dict[str, float]] = {"trunk": {}, "release": {}}
    folder = context.folder / "evaluation" / "losses"
    for model in ("trunk", "release"):
        for name in [*context.lineage.datasets(), context.arrival.name]:
            stream = TokenStream(context.validation_tokens(name))
            ends, sizes = stream.document_spans()
            counts = np.diff(ends, prepend=0)
            columns = [stream.document_ids(), 5.0 * counts + len(model), counts, sizes]
            with folder.writing(losses_file(model, name)) as scratch:
                pq.write_table(pa.table(columns, schema=LOSS_SCHEMA), scratch)
            totals = read_totals(folder, losses_file(model, name))
            losses[model][name], bits[model][name] = totals.loss, totals.bits_per_byte
    tasks = {"rewarm_docs_continuation": {"acc": 0.25, "acc_stderr": 0.1}}
    (context.folder / "evaluation" / "samples").write(
        "rewarm_docs_continuation.jsonl", b'{"doc_id": 0, "filter": "none", "acc": 1.0}'
    )
    (context.folder / "evaluation" / "scores").write_json("rewarm_docs_continuation.json", tasks)
    return evaluate.EvaluateOutcome(losses, bits, {}, tasks, [])


def files_of(folder: Folder) -> dict[str, bytes]:
    """Every file below a folder but the lease's, by its path, with its bytes."""
    files = {path.relative_to(folder.path): path for path in folder.path.rglob("*") if path.is_file()}
    return {
        str(name): path.read_bytes()
        for name, path in files.items()
        if not name.parts[0].lstrip(".").startswith("lease")
    }
