"""Patient retries for stores and disks that temporarily do not respond, with one deadline and backoff for all.

Buckets throttle and drop connections, network disks lose their server for a while, disks fill up: none of this is a
fault of an update, so readers and writers wait and retry, and log what they are waiting for.
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

from rewarm.stages.core.errors import FullError, UnreachableError, UsageError, carried
from rewarm.stages.core.faults import DISK, is_full, may_pass

DEADLINE = "REWARM_STORE_DEADLINE"  # environment variable, seconds
DEADLINE_S = 600.0  # a failover or a server's restart takes minutes; an outage of hours requires a person
CONTACT_S = 30.0  # for the first response of an address, which may be mistyped
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
SAY_AFTER_S, SAY_EVERY_S = 5.0, 60.0
SLICE_S = 0.5  # between two checks for a request to stop
LOGGER = logging.getLogger("rewarm.storage")
PASSWORD = re.compile(r"://[^/@\s]*@")
T = TypeVar("T")


@dataclass(frozen=True)
class Limit:
    """Maximum waiting time of this thread, and its request to stop earlier."""

    seconds: float
    stopping: Callable[[], bool] = lambda: False


LIMIT: ContextVar[Limit | None] = ContextVar("rewarm-patience", default=None)


@contextmanager
def limited(seconds: float | None = None, stopping: Callable[[], bool] | None = None) -> Iterator[None]:
    """Limit waits inside the block to ``seconds`` (0: a single attempt), and end them once ``stopping`` returns
    True."""
    before = LIMIT.get() or Limit(deadline())
    limit = Limit(before.seconds if seconds is None else min(seconds, before.seconds), stopping or before.stopping)
    token = LIMIT.set(limit)
    try:
        yield
    finally:
        LIMIT.reset(token)


def deadline() -> float:
    """Return ``REWARM_STORE_DEADLINE`` in seconds, else ten minutes."""
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
    """Return ``work()``, retried until the deadline while its errors (of types ``failures``) may be temporary.

    ``work`` must be idempotent: a failed attempt may have succeeded nevertheless.

    Raises:
        UnreachableError: there was no response before the deadline.
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


class Lines(logging.Handler):
    """Handler that passes each line to a function."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self.show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one line on."""
        self.show(record.getMessage())


@contextmanager
def reported(show: Callable[[str], None]) -> Iterator[None]:
    """Pass the lines about waits in this process to ``show`` as well, during the block: a worker's log is not read by
    who waits for the command."""
    handler = Lines(show)
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)


class Waiting:
    """One wait for an address, from the first failure to the first response or the deadline."""

    def __init__(self, address: str) -> None:
        self.address = shown(address)
        self.limit = LIMIT.get() or Limit(deadline())
        self.began = self.said = time.monotonic()
        self.tries = 0

    def wait(self, error: BaseException) -> None:
        """Pause before the next attempt; raise the typed error after the last one."""
        self.tries += 1
        now = time.monotonic()
        waited = now - self.began
        if waited >= self.limit.seconds or self.limit.stopping():
            raise self._given_up(error, waited) from error
        first = self.said == self.began
        if now - self.said >= (SAY_AFTER_S if first else SAY_EVERY_S):
            self.said = now
            LOGGER.warning(
                "%s: no response for %.0f s (%s); waiting for up to %.0f s (%s)",
                *(self.address, waited, reason(error), self.limit.seconds, DEADLINE),
            )
        pause = min(FIRST_PAUSE_S * 2.0**self.tries, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
        until = min(now + pause, self.began + self.limit.seconds)
        while (left := until - time.monotonic()) > 0 and not self.limit.stopping():
            time.sleep(min(left, SLICE_S))

    def end(self) -> None:
        """Log that the address responds again."""
        if self.said != self.began:
            LOGGER.warning("%s: responds again after %.0f s", self.address, time.monotonic() - self.began)

    def _given_up(self, error: BaseException, waited: float) -> UnreachableError | FullError:
        if is_full(error):
            return FullError(
                f"{self.address}: full ({reason(error)}) for {waited:.0f} s; free some space and run it again"
            )
        return UnreachableError(
            f"{self.address}: no response in {waited:.0f} s and {self.tries} attempts; last error: {reason(error)}. "
            "Check the address, the network and the credentials, then run the same command again "
            f"({DEADLINE} sets the waiting time)",
            self.address,
        )


def disk_fault(error: BaseException) -> OSError | None:
    """Return the temporary error of a disk that ended some work, perhaps in a Ray worker; None if it was anything
    else."""
    faults = (one for one in carried(error, set()) if isinstance(one, OSError) and one.errno in DISK)
    return next(faults, None)


def reason(error: BaseException) -> str:
    """Return the error of a store or disk in one line without passwords."""
    strerror = getattr(error, "strerror", None)
    said = strerror or next(iter(str(error).splitlines()), "") or type(error).__name__
    return shown(str(said))[:300]


def shown(address: str) -> str:
    """Return an address without its password."""
    return PASSWORD.sub("://…@", address)
