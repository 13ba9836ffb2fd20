"""The attempts of a step or an update, with their durations, so that time and cost include the failed ones.

``attempts.json`` in the folder has an entry for each attempt. It is rewritten every ``INTERVAL`` seconds, so a killed
attempt loses no more time than that.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from rewarm.pipeline.record.update import Attempts
from rewarm.stages.core.errors import StageError
from rewarm.stages.core.patience import limited
from rewarm.stages.core.shapes import read_as
from rewarm.stages.core.storage import Folder

ATTEMPTS = "attempts.json"
INTERVAL = 20.0
LAST_S = 30.0  # how long the last write waits for a store that does not answer


class Attempt(TypedDict):
    """One attempt. A killed attempt is neither done nor failed; it is recognized by the attempt after it."""

    seconds: float
    done: bool
    failed: NotRequired[bool]  # it ended with an error


SHAPE = TypeAdapter(list[Attempt])
SoFar = Callable[[], list[Attempt]]


@contextmanager
def attempt(folder: Folder) -> Iterator[SoFar]:
    """Time the block as a new attempt in ``folder``; gives a function that returns all attempts with seconds so far.

    If the block deletes the folder, it is not created again.
    """
    attempts = read_attempts(folder)
    mine: Attempt = {"seconds": 0.0, "done": False}
    attempts.append(mine)
    start, stop = time.perf_counter(), threading.Event()

    def so_far() -> list[Attempt]:
        if not stop.is_set():
            mine["seconds"] = round(time.perf_counter() - start, 3)
        return attempts

    def keep() -> None:
        with suppress(OSError, StageError):  # the block itself will raise the error of its folder
            if folder.exists(ATTEMPTS):
                folder.write_json(ATTEMPTS, so_far())

    def beat() -> None:
        while not stop.wait(INTERVAL):
            with limited(0):  # not retried: the next beat is the retry
                keep()

    folder.write_json(ATTEMPTS, so_far())
    thread = threading.Thread(target=beat, name="rewarm-attempt", daemon=True)
    thread.start()
    try:
        yield so_far
        mine["done"] = True
    except BaseException:
        mine["failed"] = True
        raise
    finally:
        so_far()
        stop.set()
        thread.join()
        with limited(LAST_S):
            keep()


def read_attempts(folder: Folder) -> list[Attempt]:
    """Read the attempts so far."""
    return read_as(folder, ATTEMPTS, SHAPE) if folder.exists(ATTEMPTS) else []


def counted(attempts: Sequence[Attempt]) -> Attempts:
    """Return the number and seconds of all attempts and of the failed ones.

    An attempt without a result counts as failed, except the last one, which may still be running.
    """
    last = len(attempts) - 1
    failed = [
        entry for number, entry in enumerate(attempts) if entry.get("failed") or (number < last and not entry["done"])
    ]
    return Attempts(
        count=len(attempts),
        failed=len(failed),
        seconds=round(sum(entry["seconds"] for entry in attempts), 3),
        lost_seconds=round(sum(entry["seconds"] for entry in failed), 3),
    )
