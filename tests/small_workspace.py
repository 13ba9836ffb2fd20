"""A workspace of every file that commands read, made in a second and without Ray: a base, and two updates.

Texts, tokens, mixtures, records and manifests are what the stages write; the models are two tensors each.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from records import record
from replay_world import write_dataset
from safetensors.numpy import save_file

from rewarm.pipeline.lineage.lineage import PLAN, Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.progress.log import Journal as RunJournal
from rewarm.pipeline.progress.log import Standing
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.record import Replay, part_of
from rewarm.pipeline.update.context import earlier_datasets
from rewarm.pipeline.update.inputs import create
from rewarm.pipeline.watch.journal import Draft, Journal
from rewarm.pipeline.watch.run import now
from rewarm.stages import ingest, replay, tokenize
from rewarm.stages.core.digests import fingerprint
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import MANIFEST, Folder
from rewarm.stages.data.tokens import TokenSet
from rewarm.stages.ingest.account import Account
from rewarm.stages.ingest.passes import quarantine_rows
from rewarm.stages.ingest.records import Document, Refusal

CONFIG = {
    **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 1},
    **{"num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 8, "max_position_embeddings": 8},
}
UPDATES = ("0000-docs", "0001-news", "0002-code")


def make(root: Path) -> Workspace:
    """The workspace, in ``root``."""
    workspace = Workspace(str(root))
    create(workspace, load_recipe("tiny"))
    manifest(workspace.tokenizer, "tokenizer", {"digest": "t"})
    for name in UPDATES:
        add(workspace, name)
    RunJournal(workspace.folder, UPDATES[-1]).line("begins")
    RunJournal(workspace.folder, UPDATES[-1]).stand(Standing(UPDATES[-1], "done", 1.0, 0.0))
    Journal(workspace.folder / "watch").append(Draft("paused"), now())
    return workspace


def manifest(folder: Folder, step: str, outcome: dict[str, Any], **inputs: object) -> None:
    """A stage's commit marker."""
    identity = {"step": step, "version": 1, "settings": {}, "inputs": inputs}
    made = {"step": step, "fingerprint": fingerprint(identity), "identity": identity, "outcome": outcome}
    folder.write_json(MANIFEST, {**made, "seconds": 1.0, "finished": "2026-01-01T00:00:00+00:00"})


def add(workspace: Workspace, update: str) -> None:
    """One update, with its dataset."""
    lineage, name, folder = Lineage(workspace), update.partition("-")[2], workspace.update(update)
    dataset = workspace.dataset(name)
    write_dataset(dataset, [("wiki", 40)] * 12 + [("books", 30)] * 6)
    write_dataset(dataset, [("wiki", 20)] * 3, "validation", 1)
    describe(dataset)
    counts = ingest.IngestOutcome(18, 400, 3, 60, 1, {"invalid JSON": 1}, 0, 0, "1d")
    tokens = tokenize.TokenizeOutcome(660, 18, 400, 60, 3, 60, "tokenizers", "", "t", "7d")
    manifest(dataset, "ingest", asdict(counts), earlier=[])
    manifest(dataset / "tokens", "tokenize", asdict(tokens), documents="1d")
    outcome = replay.run(
        replay.Arrival({name: TokenSet(workspace.train_tokens(name))}),
        earlier_datasets(workspace, lineage),
        lineage.replayed(),
        replay.Budget(8, 4),
        replay.Draw(3, update),
        folder / "mixture",
        replay.ReplaySettings(share=0.25 if lineage.updates else 0),
        Silent(),
    )
    manifest(folder / "mixture", "replay", asdict(outcome))
    for part in ("trunk", "release"):
        model = folder / part / "model"
        model.path.mkdir(parents=True)
        save_file({"a": np.ones(3, np.float32)}, model.path / "model.safetensors")
        model.write("config.json", json.dumps(CONFIG).encode())
        (folder / part).write_json("curve.json", {"steps": [], "validation": [], "final": {}})
        manifest(folder / part, "train" if part == "trunk" else "anneal", {"digest": part}, trunk="trunk")
    recipe = workspace.record()["recipe"]
    started = "2026-01-01T00:00:00+00:00"
    folder.write_json(PLAN, {"arrival": name, "data": {name: "0d"}, "recipe": recipe, "plan": None, "started": started})
    replayed = part_of(Replay, {**asdict(outcome), "carried": lineage.replayed().after(outcome.by_dataset).to_json()})
    lineage.record(
        record(
            update,
            started=started,
            finished=started,
            position=lineage.position + outcome.planned,
            tokens={"planned": outcome.planned, "new": outcome.new, "replayed": outcome.replayed, "annealed": 0},
            replay=replayed,
            losses={"trunk": {name: 3.0}, "release": {name: 3.0}},
            steps={"train": {"seconds": 1.0, "attempts": 1}},
            train={"steps": 9, "world_size": 1, "tokens_per_second": 9.0, "resumed_from": []},
            weights={"trunk": "trunk", "release": "release"},
            order_seed=3,
            data={name: {"ingest": asdict(counts), "tokenize": asdict(tokens)}},
        )
    )


def describe(dataset: Folder) -> None:
    """The account of a dataset whose documents say markup and control sequences for a language; and its refusals."""
    account = Account.of(["read"])
    torn = Refusal("line 9", "invalid JSON", "one \x1b[31mobject\x1b[0m [/bold] expected", b"\xff{[bold]")
    account.follow(Document("a text", "https://www.example.org/x", None, "en", None), [])
    account.follow(torn, [])
    account.describe([("[bold]en", "https://www.example.org/x", 6, 0.5), ("[/x]\x1b[2J", "a file.txt", 2000, None)])
    extra = {"files": 1, "earlier": {}, "decontaminated": {}, "lost": []}
    dataset.write("account.json", json.dumps(account.to_json() | extra).encode())
    rows = quarantine_rows([("a.jsonl", torn)])
    with dataset.writing("quarantine/00000.parquet") as path, pq.ParquetWriter(path, rows.schema) as writer:
        writer.write_batch(rows)
