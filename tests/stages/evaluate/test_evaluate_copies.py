"""A machine's copies of a bucket's models and token shards: compared with the record once, before they are used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pytest
from ingest_stores import amazon, boto

from rewarm.stages.core import copies
from rewarm.stages.core.copies import Recorded, first_here
from rewarm.stages.core.digests import Table, digest_files, files_in
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenStream
from rewarm.stages.evaluate import EvaluateSettings
from rewarm.stages.evaluate.lm_eval import Conditions, Evaluator, Task, TaskPiece
from rewarm.stages.inference.actors import LossPiece, LossWorker, Pool, Reading, load_model

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
WEIGHTS = "model.safetensors"


class Store:
    """The bucket, and what lies in this machine's cache."""

    def __init__(self, endpoint: str, cache: Path) -> None:
        self.client, self.cache = boto("s3", endpoint), cache
        self.address = f"s3://lake/{{}}?endpoint_override={endpoint}&scheme=http&region=us-east-1"
        self.client.create_bucket(Bucket="lake")

    def put(self, local: Folder, name: str) -> Folder:
        """A folder of this disk, in the bucket."""
        folder = Folder(self.address.format(name))
        filesystem, path = folder.filesystem()
        pafs.copy_files(
            str(local.path), path, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=filesystem
        )
        return folder

    def flip(self, key: str, place: int = -1) -> None:
        """Turn over a bit of an object's byte."""
        data = bytearray(self.client.get_object(Bucket="lake", Key=key)["Body"].read())
        data[place] ^= 1
        self.client.put_object(Bucket="lake", Key=key, Body=bytes(data))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with amazon() as endpoint:
        for name, value in {**KEYS, "REWARM_CACHE": str(tmp_path / "cache")}.items():
            monkeypatch.setenv(name, value)
        yield Store(endpoint, tmp_path / "cache" / "files")


def flip(file: Path, place: int = -1) -> None:
    """Turn over a bit of a file's byte; its size and its name stay."""
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def table_of(folder: Folder) -> Table:
    return digest_files(folder, files_in(folder))


def reading(**tables: tuple[Folder, Folder]) -> Reading:
    """Conditions of one run: folders in the bucket, and what is on the disk they were put from."""
    recorded = Recorded.of((there, table_of(here)) for there, here in tables.values())
    return Reading(seq_len=64, batch_size=3, gpus=False, recorded=recorded)


def loss_piece(model: Folder, tokens: Folder, out: Path, name: str = "0") -> LossPiece:
    return LossPiece(model, tokens, (0, 4), Folder(out), name)


def test_a_damaged_copy_is_fetched_again(world: Any, store: Store, tmp_path: Path) -> None:
    """With its byte turned over the model answers otherwise; the losses are those of the model of the record."""
    here = world.sets[0].tokens
    model, tokens = store.put(world.trunk, "trunk"), store.put(here, "tokens")
    LossWorker(reading(model=(world.trunk, world.trunk))).work(loss_piece(world.trunk, here, tmp_path, "expected"))
    flip(model.local() / WEIGHTS, -3)
    flip(tokens.local(tokens.files()[0]), 700)
    there = reading(model=(model, world.trunk), tokens=(tokens, here))
    LossWorker(there).work(loss_piece(model, tokens, tmp_path, "found"))
    expected, found = (np.load(tmp_path / name) for name in ("expected", "found"))
    assert all(np.array_equal(expected[key], found[key]) for key in expected.files)
    assert (model.local() / WEIGHTS).read_bytes() == world.trunk.read(WEIGHTS)
    assert TokenStream(tokens).document_ids() == TokenStream(here).document_ids()


@pytest.mark.parametrize("key", ["trunk/model.safetensors", "trunk/config.json", "trunk/tokenizer.json", "tokens"])
def test_a_damaged_object_stops_the_evaluation(world: Any, store: Store, tmp_path: Path, key: str) -> None:
    here = world.sets[0].tokens
    model, tokens = store.put(world.trunk, "trunk"), store.put(here, "tokens")
    store.flip(key if "/" in key else f"tokens/{tokens.files()[0]}", 700 if key == "tokens" else 20)
    there = reading(model=(model, world.trunk), tokens=(tokens, here))
    with pytest.raises(DamagedError, match=rf"{key}.*expected digest [0-9a-f]{{32}}, found [0-9a-f]{{32}}"):
        LossWorker(there).work(loss_piece(model, tokens, tmp_path))
    assert not (tmp_path / "0").exists()


def test_a_task_does_not_run_on_a_damaged_model(world: Any, store: Store, tmp_path: Path) -> None:
    model = store.put(world.release, "release")
    store.flip(f"release/{WEIGHTS}")
    conditions = Conditions(EvaluateSettings(), reading(model=(model, world.release)))
    with pytest.raises(DamagedError, match=WEIGHTS):
        Evaluator(conditions).work(TaskPiece(model, Task("rewarm_code_rolling", generated=True), Folder(tmp_path)))


def test_each_run_compares_once(world: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    model, looks = store.put(world.trunk, "trunk"), list[Folder]()
    whole = copies.compare_whole
    monkeypatch.setattr(copies, "compare_whole", lambda folder, table: looks.append(folder) or whole(folder, table))
    first, second = Recorded({model: table_of(world.trunk)}), Recorded({model: table_of(world.trunk)})
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: first.model(model), range(4)))) == 1
    assert looks == [model]
    second.model(model)
    assert looks == [model, model]
    assert Recorded().model(model) == model.local()
    assert Recorded({world.trunk: table_of(world.trunk)}).model(world.trunk) == world.trunk.path
    assert looks == [model, model], "neither what has no table nor what lies on a disk"


def test_what_failed_is_done_by_the_next(store: Store) -> None:
    with pytest.raises(ValueError, match="broken"), first_here("x") as first:
        assert first
        raise ValueError("broken")
    for expected in (True, False, False):
        with first_here("x") as first:
            assert first is expected


@pytest.mark.faults
@pytest.mark.usefixtures("ray_cluster")
def test_actors_say_so(world: Any, store: Store, tmp_path: Path) -> None:
    """Two on one machine: a copy that is damaged is mended for both, an object that is damaged ends the work."""
    here = world.sets[0].tokens
    model = store.put(world.trunk, "trunk")
    flip(model.local() / WEIGHTS, -3)
    environment = {**KEYS, "REWARM_CACHE": str(store.cache.parent)}

    def work(name: str) -> None:
        pieces = [loss_piece(model, here, tmp_path, f"{name}{number}") for number in range(2)]
        conditions = reading(model=(model, world.trunk))
        with Pool(2, False, environment) as pool:
            pool.work_through(LossWorker, conditions, pieces, "losses", Silent())

    work("a")
    assert load_model(model, gpu=False).config.hidden_size == 32
    assert (model.local() / WEIGHTS).read_bytes() == world.trunk.read(WEIGHTS)
    store.flip(f"trunk/{WEIGHTS}")
    with pytest.raises(DamagedError, match=WEIGHTS):
        work("b")
