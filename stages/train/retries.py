"""Retries of a training run: unlimited while it makes progress, limited if it makes none.

A run of several days on spot nodes loses its workers often and resumes from its last checkpoint each time. Only a run
that fails repeatedly at the same point has to end, so a new checkpoint resets the count of failures.
"""

from collections.abc import Callable
from typing import Any

from rewarm.stages.core.awaiting import amount, no_room
from rewarm.stages.core.errors import StageError, origin
from rewarm.stages.core.progress import Progress
from rewarm.stages.train.checkpoints import saved_step
from rewarm.stages.train.job import Job


def retried(job: Job, work: Callable[[], Any], resources: dict[str, float], tracker: Any, progress: Progress) -> Any:
    """Return the result of ``work``, retried when workers fail, find no room, or their controller process dies.

    Ray Train would count the failures of a whole run and restart workers itself; here each failure ends its attempt. If
    the controller died, the resources of its workers are released first: Ray's own cleaner finds no cluster on a
    machine that runs several. Raises ``StageError`` after more than ``settings.max_failures`` failures without a new
    checkpoint in between, or ``NoRoomError`` if the last of them was a lack of room; a typed error of a worker is
    raised unchanged, and immediately if a retry would not help.
    """
    import ray.train
    from ray.exceptions import ActorDiedError

    version2: Any = ray.train  # its stubs are version 1's
    allowed, saved, failures = job.settings.max_failures, saved_step(job.checkpoints / job.name), 0
    while True:
        try:
            return work()
        except (ActorDiedError, version2.TrainingFailedError) as error:
            failed: Exception = error
        typed = origin(failed)
        if typed is not None and typed.remedy not in ("again", "later"):
            raise typed from failed
        before, saved = saved, max(saved, saved_step(job.checkpoints / job.name))
        failures = 1 if saved > before else failures + 1
        because = cause(failed)
        if 0 <= allowed < failures:
            if found_no_room(failed):
                asked = amount(job.settings.num_workers, resources)
                raise no_room(job.name, asked, f"in {failures} attempts") from failed
            if typed is not None:
                raise typed from failed
            raise StageError(
                f"{job.name}: {because}. Failures since the last new checkpoint (step {saved}): {failures}, and "
                f"train.max_failures is {allowed}. Checkpoints are kept: the same command resumes from there. {failed}"
            ) from failed
        if isinstance(failed, ActorDiedError):
            for group in ray.get(tracker.groups.remote()):
                ray.util.remove_placement_group(group)
        limit = "" if allowed < 0 else f" of at most {allowed + 1} without a new checkpoint"
        progress.note(f"{job.name}: {because}; restarting from step {saved} (failure {failures}{limit})")


def found_no_room(error: Exception) -> bool:
    """Return whether an attempt ended because its workers found no room in time."""
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError  # no public API for it

    return isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError)


def cause(error: Exception) -> str:
    """Return the reason why an attempt ended, in one line."""
    if found_no_room(error):
        return "its workers found no room on the cluster in time"
    workers: dict[int, Exception] = getattr(error, "worker_failures", {})
    if workers:
        rank, first = min(workers.items())
        lines = [line.strip() for line in str(first).splitlines() if line.strip()] or [type(first).__name__]
        said = lines[-1] if hasattr(first, "cause") else f"{type(first).__name__}: {lines[0]}"
        return f"worker {rank} failed ({said[:200]})"
    inner = getattr(error, "controller_failure", None)
    if inner is not None:
        return f"its workers could not be started ({type(inner).__name__}: {str(inner).strip()[:200]})"
    return "the controller process of the workers died"
