"""Patience with a store or a disk that does not answer for a moment: one deadline and one backoff for all of them.

Buckets throttle and drop connections, network disks lose their server for a while, disks fill up: none of it says
anything about an update, so whoever reads or writes waits and asks again, and says on the log what it waits for.
"""

import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from rewarm.stages.core.errors import FullError, UnreachableError, UsageError
from rewarm.stages.core.faults import is_full, may_pass

DEADLINE = "REWARM_STORE_DEADLINE"  # environment variable, seconds
DEADLINE_S = 600.0  # a store's fail-over or a server's restart takes minutes; an outage of hours needs a person
CONTACT_S = 30.0  # for the first answer of an address, which may be mistyped
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
SAY_AFTER_S, SAY_EVERY_S = 5.0, 60.0
SLICE_S = 0.5  # between two looks at whether somebody wants an end
LOGGER = logging.getLogger("rewarm.storage")
PASSWORD = re.compile(r"://[^/@\s]*@")
T = TypeVar("T")


@dataclass(frozen=True)
class Limit:
    """How long this thread waits at most, and whether it is to end before that."""

    seconds: float
    stopping: Callable[[], bool] = lambda: False


LIMIT: ContextVar[Limit | None] = ContextVar("rewarm-patience", default=None)


@contextmanager
def limited(seconds: float | None = None, stopping: Callable[[], bool] | None = None) -> Iterator[None]:
    """Wait for ``seconds`` at most inside the block (0: ask once), and no longer once ``stopping`` says so."""
    before = LIMIT.get() or Limit(deadline())
    limit = Limit(before.seconds if seconds is None else min(seconds, before.seconds), stopping or before.stopping)
    token = LIMIT.set(limit)
    try:
        yield
    finally:
        LIMIT.reset(token)


def deadline() -> float:
    """``REWARM_STORE_DEADLINE`` in seconds, else ten minutes."""
    text = os.environ.get(DEADLINE, str(DEADLINE_S))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"{DEADLINE}={text}: expected a number of seconds, 0 or more")
    return value


def patiently(
    work: Callable[[], T],
    address: str,
    failures: tuple[type[Exception], ...] = (OSError,),
    passes: Callable[[BaseException], bool] = may_pass,
) -> T:
    """``work()``, done again while what it raises (one of ``failures``) may pass, until the deadline.

    ``work`` must do no harm if it is done twice: what failed may have been done all the same.

    Raises:
        UnreachableError: there was no answer until the deadline.
        FullError: the disk was full until the deadline.
    """
    waiting: Waiting | None = None
    while True:
        try:
            done = work()
        except failures as error:
            if not passes(error):
                raise
            waiting = waiting or Waiting(address)
            waiting.wait(error)
        else:
            if waiting is not None:
                waiting.end()
            return done


class Waiting:
    """One wait for an address, from the first failure to the first answer or the deadline."""

    def __init__(self, address: str) -> None:
        self.address = shown(address)
        self.limit = LIMIT.get() or Limit(deadline())
        self.began = self.said = time.monotonic()
        self.tries = 0

    def wait(self, error: BaseException) -> None:
        """Pause before the next try; raise the typed error once there is none."""
        self.tries += 1
        now = time.monotonic()
        waited = now - self.began
        if waited >= self.limit.seconds or self.limit.stopping():
            raise self._given_up(error, waited) from error
        first = self.said == self.began
        if now - self.said >= (SAY_AFTER_S if first else SAY_EVERY_S):
            self.said = now
            LOGGER.warning(
                "%s: no answer for %.0f s (%s); waiting for up to %.0f s (%s)",
                *(self.address, waited, reason(error), self.limit.seconds, DEADLINE),
            )
        pause = min(FIRST_PAUSE_S * 2.0**self.tries, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
        until = min(now + pause, self.began + self.limit.seconds)
        while (left := until - time.monotonic()) > 0 and not self.limit.stopping():
            time.sleep(min(left, SLICE_S))

    def end(self) -> None:
        """There is an answer again."""
        if self.said != self.began:
            LOGGER.warning("%s: answers again after %.0f s", self.address, time.monotonic() - self.began)

    def _given_up(self, error: BaseException, waited: float) -> UnreachableError | FullError:
        if is_full(error):
            return FullError(f"{self.address}: full ({reason(error)}) for {waited:.0f} s; make room, then run it again")
        return UnreachableError(
            f"{self.address}: no answer in {waited:.0f} s and {self.tries} tries, the last with: {reason(error)}. "
            "Check the address, the network and the credentials, then run the same command again "
            f"({DEADLINE} says how long it waits)",
            self.address,
        )


def reason(error: BaseException) -> str:
    """What a store or disk said, in one line without passwords."""
    strerror = getattr(error, "strerror", None)
    said = strerror or next(iter(str(error).splitlines()), "") or type(error).__name__
    return shown(str(said))[:300]


def shown(address: str) -> str:
    """An address without its password."""
    return PASSWORD.sub("://…@", address)
