"""Waiting for resources on a cluster that has no room yet: reported every minute, and limited in time.

Nodes may be added by an autoscaler or a person, which is known only by waiting. Meanwhile the user sees the requested
resources, the available resources, and the nodes that are starting.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rewarm.stages.core.errors import NoRoomError
from rewarm.stages.core.progress import Progress

EVERY = 60.0  # seconds between two reports
TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"  # Ray Train's limit in seconds for one attempt to start workers
DEFAULT_TIMEOUT = 900.0  # clusters that scale up from zero need minutes
ATTEMPTS = 3  # start timeouts after which work that has not started fails


def timeout() -> float:
    """Return the seconds that one attempt waits for room on the cluster."""
    return float(os.environ.get(TIMEOUT, DEFAULT_TIMEOUT))


def amount(count: int, resources: Mapping[str, float]) -> str:
    """Return a description of ``count`` equal bundles of resources, such as ``8 × (1 GPU + 12 CPUs)``."""
    parts = [
        f"{value:g} {kind}{'s' * (value != 1)}" for kind, value in sorted(resources.items(), reverse=True) if value
    ]
    return f"{count} × ({' + '.join(parts)})"


def there_is() -> str:
    """Return a description of the cluster's resources, and of nodes that its autoscaler is starting or could not."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    whole = {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
    has = " and ".join(f"{free.get(kind, 0):g} of {whole[kind]:g} {kind}s" for kind in whole)
    return f"{len(nodes)} node{'s' * (len(nodes) != 1)} with {has} free; {arriving()}"


def arriving() -> str:
    """Return a description of the nodes that the autoscaler is starting, and the reasons why others failed."""
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    try:
        status: Any = get_cluster_status(ray.get_runtime_context().gcs_address)
    except Exception as error:  # the store of a cluster under repair: the wait continues
        return f"no status from its autoscaler ({type(error).__name__})"
    starting = [f"{launch.count} {launch.ray_node_type_name}" for launch in status.pending_launches]
    starting += [f"1 {node.ray_node_type_name}" for node in status.pending_nodes]
    failed = [
        f"{launch.ray_node_type_name}: {launch.details or 'no reason given'}" for launch in status.failed_launches
    ]
    said = f"starting: {', '.join(starting)}" if starting else "no node is being started"
    return said + (f"; could not be started: {'; '.join(failed[-3:])}" if failed else "")


class Waiting:
    """A wait for room, with a note every minute and finally ``NoRoomError``."""

    def __init__(self, label: str, asked: str, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self.label, self.asked, self.progress, self.clock = label, asked, progress, clock
        self.begun = self.said = clock()

    def tick(self, limit: float | None = None) -> None:
        """Report the wait if a minute has passed. Raises ``NoRoomError`` after ``limit`` seconds of waiting."""
        waited = self.clock() - self.begun
        if limit is not None and waited >= limit:
            raise no_room(self.label, self.asked, f"in {waited / 60:.0f} minutes")
        if self.clock() - self.said >= EVERY:
            self.said = self.clock()
            self.progress.note(f"{self.label}: waiting for room: requested {self.asked}; available: {there_is()}")


def no_room(label: str, asked: str, when: str) -> NoRoomError:
    """Return the error for work that found no room ``when``."""
    return NoRoomError(
        f"{label}: found no room on the cluster {when}: requested {asked}; available: {there_is()}. Add such nodes "
        "(check the autoscaler's limits and the cloud's quota), or adapt train.num_workers, train.cpus_per_worker or "
        "train.device to the cluster. Saved results are kept; the same command resumes from there"
    )


def first_done(running: Iterable[Any], started: bool, waiting: Waiting) -> Any:
    """Return the first of Ray's references to be ready; report the wait until an actor has ``started``.

    Raises ``NoRoomError`` if no actor has started after ``ATTEMPTS`` start timeouts.
    """
    import ray

    refs, limit = list(running), ATTEMPTS * timeout()
    while True:
        done, _ = ray.wait(refs, num_returns=1, timeout=min(EVERY, limit))
        if done:
            return done[0]
        if not started:
            waiting.tick(limit)
