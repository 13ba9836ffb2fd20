"""Fingerprints of a step's identity, and timestamps for records."""

from datetime import UTC, datetime
from typing import Any

import orjson
import xxhash


def fingerprint(identity: Any) -> str:
    """Return 32 hex digits over a JSON value, regardless of the order of keys."""
    return str(xxhash.xxh3_128_hexdigest(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)))


def now() -> str:
    """Return the current time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
