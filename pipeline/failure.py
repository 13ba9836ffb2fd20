"""The record of a command that ended with an error: one JSON object for machines, which the watch decides by.

``REWARM_ERRORS=json`` prints it on standard error, as one line, in place of the message. ``REWARM_ERROR_FILE`` names a
file that it is written to as well (a pod's ``/dev/termination-log``; as torchrun's ``TORCHELASTIC_ERROR_FILE``).
"""

import os
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from rewarm.pipeline.escaping import message
from rewarm.stages.core.errors import (
    BusyError,
    DamagedError,
    FullError,
    NoRoomError,
    RefusedError,
    StageError,
    UndecidedError,
    UnfinishedError,
    UnreachableError,
    UsageError,
    origin,
)
from rewarm.stages.core.faults import is_full, may_pass

FORM, FILE = "REWARM_ERRORS", "REWARM_ERROR_FILE"  # environment variables
TRACEBACK = "REWARM_TRACEBACK"  # environment variable: errors that no check foresaw are shown in full
UNFORESEEN = "unforeseen"  # the kind of an error that no check foresaw
STOPPED = "stopped"  # the kind of a command that a signal ended in order
STOPPED_MESSAGE = "stopped by {}; an update that was under way resumes with the same command"
KINDS: dict[str, tuple[int, str]] = {
    one.kind: (one.code, meaning)
    for one, meaning in (
        (StageError, "failed; the same command resumes"),
        (UsageError, "wrong usage or unusable data; nothing was spent"),
        (UnfinishedError, "another update is unfinished; it goes first"),
        (RefusedError, "done, but the gate refused the release"),
        (UndecidedError, "done, but the release is held for a person"),
        (BusyError, "another command is writing to the workspace"),
        (UnreachableError, "a store or disk did not answer until the deadline"),
        (DamagedError, "a file of the workspace is damaged; `rewarm verify` names it"),
        (FullError, "a disk is full, and nobody made room until the deadline"),
        (NoRoomError, "the cluster had no room for the work, after several waits"),
    )
}


@dataclass(frozen=True)
class Failure:
    """How a command ended, if not well."""

    error: str  # the kind: ``stages.core.errors``, or ``UNFORESEEN``, ``STOPPED``
    code: int  # of the process
    message: str  # for people, without secrets and control characters
    remedy: str  # ``stages.core.errors.Remedy``
    at: str = ""  # ISO 8601, UTC
    address: str = ""  # of a store that did not answer

    def line(self) -> str:
        """As one line of JSON."""
        return orjson.dumps(asdict(self)).decode()


def failure_of(error: BaseException) -> Failure:
    """The record of an error: of the typed one that it carries, if there is one."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    found = origin(error)
    if found is not None:
        address = message(str(getattr(found, "address", "")))
        return Failure(found.kind, found.code, message(str(found)), found.remedy, at, address)
    if isinstance(error, OSError):  # of a disk, inside of what cannot be done twice
        passing = error.errno is not None and may_pass(error)
        kind = FullError if is_full(error) else UnreachableError if passing else StageError
        address = message(os.fsdecode(error.filename or ""))
        return Failure(kind.kind, kind.code, message(describe(error)), kind.remedy, at, address)
    return Failure(UNFORESEEN, StageError.code, message(unforeseen(error)), StageError.remedy, at)


def describe(error: OSError) -> str:
    """A file or network error in one line."""
    if error.filename is None:
        return " ".join(str(error).split()) or type(error).__name__
    missing = isinstance(error, FileNotFoundError)
    advice = "; if it belongs to a workspace, restore it from a copy" if missing else ""
    return f"{os.fsdecode(error.filename)}: {error.strerror or type(error).__name__}{advice}"


def unforeseen(error: BaseException) -> str:
    """An error that no check foresaw, in one line: of our own making, or of a file that is damaged in a new way."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    said = " ".join(str(error).split())[:300]
    return (
        f"{type(error).__name__}{place}: {said}. `rewarm verify WORKSPACE` names damaged files; if it finds none, this "
        f"is a fault of rewarm ({TRACEBACK}=1 shows all of it)"
    )


def as_json() -> bool:
    """Whether errors are printed as JSON."""
    return os.environ.get(FORM, "").lower() == "json"


def keep(failure: Failure) -> None:
    """Write the record to the file that the environment names, if any; the command ends as it does either way."""
    if path := os.environ.get(FILE):
        with suppress(OSError):
            Path(path).write_text(f"{failure.line()}\n", encoding="utf-8")


def read(path: Path) -> Failure | None:
    """The record that a command left; None if it left none (it ended well, or was killed)."""
    try:
        value: Any = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    known = {one.name for one in fields(Failure)}
    return Failure(**{name: part for name, part in value.items() if name in known}) if isinstance(value, dict) else None


def code_lines() -> Mapping[int, str]:
    """Every exit code with its meaning, for the help and docs/commands.md."""
    codes: dict[int, str] = {0: "done"}
    for code, meaning in KINDS.values():
        codes.setdefault(code, meaning)
    return {**dict(sorted(codes.items())), 130: "stopped by Ctrl-C", 143: "stopped by SIGTERM"}
