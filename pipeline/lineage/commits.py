"""The log of a lineage: one immutable file for each change, so that the loss of one small file cannot undo the lineage.

``commits/00000000.json`` and its successors are created only if absent, on disk and in a bucket, and are never
rewritten. A change is an update that finished, whatever its verdict, or a release that was made current by hand. The
finished updates, the current release and the history of promotions all follow from the log. Each file holds the digest
of its predecessor and, for an update, the digest of its record, so a file that was lost, altered or replaced by an
older version is detected when the log is read. ``releases.json`` summarizes the log for people and other programs.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, Literal

import orjson
import xxhash
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from rewarm.pipeline.record.entry import RELEASED, Facts, State, number_of
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.object_store import create
from rewarm.stages.core.storage import Folder

COMMITS = "commits"
RELEASES = "releases.json"  # written from the log, for people and other programs; nothing here depends on it
FORMAT: Final = 2  # format 1 did not have the facts of updates
READERS = 16  # concurrent reads of commits in a bucket


@dataclass(frozen=True)
class Commit:
    """One change of a lineage."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["update", "release", "lost"]
    """An update that finished; a release that was made current by hand; a change whose file was lost for good."""
    at: str
    """Time of the change, ISO 8601, UTC."""
    update: Annotated[str, Field(pattern=r"^(\d{4,}-.*)?$")] = ""
    """The update that finished, or whose release became current."""
    state: State | None = None
    """State of the update; a released update also became the current release, unless it is on a branch of its own."""
    because: str = ""
    """Why the release became current, or why the gate held it back."""
    record: str = ""
    """Digest of an update's ``update.json``: ``digest`` of its bytes."""
    rolled_back: str | None = None
    """For a rollback: the release that was rolled back."""
    rebuilt: bool = False
    """Whether the original file was lost and this one was rebuilt, not byte for byte."""
    facts: Facts | None = None
    """For an update: the facts of its record that opening a lineage needs; None in files of format 1."""
    format: Literal[1, 2] = FORMAT
    """Format of the file."""

    by: str = ""
    """Who made the release current by hand; empty if unknown, as in older workspaces."""

    @property
    def promotes(self) -> bool:
        """Whether the commit makes a release the current one."""
        beside = self.facts is not None and self.facts.branch
        return self.kind == "release" or (self.state == RELEASED and not beside)

    def entry(self, number: int) -> dict[str, Any]:
        """Return a promotion as an entry of the history."""
        rolled_back = {} if self.rolled_back is None else {"rolled_back": self.rolled_back}
        by = {"by": self.by} if self.by else {}
        return {"update": self.update, "at": self.at, "because": self.because, **by, **rolled_back, "commit": number}


SHAPE = TypeAdapter(Commit)


class Log:
    """The changes of a lineage, in order."""

    def __init__(self, folder: Folder, commits: Sequence[Commit], last: str) -> None:
        """``folder`` is the workspace's folder, ``last`` the digest of the last commit's file (empty: no commits)."""
        self.folder = folder
        self.commits = list(commits)
        self.last = last

    @property
    def finished(self) -> dict[str, Commit]:
        """The finished updates, by id, in the order of their numbers."""
        commits = {commit.update: commit for commit in self.commits if commit.kind == "update"}
        return dict(sorted(commits.items(), key=lambda item: number_of(item[0])))

    @property
    def history(self) -> list[dict[str, Any]]:
        """Every change of the current release: ``update``, ``at``, ``because``, ``commit`` (its number in the log) and,
        for a rollback, ``rolled_back``."""
        return [commit.entry(number) for number, commit in enumerate(self.commits) if commit.promotes]

    @property
    def current(self) -> str | None:
        """The id of the update whose release is current."""
        return next((commit.update for commit in reversed(self.commits) if commit.promotes), None)

    @property
    def standing(self) -> list[str]:
        """The releases up to the current one, in order, without those that were rolled back."""
        releases: list[str] = []
        for commit in self.commits:
            if not commit.promotes:
                continue
            if commit.rolled_back is not None and releases[-1:] == [commit.rolled_back]:
                releases.pop()
            if releases[-1:] != [commit.update]:
                releases.append(commit.update)
        return releases

    def append(self, commit: Commit) -> None:
        """Append a change atomically; raises ``StageError`` if another command appended one in the meantime."""
        data = encode(commit, len(self.commits), self.last)
        assert decode(data, len(self.commits)) == (commit, self.last), data  # the file can never be rewritten
        create(self.folder / COMMITS, file_of(len(self.commits)), data)
        self.commits.append(commit)
        self.last = digest(data)


