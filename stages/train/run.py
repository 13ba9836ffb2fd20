"""The driver of training: starts Ray Train's workers on a job, shows their progress and returns the outcome.

Progress travels through an actor: rank 0 sends its figures to it, and a thread of the driver polls it.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from rewarm.stages.core.awaiting import Waiting
from rewarm.stages.core.cluster import RAY_TRAIN_DEFAULTS
from rewarm.stages.core.errors import DamagedError, StageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.train.checkpoints import refuse_other_size, repair_list
from rewarm.stages.train.job import Job
from rewarm.stages.train.not_finite import NotFinite, advice, read_stop, write_stop
from rewarm.stages.train.placement import placed
from rewarm.stages.train.retries import retried

INTERVAL = 1.0  # seconds between polls of the workers' progress
ANSWER = 10.0  # seconds to wait for an answer before checking whether training has ended


@contextmanager
def watched(job: Job, progress: Progress) -> Iterator[Any]:
    """Provide an actor that receives rank 0's figures, and a thread that forwards them to ``progress``.

    The actor runs on the driver's node, so it survives the loss of other nodes. If it answers late (a busy machine), or
    is killed and restarted, progress continues with its next figures.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote  # its stubs lack node affinity
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    kept = remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    tracker: Any = kept(Tracker).remote()
    stop = threading.Event()
    shown = {"step": 0, "groups": 0}
    waiting: list[Waiting] = []  # one item while a group of workers waits for resources

    def show() -> None:
        asked = None
        while not stop.wait(INTERVAL):
            asked = asked or tracker.drain.remote()
            try:
                events = ray.get(asked, timeout=ANSWER)
            except GetTimeoutError:
                continue
            except RayError:  # the actor died with its events; Ray restarts it
                events = []
            asked = None
            for event in events:
                if event["kind"] == "placing":
                    waiting[:] = [Waiting(job.name, event["asked"], progress)]
                elif event["kind"] == "placed":
                    waiting.clear()
                else:
                    apply(event, shown, job, progress)
            for one in waiting:
                one.tick()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield tracker
    finally:
        stop.set()
        thread.join(timeout=15)
        ray.kill(tracker)


def apply(event: dict[str, Any], shown: dict[str, int], job: Job, progress: Progress) -> None:
    """Show one event of training."""
    per_step = job.mixture.tokens_per_step
    if event["kind"] == "begin":
        at, moved = f"step {event['step']} of {job.steps}", event["step"] - shown["step"]
        if moved:
            progress.advance(moved * per_step)
        if shown["groups"]:
            progress.note(f"{job.name}: the workers were restarted at {at}")
        elif moved:
            progress.note(f"{job.name}: resumed at {at}")
        shown["step"], shown["groups"] = event["step"], shown["groups"] + 1
    elif event["kind"] == "steps":
        last = event["rows"][-1]
        progress.advance((last["step"] - shown["step"]) * per_step, loss=last["loss"], lr=last["lr"])
        shown["step"] = last["step"]
    elif event["kind"] == "note":
        progress.note(f"{job.name}: {event['text']}")
    else:
        losses = "  ".join(f"{name} {loss:.3f}" for name, loss in event["row"]["losses"].items())
        progress.note(f"{job.name}: step {event['row']['step']} of {job.steps}, validation loss  {losses}")


