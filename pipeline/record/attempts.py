"""The attempts of a step or of an update: how long each took and whether it failed, so that figures are of all of them.

``attempts.json`` in the folder has an entry for each attempt. It is written again every ``INTERVAL`` seconds, so that
one that is killed loses no more than that.
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
LAST_S = 30.0  # how long the last entry waits for a store that does not answer


class Attempt(TypedDict):
    """One attempt. One that was killed is neither done nor failed; an attempt after it says that it was."""

    seconds: float
    done: bool
    failed: NotRequired[bool]  # it ended with an error


SHAPE = TypeAdapter(list[Attempt])
SoFar = Callable[[], list[Attempt]]


@contextmanager
def attempt(folder: Folder) -> Iterator[SoFar]:
    """Time the block as one more attempt of what is made in ``folder``; gives all attempts with their seconds so far.

    A folder that the block deletes is not written to again.
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
        with suppress(OSError, StageError):  # the block itself meets what is wrong with its folder
            if folder.exists(ATTEMPTS):
                folder.write_json(ATTEMPTS, so_far())

    def beat() -> None:
        while not stop.wait(INTERVAL):
            with limited(0):  # the next beat is the next try
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
    """The attempts so far."""
    return read_as(folder, ATTEMPTS, SHAPE) if folder.exists(ATTEMPTS) else []


def counted(attempts: Sequence[Attempt]) -> Attempts:
    """How many attempts there were, and what was spent on them; the last one counts as failed only if it says so."""
    lost = [
        one for place, one in enumerate(attempts, 1) if one.get("failed") or (place < len(attempts) and not one["done"])
    ]
    return Attempts(
        count=len(attempts),
        failed=len(lost),
        seconds=round(sum(one["seconds"] for one in attempts), 3),
        lost_seconds=round(sum(one["seconds"] for one in lost), 3),
    )
