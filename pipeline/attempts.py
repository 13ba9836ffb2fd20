"""The attempts of a step: how long each took and whether it failed, so that a step's seconds are those of all of them.

``attempts.json`` in the step's folder has an entry for each attempt. It is written again every ``INTERVAL`` seconds, so
that one that is killed loses no more than that.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from stages.errors import StageError
from stages.shapes import read_as
from stages.storage import Folder

ATTEMPTS = "attempts.json"
INTERVAL = 20.0


class Attempt(TypedDict):
    """One attempt; one that was killed is not done, and nothing says so but that."""

    seconds: float
    done: bool


SHAPE = TypeAdapter(list[Attempt])


@contextmanager
def attempt(folder: Folder) -> Iterator[list[Attempt]]:
    """Time the block as one more attempt of the step in ``folder``; all attempts, complete once the block has ended."""
    attempts = read_attempts(folder)
    mine: Attempt = {"seconds": 0.0, "done": False}
    attempts.append(mine)
    start, stop = time.perf_counter(), threading.Event()

    def keep() -> None:
        mine["seconds"] = round(time.perf_counter() - start, 3)
        folder.write_json(ATTEMPTS, attempts)

    def beat() -> None:
        while not stop.wait(INTERVAL):
            with suppress(OSError, StageError):  # the step itself meets what is wrong with its folder
                keep()

    keep()
    thread = threading.Thread(target=beat, name="rewarm-attempt", daemon=True)
    thread.start()
    try:
        yield attempts
        mine["done"] = True
    finally:
        stop.set()
        thread.join()
        with suppress(OSError, StageError):
            keep()


def read_attempts(folder: Folder) -> list[Attempt]:
    """The attempts so far."""
    return read_as(folder, ATTEMPTS, SHAPE) if folder.exists(ATTEMPTS) else []
