"""Retries of a training run: unlimited while it makes progress, limited if it makes none.

A run of several days on spot nodes loses its workers often and resumes from its last checkpoint each time. Only a run
that fails repeatedly at the same point has to end, so a new checkpoint resets the count of failures.

A disk that fails in the middle of a checkpoint is no fault of the run: attempts that end with its errors are not
counted, and are repeated until it responds or ``REWARM_STORE_DEADLINE`` has passed. Stores are waited for inside an
attempt.
"""

from collections.abc import Callable
from typing import Any

from rewarm.stages.core.awaiting import amount, no_room
from rewarm.stages.core.errors import FullError, RewarmError, StageError, UnreachableError, origin, plain
from rewarm.stages.core.patience import Waiting, disk_fault, limited
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.train.checkpoints import saved_step
from rewarm.stages.train.job import Job

TRIED = ".tried"  # a file that is written and deleted to see whether the disk responds
TRIED_BYTES = 1 << 20  # a full disk often has room for an empty file


def retried(job: Job, work: Callable[[], Any], resources: dict[str, float], tracker: Any, progress: Progress) -> Any:
    """Return the result of ``work``, retried when workers fail, find no room, or their controller process dies.

    Ray Train would count the failures of a whole run and restart workers itself; here each failure ends its attempt. If
    the controller died, the resources of its workers are released first: Ray's own cleaner finds no cluster on a
    machine that runs several. Raises ``StageError`` after more than ``settings.max_failures`` failures without a new
    checkpoint in between, or ``NoRoomError`` if the last of them was a lack of room; ``UnreachableError`` or
    ``FullError`` if a disk still fails at the deadline; a typed error of a worker is raised unchanged, and immediately
    if a retry would not help or a store was waited for already.
    """
    import ray.train
    from ray.exceptions import ActorDiedError

    version2: Any = ray.train  # its stubs are version 1's
    allowed, saved, failures = job.settings.max_failures, saved_step(job.checkpoints / job.name), 0
    waiting: Waiting | None = None  # for the disk, since the last new checkpoint
    while True:
        try:
            return work()
        except (ActorDiedError, version2.TrainingFailedError) as error:
            failed: Exception = error
        typed = origin(failed)
        if typed is not None and ends_run(typed):
            raise typed from failed
        before, saved = saved, max(saved, saved_step(job.checkpoints / job.name))
        fault = disk_fault(failed)
        # Ray keeps the cause of a controller's death as text alone, and errors of native writers have no number.
        if fault is None and (job.checkpoints.is_local or isinstance(failed, ActorDiedError)):
            fault = tried_disk(job.checkpoints)
        if fault is not None:
            if waiting is None or saved > before:
                waiting = Waiting(f"{job.checkpoints}/{job.name}")
            await_disk(job.checkpoints, fault, waiting)
            progress.note(
                f"{job.name}: {cause(failed)}; restarting from step {saved} (not counted: a fault of the disk)"
            )
            continue
        failures = 1 if saved > before else failures + 1
        because = cause(failed)
        if 0 <= allowed < failures:
            raise exhausted(job, failed, failures, saved, resources) from failed
        if isinstance(failed, ActorDiedError):
            for group in ray.get(tracker.groups.remote()):
                ray.util.remove_placement_group(group)
        limit = "" if allowed < 0 else f" of at most {allowed + 1} without a new checkpoint"
        progress.note(f"{job.name}: {because}; restarting from step {saved} (failure {failures}{limit})")


def exhausted(job: Job, failed: Exception, failures: int, saved: int, resources: dict[str, float]) -> RewarmError:
    """Return the error of a run whose attempts since step ``saved`` all failed, the last one with ``failed``."""
    if found_no_room(failed):
        return no_room(job.name, amount(job.settings.num_workers, resources), f"in {failures} attempts")
    return origin(failed) or StageError(
        f"{job.name}: {cause(failed)}. Failures since the last new checkpoint (step {saved}): {failures}, and "
        f"train.max_failures is {job.settings.max_failures}. Checkpoints are kept: the same command resumes from "
        f"there. {plain(failed)}"
    )


def ends_run(typed: RewarmError) -> bool:
    """Return whether another attempt would not help, or a store was waited for already."""
    return typed.remedy not in ("again", "later") or isinstance(typed, UnreachableError | FullError)


def await_disk(folder: Folder, fault: OSError | None, waiting: Waiting) -> None:
    """Wait until a disk takes a small write: an attempt would fail as long as the disk does."""
    while fault is not None:
        waiting.wait(fault)
        fault = tried_disk(folder)


def tried_disk(folder: Folder) -> OSError | None:
    """Return the error that a disk answers a small write with now; None if it succeeds."""
    try:
        with limited(0):
            folder.write(TRIED, bytes(TRIED_BYTES))
            folder.delete(TRIED)
    except (UnreachableError, FullError) as error:
        return error.__cause__ if isinstance(error.__cause__, OSError) else None
    return None


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
        lines = [line.strip() for line in plain(first).splitlines() if line.strip()] or [type(first).__name__]
        said = lines[-1] if hasattr(first, "cause") else f"{type(first).__name__}: {lines[0]}"
        return f"worker {rank} failed ({said[:200]})"
    inner = getattr(error, "controller_failure", None)
    if inner is not None:
        return f"its workers could not be started ({type(inner).__name__}: {plain(inner).strip()[:200]})"
    return "the controller process of the workers died"
