"""Curves in trackers, read back from what they wrote: whole, continued by a resumed run, and without secrets."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tensorboard_events import curves
from training_world import World

from rewarm.stages.core.errors import UsageError
from rewarm.stages.train import Job
from rewarm.stages.train.experiment_trackers import Trackers, refuse_missing, title

SECRET = "0123456789abcdef0123456789abcdef01234567"


def rows(first: int, last: int, loss: float = 0.0) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "tokens": 256 * step,
            "lr": 1e-3,
            "loss": loss + 1 / step,
            "grad_norm": None if step == 2 else 0.5,
        }
        for step in range(first, last + 1)
    ]


@pytest.fixture
def job(world: World, tmp_path: Path) -> Job:
    made = world.job(f"tracked-{tmp_path.name}")
    return dataclasses.replace(made, labels={"workspace": "science", "update": "0001-news"})


def test_a_resumed_run_continues_its_curve(job: Job, tmp_path: Path) -> None:
    said: list[str] = []
    begun = Trackers(job, tmp_path, 0, said.append)
    begun.steps(rows(1, 6))
    begun.validation({"step": 4, "tokens": 1, "losses": {"text": 2.5, "ニュース": 3.5}})
    begun.flush()  # and is killed after step 6; its last checkpoint is of step 4
    resumed = Trackers(job, tmp_path, 4, said.append)
    resumed.steps([*rows(5, 7, loss=10.0), {**rows(8, 8)[0], "skipped": "loss 9 above 3"}])
    resumed.close()
    found = curves(job.checkpoints.at("../tensorboard/train").path)
    assert list(found["train/loss"]) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found["train/loss"][4] == 0.25
    assert found["train/loss"][5] == pytest.approx(10.2)
    assert list(found["train/grad_norm"]) == [1, 3, 4, 5, 6, 7, 8]
    assert found["train/skipped"] == {8: 1.0}
    assert found["validation/ニュース"] == {4: 3.5}
    assert said == []


def test_a_tracker_that_fails_ends_with_a_note(job: Job, tmp_path: Path) -> None:
    said: list[str] = []
    target = job.checkpoints.at("../tensorboard")
    target.path.parent.mkdir(parents=True, exist_ok=True)
    target.path.write_text("no folder")
    trackers = Trackers(job, tmp_path, 0, said.append)
    trackers.steps(rows(1, 2))
    trackers.close()
    assert len(said) == 1
    assert "train.trackers: tensorboard failed and is not written any more" in said[0]
    target.path.unlink()


def test_a_package_that_is_missing_is_told_before_training(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "wandb" else find_spec("json"))
    refuse_missing(job.settings)
    with pytest.raises(
        UsageError, match=r"train\.trackers: wandb needs wandb, which is not installed: pip install wandb"
    ):
        refuse_missing(job.settings.model_copy(update={"trackers": ("tensorboard", "wandb")}))


# -- services ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
def test_mlflow_gets_one_run(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    job = dataclasses.replace(job, settings=job.settings.model_copy(update={"trackers": ("mlflow",)}))
    said: list[str] = []
    for first, last in ((1, 6), (5, 8)):
        trackers = Trackers(job, tmp_path, first - 1, said.append)
        trackers.steps(rows(first, last))
        trackers.close()
    assert said == []
    folder = job.checkpoints.at("../mlflow/train").path
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("rewarm").experiment_id])
    assert run.info.run_name == title(job) == "science/0001-news/train"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert {metric.step: metric.value for metric in history} == {step: 1 / step for step in range(1, 9)}
    assert_without_secret(job)


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_offline_gets_one_run(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    job = dataclasses.replace(job, settings=job.settings.model_copy(update={"trackers": ("wandb",)}))
    said: list[str] = []
    for first, last in ((1, 6), (5, 8)):
        trackers = Trackers(job, tmp_path, first - 1, said.append)
        trackers.steps(rows(first, last))
        trackers.close()
    assert said == []
    found: dict[str, set[int]] = {}
    for path in job.checkpoints.at("../wandb/train").path.rglob("*.wandb"):
        store = DataStore()
        store.open_for_scan(str(path))
        run = ""
        while (data := store.scan_data()) is not None:
            record = wandb_internal_pb2.Record.FromString(data)
            run = record.run.run_id or run
            if record.history.item:
                found.setdefault(run, set()).add(record.history.step.num)
    assert list(found.values()) == [set(range(1, 9))], "one run, continued"
    assert_without_secret(job)


def assert_without_secret(job: Job) -> None:
    for path in job.checkpoints.at("..").path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
