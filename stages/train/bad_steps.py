"""Bad steps: outliers of the loss or the gradient norm, which are skipped, left out after a return, or end the run.

A step is bad if its loss or its gradient norm is more than ``skip_sigma`` standard deviations above the mean of the
last ``skip_window`` steps that were applied (the rule of OLMo-core's ``SkipStepOptimizer``). It is known before the
optimizer's step, so weights and optimizer state stay as they were. If more than ``skip_limit`` steps of a window are
bad, skipping has not helped: the run returns to the last checkpoint before the first of them, and leaves out the steps
from there to the last one. After ``return_limit`` returns it stops.

Each decision depends on the recorded curve alone, so a resumed run makes the same ones.
"""

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from rewarm.stages.core.storage import Folder
from rewarm.stages.train.decisions import SKIPPED, Return, returns_name
from rewarm.stages.train.job import Job
from rewarm.stages.train.not_finite import NotFinite, NotFiniteError
from rewarm.stages.train.settings import TrainSettings

if TYPE_CHECKING:
    from rewarm.stages.train.engine import Place


class ReturnError(Exception):
    """Too many steps of a window were bad. Raised on all ranks."""

    def __init__(self, decision: Return) -> None:
        super().__init__(str(decision))
        self.decision = decision


class Guard:
    """Judge of the steps of a run, on every rank alike."""

    def __init__(self, settings: TrainSettings) -> None:
        assert settings.skip_sigma is not None, "a guard has a threshold"
        self.settings = settings
        self.reason: str | None = None  # why the last step was skipped
        self._losses: deque[float] = deque(maxlen=settings.skip_window)
        self._norms: deque[float] = deque(maxlen=settings.skip_window)
        self._skipped: list[int] = []
        self._loss = 0.0
        self._norm: float | None = None
        self._judged = False

    def restore(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take the state after the rows of a curve."""
        self._losses.clear()
        self._norms.clear()
        self._skipped = []
        for row in rows:
            if SKIPPED in row:
                self._skipped.append(row["step"])
            else:
                self._apply(row["loss"], row["grad_norm"])

    def begin(self, loss: float) -> None:
        """Begin to judge a step, of which all micro batches are accumulated; ``loss`` is the mean over all ranks."""
        self._loss, self._norm, self._judged, self.reason = as_fp32(loss), None, False, None

    def skips(self, norm: float | None) -> bool:
        """Return whether the step is not to be applied; ``norm`` is that of its gradient before clipping.

        The optimizer may ask several times in a step (ZeRO 3): the first answer holds.
        """
        if not self._judged:
            self._judged, self._norm = True, norm
            self.reason = self._outlier("loss", self._losses, self._loss)
            if norm is not None and self.reason is None:
                self.reason = self._outlier("gradient norm", self._norms, as_fp32(norm))
        return self.reason is not None

    def end(self, step: int) -> None:
        """Close a step, counted from 1. Raises ``ReturnError`` if too many steps of the window were skipped."""
        if self.reason is None:
            self._apply(self._loss, self._norm)
            return
        self._skipped.append(step)
        recent = [bad for bad in self._skipped if bad > step - self.settings.skip_window]
        if len(recent) > self.settings.skip_limit:
            raise ReturnError(Return(recent[0], step, recent))

    def _apply(self, loss: float, norm: float | None) -> None:
        self._losses.append(as_fp32(loss))
        if norm is not None:
            self._norms.append(as_fp32(norm))

    def _outlier(self, name: str, values: deque[float], value: float) -> str | None:
        if len(values) < self.settings.skip_window // 2:  # too few to judge by
            return None
        mean, deviation = statistics.fmean(values), statistics.pstdev(values)
        sigma = self.settings.skip_sigma
        assert sigma is not None, "a guard has a threshold"
        limit = mean + sigma * deviation
        if not value > limit:
            return None
        return (
            f"{name} {value:.4g} above {limit:.4g} (mean {mean:.4g} + {sigma:g} · {deviation:.2g}, {len(values)} steps)"
        )


def as_fp32(value: float) -> float:
    """Return a figure in single precision, so that a recorded one and a new one compare equal."""
    return float(torch.tensor(value, dtype=torch.float32))


def guarded(optimizer: Any, guard: Guard, norm: Callable[[], float | None]) -> None:
    """Make an optimizer ask the guard before it applies a step."""
    plain = optimizer.step

    def step(*arguments: Any, **options: Any) -> Any:
        return None if guard.skips(norm()) else plain(*arguments, **options)

    optimizer.step = step


def mean_over_ranks(loss: torch.Tensor, world_size: int) -> float:
    """Return the mean of a scalar over all ranks. A collective, which waits for the device."""
    total = loss.detach().double().clone()
    dist.all_reduce(total)
    return float(total) / world_size


# -- returns -----------------------------------------------------------------------------------------------------


def returns_file(job: Job) -> tuple[Folder, str]:
    """Return folder and name of the file that records a run's returns."""
    return job.checkpoints, returns_name(job.name)


def read_returns(job: Job) -> list[Return]:
    """Return the returns of a run so far, in order; the same on all ranks. A collective."""
    folder, name = returns_file(job)
    shared: list[Any] = [folder.read_json(name) if dist.get_rank() == 0 and folder.exists(name) else []]
    dist.broadcast_object_list(shared)
    return [Return(**value) for value in shared[0]]


def record_return(job: Job, place: "Place", before: Sequence[Return], decision: Return) -> None:
    """Record a return, before the run does so. A collective; raises ``NotFiniteError`` if no more are allowed."""
    if len(before) >= job.settings.return_limit:
        what = f"the number of bad steps among the last {job.settings.skip_window}"
        raise NotFiniteError(NotFinite(decision.last, what, str(len(decision.skipped)), job.rate(decision.last - 1)))
    if place.rank == 0:
        folder, name = returns_file(job)
        folder.write_json(name, [asdict(each) for each in (*before, decision)])
    dist.barrier()


def precedes(returns: Sequence[Return], step: int, made_after: int) -> bool:
    """Return whether a checkpoint of ``step`` steps, made after a number of returns, may be resumed from."""
    return all(step < each.first for each in returns[made_after:])
