"""Records of updates for tests: what a test does not say has a value that does no harm."""

from typing import Any

from rewarm.pipeline.record import UpdateRecord, parse


def record(name: str = "0001-news", **values: Any) -> UpdateRecord:
    """A finished update's record; ``values`` are its fields, with parts as objects or as JSON types."""
    arrival = name.partition("-")[2]
    known = {"id": name, "arrival": arrival, "datasets": [arrival], "state": "released"}
    return UpdateRecord(**{**known, "finished": "2026-01-01T00:00:00+00:00", **values})


def record_of_format_1(**values: Any) -> UpdateRecord:
    """A record from the fields that a file of format 1 has."""
    return parse(values, "update.json")


def verdict(passed: bool, *because: str, **values: Any) -> dict[str, Any]:
    """A verdict against the base, as JSON types."""
    said = {"against": "0000-docs", "alpha": 0.05, "correction": "holm", "checks": []}
    return {"passed": passed, "because": list(because), "outcome": "passed" if passed else "refused", **said, **values}
