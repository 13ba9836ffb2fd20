"""A document's time from whatever a record says: ISO 8601, a Unix number, a date; None where it is none of them."""

import math
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NUMBER = re.compile(r"-?\d{9,19}(\.\d+)?")  # eight digits are a date: 20240131


def parse_timestamp(value: Any) -> datetime | None:
    """The time in UTC, or None. A time without a zone is taken as UTC.

    A Unix number is in seconds; where that would lie beyond the year 5138 (1e11 s) it is in ms, else µs, else ns.
    """
    try:
        if isinstance(value, bytes):
            value = value.decode()
        if isinstance(value, str):
            text = value.strip()
            value = float(text) if NUMBER.fullmatch(text) else datetime.fromisoformat(text)
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        if isinstance(value, date):
            return datetime.combine(value, time(), UTC)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            seconds = value
            while abs(seconds) >= 1e11:
                seconds /= 1000
            return EPOCH + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return None
    return None


def from_microseconds(value: int | None) -> datetime | None:
    """The time of microseconds since 1970 UTC; None outside the years 1 to 9999."""
    try:
        return None if value is None else EPOCH + timedelta(microseconds=value)
    except OverflowError:
        return None
