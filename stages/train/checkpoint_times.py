"""When a checkpoint is saved: after a number of steps or minutes, at a notice of preemption, and when a driver stops.

The ranks must agree. Steps they count alike; clocks and notices are agreed upon about twice a second, by a small sum
over gloo, which waits for no GPU.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from rewarm.stages.train.settings import TrainSettings

if TYPE_CHECKING:
    from rewarm.stages.train.engine import Place

TICK = 0.5  # seconds between agreements
SECONDS = 60.0
ASKED = 2  # a checkpoint is wanted by the driver; 1: by the clock


class CheckpointTimes:
    """Times of a run's checkpoints, on every rank alike."""

    def __init__(
        self,
        settings: TrainSettings,
        place: "Place",
        preempted: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        requested: Callable[[], bool] | None = None,
    ) -> None:
        """``preempted`` returns whether a node of the run is about to be taken away; by default Ray Train is asked.

        ``requested`` returns, on rank 0, whether the driver has asked for a checkpoint since the last call.

        A collective.
        """
        self.settings = settings
        self.place = place
        self._preempted = preempted or announced
        self._requested = requested if place.rank == 0 else None
        self._clock = clock
        self._saved = self._ticked = clock()
        self._steps, self._stride = 0, 1
        self._warned = False
        self.stops = False  # the driver ends the workers after this checkpoint
        many_gpus = place.device.type == "cuda" and place.world_size > 1
        self._group: Any = dist.new_group(backend="gloo") if many_gpus else None

    def due(self, step: int) -> bool:
        """Return whether to save a checkpoint after ``step`` steps. A collective, called once a step."""
        self.stops = False
        by_step = step % self.settings.checkpoint_every == 0
        by_clock = self._agreed() if self._tick() else False
        if by_step or by_clock:
            self._saved = self._clock()
        return by_step or by_clock

    def _tick(self) -> bool:
        self._steps += 1
        return self._steps >= self._stride

    def _agreed(self) -> bool:
        """Agree on rank 0's clock and requests, and on the steps until the next agreement."""
        now = self._clock()
        each = max((now - self._ticked) / self._steps, 1e-6)
        minutes = self.settings.checkpoint_minutes
        late = minutes is not None and now - self._saved >= minutes * SECONDS
        asked = self._requested is not None and self._requested()
        figures = torch.tensor([ASKED if asked else int(late), max(1, min(1000, int(TICK / each)))], dtype=torch.int64)
        if self.place.world_size > 1:
            dist.broadcast(figures, src=0, group=self._group)
        is_wanted, self._stride = figures.tolist()
        self._ticked, self._steps = now, 0
        self.stops = is_wanted == ASKED
        notice = self._notice()  # a collective
        return bool(is_wanted) or notice

    def _notice(self) -> bool:
        """Return whether a notice of preemption has arrived since it was last absent."""
        warned, self._warned = self._warned, self._preempted()
        return self._warned and not warned


def announced() -> bool:
    """Return whether Ray Train knows that a node of this run is about to be taken away. A collective."""
    import ray.train

    version2: Any = ray.train  # its stubs are version 1's
    return version2.get_preemption_info() is not None
