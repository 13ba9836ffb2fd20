"""The recorder of a training run: its curve and validations, exchanged by the ranks and streamed to the driver."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from rewarm.stages.train.data import ValidationSet
from rewarm.stages.train.job import Job, Log
from rewarm.stages.train.metrics import TrainingReport
from rewarm.stages.train.not_finite import WORDS, NotFinite, NotFiniteError, is_finite
from rewarm.stages.train.settings import TrainSettings

if TYPE_CHECKING:
    from rewarm.stages.train.engine import Engine, Place

FLUSH_STEPS = 10  # steps for which losses stay on the device before the ranks exchange them
SETTLING_STEPS = 3  # first steps of an attempt, excluded from the throughput


@torch.no_grad()
def validate(engine: "Engine", look: ValidationSet, settings: TrainSettings) -> float:
    """Return the mean loss in nats per token over a validation set, on all ranks. A collective."""
    from rewarm.stages.inference.causal import collate, token_losses

    place = engine.place
    windows = look.part(place.rank, place.world_size)
    filler = next((window for window in windows if window is not None), None) or look.stream.window(0, look.seq_len)
    total = torch.zeros(2, dtype=torch.float64)
    engine.engine.eval()
    for first in range(0, len(windows), engine.micro_batch):
        piece = windows[first : first + engine.micro_batch]
        batch = collate([window or filler for window in piece], place.device, settings.document_mask)
        losses = token_losses(engine.engine, *batch).double().sum(dim=1).cpu()
        real = torch.tensor([window is not None for window in piece])
        total += torch.stack([losses[real].sum(), real.sum().double() * look.seq_len])
    engine.engine.train()
    summed = total.to(place.device)
    dist.all_reduce(summed)
    return float(summed[0] / summed[1])


class Recorder:
    """Log of the curve on every rank (saved with checkpoints), streamed from rank 0 to the driver."""

    def __init__(self, job: Job, place: "Place", log: Log, tracker: Any, report: TrainingReport | None = None) -> None:
        self.job = job
        self.place = place
        self.log = log
        self.tracker = tracker if place.rank == 0 else None
        self.report = report
        self._waiting: list[tuple[int, torch.Tensor, float, float | None, torch.Tensor | None]] = []
        self._settling = SETTLING_STEPS
        self._clock = time.perf_counter()

    def attempt(self, step: int) -> None:
        """Record that a group of workers started from ``step``."""
        if self.place.rank == 0:
            attempts = self.job.checkpoints / f"{self.job.name}-attempts"
            attempts.write_json(f"{time.time_ns()}.json", {"step": step, "world_size": self.place.world_size})
        if self.tracker is not None:
            self.tracker.begin.remote(step, self.job.steps)
        self._go_on()

    def step(
        self, step: int, loss: torch.Tensor, rate: float, norm: float | None, divergence: torch.Tensor | None
    ) -> None:
        """Record the figures of a step; the ranks exchange them every few steps.

        They are exchanged at once if the gradient norm, which is the same on all ranks, is not a number.
        """
        self._waiting.append((step, loss, rate, norm, divergence))
        if self.report is not None:
            self.report.step(step, rate, math.nan if norm is None else norm)
        if len(self._waiting) == FLUSH_STEPS or not is_finite(norm):
            self.flush()

    def flush(self) -> None:
        """Average the waiting losses over the ranks, log and stream them. A collective.

        Raises ``NotFiniteError`` at the first step whose loss or gradient is not a number: every checkpoint follows a
        flush, so none is saved in that state.
        """
        if not self._waiting:
            return
        pairs = [(loss, loss.new_zeros(()) if kl is None else kl) for _, loss, _, _, kl in self._waiting]
        figures = torch.stack([torch.stack(pair) for pair in pairs]).double()
        dist.all_reduce(figures)
        means = (figures / self.place.world_size).cpu().tolist()
        rows = [
            {"step": step, "tokens": self._tokens(step), "lr": rate, "loss": mean, "grad_norm": norm}
            | ({} if divergence is None else {"kl": kl})
            for (step, _, rate, norm, divergence), (mean, kl) in zip(self._waiting, means, strict=True)
        ]
        self._waiting = []
        for row in rows:
            for name in ("loss", "grad_norm"):
                if not is_finite(row[name]):
                    raise NotFiniteError(NotFinite(row["step"], WORDS[name], str(row[name]), row["lr"]))
        self.log.steps += rows
        self._time(len(rows))
        if self.tracker is not None:
            self.tracker.steps.remote(rows, self.log.tokens_per_second)
        if self.report is not None:
            self.report.losses(rows[-1])

    def _tokens(self, step: int) -> int:
        return self.job.position + step * self.job.mixture.tokens_per_step

    def _time(self, steps: int) -> None:
        now = time.perf_counter()
        if self._settling > 0:
            self._settling -= steps
        else:
            self.log.timed_tokens += steps * self.job.mixture.tokens_per_step
            self.log.timed_seconds += now - self._clock
        self._clock = now

    def validation(self, step: int, looks: list[ValidationSet], engine: "Engine") -> None:
        """Measure the validation losses and log them. A collective."""
        with self.pause():
            losses = {look.name: validate(engine, look, self.job.settings) for look in looks}
            for name, loss in losses.items():
                if not is_finite(loss):
                    raise NotFiniteError(NotFinite(step, f"the validation loss on {name}", str(loss), None))
            row = {"step": step, "tokens": self._tokens(step), "losses": losses}
            self.log.validation.append(row)
            if self.tracker is not None:
                self.tracker.validation.remote(row)
            if self.report is not None:
                self.report.validation(losses)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude work that is not training from the throughput."""
        self.flush()
        yield
        self._go_on()

    def _go_on(self) -> None:
        self._clock = time.perf_counter()
        if self.report is not None:
            self.report.go_on()
