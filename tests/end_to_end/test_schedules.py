"""An update under another schedule than the base's, with the base's optimizer kept, on another number of workers."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_lineage import Lineage, rewarm, stdlib

pytestmark = pytest.mark.faults

STEPS = 8
SETS = ["schedule.kind=linear", f"budget.update_tokens={STEPS * 8 * 64}", "train.num_workers=1"]
SETS += ["train.keep_optimizer=true", "evaluate.task_documents=0", "train.validate_every=0"]


def as_options(assignments: list[str]) -> list[str]:
    return [part for assignment in assignments for part in ("--set", assignment)]


@pytest.fixture(scope="module")
def workspace(base: Lineage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("schedules") / "workspace"
    shutil.copytree(base.workspace, copy)
    return copy


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("arrival")
    for path in stdlib()[125:165]:
        (folder / path.with_suffix(".txt").name).write_text(path.read_text(encoding="utf-8")[8000:16000])
    return f"more={folder}"


def updates(workspace: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(rewarm("status", workspace, "--json").stdout)["updates"]
    return found


def optimizer_steps(value: object) -> Iterator[float]:
    """Every count of steps in a checkpoint's nested state."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "step" and isinstance(part, torch.Tensor | int | float):
                yield float(part)
            else:
                yield from optimizer_steps(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from optimizer_steps(part)


def test_a_state_of_another_zero_stage_is_refused_before_anything_is_done(workspace: Path, data: str) -> None:
    sets = as_options(["train.keep_optimizer=true", "train.zero_stage=3"])
    for more in (["--dry-run"], []):
        refused = rewarm("update", workspace, "--data", data, *sets, *more)
        assert refused.returncode == 2
        assert "train.zero_stage=1" in refused.stderr
    assert all(update["state"] == "released" for update in updates(workspace))


def test_an_update_keeps_the_optimizer_and_decays_to_zero(workspace: Path, data: str) -> None:
    before = updates(workspace)
    done = rewarm("update", workspace, "--data", data, *as_options(SETS))
    assert done.returncode == 0, done.stderr[-3000:]
    update = workspace / "updates" / updates(workspace)[-1]["id"]
    record = json.loads((update / "update.json").read_text())
    assert record["train"]["steps"] == STEPS
    assert record["schedule"]["kind"] == "linear"
    assert "the linear schedule has already decayed" in record["notes"][0]
    rates = [row["lr"] for row in json.loads((update / "trunk" / "curve.json").read_text())["steps"]]
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < rates[-2], "the last step ends at 0, and trains"
    kept = [torch.load(path, weights_only=False) for path in (update / "trunk" / "optimizer").rglob("*optim_states.pt")]
    total = sum(one["train"]["steps"] for one in before) + STEPS
    assert set(optimizer_steps(kept)) == {total}, "the moments have counted every step of the lineage's trunk"
    assert not (workspace / "updates" / before[-1]["id"] / "trunk" / "optimizer").exists()
    assert not (update / "checkpoints").exists()
