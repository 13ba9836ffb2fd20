"""The driver's side of training: start Ray Train's workers on a job, watch them, and say what came out."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from stages.awaiting import DEFAULT_TIMEOUT, TIMEOUT
from stages.errors import DamagedError, StageError
from stages.progress import Progress
from stages.storage import Folder
from stages.train.checkpoints import repair_list
from stages.train.job import Job
from stages.train.not_finite import NotFinite, advice, read_stop, write_stop
from stages.train.placement import placed
from stages.train.retries import retried
from stages.train.tracking import watched

# Ray Train looks at its workers every 2 s by default, and a dead one waits for that look. On clusters that scale up
# from nothing, a group of workers takes minutes to start, not one.
RAY_TRAIN_DEFAULTS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    TIMEOUT: f"{DEFAULT_TIMEOUT:g}",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
}


@dataclass(frozen=True)
class TrainOutcome:
    """What a training run left."""

    steps: int
    tokens: int
    final_rate: float
    digest: str  # of the trained fp32 weights
    checkpoint: str  # URI of the last checkpoint: optimizer and all
    world_size: int
    tokens_per_second: float
    resumed_from: list[int]  # steps at which a restarted group of workers took up the run


def run(job: Job, progress: Progress, watchers: Sequence[Any] = ()) -> TrainOutcome:
    """Train ``job`` to its end and leave ``job.out/model`` (a Hugging Face folder) and ``job.out/curve.json``.

    ``watchers`` are Ray Train callbacks (``ray.train.UserCallback``), which see every checkpoint's metrics. A driver or
    worker that died goes on from the last good checkpoint. Raises ``StageError`` after more failures than
    ``settings.max_failures`` with no new checkpoint between them, or if a loss was twice not a number; ``NoRoomError``
    if the workers found no room; ``DamagedError`` if what is to be read is not what the record says; ``UsageError`` if
    the cluster cannot hold the workers.
    """
    if (stopped := read_stop(job)) is not None:
        raise StageError(advice(job, stopped))
    for name, value in RAY_TRAIN_DEFAULTS.items():
        os.environ.setdefault(name, value)
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
    """The result of ``work``, which is tried once more if a figure was not a number: a machine can err."""
    for again in (True, False):
        if (wrong := repair_list(job)) is not None:
            progress.note(f"{job.name}: Ray Train's list of checkpoints {wrong}; it was deleted, to be made anew")
        result = work()
        if (damaged := result.return_value.get("damaged")) is not None:
            raise DamagedError(f"{job.name}: {damaged}")
        if (stopped := result.return_value.get("stopped")) is None:
            break
        found = NotFinite(**stopped)
        if not again:
            write_stop(job, found)
            raise StageError(advice(job, found))
        progress.note(f"{job.name}: {found}; it is tried once more, from step {found.checkpoint}")
    return result


def fit(job: Job, resources: dict[str, float], on_gpu: bool, tracker: Any, watchers: Sequence[Any]) -> Any:
    """Ray Train's run of a job, from its last checkpoint where there is one; its result."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from stages.train.group import GroupNoted
    from stages.train.loop import train_worker  # torch comes with it: commands that train nothing do not wait for it

    version2: Any = ray.train  # its stubs are version 1's
    settings = job.settings
    filesystem, path = job.checkpoints.filesystem()
    trainer = TorchTrainer(
        train_worker,  # type: ignore[arg-type]  # what it returns is the result
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
    # Ray Train takes Ctrl-C for itself, also when it is done, and then ends the process with success.
    trainer._register_sigint_handler = lambda controller: None  # type: ignore[attr-defined]
    return trainer.fit()


def description(job: Job) -> dict[str, Any]:
    """What the dashboard's Train page shows of a run: its name alone is the stage's, and stays so for resuming."""
    datasets = sorted({source.dataset for source in job.mixture.sources})
    return {**job.labels, "stage": job.name, "datasets": datasets, "steps": job.steps}


def resumed_from(job: Job) -> list[int]:
    """The steps at which restarted groups took up the run, in the order in which they did."""
    attempts = job.checkpoints / f"{job.name}-attempts"
    return [attempts.read_json(name)["step"] for name in attempts.files(".json")[1:]]
