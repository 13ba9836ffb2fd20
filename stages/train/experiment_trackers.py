"""Curves of a run in experiment trackers: TensorBoard, MLflow, Weights & Biases, written by rank 0.

A resumed run continues its curve: TensorBoard gets the step from which earlier figures are void, MLflow and W&B get
the same run again. Only figures and the names of workspace, update, stage and datasets are written; addresses and keys
of services stay in their environment variables. A tracker that fails is not written any more, with a note: it must not
end training.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import xxhash

from rewarm.stages.core.errors import UsageError
from rewarm.stages.train.decisions import SKIPPED
from rewarm.stages.train.job import Job
from rewarm.stages.train.settings import TrainSettings

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
PROJECT = "rewarm"  # name of the experiment or project
FIGURES = ("loss", "lr", "grad_norm", "kl", "tokens")  # of a row of the curve


class Sink(Protocol):
    """One tracker."""

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step, counted from 1."""

    def flush(self) -> None:
        """Make everything written so far visible to readers."""

    def close(self) -> None:
        """End the run in the tracker."""


class Files:
    """Local folder of a tracker's files: in the update's folder, or one that is uploaded to it."""

    def __init__(self, job: Job, tracker: str, scratch: Path) -> None:
        self.target = job.checkpoints.at(f"../{tracker}")
        self.name = job.name
        self.path = (self.target / job.name).path if self.target.is_local else scratch / tracker / job.name
        self.path.mkdir(parents=True, exist_ok=True)

    def publish(self) -> None:
        """Upload the files, if the update is in a bucket."""
        if not self.target.is_local:
            self.target.upload(self.path, self.name)


class Tensorboard:
    """Event files for TensorBoard: ``tensorboard --logdir UPDATE/tensorboard``.

    They are written event by event: tensorboardX's ``SummaryWriter`` writes later, in a thread, and replaces letters of
    other scripts in names.
    """

    def __init__(self, job: Job, scratch: Path, step: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.files = Files(job, "tensorboard", scratch)
        again = step > 0 or any(self.files.path.iterdir())
        self.writer = EventsWriter(str(self.files.path / "events"), filename_suffix=f".{time.time_ns()}")
        if again:  # what earlier attempts wrote of later steps is void
            start = SessionLog(status=SessionLog.START)
            self.writer.write_event(Event(wall_time=time.time(), step=step + 1, session_log=start))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self.writer.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def flush(self) -> None:
        """Write what is buffered."""
        self.writer.flush()
        self.files.publish()

    def close(self) -> None:
        """Close the file."""
        self.writer.close()
        self.files.publish()


class Mlflow:
    """A run in MLflow, at ``MLFLOW_TRACKING_URI`` or else in a database file in the update's folder."""

    def __init__(self, job: Job, scratch: Path, step: int) -> None:
        from mlflow import MlflowClient

        self.files = Files(job, "mlflow", scratch)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.files.path}/mlflow.db"
        self.client = MlflowClient(uri)
        self.run = self._found(job) or self._begun(job)

    def _found(self, job: Job) -> str | None:
        """Return the run of an earlier attempt."""
        folder, name = job.checkpoints, f"{job.name}-mlflow.json"
        if not folder.exists(name):
            return None
        run = str(folder.read_json(name)["run"])
        self.client.update_run(run, "RUNNING")
        return run

    def _begun(self, job: Job) -> str:
        known = self.client.get_experiment_by_name(PROJECT)
        experiment = self.client.create_experiment(PROJECT) if known is None else known.experiment_id
        run = str(self.client.create_run(experiment, run_name=title(job), tags=description(job)).info.run_id)
        job.checkpoints.write_json(f"{job.name}-mlflow.json", {"run": run})
        return run

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run, [Metric(name, value, now, step) for name, value in figures.items()])

    def flush(self) -> None:
        """Upload a database file."""
        self.files.publish()

    def close(self) -> None:
        """End the run."""
        self.client.set_terminated(self.run)
        self.files.publish()


