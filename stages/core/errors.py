"""Typed errors of commands: each type has a machine-readable name, an exit code and a remedy.

Programs that react to an error (the watch, a supervisor, a test) use its type or its ``kind``, never its message.
"""

import re
from collections.abc import Iterator
from typing import ClassVar, Literal

Remedy = Literal["again", "later", "change", "repair", "decide"]
"""Remedies: the same command, immediately; the same command, later; another command or other data; a repair of the
workspace (``rewarm verify``); a person's decision (``rewarm promote``)."""


class RewarmError(Exception):
    """Base of all errors whose message is written for the user: what happened, where, and what to do next."""

    kind: ClassVar[str]  # machine-readable name, stable across versions
    code: ClassVar[int]  # of the process
    remedy: ClassVar[Remedy]


class UsageError(RewarmError, ValueError):
    """Input refused before any computation: the message contains the input, the expected input and the next step."""

    kind, code, remedy = "usage", 2, "change"


class UnfinishedError(UsageError):
    """Another update of the workspace is unfinished: it must be finished or discarded first."""

    kind = "unfinished"


class StageError(RewarmError, RuntimeError):
    """A stage could not finish. Committed results are kept; the same command resumes from there."""

    kind, code = "failed", 1
    remedy: ClassVar[Remedy] = "again"


class DamagedError(StageError):
    """A file of a workspace is missing, unreadable or differs from its records.

    The message names the file, what was expected and found, and how to restore it.
    """

    kind, code, remedy = "damaged", 7, "repair"


class BusyError(StageError):
    """Another command is writing to the workspace; the message names it."""

    kind, code, remedy = "busy", 5, "later"


class UnreachableError(StageError):
    """A store or a disk has not responded before the deadline; the command and its data are fine."""

    kind, code, remedy = "unreachable", 6, "later"

    def __init__(self, message: str, address: str = "") -> None:
        """``address`` is the address that did not respond, without passwords."""
        super().__init__(message)
        self.address = address


class FullError(StageError):
    """A disk or a quota is full, and no space was freed before the deadline."""

    kind, code, remedy = "full", 8, "later"


class NoRoomError(StageError):
    """The cluster had no room for the work after several waits. The message names requested and available resources."""

    kind, code, remedy = "no-room", 9, "later"


class RefusedError(RewarmError):
    """The update is finished, and the gate refused its release: the previous release remains current."""

    kind, code, remedy = "refused", 3, "change"


class UndecidedError(RewarmError):
    """The update is finished, and the gate could not decide: its release is held for a person."""

    kind, code, remedy = "undecided", 4, "decide"


WRAPPED = ("cause", "_base_exc", "controller_failure")  # attributes of Ray's errors


def origin(error: BaseException) -> RewarmError | None:
    """Return the typed error behind another error: itself, its cause, or the error of a Ray worker; None if none.

    Ray wraps a task's error in a ``RayTaskError`` (its ``cause``), Ray Train wraps workers' errors in a
    ``WorkerGroupError`` (its ``worker_failures`` by rank, each with a ``_base_exc``), and its controller's errors in a
    ``ControllerError`` (its ``controller_failure``).
    """
    return next((found for found in carried(error, set()) if isinstance(found, RewarmError)), None)


def carried(error: BaseException, met: set[int]) -> Iterator[BaseException]:
    """Yield an error and its causes, the outermost first; a wrapper of Ray's comes after its cause."""
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


COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Ray colours the names of tasks in the texts of its errors


def plain(error: BaseException) -> str:
    """Return an error's text without colour sequences."""
    return COLOURS.sub("", str(error))
