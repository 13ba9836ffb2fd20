"""Disk space against what an update needs, on a real small file system."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from small_lineage import RECIPE, docstrings
from small_lineage import rewarm as command

from rewarm.pipeline import doctor
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.disk_space import Demand, demands, like_the_last, require_room, text_bytes
from rewarm.pipeline.update.inputs import recipe_of
from rewarm.stages.core.errors import FullError
from rewarm.stages.core.patience import DEADLINE
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.sizes import size
from rewarm.stages.ingest import InputFile

Command = Callable[..., tuple[int, str, str]]


class Disk:
    """A file system of its own in memory, whose size can change."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self, megabytes: int) -> None:
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", self.path], check=True)

    def grow(self, megabytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", self.path], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "small")
    try:
        made.mount(8)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield made
    subprocess.run(["umount", "--lazy", made.path], check=True)


@pytest.fixture
def arrival(tmp_path: Path) -> Path:
    file = tmp_path / "docs.jsonl"
    file.write_text(
        "".join(json.dumps({"text": text}) + "\n" for _, text in zip(range(600), docstrings(), strict=False))
    )
    return file


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(RECIPE))
    return file


@pytest.mark.parametrize(
    ("amount", "shown"), [(0, "0 B"), (999, "999 B"), (8.4e6, "8.4 MB"), (1.234e9, "1.23 GB"), (5e12, "5 TB")]
)
def test_sizes_for_people(amount: float, shown: str) -> None:
    assert size(amount) == shown


@pytest.mark.parametrize(
    ("kind", "compression", "factor"),
    [("jsonl", "", 1), ("jsonl", "zstd", 4), ("parquet", "", 3), ("warc", "gzip", 0.8), ("text", "", 1)],
)
def test_text_of_files(kind: str, compression: str, factor: float) -> None:
    assert text_bytes(InputFile("/x", "x", 1000, kind, compression)) == pytest.approx(1000 * factor)


def test_too_little_is_refused_with_figures_or_noted() -> None:
    short = Demand("/data", {"documents": 2_000_000_000, "checkpoints": 7_000_000_000, "tokens": 0}, 4_000_000_000)
    recipe = load_recipe("tiny")
    require_room([Demand("/tmp", {"x": 5}, 5)], recipe, Silent())
    with pytest.raises(FullError) as refused:
        require_room([Demand("/tmp", {}, 1), short], recipe, Silent())
    assert str(refused.value).startswith(
        "/data: needs about 9 GB (documents 2 GB, checkpoints 7 GB), 4 GB is free. Free space there"
    )
    assert "--set disk.check=warn" in str(refused.value)
    require_room([short], load_recipe("tiny", ["disk.check=warn"]), Silent())


def test_an_update_is_refused_on_a_small_disk_before_it_starts(
    rewarm: Command, disk: Disk, arrival: Path, recipe: Path
) -> None:
    words = ["init", disk.path / "lm", "--recipe", recipe, "--data", f"docs={arrival}"]
    code, out, error = rewarm(*words, "--dry-run", "--json")
    assert code == 0, error
    (small, *others) = json.loads(out)["disk"]
    assert small["path"] == str(disk.path) and not small["enough"] and small["free"] <= 8 << 20
    assert small["needs"]["checkpoints"] > small["needs"]["models"] > 0 and small["needs"]["documents"] > 0
    assert [one["enough"] for one in others] == [True], "where the workers write a checkpoint first"
    code, _, error = rewarm(*words)
    assert code == FullError.code
    assert error.count("\n") <= 2 and f"rewarm: {disk.path}: needs about" in error and "is free" in error
    assert not list(disk.path.iterdir()), "nothing was begun"
    disk.grow(400)
    code, out, _ = rewarm(*words, "--dry-run", "--json")
    assert json.loads(out)["disk"][0]["enough"]


def test_what_the_last_dataset_took_is_the_measure(lm: Workspace, tmp_path: Path) -> None:
    lineage, recipe = Lineage(lm), recipe_of(lm)
    file = InputFile(str(tmp_path / "x"), "x", 1_000_000, "jsonl", "")
    one, two = (demands(lineage, recipe, {"new": [file] * count})[0].needs for count in (1, 2))
    assert two["documents"] == pytest.approx(2 * one["documents"], abs=2)
    assert two["checkpoints"] == one["checkpoints"]
    planned = demands(lineage, recipe, {"new": [file]}, {"documents": 5.0, "tokens": 7.0, "lasting": 1.0})[0].needs
    assert (planned["documents"], planned["tokens"]) == (5, 7)
    assert like_the_last(lineage, recipe)[0].needs["models"] == one["models"]
    check = doctor.disk(lm.folder.path)
    assert check.ok and check.found.startswith("an update like the last one: ") and "is free" in check.found


@pytest.mark.faults
def test_a_disk_that_fills_up_under_way_leaves_what_the_same_command_resumes(
    disk: Disk, arrival: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEADLINE, "3")  # for which room is waited for
    words = ["init", disk.path / "lm", "--recipe", recipe, "--data", f"docs={arrival}"]
    done = command(*words, "--set", "disk.check=warn")
    assert done.returncode not in (0, 2), done.stdout + done.stderr
    assert "not enough disk space (disk.check=warn)" in done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("rewarm: ")]
    assert "No space left" in line or "full" in line, line
    disk.grow(400)
    done = command(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done before" in done.stderr, "what was finished before is not done again"
    assert command("verify", disk.path / "lm").returncode == 0
