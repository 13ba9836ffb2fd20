"""Times in every way that records give them."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from rewarm.stages.ingest.records import parse_timestamp

NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-31T12:00:00Z", NOON),
        ("2024-01-31 13:00:00+01:00", NOON),
        ("2024-01-31T12:00:00", NOON),
        (b"2024-01-31T12:00:00.000Z", NOON),
        ("2024-01-31", NOON.replace(hour=0)),
        ("20240131", NOON.replace(hour=0)),
        (1706702400, NOON),
        (1706702400.0, NOON),
        ("1706702400", NOON),
        ("1706702400123", NOON + timedelta(milliseconds=123)),
        (1706702400000, NOON),
        (1706702400000000, NOON),
        (1706702400000000000, NOON),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (date(2024, 1, 31), NOON.replace(hour=0)),
        (NOON.astimezone(timezone(timedelta(hours=5))), NOON),
        ("yesterday", None),
        ("", None),
        (None, None),
        (True, None),
        (float("nan"), None),
        (-1e11 + 1, None),
        ([2024], None),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), None),
    ],
)
def test_timestamps(value: Any, expected: datetime | None) -> None:
    assert parse_timestamp(value) == expected
