"""When a checkpoint is saved: by steps, by the clock, and once at each notice of preemption."""

import torch

from rewarm.stages.train import TrainSettings
from rewarm.stages.train.checkpoint_times import CheckpointTimes
from rewarm.stages.train.engine import Place

ALONE = Place(0, 1, 0, torch.device("cpu"))


class World:
    """A clock of steps that take as long as the test says, and a notice."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 100.0
        self.notice = False
        self.asked = 0

    def clock(self) -> float:
        return self.now

    def preempted(self) -> bool:
        self.asked += 1
        return self.notice

    def steps(self, times: CheckpointTimes, first: int, last: int) -> list[int]:
        due = []
        for step in range(first, last + 1):
            self.now += self.seconds
            if times.due(step):
                due.append(step)
        return due


def times(world: World, **settings: object) -> CheckpointTimes:
    given = TrainSettings.model_validate({"checkpoint_every": 100_000, **settings})
    return CheckpointTimes(given, ALONE, world.preempted, world.clock)


def test_by_steps_alone() -> None:
    world = World(1.0)
    assert world.steps(times(world, checkpoint_every=4), 1, 13) == [4, 8, 12]


def test_by_minutes_since_the_last_one() -> None:
    world = World(10.0)
    assert world.steps(times(world, checkpoint_minutes=1.0, checkpoint_every=8), 1, 20) == [6, 8, 14, 16]


def test_short_steps_are_not_agreed_upon_each_time() -> None:
    world = World(0.01)
    found = world.steps(times(world, checkpoint_minutes=0.1), 1, 1300)
    assert len(found) == 2
    assert 600 <= found[0] <= 651
    assert 600 <= found[1] - found[0] <= 651
    assert world.asked < 60


def test_a_notice_saves_once() -> None:
    world = World(2.0)
    given = times(world)
    assert world.steps(given, 1, 5) == []
    world.notice = True
    assert world.steps(given, 6, 12) == [6]
    world.notice = False
    assert world.steps(given, 13, 14) == []
    world.notice = True
    assert world.steps(given, 15, 16) == [15]


def test_a_driver_that_stops_gets_one_checkpoint() -> None:
    world, asked = World(1.0), [False, False, True, False]
    given = TrainSettings.model_validate({"checkpoint_every": 100})
    times = CheckpointTimes(given, ALONE, world.preempted, world.clock, lambda: asked.pop(0) if asked else False)
    found = []
    for step in range(1, 7):
        world.now += 1.0
        found.append((times.due(step), times.stops))
    assert found == [(False, False), (False, False), (True, True), *[(False, False)] * 3]
