"""What a group of workers asks of the cluster and has of it, told to the driver.

The driver says what is awaited, and gives back what the group had if its leader died.
"""

from typing import Any

from ray.train.v2._internal.execution.callback import WorkerGroupCallback  # as Ray's own cleaner; nothing public tells

from rewarm.stages.core.awaiting import amount


class GroupNoted(WorkerGroupCallback):
    """Tells ``tracker`` the placement group of every group of workers that starts."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """A group begins to look for room."""
        import ray

        asked = amount(worker_group_context.num_workers, worker_group_context.resources_per_worker)
        ray.get(self.tracker.placing.remote(asked))

    def after_worker_group_start(self, worker_group: Any) -> None:
        """A group has started."""
        import ray

        handle = worker_group.get_worker_group_state().placement_group_handle
        ray.get(self.tracker.group.remote(handle.placement_group))
