"""Shapes of small JSON files, validated on reading: damage is reported by file and field instead of surfacing later.

A shape is a pydantic ``TypeAdapter`` of a ``TypedDict``; fields that it does not mention are kept unchanged.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NotRequired, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from rewarm.stages.core.errors import DamagedError, UsageError
from rewarm.stages.core.storage import MANIFEST, Folder

Value = TypeVar("Value")
OPEN = ConfigDict(extra="allow")  # keeps fields that a shape does not mention
RESTORE = "restore the file from a copy of the workspace (`rewarm verify` checks all files)"


class Identity(TypedDict):
    """Identity of a stage's result."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    version: int  # of the stage
    settings: dict[str, Any]
    inputs: dict[str, Any]  # digests


Manifest = TypedDict(
    "Manifest",
    {
        "step": str,
        "identity": Identity,
        "outcome": dict[str, Any],  # of the stage's class: ``outcome_of``
        "seconds": float,  # of all attempts
        "fingerprint": NotRequired[str],  # over the identity
        "attempts": NotRequired[int],
        "finished": NotRequired[str],  # ISO 8601, UTC
        "files.json": NotRequired[str],  # digest of the table of the files
    },
)
"""Manifest of a finished stage."""
Manifest.__pydantic_config__ = OPEN  # type: ignore[attr-defined]
MANIFESTS = TypeAdapter(Manifest)


def checked(value: object, shape: "TypeAdapter[Value]", file: str) -> Value:
    """Return ``value`` if it has the shape; raise ``DamagedError`` with the file, the first wrong field, and why."""
    try:
        return shape.validate_python(value)
    except ValidationError as error:
        raise DamagedError(f"{file}: {first_problem(error)}; {RESTORE}") from error


def first_problem(error: ValidationError) -> str:
    """Return the first validation error in one line."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "the whole file"
    given = "" if isinstance(first["input"], dict | list) else f", found {str(first['input'])[:80]!r}"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}{given}"


def read_as(folder: Folder, name: str, shape: "TypeAdapter[Value]") -> Value:
    """Return a JSON file's value; raises ``DamagedError`` if it lacks the shape, ``OSError`` if it is unreadable."""
    return checked(folder.read_json(name), shape, f"{folder}/{name}")


def stage_manifest(folder: Folder) -> Manifest:
    """Return the commit marker of a stage's folder."""
    return read_as(folder, MANIFEST, MANIFESTS)


def outcome_of(folder: Folder, kind: type[Value]) -> Value:
    """Return a finished stage's outcome as its class; raises ``DamagedError`` with the first wrong field."""
    shape: TypeAdapter[Value] = TypeAdapter(kind)
    return checked(stage_manifest(folder)["outcome"], shape, f"{folder}/{MANIFEST}: outcome")


@contextmanager
def understood(file: str) -> Iterator[None]:
    """Convert a reader's errors in the block into damage of ``file``."""
    try:
        yield
    except UsageError:  # a reader with its own message
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        said = " ".join(str(error).split())[:200]
        raise DamagedError(f"{file}: cannot be parsed ({type(error).__name__}: {said}); {RESTORE}") from error
