"""The file of an update's record, ``update.json``, and its formats.

Format 2 names its format, counts attempts and has one cost over all of them; derived values are not written. Format 1
(without a format number) had untyped parts, and wrote parts that did not apply as empty objects.
"""

from dataclasses import asdict
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from rewarm.pipeline.record.update import UpdateRecord
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.shapes import first_problem

UPDATE = "update.json"
FORMAT = 2
SHAPE = TypeAdapter(UpdateRecord)
OPTIONAL = ("schedule", "train", "plan", "gate")  # parts that format 1 wrote as empty objects if they did not apply
RULINGS = {True: "passed", False: "refused"}
RESTORE = "restore it from a copy of the workspace"


def encode(record: UpdateRecord) -> bytes:
    """Encode a record as the bytes of its file, in one line; values that are not finite become null."""
    value = {"format": FORMAT, **vars(record)}  # orjson knows dataclasses
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def to_json(record: UpdateRecord) -> dict[str, Any]:
    """Convert a record to JSON types, with its format."""
    return {"format": FORMAT, **asdict(record)}


def decode(data: bytes, file: str) -> UpdateRecord:
    """Decode a record of any format from the bytes of ``file``; raises ``DamagedError`` with what is wrong."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise DamagedError(f"{file}: expected an update's record, found invalid JSON ({error}); {RESTORE}") from error
    return parse(value, file)


def parse(value: object, file: str) -> UpdateRecord:
    """Parse a record of any format from JSON types; raises ``DamagedError`` with ``file`` and what is wrong."""
    if not isinstance(value, dict):
        raise DamagedError(f"{file}: expected an update's record, found {str(value)[:80]!r}; {RESTORE}")
    value = dict(value)
    written = value.pop("format", 1)
    if written == 1:
        value = from_format_1(value)
    elif written != FORMAT:
        raise DamagedError(
            f"{file}: has format {str(written)[:80]!r}, this rewarm reads formats 1 and {FORMAT}; use the version that "
            f"wrote the file, or {RESTORE}"
        )
    try:
        return SHAPE.validate_python(value)
    except ValidationError as error:
        raise DamagedError(
            f"{file}: expected a record of format {written}: {first_problem(error)}; {RESTORE}"
        ) from error


def from_format_1(value: dict[str, Any]) -> dict[str, Any]:
    """Convert a record of format 1 to the current shape; values that it did not count keep their defaults."""
    seconds, plan, gate = (value.get(name) or {} for name in ("seconds", "plan", "gate"))
    record = {name: part for name, part in value.items() if name != "seconds"}
    record |= {name: value.get(name) or None for name in OPTIONAL}
    if isinstance(seconds, dict):
        record["steps"] = {name: {"seconds": duration} for name, duration in seconds.items()}
    if isinstance(plan, dict) and plan:
        actual = plan.get("actual")
        record["plan"] = {name: part for name, part in plan.items() if name != "actual"}
        if isinstance(actual, dict):
            record["cost"] = {"hours": actual.get("hours"), "price": actual.get("cost"), "currency": actual["currency"]}
    if isinstance(gate, dict) and gate:
        record["gate"] = verdict_of_format_1(gate)
    return record


def verdict_of_format_1(gate: dict[str, Any]) -> dict[str, Any]:
    """Convert a verdict of format 1; the oldest had neither undecided checks nor minimum detectable effects."""
    outcome = RULINGS.get(bool(gate.get("passed")))
    unknown = {"because": "", "p": None, "p_adjusted": None, "worth": None, "detectable": None}
    checks = [
        {**unknown, "units": check.get("n"), "outcome": RULINGS[bool(check.get("passed"))], **check}
        if isinstance(check, dict)
        else check
        for check in gate.get("checks", [])
    ]
    return {"because": [], "correction": "none", "outcome": outcome, **gate, "checks": checks}
