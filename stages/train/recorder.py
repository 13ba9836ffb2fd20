"""The recorder of a training run: its curve and validations, exchanged by the ranks and streamed to the driver."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from rewarm.stages.core.storage import Folder
from rewarm.stages.train.data import ValidationSet
from rewarm.stages.train.decisions import SKIPPED, Return
from rewarm.stages.train.experiment_trackers import Trackers
from rewarm.stages.train.hangs import Watchdog
from rewarm.stages.train.job import Job, Log
from rewarm.stages.train.metrics import TrainingReport
from rewarm.stages.train.not_finite import WORDS, NotFinite, NotFiniteError, is_finite
from rewarm.stages.train.settings import TrainSettings

if TYPE_CHECKING:
    from rewarm.stages.train.engine import Engine, Place

FLUSH_STEPS = 10  # steps for which losses stay on the device before the ranks exchange them
SETTLING_STEPS = 3  # first steps of an attempt, excluded from the throughput
OLDER = {
    "loss": "whole",
    "attention": "sdpa",
    "compile": "off",
    "deepspeed": "{}",
}  # the arithmetic of versions that did not record it


@torch.no_grad()
def validate(engine: "Engine", look: ValidationSet, settings: TrainSettings) -> float:
    """Return the mean loss in nats per token over a validation set, on all ranks. A collective."""
    from rewarm.stages.inference.causal import collate

    place = engine.place
    windows = look.part(place.rank, place.world_size)
    filler = next((window for window in windows if window is not None), None) or look.stream.window(0, look.seq_len)
    total = torch.zeros(2, dtype=torch.float64)
    engine.engine.eval()
    for first in range(0, len(windows), engine.micro_batch):
        piece = windows[first : first + engine.micro_batch]
        batch = collate([window or filler for window in piece], place.device, settings.document_mask)
        losses = engine.token_losses(batch).double().sum(dim=1).cpu()
        real = torch.tensor([window is not None for window in piece])
        total += torch.stack([losses[real].sum(), real.sum().double() * look.seq_len])
    engine.engine.train()
    summed = total.to(place.device)
    dist.all_reduce(summed)
    return float(summed[0] / summed[1])


def changed_arithmetic(attempts: Folder, step: int, arithmetic: dict[str, str]) -> str | None:
    """Return a line on how the arithmetic from ``step`` on differs from that of the previous attempt; None if equal."""
    names = attempts.files(".json")
    if not names or not step:
        return None
    before = {**OLDER, **attempts.read_json(names[-1]).get("arithmetic", {})}
    changes = [f"{name} {before[name]} → {now}" for name, now in arithmetic.items() if before.get(name, now) != now]
    if not changes:
        return None
    return (
        f"{', '.join(changes)} from step {step} on: the last digits of losses and weights may differ from those of a "
        "run without this change"
    )


class Recorder:
    """Log of the curve on every rank (saved with checkpoints), streamed from rank 0 to the driver."""

    def __init__(
        self,
        job: Job,
        place: "Place",
        log: Log,
        tracker: Any,
        report: TrainingReport | None = None,
        returns: Sequence[Return] = (),
        trackers: Trackers | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        """``returns`` are the run's returns to earlier checkpoints so far; ``trackers`` are rank 0's."""
        self.job = job
        self.place = place
        self.log = log
        self.tracker = tracker if place.rank == 0 else None
        self.report = report
        self.returns = list(returns)
        self.trackers = trackers
        self.watchdog = watchdog
        self.arithmetic: dict[str, str] = {}
        self._skipped: dict[int, str] = {}  # step → why
        self._waiting: list[tuple[int, torch.Tensor, float, float | None, torch.Tensor | None]] = []
        self._settling = SETTLING_STEPS
        self._clock = time.perf_counter()

    def attempt(self, step: int, arithmetic: dict[str, str]) -> str | None:
        """Record that a group of workers started from ``step``; on rank 0, return how its arithmetic differs.

        ``arithmetic`` names the choices that change the last digits of the results (``Ways.arithmetic``).
        """
        changed = None
        self.arithmetic = arithmetic
        if self.place.rank == 0:
            attempts = self.job.checkpoints / f"{self.job.name}-attempts"
            changed = changed_arithmetic(attempts, step, arithmetic)
            row = {"step": step, "world_size": self.place.world_size, "arithmetic": arithmetic}
            attempts.write_json(f"{time.time_ns()}.json", row)
        if self.tracker is not None:
            self.tracker.begin.remote(step, self.job.steps)
        self._go_on()
        return changed

    def step(self, step: int, loss: torch.Tensor, rate: float, engine: "Engine") -> None:
        """Record the figures of a step; the ranks exchange them every few steps.

        They are exchanged at once if the gradient norm, which is the same on all ranks, is not a number.
        """
        if self.watchdog is not None:
            self.watchdog.step()
        norm, reason = engine.gradient_norm(), None if engine.guard is None else engine.guard.reason
        self._waiting.append((step, loss, rate, norm, engine.divergence()))
        if reason is not None:
            self._skipped[step] = reason
            if self.tracker is not None:
                self.tracker.note.remote(f"step {step} is skipped: {reason}")
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
            | ({SKIPPED: self._skipped.pop(step)} if step in self._skipped else {})
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
        if self.trackers is not None:
            self.trackers.steps(rows)
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
            if self.trackers is not None:
                self.trackers.validation(row)
            if self.report is not None:
                self.report.validation(losses)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude work that is not training from the throughput."""
        self.flush()
        if self.watchdog is not None:
            self.watchdog.pause()
        yield
        if self.trackers is not None:
            self.trackers.flush()
        self._go_on()

    def saved(self, step: int) -> None:
        """Tell the driver that a checkpoint is complete."""
        if self.tracker is not None:
            self.tracker.saved.remote(step)

    def _go_on(self) -> None:
        self._clock = time.perf_counter()
        if self.watchdog is not None:
            self.watchdog.begin()
        if self.report is not None:
            self.report.go_on()
