"""The errors that a command ends with: each type has a name for machines, an exit code and what to do about it.

Whoever decides by an error (the watch, a supervisor, a test) reads its type or its ``kind``, never its words.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

Remedy = Literal["again", "later", "change", "repair", "decide"]
"""What helps: the same command, at once; the same command, later; another command or other data; a repair of the
workspace (``rewarm verify``); a person's decision (``rewarm promote``)."""


class RewarmError(Exception):
    """Any error whose message was written for the person at the command line: what, where, and what to do next."""

    kind: ClassVar[str]  # the name for machines; it stays the same from version to version
    code: ClassVar[int]  # of the process
    remedy: ClassVar[Remedy]


class UsageError(RewarmError, ValueError):
    """Refused before anything was spent: the message says what was given, what was expected and what to do."""

    kind, code, remedy = "usage", 2, "change"


class UnfinishedError(UsageError):
    """Another update of the workspace was begun and is not finished: it goes first, or is discarded."""

    kind = "unfinished"


class StageError(RewarmError, RuntimeError):
    """A stage could not finish. What it had committed stays; the same command resumes from there."""

    kind, code = "failed", 1
    remedy: ClassVar[Remedy] = "again"


class DamagedError(StageError):
    """A file of a workspace is missing, unreadable or not what its records say.

    The message names the file, what was expected and found, and how to get it back.
    """

    kind, code, remedy = "damaged", 7, "repair"


class BusyError(StageError):
    """Another command is writing to the workspace; the message says which."""

    kind, code, remedy = "busy", 5, "later"


class UnreachableError(StageError):
    """A store or a disk has not answered until the deadline; nothing is wrong with the command or its data."""

    kind, code, remedy = "unreachable", 6, "later"

    def __init__(self, message: str, address: str = "") -> None:
        """``address`` is where there was no answer, without passwords."""
        super().__init__(message)
        self.address = address


class FullError(StageError):
    """A disk or a quota is full, and nobody has made room until the deadline."""

    kind, code, remedy = "full", 8, "later"


class NoRoomError(StageError):
    """The cluster had no room for the work, after several waits. The message says what was asked and what there is."""

    kind, code, remedy = "no-room", 9, "later"


class RefusedError(RewarmError):
    """The update is finished, and the gate refused its release: the release before stays current."""

    kind, code, remedy = "refused", 3, "change"


class UndecidedError(RewarmError):
    """The update is finished, and the gate could not decide: its release is held for a person."""

    kind, code, remedy = "undecided", 4, "decide"


WRAPPED = ("cause", "_base_exc", "controller_failure")  # attributes of Ray's errors


def origin(error: BaseException) -> RewarmError | None:
    """The typed error that another one carries: itself, its cause, or what a Ray worker raised; None if there is none.

    Ray wraps what a task raises in a ``RayTaskError`` (its ``cause``), Ray Train what workers raise in a
    ``WorkerGroupError`` (its ``worker_failures`` by rank, each with a ``_base_exc``), and its controller's errors in a
    ``ControllerError`` (its ``controller_failure``).
    """
    return next((found for found in carried(error, set()) if isinstance(found, RewarmError)), None)


def carried(error: BaseException, met: set[int]) -> Iterator[BaseException]:
    """An error and all that it was raised for, the outermost first; a wrapper of Ray's comes after its cause."""
    if id(error) in met:
        return
    met.add(id(error))
    failures = getattr(error, "worker_failures", None)
    ranks = [failures[rank] for rank in sorted(failures)] if isinstance(failures, dict) else []
    for one in (*(getattr(error, name, None) for name in WRAPPED), *ranks):
        if isinstance(one, BaseException):
            yield from carried(one, met)
    yield error
    if error.__cause__ is not None:
        yield from carried(error.__cause__, met)
