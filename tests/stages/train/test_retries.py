"""Failures are counted from the last new checkpoint: real kills of training workers, with progress and without."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import ray
from ray.exceptions import ActorDiedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError
from small_lineage import started_by, words
from training_world import World

from rewarm.stages import train
from rewarm.stages.core.errors import FullError, StageError, UnreachableError
from rewarm.stages.core.patience import limited
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.train import Job
from rewarm.stages.train.checkpoints import saved_step
from rewarm.stages.train.retries import retried, tried_disk
from rewarm.stages.train.tracker import Tracker

pytestmark = pytest.mark.usefixtures("ray_cluster")

STEPS, LIMIT = 120, 1


class Notes(Silent):
    def __init__(self) -> None:
        self.notes = list[str]()

    def note(self, text: str) -> None:
        self.notes.append(text)


def workers() -> list[psutil.Process]:
    return [one for one in started_by(psutil.Process()) if "RayTrainWorker" in " ".join(words(one))]


@contextmanager
def killing(job: Job, times: int, new_checkpoint: bool) -> Iterator[list[int]]:
    """Kill a worker ``times`` times: when a checkpoint was saved since the last kill, or as soon as a group trains."""
    stop, killed = threading.Event(), list[int]()
    attempts = job.checkpoints / f"{job.name}-attempts"

    def work() -> None:
        while len(killed) < times and not stop.wait(0.05):
            step = saved_step(job.checkpoints / job.name)
            training = len(attempts.files(".json")) > len(killed)
            if training and (not new_checkpoint or step > max(killed, default=0)) and (alive := workers()):
                killed.append(step)
                os.kill(alive[-1].pid, signal.SIGKILL)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


@pytest.mark.faults
def test_more_kills_than_the_limit_are_survived_if_each_attempt_saved_a_checkpoint(world: World) -> None:
    job = world.job("progress", steps=STEPS, checkpoint_every=5, validate_every=0, max_failures=LIMIT)
    progress = Notes()
    with killing(job, LIMIT + 2, new_checkpoint=True) as killed:
        outcome = train.run(job, train.Group(progress))
    assert len(killed) == LIMIT + 2
    assert killed == sorted(set(killed)), "a new checkpoint before each kill"
    assert len(outcome.resumed_from) == LIMIT + 2
    assert outcome.steps == STEPS
    assert len([note for note in progress.notes if "(failure 1 of at most 2 without a new checkpoint)" in note]) == 3


@pytest.mark.faults
def test_as_many_kills_without_a_checkpoint_end_the_run_with_the_reason(world: World) -> None:
    job = world.job("standstill", steps=5000, checkpoint_every=5000, validate_every=0, max_failures=LIMIT)
    progress = Notes()
    with (
        killing(job, LIMIT + 2, new_checkpoint=False) as killed,
        pytest.raises(StageError, match=r"worker \d failed .* Failures since the last new checkpoint \(step 0\): 2"),
    ):
        train.run(job, train.Group(progress))
    assert len(killed) == LIMIT + 1
    assert any("restarting from step 0 (failure 1 of at most 2" in note for note in progress.notes)


def failing(number: int, times: int, done: list[int]) -> Callable[[], str]:
    """Attempts that end because a worker met a disk's error, so many times."""

    def work() -> str:
        done.append(len(done))
        if len(done) <= times:
            raise WorkerGroupError("a worker failed", {1: OSError(number, os.strerror(number), "/lm/checkpoint")})
        return "trained"

    return work


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOSPC])
def test_faults_of_the_disk_are_waited_for_and_not_counted(world: World, number: int) -> None:
    job, progress, done = world.job("disk", max_failures=0), Notes(), list[int]()
    with limited(60):
        assert retried(job, failing(number, 3, done), {}, None, progress) == "trained"
    assert len(done) == 4
    assert len([note for note in progress.notes if os.strerror(number) in note and "not counted" in note]) == 3


@pytest.mark.parametrize(("number", "kind"), [(errno.ESTALE, UnreachableError), (errno.ENOSPC, FullError)])
def test_a_disk_that_fails_until_the_deadline_ends_the_run_with_its_own_error(
    world: World, number: int, kind: type[StageError]
) -> None:
    job, done = world.job("gone", max_failures=3), list[int]()
    with limited(0), pytest.raises(kind, match="gone/checkpoints/train"):
        retried(job, failing(number, 99, done), {}, None, Notes())
    assert len(done) == 1


@ray.remote
class Failing:
    """An actor that dies where it begins: Ray colours the text of its error."""

    def __init__(self) -> None:
        raise KeyError("wanted")

    def work(self) -> None: ...


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda error: error,
        ControllerError,
        lambda error: WorkerGroupError(f"a worker failed: {error}", {1: error}),
    ],
)
def test_what_a_run_ends_with_has_no_colours(world: World, wrapped: Callable[[Exception], Exception]) -> None:
    with pytest.raises(ActorDiedError, match=r"\x1b\[36m") as died:
        ray.get(Failing.remote().work.remote())  # type: ignore[attr-defined]

    def work() -> None:
        raise wrapped(died.value)

    progress, tracker = Notes(), ray.remote(Tracker).remote()  # type: ignore[attr-defined]
    with pytest.raises(StageError) as ended:
        retried(world.job("coloured", max_failures=1), work, {}, tracker, progress)
    assert progress.notes
    for text in (str(ended.value), *progress.notes):
        assert "\x1b" not in text, text


def test_a_store_that_was_waited_for_is_not_waited_for_again(world: World) -> None:
    def work() -> None:
        done.append(0)
        raise WorkerGroupError("a worker failed", {0: UnreachableError("s3://lake: no response in 600 s", "s3://lake")})

    done = list[int]()
    with pytest.raises(UnreachableError, match="no response in 600 s"):
        retried(world.job("away", max_failures=3), work, {}, None, Notes())
    assert len(done) == 1


@pytest.mark.parametrize(
    "failed",
    [
        ActorDiedError(),
        WorkerGroupError("a worker failed", {0: RuntimeError("open file failed with strerror: Stale file handle")}),
    ],
)
def test_failures_without_a_number_are_not_counted_while_the_disk_fails(
    world: World, monkeypatch: pytest.MonkeyPatch, failed: Exception
) -> None:
    answers: list[OSError | None] = [None, *(OSError(errno.ESTALE, "Stale file handle") for _ in range(3))]
    monkeypatch.setattr("rewarm.stages.train.retries.tried_disk", lambda folder: answers.pop())
    attempts = list[int]()

    def work() -> str:
        attempts.append(len(answers))
        if len(attempts) == 1:
            raise failed
        return "trained"

    with limited(60):
        assert retried(world.job("controller", max_failures=0), work, {}, None, Notes()) == "trained"
    assert attempts == [4, 0], "the next attempt begins when the disk responds"


def test_a_disk_is_tried_by_a_small_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    assert tried_disk(folder) is None
    assert not list(tmp_path.iterdir())
    full = OSError(errno.ENOSPC, "No space left on device")

    def write(path: Path, data: bytes) -> int:
        raise full

    monkeypatch.setattr(Path, "write_bytes", write)
    assert tried_disk(folder) is full
