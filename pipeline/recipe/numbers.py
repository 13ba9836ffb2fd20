"""Checks of the numbers in a recipe that its types let pass."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rewarm.pipeline.escaping import cut
from rewarm.stages.core.errors import UsageError

LARGEST = 2**63 - 1  # whole number that every reader of the records can read


def refuse_not_finite(given: Mapping[str, Any], origin: str) -> None:
    """Raise ``UsageError`` for an infinite number, or one that is none."""
    for key, value in leaves(given):
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{origin}: {key}: expected a finite number, found {value}")


def refuse_other_numbers(given: Mapping[str, Any], made: Mapping[str, Any], origin: str) -> None:
    """Raise ``UsageError`` for a number of more than 64 bits, or one that was given as true or false.

    ``made`` are the settings that were made from ``given``, in which true has become 1.
    """
    logical = {key for key, value in leaves(given) if isinstance(value, bool)}
    for key, value in leaves(made):
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if key in logical:
            said = "YAML reads yes, no, on and off as true and false"
            raise UsageError(f"{origin}: {key}: expected a number, found {bool(value)} ({said})")
        if isinstance(value, int) and abs(value) > LARGEST:
            raise UsageError(f"{origin}: {key}: expected a whole number of at most 64 bits, found {cut(str(value))}")


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested mapping that are neither mappings nor lists, by dotted key."""
    if not isinstance(value, dict | list):
        yield key, value
        return
    for name, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(part, f"{key}.{name}".lstrip("."))
