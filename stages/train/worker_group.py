"""Ray Train callback that reports the resources of a group of workers to the driver.

The driver shows what a group is waiting for, and releases its resources if its leader died.
"""

from typing import Any

from ray.train.v2._internal.execution.callback import WorkerGroupCallback  # no public API

from rewarm.stages.core.awaiting import amount


class GroupNoted(WorkerGroupCallback):
    """Reports the placement group of every starting group of workers to ``tracker``."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Report that a group is waiting for resources."""
        import ray

        asked = amount(worker_group_context.num_workers, worker_group_context.resources_per_worker)
        ray.get(self.tracker.placing.remote(asked))

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Report the resources of a group that has started."""
        import ray

        handle = worker_group.get_worker_group_state().placement_group_handle
        ray.get(self.tracker.group.remote(handle.placement_group))
