"""Entry point of a training worker: it trains the jobs that the driver gives to its group, one after another.

Importing this module does not import torch: the driver names ``train_worker``, the workers run it.
"""

import socket
import time
from typing import TYPE_CHECKING, Any

from rewarm.stages.core import operators
from rewarm.stages.core.leftovers import remove_folders
from rewarm.stages.train.tracker import End, Given, Wait

if TYPE_CHECKING:
    from rewarm.stages.train.job import Job

POLL = 0.2  # seconds between two questions for the next job
PATIENCE = 60.0  # seconds for which a tracker may not answer: Ray restarts it if its process died


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Train jobs on this rank until the driver has no more; rank 0's return value is the last job's result.

    Failures that a retry would not fix are part of a result instead of raised, because Ray Train restarts workers that
    raise: ``damaged``, an input that does not match the record, and ``stopped``, a figure that is not a number. Either
    ends the group.
    """
    from rewarm.stages.train.loop import shown_by, take_place, train_job

    operators.load(config["settings"].offload_optimizer, say=lambda line: None)
    tracker, group = config["tracker"], config["group"]
    place = take_place(config["settings"])
    show = shown_by(tracker, place)
    if place.local_rank == 0 and (removed := remove_folders()):
        tracker.note.remote(f"{socket.gethostname()}: {removed}")
    done, result = 0, dict[str, Any]()
    while (given := following(tracker, group, done, result if place.rank == 0 else None)) is not None:
        done, job = given
        result = train_job(job, place, tracker, show)
        if "damaged" in result or "stopped" in result:
            break
    return {**result, "job": done}


def following(tracker: Any, group: int, done: int, result: dict[str, Any] | None) -> "tuple[int, Job] | None":
    """Return number and description of the job after ``done``, as soon as there is one; None if there are no more.

    ``result`` is that of ``done``. It goes with every question, so that a tracker that has lost it has it again.
    """
    import ray
    from ray.exceptions import RayError

    lost: float | None = None  # since when the tracker has not answered
    while True:
        try:
            answer: Given | Wait | End = ray.get(tracker.following.remote(group, done, result))
        except RayError:
            lost = lost or time.monotonic()
            if time.monotonic() - lost > PATIENCE:
                raise
            answer = Wait()
        else:
            lost = None
        if isinstance(answer, End):
            return None
        if isinstance(answer, Given):
            return answer.number, ray.get(answer.job[0])
        time.sleep(POLL)
