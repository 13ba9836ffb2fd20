"""Rank 0's metrics: throughput, utilisation, losses, learning rate, share achieved. At most one report a second.

How much arithmetic training takes, and how much the devices could do: what the utilisation (MFU) is made of.
"""

import math
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from rewarm.stages.core.metrics import Reporter
from rewarm.stages.train.job import Job
from rewarm.stages.train.model import count_parameters

# Dense bf16 of the tensor cores, FLOP/s, as NVIDIA's and AMD's data sheets give it without sparsity. The first name
# that occurs in the device's counts, so a variant stands before what it is a variant of.
PEAKS = {
    "B200": 2.25e15,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "MI300X": 1307e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
}
MATRIX = {"cuda": 4096, "cpu": 768}  # rows of the matrices whose product is timed where no data sheet is known
TRIES = 4  # the first of them warms up


def flops_per_token(parameters: int, layers: int, attention_width: int, seq_len: int) -> float:
    """Model FLOPs of one trained token, forward and backward: ``6 N + 12 L (H Q) T``.

    Chowdhery et al. 2022 (PaLM), appendix B: N parameters, L layers, H heads of Q dimensions (``attention_width`` is
    H Q), T the sequence's length. What is computed again (gradient checkpointing) does not count, and attention counts
    over the whole sequence, also where documents are masked from each other.
    """
    return 6.0 * parameters + 12.0 * layers * attention_width * seq_len


def attention_shape(config: Any) -> tuple[int, int]:
    """Layers, and heads times their dimensions, of a transformers configuration; 0 where it has no attention heads."""
    layers, heads = int(getattr(config, "num_hidden_layers", 0)), int(getattr(config, "num_attention_heads", 0))
    if not heads:
        return layers, 0
    width = getattr(config, "head_dim", None) or int(config.hidden_size) // heads
    return layers, heads * int(width)


def peak_flops(device: torch.device, low_precision: bool) -> float:
    """FLOP/s of one device at its best: the data sheet's of a known GPU in bf16, else those of a matrix product, timed.

    The product is of ones: no random numbers are drawn.
    """
    if device.type == "cuda" and low_precision:
        name = torch.cuda.get_device_name(device)
        known = next((peak for part, peak in PEAKS.items() if part in name), None)
        if known is not None:
            return known
    return measured_flops(device, torch.bfloat16 if low_precision else torch.float32)


def measured_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of a few square matrix products, on as many threads as torch has in this process."""
    size = MATRIX.get(device.type, MATRIX["cpu"])
    left = torch.ones((size, size), dtype=dtype, device=device)
    best = float("inf")
    with torch.no_grad():
        for _ in range(TRIES):
            start = time.perf_counter()
            float((left @ left)[0, 0])  # waits for the device
            best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


if TYPE_CHECKING:
    from rewarm.stages.train.engine import Engine

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
