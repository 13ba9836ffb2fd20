"""The error record of a failed command: one JSON object for machines; ``rewarm watch`` decides by it.

``REWARM_ERRORS=json`` prints the record to stderr as one line instead of the message. ``REWARM_ERROR_FILE`` names a
file to which it is also written, such as a pod's ``/dev/termination-log`` (cf. torchrun's ``TORCHELASTIC_ERROR_FILE``).
"""

import errno
import os
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

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
    carried,
    origin,
    plain,
)
from rewarm.stages.core.faults import is_full, may_pass

FORM, FILE = "REWARM_ERRORS", "REWARM_ERROR_FILE"  # environment variables
TRACEBACK = "REWARM_TRACEBACK"  # environment variable: print the traceback of unforeseen errors
UNFORESEEN = "unforeseen"  # error kind: not an error that rewarm raises itself
STOPPED = "stopped"  # error kind: ended cleanly by a signal
STOPPED_MESSAGE = "stopped by {}; run the same command to resume an update that was in progress"
ADVICE = {  # by error number: what to do about a file
    errno.ENOENT: "; if it belongs to a workspace, restore it from a backup",
    errno.EACCES: "; run the command as a user who may use it (`ls -ld` shows whose it is)",
    errno.EPERM: "; run the command as a user who may use it (`ls -ld` shows whose it is)",
    errno.EROFS: "; the disk is mounted read-only: mount it for writing, or use a folder on another one",
}
KINDS: dict[str, tuple[int, str]] = {
    one.kind: (one.code, meaning)
    for one, meaning in (
        (StageError, "failed, run the same command to resume"),
        (UsageError, "wrong usage or unusable data, nothing was spent"),
        (UnfinishedError, "another update is unfinished and must finish first"),
        (RefusedError, "done, but the gate refused the release"),
        (UndecidedError, "done, but the release is held for review"),
        (BusyError, "another command is writing to the workspace"),
        (UnreachableError, "a store or disk did not answer before the deadline"),
        (DamagedError, "a file of the workspace is damaged (`rewarm verify` names it)"),
        (FullError, "a disk is full and no space was freed before the deadline"),
        (NoRoomError, "the cluster still lacked resources after several waits"),
    )
}


@dataclass(frozen=True)
class Failure:
    """Error record of a failed command."""

    error: str  # the kind: one of ``stages.core.errors``, ``UNFORESEEN`` or ``STOPPED``
    code: int  # exit code of the process
    message: str  # for people; secrets masked, control characters escaped
    remedy: str  # ``stages.core.errors.Remedy``
    at: str = ""  # ISO 8601, UTC
    address: str = ""  # the store that did not answer

    def line(self) -> str:
        """Return the record as one line of JSON."""
        return orjson.dumps(asdict(self)).decode()


def failure_of(error: BaseException) -> Failure:
    """Return the error record; a typed error anywhere in the chain determines it."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    found = origin(error)
    if found is not None:
        address = message(str(getattr(found, "address", "")))
        return Failure(found.kind, found.code, message(str(found)), found.remedy, at, address)
    fault = disk_error(error)
    if fault is not None:  # during an operation that cannot be repeated
        kind = FullError if is_full(fault) else UnreachableError if passes(fault) else StageError
        address = message(os.fsdecode(fault.filename or ""))
        return Failure(kind.kind, kind.code, message(describe(fault)), kind.remedy, at, address)
    return Failure(UNFORESEEN, StageError.code, message(unforeseen(error)), StageError.remedy, at)


def disk_error(error: BaseException) -> OSError | None:
    """Return the ``OSError`` that an error is without Ray's wrappers, or a temporary one among its causes."""
    chain = list(carried(error, set()))
    found = (one for one in chain if isinstance(one, OSError) and (one is chain[0] or passes(one)))
    return next(found, None)


def passes(error: OSError) -> bool:
    """Return whether a disk's or a connection's error may be temporary."""
    return error.errno is not None and may_pass(error)


def describe(error: OSError) -> str:
    """Describe a file or network error in one line."""
    if error.filename is None:
        return " ".join(str(error).split()) or type(error).__name__
    said = error.strerror or type(error).__name__
    return f"{os.fsdecode(error.filename)}: {said}{ADVICE.get(error.errno or 0, '')}"


def unforeseen(error: BaseException) -> str:
    """Describe an unforeseen error in one line: a bug in rewarm, or a file damaged in a way that no check covers."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    inner = next(carried(error, set()))  # without Ray's wrappers, whose text is a traceback
    text = " ".join(plain(inner).split())[:300]
    return (
        f"{type(inner).__name__}{place}: {text}. `rewarm verify WORKSPACE` names damaged files; if it finds none, this "
        f"is a bug in rewarm ({TRACEBACK}=1 prints the traceback)"
    )


def as_json() -> bool:
    """Return whether errors are printed as JSON."""
    return os.environ.get(FORM, "").lower() == "json"


def keep(failure: Failure) -> None:
    """Write the record to the file named by ``REWARM_ERROR_FILE``, if set; a failed write does not change the exit."""
    if path := os.environ.get(FILE):
        with suppress(OSError):
            Path(path).write_text(f"{failure.line()}\n", encoding="utf-8")


def read(path: Path) -> Failure | None:
    """Return the error record that a command wrote; None if it wrote none, or no whole one (it succeeded, or died)."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Failure).validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def code_lines() -> Mapping[int, str]:
    """Return every exit code with its meaning, for the help and docs/commands.md."""
    codes: dict[int, str] = {0: "done"}
    for code, meaning in KINDS.values():
        codes.setdefault(code, meaning)
    return {**dict(sorted(codes.items())), 130: "stopped by Ctrl-C", 143: "stopped by SIGTERM"}
