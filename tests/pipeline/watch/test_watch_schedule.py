"""Ticks across clock changes, and what becomes of those that were missed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.pipeline.watch.cron import answer, check_cron, last_tick, next_tick, zone_of

BERLIN, HOUR = ZoneInfo("Europe/Berlin"), timedelta(hours=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "after", "ticks"),
    [
        ("0 3 * * MON", "UTC", "2026-11-21 12:00", ["2026-11-23 03:00", "2026-11-30 03:00"]),
        ("*/20 * * * *", "UTC", "2026-11-21 12:00", ["2026-11-21 12:20", "2026-11-21 12:40", "2026-11-21 13:00"]),
        # 29 March 2026, 02:00 becomes 03:00: 02:30 is not there, so it runs at once after the gap, and once only.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 02:00", ["2026-03-29 01:00", "2026-03-30 00:30"]),
        ("10,30 2 * * *", "Europe/Berlin", "2026-03-28 02:00", ["2026-03-29 01:00", "2026-03-30 00:10"]),
        # 25 October 2026, 03:00 becomes 02:00: 02:30 comes twice, and counts the first time.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24 02:00", ["2026-10-25 00:30", "2026-10-26 01:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25 01:10", ["2026-10-26 01:30"]),
        # Every hour is every hour of real time, also in both.
        (
            "0 * * * *",
            "Europe/Berlin",
            "2026-10-24 23:30",
            ["2026-10-25 00:00", "2026-10-25 01:00", "2026-10-25 02:00"],
        ),
        ("0 * * * *", "Europe/Berlin", "2026-03-29 00:30", ["2026-03-29 01:00", "2026-03-29 02:00"]),
    ],
)
def test_ticks_follow_debians_cron(cron: str, zone: str, after: str, ticks: list[str]) -> None:
    moment = utc(after)
    for expected in ticks:
        moment = next_tick(cron, zone_of(zone), moment)
        assert moment == utc(expected)


@pytest.mark.parametrize(
    ("handled", "now", "expected"),
    [
        ("2026-11-21 12:00", "2026-11-21 12:59", None),
        ("2026-11-21 12:00", "2026-11-21 13:00", "2026-11-21 13:00"),
        ("2026-11-21 13:00", "2026-11-21 13:00", None),
        ("2026-11-21 12:00", "2026-11-21 15:30", "2026-11-21 15:00"),
        ("2019-01-01 00:00", "2026-11-21 15:30", "2026-11-21 15:00"),
    ],
)
def test_the_latest_due_tick_is_found_however_long_ago_the_last_was(
    handled: str, now: str, expected: str | None
) -> None:
    found = last_tick("0 * * * *", BERLIN, utc(handled), utc(now))
    assert found == (utc(expected) if expected else None)


def test_a_rare_tick_years_ago_is_found() -> None:
    assert last_tick("0 0 29 2 *", ZoneInfo("UTC"), utc("2023-01-01"), utc("2024-12-01")) == utc("2024-02-29")
    assert last_tick("0 0 29 2 *", ZoneInfo("UTC"), utc("2024-03-01"), utc("2026-12-01")) is None


@given(
    start=st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)),
    minutes=st.integers(0, 3 * 24 * 60),
    cron=st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 0 * * SUN", "15 */5 * * *", "0 2,3 1 * *"]),
)
def test_no_tick_is_answered_twice_or_left_out(start: datetime, minutes: int, cron: str) -> None:
    handled, now = start.replace(tzinfo=UTC), start.replace(tzinfo=UTC) + timedelta(minutes=minutes)
    tick = last_tick(cron, BERLIN, handled, now)
    if tick is None:
        assert next_tick(cron, BERLIN, handled) > now
    else:
        assert handled < tick <= now
        assert next_tick(cron, BERLIN, tick) > now
        assert last_tick(cron, BERLIN, tick, now) is None


@pytest.mark.parametrize(
    ("late", "missed", "expected"),
    [(0, "skip", "run"), (59, "skip", "run"), (61, "skip", "skip"), (61, "catch-up", "run"), (1e6, "catch-up", "run")],
)
def test_a_late_tick_is_skipped_or_caught_up_with(late: float, missed: str, expected: str) -> None:
    tick = utc("2026-11-21 12:00")
    assert answer(tick, tick + timedelta(seconds=late), missed) == expected
    assert answer(None, tick, missed) == "none"


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("0 3 * *", "4 fields"),
        ("0 3 * * * *", "6 fields"),
        ("61 * * * *", "minute"),
        ("0 0 31 2 *", "day"),
        ("", "fields"),
    ],
)
def test_what_is_no_cron_expression_is_refused(cron: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_cron(cron)


def test_an_unknown_zone_is_refused() -> None:
    for name in ("Europe/Atlantis", "", "../etc/passwd"):
        with pytest.raises(ValueError, match="is not a time zone"):
            zone_of(name)
