"""What a group of workers has of the cluster, told to the driver: it gives it back where the group's leader died."""

from typing import Any

from ray.train.v2._internal.execution.callback import WorkerGroupCallback  # as Ray's own cleaner; nothing public tells


class GroupNoted(WorkerGroupCallback):
    """Tells ``tracker`` the placement group of every group of workers that starts."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def after_worker_group_start(self, worker_group: Any) -> None:
        """A group has started."""
        import ray

        handle = worker_group.get_worker_group_state().placement_group_handle
        ray.get(self.tracker.group.remote(handle.placement_group))
