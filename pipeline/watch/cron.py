"""When arrivals are taken in: the ticks of a cron expression, and what becomes of those that were missed.

Pure functions of times. Clock changes are those of Debian's cron (man 8 cron): a job at a fixed hour runs once a day,
after the gap where its time is left out and the first time where it comes twice; ``*`` and ``*/N`` follow real time.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

ON_TIME = timedelta(seconds=60)  # a tick that is noticed so late was not missed
WINDOWS = (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=366))
FIELDS = 5
CLOCK = "clock.json"  # in a watch's folder: the last tick that was answered


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name; ``ValueError`` where this machine knows none such."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone of this machine; expected a name such as Europe/Berlin") from error


def check_cron(expression: str) -> None:
    """``ValueError`` for what is no cron expression, or one that never comes."""
    expected = "expected minute, hour, day of month, month and day of week, as in '0 3 * * MON'"
    if len(expression.split()) != FIELDS:
        raise ValueError(f"{expression!r} has {len(expression.split())} fields; {expected}")
    try:
        next(CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"{expression!r}: {error}; {expected}") from error
    except StopIteration as error:
        raise ValueError(f"{expression!r}: there is no such day") from error


def next_tick(expression: str, zone: ZoneInfo, after: datetime) -> datetime:
    """The first tick after a time, in UTC."""
    for tick in CronSim(expression, after.astimezone(zone)):
        found = tick.astimezone(UTC)
        if found > after:  # in the second of two equal hours the iterator begins with the first
            return found
    raise AssertionError(f"{expression}: no tick in 50 years")


def last_tick(expression: str, zone: ZoneInfo, handled: datetime, now: datetime) -> datetime | None:
    """The latest tick that is due: after ``handled``, and not after ``now``; None where there is none."""
    for window in WINDOWS:  # however long ago ``handled`` is, only the last ticks are walked through
        start = max(handled, now - window)
        latest = None
        while (tick := next_tick(expression, zone, latest or start)) <= now:
            latest = tick
        if latest is not None or start == handled:
            return latest
    return None


def answer(tick: datetime | None, now: datetime, missed: str) -> Literal["none", "run", "skip"]:
    """What a due tick means; one that is late was missed, and stands for all that were missed before it."""
    if tick is None:
        return "none"
    return "run" if now - tick <= ON_TIME or missed == "catch-up" else "skip"
