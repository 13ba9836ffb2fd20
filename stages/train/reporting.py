"""Rank 0's metrics: throughput, utilisation, losses, learning rate, share achieved. At most one report a second."""

import math
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from stages.metrics import Reporter
from stages.train.flops import attention_shape, flops_per_token, peak_flops
from stages.train.initial import count_parameters
from stages.train.job import Job

if TYPE_CHECKING:
    from stages.train.engine import Engine

INTERVAL = 1.0  # seconds between two reports


class TrainingReport:
    """Gathers what happens in the steps and reports it now and then."""

    def __init__(self, job: Job, utilization: float, clock: Callable[[], float] = time.time) -> None:
        """``utilization`` is that of one token a second of the whole group."""
        self.job = job
        self.utilization = utilization
        self.metrics = Reporter({**job.labels, "stage": job.name} if job.labels else {})
        self._clock = clock
        self._reported = -math.inf
        self._last = clock()
        self._tokens, self._seconds = 0, 0.0

    def go_on(self) -> None:
        """Steps follow; what was before them (a look at validation, a checkpoint) is no part of their time."""
        self._last = self._clock()

    def step(self, step: int, rate: float, norm: float) -> None:
        """A step was done: the ``step``-th of the job, with its learning rate and the norm of its gradient."""
        now = self._clock()
        seconds = max(now - self._last, 0.0)
        self._last = now
        self._tokens += self.job.mixture.tokens_per_step
        self._seconds += seconds
        self.metrics.observe("rewarm_step_seconds", seconds)
        if step < self.job.steps and now - self._reported < INTERVAL:
            return
        self._reported = now
        self._report(step, rate, norm, now)
        self._tokens, self._seconds = 0, 0.0

    def _report(self, step: int, rate: float, norm: float, now: float) -> None:
        put = self.metrics.set
        self.metrics.count("rewarm_trained_tokens_total", self._tokens)
        if self._seconds > 0:
            speed = self._tokens / self._seconds
            put("rewarm_tokens_per_second", speed)
            put("rewarm_model_flops_utilization_ratio", speed * self.utilization)
        put("rewarm_last_progress_timestamp_seconds", now)
        put("rewarm_training_step", step)
        put("rewarm_training_steps", self.job.steps)
        put("rewarm_learning_rate", rate)
        put("rewarm_gradient_norm", norm)
        put("rewarm_replay_share_ratio", share_achieved(self.job, step))
        put("rewarm_replay_share_requested_ratio", share_requested(self.job))

    def losses(self, row: Mapping[str, Any]) -> None:
        """The figures of a step, meaned over the ranks."""
        self.metrics.set("rewarm_training_loss_nats", row["loss"])

    def validation(self, losses: Mapping[str, float]) -> None:
        """A look at the validation sets."""
        for dataset, loss in losses.items():
            self.metrics.set("rewarm_validation_loss_nats", loss, dataset=dataset)


def share_achieved(job: Job, step: int) -> float:
    """Part of the sequences of the job's first ``step`` steps that was replayed."""
    counts = job.mixture.count(job.first, step)
    return sum(counts[len(job.mixture.new) :]) / max(sum(counts), 1)


def share_requested(job: Job) -> float:
    """Part of the job's sequences that is to be replayed."""
    return float(Fraction(job.mixture.share)) if job.mixture.replayed else 0.0


def training_report(job: Job, engine: "Engine") -> TrainingReport | None:
    """Rank 0's report on a job; None on the other ranks, and where nobody named what it is part of."""
    if engine.place.rank != 0 or not job.labels:
        return None
    settings = job.settings
    shape = attention_shape(engine.engine.module.config)
    each = flops_per_token(count_parameters(job.start), *shape, job.mixture.seq_len)
    peak = settings.peak_flops or peak_flops(engine.place.device, settings.precision != "fp32")
    return TrainingReport(job, each / (peak * engine.place.world_size))
