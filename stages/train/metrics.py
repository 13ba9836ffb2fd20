"""Metrics of training from rank 0: throughput, utilisation (MFU), losses, learning rate and achieved replay share.

At most one report a second. Utilisation compares the model's FLOPs per token with the peak of the devices.
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

# Dense bf16 FLOP/s of the tensor cores without sparsity, from NVIDIA's and AMD's data sheets. The first name contained
# in the device's name is used, so variants come before the base model.
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
MATRIX = {"cuda": 4096, "cpu": 768}  # rows of the matrices whose product is timed if no data sheet is known
TRIES = 4  # the first is a warmup


def flops_per_token(parameters: int, layers: int, attention_width: int, seq_len: int) -> float:
    """Return the model FLOPs of one trained token, forward and backward: ``6 N + 12 L (H Q) T``.

    Chowdhery et al. 2022 (PaLM), appendix B: N parameters, L layers, H heads of Q dimensions (``attention_width`` is
    H Q), T the sequence length. Recomputation (gradient checkpointing) does not count, and attention counts over the
    whole sequence even if documents are masked from each other.
    """
    return 6.0 * parameters + 12.0 * layers * attention_width * seq_len


def attention_shape(config: Any) -> tuple[int, int]:
    """Return layers, and heads × head dimension, of a configuration; the latter is 0 without attention heads."""
    layers, heads = int(getattr(config, "num_hidden_layers", 0)), int(getattr(config, "num_attention_heads", 0))
    if not heads:
        return layers, 0
    width = getattr(config, "head_dim", None) or int(config.hidden_size) // heads
    return layers, heads * int(width)


def peak_flops(device: torch.device, low_precision: bool) -> float:
    """Return the peak FLOP/s of one device: the data sheet's for a known GPU in bf16, else of a timed matrix product.

    The matrices hold ones, so no random numbers are drawn.
    """
    if device.type == "cuda" and low_precision:
        name = torch.cuda.get_device_name(device)
        known = next((peak for part, peak in PEAKS.items() if part in name), None)
        if known is not None:
            return known
    return measured_flops(device, torch.bfloat16 if low_precision else torch.float32)


def measured_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of the fastest of a few square matrix products, on this process's torch threads."""
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

INTERVAL = 1.0  # seconds between reports


class TrainingReport:
    """Collector of figures from the steps, reported at intervals."""

    def __init__(self, job: Job, utilization: float, clock: Callable[[], float] = time.time) -> None:
        """Create a report; ``utilization`` is that of one token per second of the whole group."""
        self.job = job
        self.utilization = utilization
        self.metrics = Reporter({**job.labels, "stage": job.name} if job.labels else {})
        self._clock = clock
        self._reported = -math.inf
        self._last = clock()
        self._tokens, self._seconds = 0, 0.0

    def go_on(self) -> None:
        """Restart the clock before steps: the time before (validation, a checkpoint) does not count."""
        self._last = self._clock()

    def step(self, step: int, rate: float, norm: float) -> None:
        """Record a completed step: the job's ``step``-th, with its learning rate and gradient norm."""
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
        """Record the figures of a step, averaged over the ranks."""
        self.metrics.set("rewarm_training_loss_nats", row["loss"])

    def validation(self, losses: Mapping[str, float]) -> None:
        """Record the validation losses."""
        for dataset, loss in losses.items():
            self.metrics.set("rewarm_validation_loss_nats", loss, dataset=dataset)


def share_achieved(job: Job, step: int) -> float:
    """Return the fraction of replayed sequences in the job's first ``step`` steps."""
    counts = job.mixture.count(job.first, step)
    return sum(counts[len(job.mixture.new) :]) / max(sum(counts), 1)


def share_requested(job: Job) -> float:
    """Return the fraction of the job's sequences to be replayed."""
    return float(Fraction(job.mixture.share)) if job.mixture.replayed else 0.0


def training_report(job: Job, engine: "Engine") -> TrainingReport | None:
    """Return rank 0's report on a job; None on other ranks, and if the job has no labels."""
    if engine.place.rank != 0 or not job.labels:
        return None
    settings = job.settings
    shape = attention_shape(engine.engine.module.config)
    each = flops_per_token(count_parameters(job.start), *shape, job.mixture.seq_len)
    peak = settings.peak_flops or peak_flops(engine.place.device, settings.precision != "fp32")
    return TrainingReport(job, each / (peak * engine.place.world_size))