def read_log(folder: Folder, earlier: Log | None = None) -> Log:
    """Read the log of a workspace; raises ``DamagedError`` if a file is missing, altered or unreadable.

    ``earlier`` is the log as this process read it earlier: of its commits, which never change, only the names are
    looked at again.
    """
    commits = list(earlier.commits) if earlier else []
    last = earlier.last if earlier else ""
    for number, (name, data) in enumerate(read_files(folder / COMMITS, len(commits)), len(commits)):
        if name != file_of(number):
            raise damaged(folder, number, f"missing, although {name} exists")
        try:
            commit, before = decode(data, number)
        except ValueError as error:
            raise damaged(folder, number, f"expected a commit of format 1 to {FORMAT}, {error}") from error
        if before != last and not (commits and commits[-1].rebuilt):
            raise damaged(
                folder,
                number,
                f"expected the digest of the previous commit to be {before or 'empty'}, found {last or 'none'}: one of "
                "the two files was altered or comes from another copy of the workspace",
            )
        commits.append(commit)
        last = digest(data)
    return Log(folder, commits, last)


def read_files(folder: Folder, known: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield the names and bytes of the commits' files after the first ``known``, in order.

    Raises ``DamagedError`` if one of the first ``known`` is missing.
    """
    names = folder.files(".json")
    for number, name in enumerate(names[:known]):
        if name != file_of(number):
            raise damaged(folder.at(".."), number, f"missing, although {name} exists")
    if len(names) < known:
        raise damaged(folder.at(".."), len(names), "missing, although it was there before")
    names = names[known:]
    if folder.is_local:
        if folders := folder.folders():
            raise DamagedError(f"{folder}/{folders[0]}: expected a commit file, found a folder; move it elsewhere")
        yield from ((name, folder.read(name)) for name in names)
        return
    with ThreadPoolExecutor(READERS) as readers:
        yield from zip(names, readers.map(folder.read, names), strict=True)


def pointer(log: Log) -> dict[str, Any]:
    """Return the contents of ``releases.json``: current release, number of commits, history of promotions."""
    return {"current": log.current, "commits": len(log.commits), "last": log.last, "history": log.history}


def write_pointer(folder: Folder, log: Log) -> None:
    """Write ``releases.json`` from the log."""
    folder.write_json(RELEASES, pointer(log))


def known_commits(folder: Folder) -> int:
    """Return how many commits the log had when ``releases.json`` was written; 0 if the file does not tell."""
    try:
        return int(folder.read_json(RELEASES)["commits"])
    except (OSError, ValueError, TypeError, KeyError, DamagedError):
        return 0  # the file is written from the log, which is authoritative


def refuse_shorter(log: Log, known: int) -> None:
    """Raise ``DamagedError`` if the log is shorter than ``releases.json`` records, so lost commits are not replaced."""
    if known > len(log.commits):
        raise DamagedError(
            f"{log.folder}/{COMMITS}: ends with commit {len(log.commits) - 1}, but {RELEASES} records commit "
            f"{known - 1}: the last commits are lost. Restore them, or rebuild them with "
            f"`rewarm verify --repair {log.folder}`"
        )


def encode(commit: Commit, number: int, before: str) -> bytes:
    """Return the bytes of a commit's file; ``before`` is the digest of the previous file."""
    fields = asdict(commit)
    value = {"format": fields.pop("format"), "commit": number, "previous": before, **fields}
    if commit.format == 1:
        del value["facts"]
    if not commit.by:
        del value["by"]
    if commit.facts is not None and not commit.facts.branch:
        value["facts"] = {name: fact for name, fact in fields["facts"].items() if name != "branch"}
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def decode(data: bytes, number: int) -> tuple[Commit, str]:
    """Return the commit in a file and the digest of the previous file; raises ``ValueError`` with what is wrong."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"found invalid JSON ({error})") from error
    if not isinstance(value, dict) or value.get("format") not in range(1, FORMAT + 1):
        raise ValueError(f"found {str(value)[:80]}")
    stored, before = value.pop("commit", None), value.pop("previous", None)
    if stored != number or not isinstance(before, str):
        raise ValueError(f"found commit {stored!r} after {before!r}")
    try:
        return SHAPE.validate_python(value), before
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"found {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def digest(data: bytes) -> str:
    """Return the digest of a file's bytes: 32 hex digits."""
    return str(xxhash.xxh3_128_hexdigest(data))


def file_of(number: int) -> str:
    """Return the name of a commit's file; names sort in the order of their numbers."""
    return f"{number:08d}.json"


def damaged(folder: Folder, number: int, found: str) -> DamagedError:
    """Return the error for a damaged commit, with the command that repairs it."""
    return DamagedError(
        f"{folder / COMMITS}/{file_of(number)}: {found}; `rewarm verify --repair {folder}` rebuilds what can be rebuilt"
    )
