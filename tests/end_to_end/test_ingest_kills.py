"""Ingest in processes of its own: killed with signal 9 at random moments, and on other numbers of workers."""

import random
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from small_lineage import started_by, stdlib, wait_gone

pytestmark = pytest.mark.faults

INGEST = """
import sys

import ray

from rewarm.stages.ingest import IngestSettings, find_inputs, run
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder

source, out, workers = sys.argv[1:]
ray.init(address="local", num_cpus=int(workers), include_dashboard=False, log_to_driver=False)
settings = IngestSettings(shard_bytes=300_000, clean={"mask": ["email"]})
run(find_inputs([source], settings), Folder(out), settings, [], Folder(out + "-index"), Silent())
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source files, cut into texts of some kilobytes: a few shards, with duplicates and a broken file."""
    folder = tmp_path_factory.mktemp("text")
    for number, path in enumerate(stdlib()):
        text = path.read_text(encoding="utf-8")
        for start in range(0, len(text), 6000):
            (folder / f"{number:03d}-{start:07d}.txt").write_text(text[start : start + 6000], encoding="utf-8")
    for copied in sorted(folder.iterdir())[:40]:
        (folder / f"z-{copied.name}").write_bytes(copied.read_bytes())
    (folder / "broken.jsonl").write_text('{"text": 7}\nnot json\n')
    return folder


def ingest(source: Path, out: Path, workers: int) -> list[str]:
    return [sys.executable, "-c", INGEST, str(source), str(out), str(workers)]


def left(out: Path) -> dict[str, bytes]:
    """Everything that ingest leaves, by its path."""
    folders = (out, Path(f"{out}-index"))
    return {
        f"{folder.name[len(out.name) :]}/{path.relative_to(folder)}": path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("ingested") / "set"
    subprocess.run(ingest(source, out, 2), check=True, timeout=600)
    found = left(out)
    assert sum(name.startswith("/documents/") for name in found) > 5
    return found


@pytest.mark.parametrize("workers", [1, 4])
def test_the_number_of_workers_changes_nothing(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path, workers: int
) -> None:
    subprocess.run(ingest(source, tmp_path / "set", workers), check=True, timeout=600)
    assert left(tmp_path / "set") == undisturbed


@pytest.mark.timeout(1800)
def test_kills_at_random_moments_change_nothing(source: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    dice, kills = random.Random(7), 0
    for _ in range(6):
        process = subprocess.Popen(ingest(source, tmp_path / "set", 2))
        try:
            process.wait(dice.uniform(4, 16))
            break
        except subprocess.TimeoutExpired:
            family = started_by(psutil.Process(process.pid))
            process.kill()
            process.wait()
            wait_gone(family)
            kills += 1
    subprocess.run(ingest(source, tmp_path / "set", 2), check=True, timeout=600)
    assert kills
    assert left(tmp_path / "set") == undisturbed
