"""Checkpoints on disk: every damage is found before DeepSpeed sees it, and Ray Train's list does not block a run."""

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from training_world import World

from rewarm.stages.core.digests import digest_files, files_in
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train.checkpoints import (
    NAME,
    PROGRESS,
    SNAPSHOT,
    Saved,
    damages,
    keep_newest,
    merged,
    names_of,
    new_name,
    read_progress,
    repair_list,
    saved_step,
    write_progress,
)
from rewarm.stages.train.job import Log

OPTIMIZER = "state/zero_pp_rank_1_mp_rank_00_optim_states.pt"
LOG = Log([{"step": 1, "loss": 2.5, "grad_norm": None, "lr": 1e-3}], [], 3, 0.1)


def write_checkpoint(folder: Folder, step: int = 15) -> Saved:
    """What two ranks leave."""
    for name in ("state/mp_rank_00_model_states.pt", "state/zero_pp_rank_0_mp_rank_00_optim_states.pt", OPTIMIZER):
        folder.write(name, os.urandom(20_000))
    saved = Saved(step, 2, "d" * 32, {"text": 120}, LOG, digest_files(folder, files_in(folder)))
    write_progress(folder, saved)
    return saved


def flip(file: Path, count: int) -> None:
    data = bytearray(file.read_bytes())
    for place in range(0, len(data), len(data) // count):
        data[place] ^= 0xFF
    file.write_bytes(data)


def test_a_whole_checkpoint_comes_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    saved = write_checkpoint(folder)
    assert read_progress(folder) == saved
    assert damages(folder) == []


@pytest.mark.parametrize(
    ("damage", "file", "says"),
    [
        (lambda at: flip(at / OPTIMIZER, 64), OPTIMIZER, "digest"),
        (lambda at: (at / OPTIMIZER).write_bytes((at / OPTIMIZER).read_bytes()[:9000]), OPTIMIZER, "found 9,000"),
        (lambda at: (at / OPTIMIZER).unlink(), OPTIMIZER, "no such file"),
        (lambda at: (at / PROGRESS).unlink(), PROGRESS, "no such file"),
        (lambda at: (at / PROGRESS).write_text("{"), PROGRESS, "JSON"),
        (lambda at: (at / PROGRESS).write_text("[]"), PROGRESS, "Error"),
        (
            lambda at: (at / PROGRESS).write_text((at / PROGRESS).read_text().replace('"step": 15', '"step": 16')),
            PROGRESS,
            "digest",
        ),
    ],
)
def test_every_damage_is_named(tmp_path: Path, damage: Callable[[Path], object], file: str, says: str) -> None:
    write_checkpoint(Folder(tmp_path))
    damage(tmp_path)
    found = damages(Folder(tmp_path))
    assert [one.file for one in found] == [file]
    assert says in str(found[0])


def test_each_rank_reads_a_part(tmp_path: Path) -> None:
    write_checkpoint(Folder(tmp_path))
    flip(tmp_path / OPTIMIZER, 64)
    assert sum(len(damages(Folder(tmp_path), rank, 3)) for rank in range(3)) == 1


def test_a_checkpoint_of_an_earlier_version_is_read_without_digests(tmp_path: Path) -> None:
    value = {"step": 4, "world_size": 2, "digest": "d" * 32, "consumed": {}, "log": {"steps": [], "validation": []}}
    Folder(tmp_path).write_json(PROGRESS, value)
    assert read_progress(Folder(tmp_path)).files == {}
    assert damages(Folder(tmp_path)) == []


def test_ranks_that_write_the_same_file_write_it_alike(tmp_path: Path) -> None:
    saved = write_checkpoint(Folder(tmp_path))
    assert merged([saved.files, {}, saved.files]) == saved.files


def test_the_newest_comes_first_and_a_list_that_blocks_ray_train_is_deleted(world: World) -> None:
    job = world.job("listed")
    run = job.checkpoints / job.name
    assert names_of(job) == []
    assert repair_list(job) is None
    names = [f"checkpoint_2026-11-30_07-40-{second:02d}.000001" for second in (1, 2)]
    for number, name in enumerate(names):
        write_checkpoint(run / name, 15 * (number + 1))
    assert names_of(job) == names[::-1]
    listed = {"checkpoint_results": [{"checkpoint_dir_name": name} for name in names]}
    run.write_json(SNAPSHOT, listed)
    assert repair_list(job) is None
    assert run.exists(SNAPSHOT)
    run.delete(names[1])
    assert names[1] in str(repair_list(job))
    assert not run.exists(SNAPSHOT)
    run.write(SNAPSHOT, json.dumps(listed).encode()[:20])
    assert "cannot be read" in str(repair_list(job))


def test_a_missing_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="no such file"):
        read_progress(Folder(tmp_path / "nothing"))


def test_the_newest_that_are_finished_are_kept(world: World) -> None:
    job = world.job("newest", keep_checkpoints=2)
    run = job.checkpoints / job.name
    names = [f"checkpoint_2026-11-30_07-40-{second:02d}.000001" for second in range(5)]
    for number, name in enumerate(names):
        write_checkpoint(run / name, 15 * (number + 1))
    for torn in (names[2], names[4]):
        (run / torn).delete(PROGRESS)  # as a kill leaves it: it is written last
    assert saved_step(run) == 60
    run.write_json(SNAPSHOT, {"checkpoint_results": [{"checkpoint_dir_name": name} for name in names]})
    keep_newest(job)
    assert names_of(job) == [names[4], names[3], names[1]], "the newest may be being written"
    write_checkpoint(run / "checkpoint_2026-11-30_07-40-09.000001", 90)
    keep_newest(job)
    assert names_of(job) == ["checkpoint_2026-11-30_07-40-09.000001", names[3]]
    assert repair_list(job) is None
    assert names_of(job)[0] < new_name(job)


def test_names_sort_by_age_also_after_the_clock_was_set_back(world: World) -> None:
    """Local time is set back by an hour each autumn; the checkpoints of that hour must be kept."""
    job = world.job("back", keep_checkpoints=2)
    run = job.checkpoints / job.name
    later = f"{datetime.now() + timedelta(hours=1):{NAME}}"
    names = [later]
    write_checkpoint(run / later, 15)
    for step in (30, 45):
        names.append(new_name(job))
        write_checkpoint(run / names[-1], step)
        keep_newest(job)
    assert names == sorted(set(names))
    assert names_of(job) == names[:0:-1], "not the oldest and the newest, nor the newest deleted"
    assert saved_step(run) == 45
