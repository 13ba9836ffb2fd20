"""Scores on real documents: by hash, by a classifier that learns what code looks like, by a model's perplexity."""

import argparse
import dataclasses
import inspect
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_world import World, make_world

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, document_id, shard_writer
from rewarm.stages.data.tokens import TokenFormat, TokenSet, TokenStream, write_shard
from rewarm.stages.inference.actors import Reading, load_model
from rewarm.stages.inference.losses import document_losses
from rewarm.stages.select import Judge, SelectSettings, run, score
from rewarm.stages.select.classifier import classify, fit
from rewarm.stages.select.run import perplexities, token_counts

MODULES = (inspect, textwrap, np, pa, pytest)
READING = Reading(seq_len=32, batch_size=5, gpus=False)


def docstrings() -> list[str]:
    members = [member for module in MODULES for _, member in inspect.getmembers(module)]
    return sorted({doc for member in members if (doc := inspect.getdoc(member)) and len(doc) > 80})[:300]


def code() -> list[str]:
    sources = [inspect.getsource(module) for module in (inspect, textwrap, argparse, dataclasses)]
    pieces = [piece for source in sources for piece in source.split("\n\n") if len(piece) > 200]
    return sorted(dict.fromkeys(pieces), key=document_id)[:160]


def write(root: Folder, shards: Sequence[Sequence[str]]) -> tuple[Folder, Folder]:
    """Document and token shards, row for row the same; a token is a byte."""
    documents, tokens = root / "documents", root / "tokens"
    for number, texts in enumerate(shards):
        rows = {"doc_id": list(map(document_id, texts)), "text": texts, "num_bytes": [len(t.encode()) for t in texts]}
        columns = [
            pa.array(rows[f.name], f.type) if f.name in rows else pa.nulls(len(texts), f.type) for f in DOCUMENT_SCHEMA
        ]
        with documents.writing(f"{number:05d}.parquet") as path, shard_writer(path) as writer:
            writer.write_table(pa.table(columns, schema=DOCUMENT_SCHEMA))
        lists = [np.array([*text.encode(), 256], np.uint16) for text in texts]
        schema = TokenFormat("bytes", 256, "uint16").schema()
        arrays = [
            pa.array(rows["doc_id"]),
            pa.array(lists, schema.field("tokens").type),
            pa.array(rows["num_bytes"], pa.int64()),
        ]
        with tokens.writing(f"{number:05d}.arrow") as path:
            batch = pa.record_batch(arrays, schema=schema)
            write_shard(path, TokenFormat("bytes", 256, "uint16"), [batch])
    return documents, tokens


