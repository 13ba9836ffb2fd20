"""Shapes of small JSON files, checked when a file is read: damage is named by file and field, not met later as a bug.

A shape is a pydantic ``TypeAdapter`` of a ``TypedDict``; what it does not mention is kept as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NotRequired, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from rewarm.stages.core.errors import DamagedError, UsageError
from rewarm.stages.core.storage import MANIFEST, Folder

Value = TypeVar("Value")
OPEN = ConfigDict(extra="allow")  # of a shape: fields that it does not mention stay in the value
RESTORE = "restore the file from a copy of the workspace (`rewarm verify` looks at all files)"


class Identity(TypedDict):
    """What decides a stage's result."""

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
"""What every stage leaves when it is finished."""
Manifest.__pydantic_config__ = OPEN  # type: ignore[attr-defined]
MANIFESTS = TypeAdapter(Manifest)


def checked(value: object, shape: "TypeAdapter[Value]", file: str) -> Value:
    """``value`` if it has the shape; ``DamagedError`` names the file, the first field that is wrong, and why."""
    try:
        return shape.validate_python(value)
    except ValidationError as error:
        raise DamagedError(f"{file}: {first_problem(error)}; {RESTORE}") from error


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "the whole file"
    given = "" if isinstance(first["input"], dict | list) else f", found {str(first['input'])[:80]!r}"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}{given}"


def read_as(folder: Folder, name: str, shape: "TypeAdapter[Value]") -> Value:
    """A JSON file's value, of a shape; ``DamagedError`` where it has another, ``OSError`` where it cannot be read."""
    return checked(folder.read_json(name), shape, f"{folder}/{name}")


def stage_manifest(folder: Folder) -> Manifest:
    """The commit marker of a stage's folder."""
    return read_as(folder, MANIFEST, MANIFESTS)


def outcome_of(folder: Folder, kind: type[Value]) -> Value:
    """What a finished stage left, as its class; ``DamagedError`` names the first field that is wrong."""
    shape: TypeAdapter[Value] = TypeAdapter(kind)
    return checked(stage_manifest(folder)["outcome"], shape, f"{folder}/{MANIFEST}: outcome")


@contextmanager
def understood(file: str) -> Iterator[None]:
    """What a reader in the block makes of bytes that are not its file's is damage of ``file``."""
    try:
        yield
    except UsageError:  # a reader that knows what is wrong
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        said = " ".join(str(error).split())[:200]
        raise DamagedError(f"{file}: cannot be understood ({type(error).__name__}: {said}); {RESTORE}") from error
