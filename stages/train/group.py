"""The driver's side of training: one group of Ray Train's workers, to which jobs are given one after another.

Ray Train runs in a thread. The driver gives a job to the workers, shows their progress until they have its result, and
may then do other things, such as committing it, while they wait for the next job with everything imported.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import Any

from rewarm.stages.core import warm
from rewarm.stages.core.cluster import RAY_TRAIN_DEFAULTS
from rewarm.stages.core.errors import DamagedError, StageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.train.checkpoints import refuse_other_size, repair_list
from rewarm.stages.train.experiment_trackers import refuse_missing
from rewarm.stages.train.job import Job
from rewarm.stages.train.not_finite import NotFinite, advice, read_stop, write_stop
from rewarm.stages.train.placement import placed
from rewarm.stages.train.retries import retried
from rewarm.stages.train.tracker import ANSWER, Connection, Display, End, Given
from rewarm.stages.train.worker import train_worker

Placement = tuple[dict[str, float], bool, tuple[Any, ...]]  # resources of a worker, whether it has a GPU, watchers
INTERVAL = 0.5  # seconds between polls of the workers' progress
ENDS = 0.1  # seconds between polls while they end: what follows needs their room
ENDING = 60.0  # seconds that workers may take to end; after them, their resources are released
SAVING = 20.0  # seconds that workers may take to save a checkpoint when the driver is stopped; Kubernetes grants 30


class Group:
    """Workers that train one job after another; inside its ``with`` block they stay for the next job.

    Outside, every job has a group of its own. They also end if a job needs other resources than they have, or fails.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._keeps = False
        self._connection: Connection | None = None
        self._given: Given | End | None = None
        self._fit: Future[Any] | None = None  # the Ray Train run, in a thread
        self._of: object = None  # placement of the run's workers
        self._busy = False  # the workers have a job and no result of it
        self._groups = self._jobs = 0

    def __enter__(self) -> "Group":
        self._keeps = True
        return self

    def __exit__(self, *_: object) -> None:
        self._keeps = False
        self.close()

    def train(self, job: Job, watchers: Sequence[Any] = ()) -> dict[str, Any]:
        """Train a job to its end; return rank 0's result: ``digest``, ``checkpoint`` …

        ``watchers`` are Ray Train callbacks, which receive every checkpoint's metrics of this job alone. Raises what
        ``run`` does.
        """
        if (stopped := read_stop(job)) is not None:
            raise StageError(advice(job, stopped))
        for name, value in RAY_TRAIN_DEFAULTS.items():
            os.environ.setdefault(name, value)
        refuse_other_size(job)
        refuse_missing(job.settings)
        settings, resources, on_gpu = placed(job.settings)
        job = Job(**{**job.__dict__, "settings": settings})
        self.progress.begin(job.name, job.steps * job.mixture.tokens_per_step, "tokens")
        display, connection = Display(job, self.progress), self._opened()
        attempt = partial(self._attempt, job, (resources, on_gpu, tuple(watchers)), display)
        try:
            work = partial(retried, job, attempt, resources, connection.tracker, self.progress)
            result = tried(job, work, self.progress)
        except BaseException:
            self.close()
            raise
        if not self._keeps or watchers:
            self.close()
        return result

    def _opened(self) -> Connection:
        if self._connection is None:
            warm.await_servers()  # its process and the workers' are then forked
            self._connection = Connection()
        return self._connection

    def _attempt(self, job: Job, placement: Placement, display: Display) -> dict[str, Any]:
        """Give the job to the workers, which are started if there are none, and return its result."""
        import ray

        if self._fit is not None and (self._fit.done() or self._of != placement):
            self._end()
        self._jobs += 1
        if self._fit is None:
            self._groups += 1
        self._busy = True
        self._given = Given(self._groups, self._jobs, (ray.put(job),))
        if self._fit is None:
            self._of, self._fit = placement, self._begun(job, placement)
        return self._result(self._fit, display)

    def _begun(self, job: Job, placement: Placement) -> "Future[Any]":
        """Start workers with Ray Train, in a thread that ends with this process."""
        connection, found = self._opened(), Future[Any]()
        connection.drain(self._given)  # the workers find their job as soon as they ask
        work = partial(fit, job, placement, connection.tracker, self._groups)
        threading.Thread(target=into, args=(found, work), daemon=True).start()
        return found

    def _result(self, running: "Future[Any]", display: Display) -> dict[str, Any]:
        """Show the workers' progress until the current job has a result; raises the error that ended them."""
        try:
            while (result := self._look(running, display)) is None:
                wait([running], INTERVAL)
        except KeyboardInterrupt:
            with suppress(Exception):  # workers that fail now have saved nothing
                self._save(running, display)
            raise
        return result

    def _look(self, running: "Future[Any]", display: Display) -> dict[str, Any] | None:
        """Show the workers' progress once; return the result of the current job if there is one."""
        number, ended = self._jobs, running.done()  # before the last events are fetched
        events, results = self._opened().drain(self._given)
        display.show(events)
        result = results.get(number)
        if ended:
            self._fit, self._busy = None, False
            last: dict[str, Any] = running.result().return_value
            result = last if last["job"] == number else None
            assert result is not None, "the workers ended without the result of their job"
        if result is not None:
            self._busy = False
            if "damaged" in result or "stopped" in result:
                self._end()
        return result

    def _save(self, running: "Future[Any]", display: Display) -> None:
        """Let the workers save a checkpoint before they are ended, if they train; a second signal does not wait."""
        if not display.groups or display.waiting is not None:
            return
        self.progress.note(f"{display.job.name}: stopping; saving a checkpoint first (at most {SAVING:.0f} s)")
        self._opened().request()
        saved, deadline = display.saved, time.monotonic() + SAVING
        while display.saved == saved and time.monotonic() < deadline:
            if self._look(running, display) is not None:
                return
            wait([running], INTERVAL)

    def close(self) -> None:
        """End the workers and release what they occupy."""
        if self._connection is not None:
            self._end()
            with suppress(Exception):
                self._connection.close()
            self._connection = None

    def _end(self) -> None:
        """Tell the workers that there are no more jobs and wait for their end; those that train are ended at once."""
        import ray

        running, self._fit, self._given = self._fit, None, End(self._groups)
        deadline = time.monotonic() + (0 if self._busy else ENDING)
        if running is None:
            return
        with suppress(Exception):
            while not running.done() and time.monotonic() < deadline:
                self._opened().drain(self._given)
                wait([running], ENDS)
            if not running.done():
                for group in ray.get(self._opened().tracker.groups.remote(), timeout=ANSWER):
                    ray.util.remove_placement_group(group)
                wait([running], ANSWER)


