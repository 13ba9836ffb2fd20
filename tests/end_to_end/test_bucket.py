"""A workspace in a bucket, on a server that speaks S3: the same update as on a disk, and all that comes after it."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest
from ingest_stores import amazon, boto
from small_lineage import Lineage, command, kill_when, rewarm

from rewarm.stages.core.storage import Folder

pytestmark = pytest.mark.faults
TOLD = ("weights", "losses", "bits_per_byte", "forgetting", "gap", "lm_eval", "tokens", "replay", "gate")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a bucket, but for the path; what it takes to open it is in the environment."""
    variables = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "EC2_METADATA_DISABLED": "true"}
    with amazon() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(f"AWS_{name}", value)
        patch.setenv("REWARM_CACHE", str(tmp_path_factory.mktemp("cache")))
        boto("s3", endpoint).create_bucket(Bucket="lake")
        yield f"s3://lake/{{}}?endpoint_override={endpoint}&scheme=http&region=us-east-1"


@pytest.fixture(scope="module")
def workspace(base: Lineage, lake: str) -> str:
    """The base's workspace, moved into the bucket."""
    home = Folder(lake.format("team/lm"))
    filesystem, path = home.filesystem()
    pafs.copy_files(
        str(base.workspace),
        path,
        source_filesystem=pafs.LocalFileSystem(),
        destination_filesystem=filesystem,
    )
    return home.uri


@pytest.fixture(scope="module")
def update(base: Lineage, workspace: str) -> dict[str, Any]:
    """The status after an update that was killed in training, with what a second command was told meanwhile."""
    arguments, told = base.update(Path("/")), ""
    arguments[1] = workspace
    checkpoints = Folder(workspace) / "updates" / "0001-code" / "checkpoints" / "train"

    def met() -> bool:
        nonlocal told
        time.sleep(0.5)
        if not any((checkpoints / name).exists("progress.json") for name in checkpoints.folders()):
            return False
        rival = rewarm("discard", workspace)
        told = f"{rival.returncode} {rival.stderr}"
        return True

    assert kill_when(command(*arguments), met)
    assert status(workspace)["updates"][-1]["state"] == "unfinished"
    done = alone(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return {**status(workspace), "told": told}


def alone(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command on a Ray of its own, whose workers have the environment's credentials; the tests' Ray has none."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=600)


def status(workspace: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rewarm("status", workspace, "--json").stdout)
    return found


def test_it_gives_the_weights_and_losses_of_one_on_a_disk(update: dict[str, Any], updated: Path) -> None:
    expected = json.loads(rewarm("status", updated, "--json").stdout)
    assert update["release"] == expected["release"] == "0001-code"
    assert update["updates"][1]["train"]["resumed_from"]
    for field in TOLD:
        assert update["updates"][1][field] == expected["updates"][1][field], field


def test_one_command_at_a_time_writes_there(update: dict[str, Any]) -> None:
    assert update["told"].startswith("5 "), "busy"
    assert "another rewarm command is writing to this workspace: `rewarm update" in update["told"]


@pytest.mark.usefixtures("update")
def test_everything_is_as_the_records_say_and_nothing_is_left_over(workspace: str) -> None:
    done = rewarm("verify", workspace, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["problems"], found["orphans"]) == (0, [], []), done.stderr
    assert (Folder(workspace) / "updates" / "0001-code" / "trunk" / "optimizer").files(), "the next may go on with it"


@pytest.mark.usefixtures("update")
def test_a_flipped_byte_in_the_bucket_is_found(workspace: str) -> None:
    model = Folder(workspace) / "updates" / "0001-code" / "release" / "model"
    whole = model.read("model.safetensors")
    model.write("model.safetensors", whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    try:
        done = rewarm("verify", workspace, "--json")
        [problem] = json.loads(done.stdout)["problems"]
        assert (done.returncode, problem["file"]) == (1, "updates/0001-code/release/model/model.safetensors")
        assert rewarm("promote", workspace, "1", "--because", "x").returncode == 7
    finally:
        model.write("model.safetensors", whole)


@pytest.mark.usefixtures("update")
def test_releases_are_moved_exported_and_pruned(workspace: str, updated: Path, tmp_path: Path) -> None:
    assert "is now 0000-docs" in rewarm("rollback", workspace).stdout
    assert "is now 0001-code" in rewarm("promote", workspace, "1").stdout
    assert rewarm("export", workspace, "--to", tmp_path / "out").returncode == 0
    weights = "updates/0001-code/release/model/model.safetensors"
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (updated / weights).read_bytes()
    done = rewarm("prune", workspace, "--keep", "1", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert not Folder(workspace).exists("updates/0000-docs/release/model/model.safetensors")
    assert Folder(workspace).exists(weights)
    assert rewarm("verify", workspace).returncode == 0
    assert "the weights of its release were pruned" in rewarm("promote", workspace, "0", "--because", "x").stderr


@pytest.mark.usefixtures("update")
def test_a_watch_looks_at_an_inbox_in_a_bucket(workspace: str, lake: str) -> None:
    inbox = Folder(lake.format("inbox"))
    (inbox / "bad").write("x.jsonl", b"{not json\n")
    (inbox / "bad").write("_SUCCESS", b"")
    done = alone("watch", workspace, "--inbox", inbox.uri, "--once")
    assert done.returncode == 0, done.stderr
    shown = json.loads(rewarm("watch", workspace, "--status", "--json").stdout)
    assert [(one["name"], one["state"], one["why"]) for one in shown["arrivals"]] == [("bad", "held", "broken")]
    assert not shown["watched"]
    assert b"x.jsonl" in (Folder(workspace) / "watch" / "logs").read("bad-plan.log")
