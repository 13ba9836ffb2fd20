"""What work waits for on a cluster that has no room for it yet: said every minute, and not for ever.

Nodes may come: an autoscaler starts them, or a person does. Whether that happens is seen only by waiting, so whoever
waits is told what was asked for, what there is and what is on its way.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rewarm.stages.core.errors import NoRoomError
from rewarm.stages.core.progress import Progress

EVERY = 60.0  # seconds between two lines about what is awaited
TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"  # Ray Train's: seconds for workers to find room, in one attempt
DEFAULT_TIMEOUT = 900.0  # minutes are normal on clusters that scale up from nothing
ATTEMPTS = 3  # start time-outs after which work that has never begun is ended


def timeout() -> float:
    """Seconds that one attempt waits for room on the cluster."""
    return float(os.environ.get(TIMEOUT, DEFAULT_TIMEOUT))


def amount(count: int, resources: Mapping[str, float]) -> str:
    """A number of equal places, as ``8 × (1 GPU + 12 CPUs)``."""
    parts = [
        f"{value:g} {kind}{'s' * (value != 1)}" for kind, value in sorted(resources.items(), reverse=True) if value
    ]
    return f"{count} × ({' + '.join(parts)})"


def there_is() -> str:
    """What the cluster has, and what its autoscaler is starting or failed to start, in words."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    whole = {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
    has = " and ".join(f"{free.get(kind, 0):g} of {whole[kind]:g} {kind}s" for kind in whole)
    return f"{len(nodes)} node{'s' * (len(nodes) != 1)} with {has} free; {arriving()}"


def arriving() -> str:
    """The nodes that the autoscaler is starting, and why it could not start others."""
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    try:
        status: Any = get_cluster_status(ray.get_runtime_context().gcs_address)
    except Exception as error:  # the store of a cluster that is being repaired: the wait goes on
        return f"its autoscaler cannot be asked ({type(error).__name__})"
    starting = [f"{one.count} {one.ray_node_type_name}" for one in status.pending_launches]
    starting += [f"1 {one.ray_node_type_name}" for one in status.pending_nodes]
    failed = [f"{one.ray_node_type_name}: {one.details or 'no reason given'}" for one in status.failed_launches]
    said = f"starting: {', '.join(starting)}" if starting else "no node is being started"
    return said + (f"; could not be started: {'; '.join(failed[-3:])}" if failed else "")


class Waiting:
    """A wait for room: a note every minute, and ``NoRoomError`` in the end."""

    def __init__(self, label: str, asked: str, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self.label, self.asked, self.progress, self.clock = label, asked, progress, clock
        self.begun = self.said = clock()

    def tick(self, limit: float | None = None) -> None:
        """Say what is awaited if a minute has passed. Raises ``NoRoomError`` after ``limit`` seconds of waiting."""
        waited = self.clock() - self.begun
        if limit is not None and waited >= limit:
            raise no_room(self.label, self.asked, f"in {waited / 60:.0f} minutes")
        if self.clock() - self.said >= EVERY:
            self.said = self.clock()
            self.progress.note(f"{self.label}: waits for room: asks for {self.asked}; there is: {there_is()}")


def no_room(label: str, asked: str, when: str) -> NoRoomError:
    """The error for work that found no room ``when``."""
    return NoRoomError(
        f"{label}: found no room on the cluster {when}: it asks for {asked}; there is: {there_is()}. Add such nodes "
        "(the autoscaler's limits and the cloud's quota decide), or set train.num_workers, train.cpus_per_worker or "
        "train.device to what there is. What is saved stays, the same command resumes from there"
    )


def first_done(running: Iterable[Any], started: bool, waiting: Waiting) -> Any:
    """The first of Ray's references to be done. While no actor has ``started``, what is awaited is said.

    Raises ``NoRoomError`` if none has its place after ``ATTEMPTS`` start time-outs.
    """
    import ray

    refs, limit = list(running), ATTEMPTS * timeout()
    while True:
        done, _ = ray.wait(refs, num_returns=1, timeout=min(EVERY, limit))
        if done:
            return done[0]
        if not started:
            waiting.tick(limit)