class Tracker:
    """Buffer of rank 0's figures until the driver fetches them."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._groups: list[Any] = []

    def placing(self, asked: str) -> None:
        """Record that a group of workers is waiting for resources."""
        self._events.append({"kind": "placing", "asked": asked})

    def group(self, placement_group: Any) -> None:
        """Record the placement group of a group of workers."""
        self._groups.append(placement_group)
        self._events.append({"kind": "placed"})

    def groups(self) -> list[Any]:
        """Return the placement groups since the last call."""
        groups, self._groups = self._groups, []
        return groups

    def begin(self, step: int, steps: int) -> None:
        """Record that a group of workers started from ``step``."""
        self._events.append({"kind": "begin", "step": step, "steps": steps})

    def steps(self, rows: list[dict[str, Any]], rate: float) -> None:
        """Record completed steps."""
        self._events.append({"kind": "steps", "rows": rows, "tokens_per_second": rate})

    def note(self, text: str) -> None:
        """Record a line to be shown."""
        self._events.append({"kind": "note", "text": text})

    def validation(self, row: dict[str, Any]) -> None:
        """Record validation losses."""
        self._events.append({"kind": "validation", "row": row})

    def drain(self) -> list[dict[str, Any]]:
        """Return all events since the last call."""
        events, self._events = self._events, []
        return events


@dataclass(frozen=True)
class TrainOutcome:
    """Outcome of a training run."""

    steps: int
    tokens: int
    final_rate: float
    digest: str  # of the trained fp32 weights
    checkpoint: str  # URI of the last checkpoint, with the optimizer state
    world_size: int
    tokens_per_second: float
    resumed_from: list[int]  # steps from which restarted groups of workers resumed


def run(job: Job, progress: Progress, watchers: Sequence[Any] = ()) -> TrainOutcome:
    """Train ``job`` to its end; write ``job.out/model`` (a Hugging Face folder) and ``job.out/curve.json``.

    ``watchers`` are Ray Train callbacks (``ray.train.UserCallback``), which receive every checkpoint's metrics. After
    the death of a driver or worker, training resumes from the last good checkpoint. Raises ``StageError`` after more
    than ``settings.max_failures`` failures without a new checkpoint in between, or if a loss was not a number twice;
    ``NoRoomError`` if the workers found no room; ``DamagedError`` if an input does not match the record; ``UsageError``
    if the cluster cannot have room for the workers.
    """
    if (stopped := read_stop(job)) is not None:
        raise StageError(advice(job, stopped))
    for name, value in RAY_TRAIN_DEFAULTS.items():
        os.environ.setdefault(name, value)
    refuse_other_size(job)
    placed_settings, resources, on_gpu = placed(job.settings)
    job = Job(**{**job.__dict__, "settings": placed_settings})
    progress.begin(job.name, job.steps * job.mixture.tokens_per_step, "tokens")
    with watched(job, progress) as tracker:
        work = partial(fit, job, resources, on_gpu, tracker, watchers)
        result = tried(job, partial(retried, job, work, resources, tracker, progress), progress)
    returned: dict[str, Any] = result.return_value
    last = returned["checkpoint"] or Folder(result.checkpoint.path).name
    return TrainOutcome(
        steps=job.steps,
        tokens=job.steps * job.mixture.tokens_per_step,
        final_rate=job.rate(job.steps - 1),
        digest=returned["digest"],
        checkpoint=(job.checkpoints / job.name / last).uri,
        world_size=returned["world_size"],
        tokens_per_second=returned["tokens_per_second"],
        resumed_from=resumed_from(job),
    )


def tried(job: Job, work: Callable[[], Any], progress: Progress) -> Any:
    """Return the result of ``work``, retried once if a figure was not a number, in case of a hardware error."""
    for again in (True, False):
        if (wrong := repair_list(job)) is not None:
            progress.note(f"{job.name}: Ray Train's list of checkpoints {wrong}; it was deleted and will be rebuilt")
        result = work()
        if (damaged := result.return_value.get("damaged")) is not None:
            raise DamagedError(f"{job.name}: {damaged}")
        if (stopped := result.return_value.get("stopped")) is None:
            break
        found = NotFinite(**stopped)
        if not again:
            write_stop(job, found)
            raise StageError(advice(job, found))
        progress.note(f"{job.name}: {found}; retrying once from step {found.checkpoint}")
    return result


def fit(job: Job, resources: dict[str, float], on_gpu: bool, tracker: Any, watchers: Sequence[Any]) -> Any:
    """Run a job with Ray Train, from its last checkpoint if there is one; return its result."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from rewarm.stages.train.loop import (
        train_worker,  # imports torch: commands that train nothing do not wait for it
    )
    from rewarm.stages.train.worker_group import GroupNoted

    version2: Any = ray.train  # its stubs are version 1's
    settings = job.settings
    filesystem, path = job.checkpoints.filesystem()
    trainer = TorchTrainer(
        train_worker,  # type: ignore[arg-type]  # its return value is the result
        train_loop_config={**description(job), "job": job, "tracker": tracker},
        scaling_config=version2.ScalingConfig(
            num_workers=settings.num_workers, use_gpu=on_gpu, resources_per_worker=resources
        ),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        run_config=version2.RunConfig(
            name=job.name,
            storage_path=path,
            storage_filesystem=None if job.checkpoints.is_local else filesystem,
            failure_config=version2.FailureConfig(max_failures=0, controller_failure_limit=0),  # see retried
            checkpoint_config=version2.CheckpointConfig(num_to_keep=settings.keep_checkpoints),
            callbacks=[*watchers, GroupNoted(tracker)],
            logging_config=version2.LoggingConfig(log_level="ERROR"),
        ),
    )
    # Ray Train's Ctrl-C handler stays active after the run and ends the process with success.
    trainer._register_sigint_handler = lambda controller: None  # type: ignore[attr-defined]
    return trainer.fit()


def description(job: Job) -> dict[str, Any]:
    """Return the labels of a run on the dashboard's Train page: its name is the stage's and must not change."""
    datasets = sorted({source.dataset for source in job.mixture.sources})
    return {**job.labels, "stage": job.name, "datasets": datasets, "steps": job.steps}


def resumed_from(job: Job) -> list[int]:
    """Return the steps from which restarted groups of workers resumed, in order."""
    attempts = job.checkpoints / f"{job.name}-attempts"
    return [attempts.read_json(name)["step"] for name in attempts.files(".json")[1:]]
