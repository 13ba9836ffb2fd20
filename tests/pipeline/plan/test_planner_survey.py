"""Scaling a sample up to its arrival, and what the arrival is compared with: on real shards, without a model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rewarm.pipeline.plan.amount import extrapolate
from rewarm.pipeline.plan.sample import Sample
from rewarm.pipeline.plan.survey import known_documents, references, spread_documents, without, write_sample
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id, read_shards
from rewarm.stages.data.split import SplitSize, write_index
from rewarm.stages.data.tokens import TokenFormat, TokenStream, write_shard

TEXTS = [f"text {number} " + "a" * (number % 17) for number in range(200)]


def sample_of(texts: list[str], pieces: list[float], places: list[int] | None = None, complete: bool = True) -> Sample:
    ids = [document_id(text) for text in texts]
    return Sample(
        dict(zip(ids, texts, strict=True)),
        np.array([bytes.fromhex(doc_id) for doc_id in ids], "S16"),
        np.array([len(text.encode()) for text in texts], np.int64),
        np.array(places or [0] * len(texts), np.int64),
        np.array(pieces),
        0,
        complete,
    )


def stream_of(folder: Folder, texts: list[str]) -> TokenStream:
    """One token a character, and end-of-text."""
    tokens = [[*(ord(character) for character in text), 0] for text in texts]
    columns = {
        "doc_id": pa.array([document_id(text) for text in texts]),
        "tokens": pa.array(tokens, pa.large_list(pa.uint16())),
        "num_bytes": pa.array([len(text.encode()) for text in texts], pa.int64()),
    }
    with folder.writing("00000.arrow") as path:
        write_shard(path, TokenFormat("characters", 0, "uint16"), [pa.record_batch(columns)])
    return TokenStream(folder)


def test_a_whole_arrival_is_counted_to_the_token(tmp_path: Path) -> None:
    stream = stream_of(Folder(tmp_path), TEXTS)
    size = sum(map(len, TEXTS))
    sample = sample_of(TEXTS, [2.0 * size])
    found = extrapolate(sample, np.zeros(200, bool), stream, 0.4, SplitSize(0.25), 0.0, 2 * size)
    assert (found.complete, found.documents, found.text_bytes) == (True, 200, size)
    assert found.tokens == round(0.75 * (size + 200))
    assert found.validation_tokens == round(0.25 * (size + 200))
    assert found.tokens_margin is not None
    assert found.tokens_margin < 0.01 * found.tokens
    assert (found.token_bytes, found.duplicates) == (2, 0)


def test_what_is_known_already_is_not_new(tmp_path: Path) -> None:
    index = Folder(tmp_path / "index")
    sample = sample_of(TEXTS, [1000.0])
    write_index(index, np.sort(sample.hashes[:50]))
    known = known_documents(sample, [index])
    assert known.tolist() == [True] * 50 + [False] * 150
    found = extrapolate(sample, known, stream_of(Folder(tmp_path / "tokens"), TEXTS), 0.4, SplitSize(0.0), 0.0, 1000)
    assert list(without(sample, known).texts.values()) == TEXTS[50:]
    with pytest.raises(UsageError, match="has no new text"):
        without(sample, np.ones(200, bool))
    assert found.documents == 150
    assert found.text_bytes == sum(map(len, TEXTS[50:]))


@pytest.mark.parametrize(("pieces", "margin"), [(1, False), (4, True)])
def test_pieces_stand_for_the_whole(tmp_path: Path, pieces: int, margin: bool) -> None:
    stream = stream_of(Folder(tmp_path), TEXTS)
    places = [number % pieces for number in range(200)]
    size = sum(map(len, TEXTS))
    sample = sample_of(TEXTS, [1.5 * size / pieces] * pieces, places, complete=False)
    found = extrapolate(sample, np.zeros(200, bool), stream, 0.4, SplitSize(0.0), 0.0, 15 * size)
    assert found.text_bytes == pytest.approx(10 * size, rel=1e-3)
    assert found.documents == 2000
    assert (found.tokens_margin is not None) == margin


def test_the_sample_is_stored_with_the_measured_part_first(tmp_path: Path) -> None:
    sample = sample_of(TEXTS, [1.0])
    stored = write_sample(sample, 300, Folder(tmp_path))
    assert Folder(tmp_path).files() == ["00000.parquet", "00001.parquet"]
    rows = [row for batch in read_shards(Folder(tmp_path)) for row in batch.to_pylist()]
    assert [row["text"] for row in rows] == TEXTS
    assert 0 < stored < 3


def test_documents_are_spread_over_a_stream(tmp_path: Path) -> None:
    stream = stream_of(Folder(tmp_path), TEXTS)
    everything = list(spread_documents(stream, stream.num_tokens))
    assert ["".join(map(chr, tokens[:-1])) for tokens in everything] == TEXTS
    some = list(spread_documents(stream, stream.num_tokens // 10))
    assert 18 <= len(some) <= 22
    assert "".join(map(chr, some[-1][:-1])) == TEXTS[-1]


def lineage(losses: dict[str, float]) -> Any:
    """What ``references`` reads of a lineage."""
    measured = {"trunk": losses}
    record = SimpleNamespace(losses=measured, bits_per_byte=measured)
    return SimpleNamespace(head=SimpleNamespace(id="0000-base"), read=lambda _: record)


def test_references_are_each_dataset_and_all_together() -> None:
    counts = {"a": np.array([900, 100, 0]), "b": np.array([0, 100, 900])}
    found = references(lineage({"a": 1.0, "b": 3.0}), np.array([500, 100, 400]), counts, {"a": 3000, "b": 1000})
    assert [one.name for one in found] == ["a", "b", "all earlier data"]
    assert min(found, key=lambda one: one.divergence).name == "all earlier data"
    assert [one.loss for one in found] == [1.0, 3.0, 1.5]
    (alone,) = references(lineage({}), np.array([900, 100, 0]), {"a": counts["a"]}, {"a": 3000})
    assert (alone.divergence, alone.loss) == (0.0, None)
    assert references(lineage({}), np.array([1]), {}, {}) == []
