"""The file of an update's record, ``update.json``, and the formats that it has had.

Format 2 names its format, and has counts of attempts and one cost over all of them; what follows from other fields is
not written. Format 1 (without a number) had loose parts, of which those that did not apply were empty objects.
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
OPTIONAL = ("schedule", "train", "plan", "gate")  # parts that format 1 wrote as empty objects if there were none
RULINGS = {True: "passed", False: "refused"}
RESTORE = "restore it from a copy of the workspace"


def encode(record: UpdateRecord) -> bytes:
    """A record as its file has it, in one line; figures that are not finite are null."""
    value = {"format": FORMAT, **vars(record)}  # orjson knows dataclasses
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def to_json(record: UpdateRecord) -> dict[str, Any]:
    """A record as JSON types, with its format."""
    return {"format": FORMAT, **asdict(record)}


def decode(data: bytes, file: str) -> UpdateRecord:
    """A record from the bytes of ``file``, of today's format or an earlier one; ``DamagedError`` says what is wrong."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise DamagedError(f"{file}: expected an update's record, found no JSON ({error}); {RESTORE}") from error
    return parse(value, file)


def parse(value: object, file: str) -> UpdateRecord:
    """A record from JSON types, wherever they are kept; ``DamagedError`` names ``file`` and what is wrong."""
    if not isinstance(value, dict):
        raise DamagedError(f"{file}: expected an update's record, found {str(value)[:80]!r}; {RESTORE}")
    value = dict(value)
    written = value.pop("format", 1)
    if written == 1:
        value = from_format_1(value)
    elif written != FORMAT:
        raise DamagedError(
            f"{file}: has format {str(written)[:80]!r}, this rewarm reads formats 1 and {FORMAT}; use the version that "
            f"wrote it, or {RESTORE}"
        )
    try:
        return SHAPE.validate_python(value)
    except ValidationError as error:
        raise DamagedError(
            f"{file}: expected a record of format {written}: {first_problem(error)}; {RESTORE}"
        ) from error


def from_format_1(value: dict[str, Any]) -> dict[str, Any]:
    """A record of format 1 in today's shape; what it did not count stays at its default."""
    seconds, plan, gate = (value.get(name) or {} for name in ("seconds", "plan", "gate"))
    found = {name: part for name, part in value.items() if name != "seconds"}
    found |= {name: value.get(name) or None for name in OPTIONAL}
    if isinstance(seconds, dict):
        found["steps"] = {name: {"seconds": one} for name, one in seconds.items()}
    if isinstance(plan, dict) and plan:
        actual = plan.get("actual")
        found["plan"] = {name: part for name, part in plan.items() if name != "actual"}
        if isinstance(actual, dict):
            found["cost"] = {"hours": actual.get("hours"), "price": actual.get("cost"), "currency": actual["currency"]}
    if isinstance(gate, dict) and gate:
        found["gate"] = verdict_of_format_1(gate)
    return found


def verdict_of_format_1(gate: dict[str, Any]) -> dict[str, Any]:
    """A verdict of format 1; the first of them knew neither undecided checks nor what a check detects."""
    outcome = RULINGS.get(bool(gate.get("passed")))
    unknown = {"because": "", "p": None, "p_adjusted": None, "worth": None, "detectable": None}
    checks = [
        {**unknown, "units": check.get("n"), "outcome": RULINGS[bool(check.get("passed"))], **check}
        if isinstance(check, dict)
        else check
        for check in gate.get("checks", [])
    ]
    return {"because": [], "correction": "none", "outcome": outcome, **gate, "checks": checks}
