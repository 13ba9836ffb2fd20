"""What training reports: the utilisation's formula, the share so far, and how often."""

import time
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from transformers import GPTNeoXConfig, LlamaConfig, MambaConfig

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.train import Job, ScheduleSettings, TrainSettings, schedule_for
from rewarm.stages.train.metrics import (
    TrainingReport,
    attention_shape,
    flops_per_token,
    measured_flops,
    share_achieved,
    share_requested,
)


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Noted(TrainingReport):
    """Notes what is reported instead of sending it."""

    def __init__(self, job: Job, utilization: float, clock: Clock) -> None:
        super().__init__(job, utilization, clock)
        self.reports: list[tuple[int, int, float]] = []

    def _report(self, step: int, rate: float, norm: float, now: float) -> None:
        self.reports.append((step, self._tokens, self._seconds))


def job(share: str = "1/4", steps: int = 40, first: int = 0, replayed: bool = True) -> Job:
    old = (Source("old", 1000, 1),) if replayed else ()
    mixture = Mixture((Source("new", 1000, 1),), old, share, 8, 6, steps + first)
    schedule = schedule_for(ScheduleSettings(kind="cosine"), 0, steps * mixture.tokens_per_step, None)
    here = Folder("nowhere")
    settings = TrainSettings(seq_len=8, global_batch=6)
    labels = {"workspace": "lm", "update": "0001-new"}
    return Job(
        "train", mixture, first, steps, 0, schedule, here, "", None, {}, {}, here, here, settings, 0, labels=labels
    )


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("kind", ["linear", "cosine", "infinite", "constant", "autoregressive"])
def test_each_step_trains_at_a_rate_above_0(kind: Any, steps: int) -> None:
    made = job(steps=steps)
    settings = ScheduleSettings(kind=kind, final_ratio=0 if kind in ("linear", "cosine") else None)
    schedule = schedule_for(settings, 0, steps * made.mixture.tokens_per_step, None)
    rates = [replace(made, schedule=schedule).rate(step) for step in range(steps)]
    assert all(0 < rate <= settings.peak for rate in rates)
    if (kind, steps) == ("linear", 1):
        assert rates[0] == pytest.approx(settings.peak * 0.5 / 0.99)


def test_flops_are_those_of_palm() -> None:
    """PaLM 540B: 118 layers, 48 heads of 256, 2,048 tokens; its table 3 gives 46.2 % MFU, without rematerialisation.

    Chowdhery et al. 2022, appendix B: 238.3 thousand tokens a second on 6,144 chips of 275 TFLOP/s.
    """
    each = flops_per_token(540_350_000_000, 118, 48 * 256, 2048)
    assert 238_300 * each / (6144 * 275e12) == pytest.approx(0.462, abs=0.003)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (GPTNeoXConfig(hidden_size=128, num_hidden_layers=3, num_attention_heads=4), (3, 128)),
        (LlamaConfig(hidden_size=96, num_hidden_layers=2, num_attention_heads=4, head_dim=64), (2, 256)),
        (LlamaConfig(hidden_size=96, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2), (2, 96)),
        (MambaConfig(hidden_size=96, num_hidden_layers=2), (2, 0)),
    ],
)
def test_the_shape_of_attention_is_read_off_the_configuration(config: object, expected: tuple[int, int]) -> None:
    assert attention_shape(config) == expected


def test_a_matrix_product_is_timed_without_drawing_random_numbers() -> None:
    before = torch.get_rng_state()
    assert 1e8 < measured_flops(torch.device("cpu"), torch.float32) < 1e14
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("step", [1, 7, 40])
def test_the_share_is_that_of_the_sequences_so_far(step: int) -> None:
    assert share_requested(job()) == 0.25
    assert share_achieved(job(), step) == pytest.approx(0.25, abs=1 / (6 * step))
    assert share_achieved(job(replayed=False, share="0"), step) == share_requested(job(replayed=False, share="0")) == 0


def test_a_branch_counts_its_own_sequences() -> None:
    """It reads the tail of the mixture: the whole mixture's count is not its own."""
    tail = job(first=13, steps=3)
    exact = [step * 6 * Fraction(1, 4) for step in (13, 16)]
    assert share_achieved(tail, 3) == (int(exact[1]) - int(exact[0])) / 18


def test_at_most_one_report_a_second_and_none_of_a_pause() -> None:
    clock = Clock()
    report = Noted(job(), 1.0, clock)
    for step in range(1, 41):
        if step == 20:
            clock.now += 60
            report.go_on()
        clock.now += 0.25
        report.step(step, 1e-3, 1.0)
    steps, tokens, seconds = zip(*report.reports, strict=True)
    assert steps == (1, 5, 9, 13, 17, 20, 24, 28, 32, 36, 40)
    assert sum(tokens) == 40 * 48
    assert sum(seconds) == pytest.approx(40 * 0.25)


def test_a_step_is_reported_in_less_than_a_millisecond(ray_cluster: None) -> None:
    report = TrainingReport(job(steps=2000), 1.0)
    start = time.perf_counter()
    for step in range(1, 2001):
        report.step(step, 1e-3, 1.0)
        if step % 10 == 0:
            report.losses({"loss": 2.0})
    assert (time.perf_counter() - start) / 2000 < 1e-3
