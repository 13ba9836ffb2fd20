"""Progress of training goes on where the actor that holds it answers late, or dies."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import ray
from small_lineage import started_by, words
from training_world import BATCH, SEQ_LEN, World

from rewarm.stages.core.progress import Silent
from rewarm.stages.train import tracker as tracking
from rewarm.stages.train.tracker import Connection, Display, End, Given, Tracker, Wait

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
    monkeypatch.setattr(tracking, "ANSWER", 0.2)
    shown, per_step, connection = Shown(), SEQ_LEN * BATCH, Connection()
    display, given = Display(world.job("watched"), shown), Given(1, 4, ("job",))

    def come_to(step: int) -> bool:
        display.show(connection.drain(given)[0])
        return shown.tokens == step * per_step

    tell(connection.tracker, 3)
    wait_for(lambda: come_to(3))
    process = next(child for child in started_by(psutil.Process()) if "Tracker" in " ".join(words(child)))
    process.suspend()
    assert not come_to(5)
    process.resume()
    tell(connection.tracker, 5)
    wait_for(lambda: come_to(5))
    os.kill(process.pid, signal.SIGKILL)
    tell(connection.tracker, 9)
    wait_for(lambda: come_to(9))
    found = ray.get(connection.tracker.following.remote(1, 3, {"digest": "a"}))
    assert found == given, "after its death, it has the job again"
    assert connection.drain(given)[1] == {3: {"digest": "a"}}
    connection.close()


def test_a_group_is_given_its_jobs_and_ends_when_it_has_been_replaced() -> None:
    tracker, first, second = Tracker(), Given(1, 1, ("a",)), Given(1, 2, ("b",))
    assert tracker.following(1, 0, None) == Wait()
    tracker.drain(first)
    assert tracker.following(1, 0, None) == first
    assert tracker.following(1, 1, {"digest": "a"}) == Wait()
    assert tracker.following(1, 1, None) == Wait(), "another rank, which has no result"
    assert tracker.drain(second)[1] == {1: {"digest": "a"}}
    assert tracker.following(1, 1, {"digest": "a"}) == second
    tracker.drain(Given(2, 3, ("b",)))
    assert tracker.following(1, 2, None) == End()
    assert tracker.following(3, 0, None) == Wait(), "one that this tracker has not heard of yet"
    tracker.drain(End(3))
    assert tracker.following(3, 4, None) == End()
