"""Ticks of a cron expression, at which a watch processes arrivals, and the handling of missed ticks.

Pure functions of times. Clock changes are handled as in Debian's cron (man 8 cron): a job at a fixed hour runs once a
day, after the gap if its time is skipped and at the first occurrence if its time is repeated; ``*`` and ``*/N`` follow
real time.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

ON_TIME = timedelta(seconds=60)  # a tick noticed within this time was not missed
WINDOWS = (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=366))
FIELDS = 5
CLOCK = "clock.json"  # in the folder of a watch: the last handled tick


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name; raise ``ValueError`` if this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{name!r} is not a time zone of this machine; expected a name such as Europe/Berlin"
        ) from error


def check_cron(expression: str) -> None:
    """Raise ``ValueError`` for an invalid cron expression, or one without any tick."""
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
    """Return the first tick after a time, in UTC."""
    for tick in CronSim(expression, after.astimezone(zone)):
        found = tick.astimezone(UTC)
        if found > after:  # in a repeated hour the iterator starts from its first occurrence
            return found
    raise AssertionError(f"{expression}: no tick in 50 years")


def last_tick(expression: str, zone: ZoneInfo, handled: datetime, now: datetime) -> datetime | None:
    """Return the latest due tick, later than ``handled`` and not later than ``now``; None if there is none."""
    for window in WINDOWS:  # only iterate over the last ticks, however long ago ``handled`` is
        start = max(handled, now - window)
        latest = None
        while (tick := next_tick(expression, zone, latest or start)) <= now:
            latest = tick
        if latest is not None or start == handled:
            return latest
    return None


def answer(tick: datetime | None, now: datetime, missed: str) -> Literal["none", "run", "skip"]:
    """Decide whether a due tick runs; a late tick was missed, and represents all ticks missed before it."""
    if tick is None:
        return "none"
    return "run" if now - tick <= ON_TIME or missed == "catch-up" else "skip"