@pytest.fixture(scope="module")
def arrival(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, Folder]:
    """Docstrings with some code among them, in three shards, of which one is empty."""
    mixed = [text for pair in zip(docstrings(), code()[:60], strict=False) for text in pair] + docstrings()[60:]
    return write(Folder(tmp_path_factory.mktemp("arrival")), (mixed[:100], [], mixed[100:]))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Other code than the arrival holds."""
    return write(Folder(tmp_path_factory.mktemp("reference")), (code()[60:90], code()[90:]))[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("select"))


def texts_of(documents: Folder) -> dict[str, str]:
    shards = [pq.read_table(documents.local(name)) for name in documents.files(".parquet")]
    return {row["doc_id"]: row["text"] for shard in shards for row in shard.to_pylist()}


def test_a_random_choice_is_even_repeatable_and_the_seeds(arrival: tuple[Folder, Folder], tmp_path: Path) -> None:
    documents, tokens = arrival
    settings, chosen = SelectSettings(share=0.3), []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        scores, out = Folder(tmp_path / name), Folder(tmp_path / f"{name}-out")
        outcome = score(documents, tokens, scores, settings, seed, Silent())
        assert 0 <= outcome.lowest < 0.1
        assert 0.9 < outcome.highest < 1
        made = run(scores, out, settings, settings.share, Silent())
        stream = TokenSet(tokens, out).open()
        assert (stream.num_documents, stream.num_tokens) == (made.chosen_documents, made.chosen_tokens)
        longest = max(token_counts(tokens).column("num_tokens").to_pylist())
        assert 0 <= made.chosen_tokens - 0.3 * outcome.tokens <= longest
        chosen.append(stream.document_ids())
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.usefixtures("ray_cluster")
def test_a_classifier_finds_what_is_like_the_reference(
    arrival: tuple[Folder, Folder], reference: Folder, tmp_path: Path
) -> None:
    documents, tokens = arrival
    settings = SelectSettings(by="classifier", reference="code", share=0.03)
    scores, out = Folder(tmp_path / "scores"), Folder(tmp_path / "out")
    made = score(documents, tokens, scores, settings, 0, Silent(), reference=reference)
    assert made.separation is not None
    assert made.separation > 0.8
    run(scores, out, settings, settings.share, Silent())
    wanted, found = set(code()), [texts_of(documents)[name] for name in TokenSet(tokens, out).open().document_ids()]
    assert sum(text in wanted for text in found) > 0.8 * len(found)
    assert len(found) >= 10
    again = score(documents, tokens, Folder(tmp_path / "again"), settings, 0, Silent(), reference=reference)
    assert again == made


@pytest.mark.usefixtures("ray_cluster")
def test_shards_that_were_scored_are_not_scored_again(
    arrival: tuple[Folder, Folder], reference: Folder, tmp_path: Path
) -> None:
    documents, tokens = arrival
    settings, out = SelectSettings(by="classifier", reference="code"), Folder(tmp_path)
    ids = token_counts(tokens).column("doc_id")

    def classified() -> np.ndarray:
        return classify(documents, ids, reference, out, settings, 0, Silent())[0]

    before = classified()
    (tmp_path / "shards" / "00002.parquet").unlink()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert (classified() == before).all()
    assert {path: path.stat().st_mtime_ns for path in times} == times
    with pytest.raises(StageError, match="do not match the token shards"):
        classify(documents, ids.slice(1), reference, out, settings, 0, Silent())


@pytest.mark.usefixtures("ray_cluster")
def test_a_reference_too_small_is_refused(arrival: tuple[Folder, Folder], tmp_path: Path) -> None:
    few = write(Folder(tmp_path / "few"), (code()[:3],))[0]
    settings = SelectSettings(by="classifier", reference="code")
    with pytest.raises(UsageError, match="3 documents; a classifier needs 10"):
        score(*arrival, Folder(tmp_path / "out"), settings, 0, Silent(), reference=few)


def test_texts_of_one_kind_cannot_be_told_apart() -> None:
    settings = SelectSettings(by="classifier", reference="docs", features="characters", characters=200)
    same = fit(iter(docstrings()[::2]), iter(docstrings()[1::2]), settings, 0)
    other = fit(iter(docstrings()), iter(code()), settings, 0)
    assert abs(same.separation - 0.5) < 0.3
    assert other.separation > 0.8


@pytest.mark.usefixtures("ray_cluster")
def test_perplexity_is_each_documents_mean_loss(world: World, tmp_path: Path) -> None:
    settings, out = SelectSettings(by="perplexity", share=0.5), Folder(tmp_path / "scores")
    judge = Judge(world.start, READING, num_actors=2)
    outcome = score(Folder(tmp_path), world.train, out, settings, 0, Silent(), judge=judge)
    stream, model = TokenStream(world.train), load_model(world.start, gpu=False)
    nats, counts = document_losses(model, stream, (0, stream.num_documents), seq_len=32, batch_size=3)
    table = pq.read_table(tmp_path / "scores" / "scores.parquet").to_pydict()
    assert table["doc_id"] == stream.document_ids()
    assert table["score"] == pytest.approx(nats / counts, rel=1e-5)
    assert sum(table["num_tokens"]) == outcome.tokens == stream.num_tokens
    run(out, Folder(tmp_path / "out"), settings, 0.5, Silent())
    ranking = pq.read_table(tmp_path / "out" / "ranking.parquet").to_pandas()
    assert ranking.score[ranking.chosen].max() <= ranking.score[~ranking.chosen].min()

    # Pieces that an earlier call left are not read again, and any cut into pieces gives the same.
    def cut() -> np.ndarray:
        return perplexities(world.train, world.start, Folder(tmp_path / "cut"), READING, 1, Silent(), 4096)

    assert cut() == pytest.approx(np.array(table["score"]), rel=1e-5)
    pieces = sorted((tmp_path / "cut" / "pieces").iterdir())
    assert len(pieces) > 2
    pieces[1].unlink()
    times = {path: path.stat().st_mtime_ns for path in pieces if path.exists()}
    assert cut() == pytest.approx(np.array(table["score"]), rel=1e-5)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert pieces[1].exists()
