"""Detection of hung steps: when it reports, what it reports, and a run in which a worker stops."""

import threading
import time
from pathlib import Path

from rewarm.stages.core.storage import Folder
from rewarm.stages.train.hangs import FRAMES, LEAST, Watchdog, reporter, shortened, stacks


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_step_is_hung_by_the_time_of_the_others() -> None:
    clock, said = Clock(), list[str]()
    dog = Watchdog(None, said.append, clock)
    dog.begin()
    for _ in range(5):
        clock.now += 60
        dog.step()
    assert dog.allowed() == 1200
    clock.now += 1199
    dog.look()
    assert said == []
    clock.now += 2
    dog.look()
    dog.look()
    assert len(said) == 1, "once"
    assert said[0].startswith("no step for 1201 s, a step takes 60 s; stacks of its threads:\n")
    assert "test_hangs.py" in said[0]
    dog.step()
    clock.now += 1300
    dog.look()
    assert len(said) == 2, "again after another step"


def test_short_steps_and_pauses_are_not_hung() -> None:
    clock, said = Clock(), list[str]()
    dog = Watchdog(None, said.append, clock)
    clock.now = 1e6
    dog.look()
    dog.begin()
    for _ in range(9):
        clock.now += 0.01
        dog.step()
    assert dog.allowed() == LEAST
    dog.pause()
    clock.now += 1e6
    dog.look()
    dog.begin()
    dog.look()
    assert said == []


def wait_here(ended: threading.Event) -> None:
    ended.wait(20)


def test_the_thread_reports_every_threads_stack(tmp_path: Path) -> None:
    said: list[str] = []
    ended = threading.Event()
    stuck = threading.Thread(target=wait_here, args=(ended,))
    stuck.start()
    with Watchdog(0.1, reporter(Folder(tmp_path), "train", 3, said.append)) as dog:
        dog.begin()
        deadline = time.monotonic() + 10
        while not (said and list(tmp_path.glob("train-hangs/*.txt"))) and time.monotonic() < deadline:
            time.sleep(0.05)
    ended.set()
    stuck.join()
    assert said[0].startswith("worker 3: no step for")
    assert "in wait_here" in said[0]
    (file,) = (tmp_path / "train-hangs").iterdir()
    assert file.name.startswith("rank-3-")
    assert "in wait_here" in file.read_text()


def test_long_stacks_are_shortened() -> None:
    def deep(left: int) -> str:
        return stacks() if left == 0 else deep(left - 1)

    whole = deep(20)
    text = shortened(whole)
    assert whole.count("in deep") == 21
    assert text.count("in deep") <= FRAMES
    assert "  …" in text
