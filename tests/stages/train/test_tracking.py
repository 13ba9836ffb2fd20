"""Progress of training goes on where the actor that holds it answers late, or dies."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import ray
from small_lineage import started_by, words
from training_world import BATCH, SEQ_LEN, World

from rewarm.stages.core.progress import Silent
from rewarm.stages.train.run import watched

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Shown(Silent):
    """Adds up what is shown."""

    def __init__(self) -> None:
        self.tokens = 0

    def advance(self, by: float = 1, **figures: float) -> None:
        self.tokens += int(by)


def tell(tracker: Any, step: int) -> None:
    ray.get(tracker.steps.remote([{"step": step, "loss": 1.0, "lr": 0.1}], 100.0))


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_progress_outlives_a_late_answer_and_a_death(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[watched.__module__], "ANSWER", 0.2)
    monkeypatch.setattr(sys.modules[watched.__module__], "INTERVAL", 0.1)
    shown, per_step = Shown(), SEQ_LEN * BATCH
    with watched(world.job("watched"), shown) as tracker:
        tell(tracker, 3)
        wait_for(lambda: shown.tokens == 3 * per_step)
        process = next(child for child in started_by(psutil.Process()) if "Tracker" in " ".join(words(child)))
        process.suspend()
        time.sleep(1)
        process.resume()
        tell(tracker, 5)
        wait_for(lambda: shown.tokens == 5 * per_step)
        os.kill(process.pid, signal.SIGKILL)
        tell(tracker, 9)
        wait_for(lambda: shown.tokens == 9 * per_step)