class Wandb:
    """A run in Weights & Biases; offline without ``WANDB_API_KEY``, for ``wandb sync``."""

    def __init__(self, job: Job, scratch: Path, step: int) -> None:
        import wandb

        self.files = Files(job, "wandb", scratch)
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        self.run = wandb.init(
            project=PROJECT,
            id=xxhash.xxh3_64_hexdigest(f"{job.checkpoints.uri}/{job.name}".encode()),
            name=title(job),
            config=description(job),
            dir=str(self.files.path),
            mode=mode,
            resume="allow",
            save_code=False,
            settings=wandb.Settings(
                console="off", disable_git=True, disable_code=True, silent=True, x_disable_meta=True
            ),
        )

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        self.run.log(dict(figures), step=step)

    def flush(self) -> None:
        """Upload the files of an offline run."""
        self.files.publish()

    def close(self) -> None:
        """End the run."""
        self.run.finish()
        self.files.publish()


SINKS: dict[str, Callable[[Job, Path, int], Sink]] = {"tensorboard": Tensorboard, "mlflow": Mlflow, "wandb": Wandb}


class Trackers:
    """The trackers of an attempt at a run, on rank 0; none on other ranks."""

    def __init__(self, job: Job, scratch: Path, step: int, show: Callable[[str], None]) -> None:
        """``step`` is the number of completed steps that the attempt resumes from."""
        self._show = show
        self._sinks: dict[str, Sink] = {}
        for name in job.settings.trackers:
            try:
                self._sinks[name] = SINKS[name](job, scratch, step)
            except Exception as error:  # services and their libraries raise many kinds
                self._failed(name, error)

    def steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows of the curve."""
        for row in rows:
            figures = {f"train/{name}": float(row[name]) for name in FIGURES if row.get(name) is not None}
            figures |= {"train/skipped": 1.0} if SKIPPED in row else {}
            self._write(row["step"], figures)

    def validation(self, row: Mapping[str, Any]) -> None:
        """Write validation losses."""
        figures = {f"validation/{name}": float(loss) for name, loss in row["losses"].items()}
        self._write(row["step"], figures)

    def flush(self) -> None:
        """Make everything written so far visible."""
        self._each(lambda sink: sink.flush())

    def close(self) -> None:
        """End the attempt in all trackers."""
        self._each(lambda sink: sink.close())
        self._sinks = {}

    def _write(self, step: int, figures: Mapping[str, float]) -> None:
        self._each(lambda sink: sink.write(step, figures))

    def _each(self, work: Callable[[Sink], None]) -> None:
        for name, sink in list(self._sinks.items()):
            try:
                work(sink)
            except Exception as error:
                del self._sinks[name]
                self._failed(name, error)

    def _failed(self, name: str, error: Exception) -> None:
        said = " ".join(str(error).split())[:160]
        self._show(f"train.trackers: {name} failed and is not written any more ({type(error).__name__}: {said})")


def title(job: Job) -> str:
    """Return a run's name in trackers."""
    return "/".join([*(job.labels[name] for name in ("workspace", "update") if name in job.labels), job.name])


def description(job: Job) -> dict[str, str]:
    """Return the description of a run for trackers."""
    datasets = sorted({source.dataset for source in job.mixture.sources})
    return {**job.labels, "stage": job.name, "datasets": ", ".join(datasets), "steps": str(job.steps)}


def refuse_missing(settings: TrainSettings) -> None:
    """Raise ``UsageError`` if a tracker's package is not installed."""
    missing = [name for name in settings.trackers if importlib.util.find_spec(PACKAGES[name]) is None]
    if missing:
        packages = " ".join(PACKAGES[name] for name in missing)
        raise UsageError(
            f"train.trackers: {', '.join(missing)} needs {packages}, which is not installed: pip install {packages}, "
            "or omit it"
        )
