"""The identity of a step, and the time stamps of records: what decides a result, and when it was there."""

from datetime import UTC, datetime
from typing import Any

import orjson
import xxhash


def fingerprint(identity: Any) -> str:
    """32 hex digits over a JSON value; keys in any order."""
    return str(xxhash.xxh3_128_hexdigest(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)))


def now() -> str:
    """The time, ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