def into(found: "Future[Any]", work: Callable[[], Any]) -> None:
    """Put the result of ``work``, or its error, into a future."""
    try:
        found.set_result(work())
    except BaseException as error:
        found.set_exception(error)


def tried(job: Job, work: Callable[[], dict[str, Any]], progress: Progress) -> dict[str, Any]:
    """Return the result of ``work``, retried once if a figure was not a number, in case of a hardware error."""
    for again in (True, False):
        if (wrong := repair_list(job)) is not None:
            progress.note(f"{job.name}: Ray Train's list of checkpoints {wrong}; it was deleted and is not needed")
        result = work()
        if (damaged := result.get("damaged")) is not None:
            raise DamagedError(f"{job.name}: {damaged}")
        if (stopped := result.get("stopped")) is None:
            break
        found = NotFinite(**stopped)
        if not again:
            write_stop(job, found)
            raise StageError(advice(job, found))
        progress.note(f"{job.name}: {found}; retrying once from step {found.checkpoint}")
    return result


def fit(job: Job, placement: Placement, tracker: Any, group: int) -> Any:
    """Run a group of workers with Ray Train until the driver has no more jobs for it; return Ray Train's result.

    The run has the name of its first job, ``job``.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from rewarm.stages.train.worker_group import GroupNoted

    version2: Any = ray.train  # its stubs are version 1's
    resources, on_gpu, watchers = placement
    filesystem, path = job.checkpoints.filesystem()
    trainer = TorchTrainer(
        train_worker,  # type: ignore[arg-type]  # its return value is the result
        train_loop_config={**description(job), "settings": job.settings, "tracker": tracker, "group": group},
        scaling_config=version2.ScalingConfig(
            num_workers=job.settings.num_workers, use_gpu=on_gpu, resources_per_worker=resources
        ),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        run_config=version2.RunConfig(
            name=job.name,
            storage_path=path,
            storage_filesystem=None if job.checkpoints.is_local else filesystem,
            failure_config=version2.FailureConfig(max_failures=0, controller_failure_limit=0),  # see retried
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
