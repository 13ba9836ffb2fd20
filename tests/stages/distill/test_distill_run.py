"""The stage on real Ray actors: the same dataset whoever writes it, whatever is killed; nothing unaccounted for."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewarm.stages import distill
from rewarm.stages.core.errors import StageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, QUARANTINE_SCHEMA, document_id, read_shards, shard_writer
from rewarm.stages.data.split import read_index, write_index
from rewarm.stages.distill import DistillOutcome, DistillSettings
from rewarm.stages.distill.filters import Drafts
from rewarm.stages.distill.run import prepare, refuse_rubbish
from rewarm.stages.distill.writer import read_drafts

pytestmark = pytest.mark.usefixtures("ray_cluster")

TOKENS = 1500
SETTINGS: dict[str, Any] = {"min_tokens": 8, "shard_documents": 16, "batch_size": 6}


def write(model: Folder, out: Folder, actors: int = 1, prompts: Folder | None = None, **more: Any) -> DistillOutcome:
    progress = more.pop("progress", Silent())
    earlier, tokens = more.pop("earlier", []), more.pop("tokens", TOKENS)
    return distill.run(
        distill.Author(model, "weights", model),
        prompts,
        distill.Duplicates(earlier, out / "index"),
        out,
        DistillSettings.model_validate({**SETTINGS, **more}),
        distill.Wanted(tokens, 48, 0.1, 5),
        distill.Actors(actors, gpus=False),
        progress,
    )


def contents(out: Folder) -> dict[str, list[bytes]]:
    parts = ("documents", "validation", "quarantine")
    return {part: [(out / part).read(name) for name in (out / part).files(".parquet")] for part in parts}


class Interrupting(Silent):
    """Ends the driver when so many shards are there."""

    def __init__(self, shards: int) -> None:
        self.left = shards

    def advance(self, by: float = 1, **figures: float) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def alone(writer: Folder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, DistillOutcome]:
    out = Folder(tmp_path_factory.mktemp("alone"))
    return out, write(writer, out)


def test_documents_are_a_dataset_like_any_other(alone: tuple[Folder, DistillOutcome]) -> None:
    out, outcome = alone
    rows = {part: [row for batch in read_shards(out / part) for row in batch.to_pylist()] for part in contents(out)}
    documents, validation = rows["documents"], rows["validation"]
    assert (len(documents), len(validation)) == (outcome.documents, outcome.validation_documents)
    assert len(validation) >= 1
    assert sum(row["num_bytes"] for row in documents) == outcome.num_bytes
    assert sum(row["num_bytes"] for row in validation) == outcome.validation_bytes
    for row in (*documents, *validation):
        assert row["doc_id"] == document_id(row["text"])
        assert row["num_bytes"] == len(row["text"].encode())
        assert (row["source"], row["url"]) == ("distilled", None)
    ids = {row["doc_id"] for row in (*documents, *validation)}
    assert len(ids) == len(documents) + len(validation) == len(read_index(out / "index"))
    assert pq.read_schema((out / "documents").local("00000.parquet")).equals(DOCUMENT_SCHEMA)
    assert pq.read_schema((out / "quarantine").local("00000.parquet")).equals(QUARANTINE_SCHEMA)


def test_every_draft_is_accounted_for(alone: tuple[Folder, DistillOutcome]) -> None:
    out, outcome = alone
    kept = outcome.documents + outcome.validation_documents
    dropped = outcome.quarantined + outcome.duplicates + outcome.duplicates_earlier + outcome.surplus
    assert kept + dropped == outcome.shards * SETTINGS["shard_documents"]
    assert TOKENS <= outcome.kept_tokens < TOKENS + 48
    assert outcome.kept_tokens < outcome.written_tokens
    assert 1 < outcome.perplexity <= outcome.perplexity_limit
    assert 0 <= outcome.unfinished <= kept
    refused = [row for batch in read_shards(out / "quarantine") for row in batch.to_pylist()]
    assert len(refused) == outcome.quarantined == sum(outcome.reasons.values())
    assert {row["reason"] for row in refused} == set(outcome.reasons)
    assert outcome.reasons["perplexity too high"] >= 1
    assert all(row["location"].startswith("shard ") and row["detail"] for row in refused)


def test_two_actors_write_the_same_and_so_does_an_interrupted_run(
    writer: Folder, alone: tuple[Folder, DistillOutcome], tmp_path: Path
) -> None:
    out = Folder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(writer, out, actors=2, progress=Interrupting(2))
    staging = out / ".staging"
    staging.delete(f"{alone[1].shards - 1:05d}.parquet")  # the last one is still to come, however quick the actors were
    finished = {name: staging.local(name).stat().st_mtime_ns for name in staging.files(".parquet")}
    assert {"00000.parquet", "00001.parquet"} <= set(finished)
    outcome = write(writer, out, actors=2)
    assert {name: staging.local(name).stat().st_mtime_ns for name in finished} == finished, "nothing is written twice"
    assert outcome == alone[1]
    assert contents(out) == contents(alone[0])
    distill.discard_drafts(out)
    assert not staging.exists()


def test_drafts_of_another_plan_are_not_mixed_in(tmp_path: Path) -> None:
    out, settings = Folder(tmp_path), DistillSettings()
    staging = prepare(out, settings, "weights", None, 48, 5)
    staging.write("00000.parquet", b"a shard")
    assert prepare(out, settings.model_copy(update={"num_actors": 3}), "weights", None, 48, 5).files(".parquet")
    others = [(settings.model_copy(update={"temperature": 0.5}), "weights", 48, 5), (settings, "others", 48, 5)]
    for changed, weights, length, seed in [*others, (settings, "weights", 47, 5), (settings, "weights", 48, 6)]:
        (out / "documents").write("00000.parquet", b"")
        assert not prepare(out, changed, weights, None, length, seed).files(".parquet")
        assert not (out / "documents").exists()
        prepare(out, settings, "weights", None, 48, 5).write("00000.parquet", b"a shard")


def test_what_an_earlier_dataset_holds_is_dropped(
    writer: Folder, alone: tuple[Folder, DistillOutcome], tmp_path: Path
) -> None:
    out, index = Folder(tmp_path / "out"), Folder(tmp_path / "index")
    shutil.copytree((alone[0] / ".staging").path, (out / ".staging").path)
    known = read_index(alone[0] / "index")[:2]
    write_index(index, known)
    outcome = write(writer, out, earlier=[index])
    assert outcome.duplicates_earlier == 2
    assert not set(read_index(out / "index")) & set(known)


def test_a_model_that_writes_rubbish_is_given_up(alone: tuple[Folder, DistillOutcome]) -> None:
    settings, staging = DistillSettings.model_validate(SETTINGS), alone[0] / ".staging"
    drafts = Drafts.none()
    for number in range(alone[1].shards):
        drafts += read_drafts(staging, number)
    refuse_rubbish(drafts, alone[1].shards, staging, settings, TOKENS)
    few = settings.model_copy(update={"max_tries": 1.1})
    with pytest.raises(StageError, match=r"100 wanted tokens can be kept \(\d+ × .*distill\.max_tries"):
        refuse_rubbish(drafts, alone[1].shards, staging, few, 100)


def test_prompts_begin_the_documents(writer: Folder, tmp_path: Path) -> None:
    texts = [f"Return the {word} of the array, or raise." for word in ("sum", "mean", "shape", "size", "type")]
    prompts = Folder(tmp_path / "prompts")
    rows = [
        {**dict.fromkeys(DOCUMENT_SCHEMA.names), "doc_id": document_id(text), "text": text, "num_bytes": len(text)}
        for text in texts
    ]
    with prompts.writing("00000.parquet") as scratch, shard_writer(scratch) as made:
        made.write_table(pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA))
    out = Folder(tmp_path / "out")
    write(writer, out, prompts=prompts, prompt_tokens=4, tokens=200)
    beginnings = {row["text"][:6] for batch in read_shards(out / "documents") for row in batch.to_pylist()}
    assert beginnings == {"Return"}


def test_the_outcome_is_plain(alone: tuple[Folder, DistillOutcome]) -> None:
    assert all(isinstance(value, int | float | str | dict) for value in dataclasses.asdict(alone[1]).values())
