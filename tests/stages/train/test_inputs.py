"""Which token shards a run reads, against a reading of every sequence; damage to them is found before training."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_world import World

from rewarm.stages.core.digests import Table, digest_files
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.data.tokens import TokenFormat, TokenSet, TokenStream, write_selection, write_shard
from rewarm.stages.train import Job
from rewarm.stages.train.inputs import damaged, files_to_check, part_of, shards_read

LENGTH = 8


def write_shards(folder: Folder, shards: list[list[int]]) -> Table:
    """Shards of documents of these lengths, and their table as tokenize leaves it."""
    for number, lengths in enumerate(shards):
        columns = {
            "doc_id": pa.array([f"{number:x}{row:031x}" for row in range(len(lengths))]),
            "tokens": pa.array([[1] * (length - 1) + [0] for length in lengths], pa.large_list(pa.uint16())),
            "num_bytes": pa.array(lengths, pa.int64()),
        }
        with folder.writing(f"{number:05d}.arrow") as path:
            write_shard(path, TokenFormat("t", 0, "uint16"), [pa.record_batch(columns)])
    table = digest_files(folder, folder.files(".arrow"))
    return {
        name: dataclasses.replace(table[name], counts={"tokens": sum(lengths), "documents": len(lengths)})
        for name, lengths in zip(sorted(table), shards, strict=True)
    }


def read_by_hand(mixture: Mixture, first: int, steps: int, number: int, table: Table) -> list[str]:
    """Every token of every sequence, one by one."""
    owner = np.repeat(np.arange(len(table)), [table[name].counts["tokens"] for name in sorted(table)])
    read = set()
    for step in range(first, first + steps):
        numbers, starts = mixture.batch(step)
        for start in starts[numbers == number]:
            read.update(owner[start : start + LENGTH + 1].tolist())
    return [sorted(table)[place] for place in sorted(read)]


SHARDS = st.lists(st.lists(st.integers(2, 40), min_size=1, max_size=6), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(SHARDS, SHARDS, st.integers(0, 5), st.integers(1, 5), st.integers(0, 3))
def test_exactly_the_shards_that_are_read(
    tmp_path_factory: pytest.TempPathFactory, new: list, old: list, first: int, steps: int, share: int
) -> None:
    root = tmp_path_factory.mktemp("shards")
    tables = {name: write_shards(Folder(root / name), part) for name, part in (("new", new), ("old", old))}
    tokens = {name: TokenSet(Folder(root / name)) for name in tables}
    streams = {name: one.open() for name, one in tokens.items()}
    sizes = {name: stream.num_sequences(LENGTH) for name, stream in streams.items()}
    if not all(sizes.values()):
        return
    newer, older = (
        Source(name, sizes[name], seed, num_tokens=streams[name].num_tokens) for name, seed in (("new", 1), ("old", 2))
    )
    mixture = Mixture((newer,), (older,), f"{share}/4", LENGTH, 4, 10)
    found = shards_read(mixture, first, steps, tables, tokens)
    assert found == {
        name: read_by_hand(mixture, first, steps, number, tables[name]) for number, name in enumerate(tables)
    }


def test_of_a_selection_the_shards_that_hold_its_documents(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("selected")
    table = write_shards(Folder(root / "new"), [[30, 30], [30], [30, 30, 30]])
    write_selection(Folder(root / "selection"), np.array([1, 4]))
    tokens = TokenSet(Folder(root / "new"), Folder(root / "selection"))
    count = tokens.open().num_sequences(LENGTH)
    mixture = Mixture((Source("new", count, 1, view="selected"),), (), "0", LENGTH, 4, 3)
    found = shards_read(mixture, 0, 3, {"new@selected": table}, {"new@selected": tokens})
    assert found == {"new@selected": ["00000.arrow", "00002.arrow"]}


def recorded(world: World, name: str) -> Job:
    """A job whose start and shards have tables."""
    job = world.job(name)
    names = [path.name for path in job.start.path.iterdir()]
    table = digest_files(world.train, ["00000.arrow"])
    stream = TokenStream(world.train)
    counts = {"tokens": stream.num_tokens, "documents": stream.num_documents}
    shards = {"text": {"00000.arrow": dataclasses.replace(table["00000.arrow"], counts=counts)}}
    return dataclasses.replace(job, start_files=digest_files(job.start, names), shards=shards)


def test_all_ranks_together_compare_everything_once(world: World) -> None:
    from rewarm.stages.train.engine import Place

    job = recorded(world, "compared")
    wanted, notes = files_to_check(job, job.start)
    assert not notes
    assert {name for _, name, _ in wanted} >= {"config.json", "model.safetensors", "tokenizer.json", "00000.arrow"}
    places = [Place(rank, 4, rank % 2, torch.device("cpu")) for rank in range(4)]
    shared = [part_of(wanted, True, place) for place in places]
    assert sorted(str(one) for part in shared for one in part) == sorted(map(str, wanted))
    assert [len(part_of(wanted, False, place)) for place in places] == [len(wanted), 0, len(wanted), 0]
    assert list(damaged(wanted)) == []


def test_what_has_no_digests_is_said(world: World) -> None:
    job = world.job("old")
    wanted, notes = files_to_check(job, job.start)
    assert wanted == []
    assert "only its weights were verified" in notes[0]
    assert "text: recorded without digests" in notes[1]
