"""The log of a lineage: one immutable file for each change, so that the loss of one small file cannot undo the lineage.

``commits/00000000.json`` and on are created only if absent, on a disk as in a bucket, and never written again. A change
is an update that finished, whatever the gate said of it, or a release that was made current by hand. Which updates are
finished, which release is current, and the history of promotions all follow from the log. Each file holds the digest of
the one before it and, for an update, that of its record: a file that is lost, altered or from another time is noticed
when the log is read.
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
FORMAT: Final = 2  # 1 had no facts of the updates
READERS = 16  # commits of a bucket that are read at a time


@dataclass(frozen=True)
class Commit:
    """One change of a lineage."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["update", "release", "lost"]
    """An update that finished; a release that was made current by hand; a change whose file was lost for good."""
    at: str
    """When, ISO 8601, UTC."""
    update: Annotated[str, Field(pattern=r"^(\d{4,}-.*)?$")] = ""
    """The update that finished, or whose release became current."""
    state: State | None = None
    """Of an update: one that is released also became the current release."""
    because: str = ""
    """Why the release became current, or why the gate held it back."""
    record: str = ""
    """Digest of an update's ``update.json``: ``digest`` of its bytes."""
    rolled_back: str | None = None
    """Of a release that became current by a rollback: the one that was left."""
    rebuilt: bool = False
    """Whether the file was lost and this one is rebuilt, not byte for byte as it was."""
    facts: Facts | None = None
    """Of an update: what its record says that a lineage needs to open; None in files of format 1."""
    format: Literal[1, 2] = FORMAT
    """Of the file."""

    by: str = ""
    """Who made the release current by hand; empty where nobody said, as in workspaces of before."""

    @property
    def promotes(self) -> bool:
        """Whether it makes a release the current one."""
        return self.kind == "release" or self.state == RELEASED

    def entry(self, number: int) -> dict[str, Any]:
        """A promotion as the history has it."""
        left = {} if self.rolled_back is None else {"rolled_back": self.rolled_back}
        by = {"by": self.by} if self.by else {}
        return {"update": self.update, "at": self.at, "because": self.because, **by, **left, "commit": number}


SHAPE = TypeAdapter(Commit)


class Log:
    """The changes of a lineage in their order."""

    def __init__(self, folder: Folder, commits: Sequence[Commit], last: str) -> None:
        """``folder`` is the workspace's, ``last`` the digest of the last commit's file (empty: there is none)."""
        self.folder = folder
        self.commits = list(commits)
        self.last = last

    @property
    def finished(self) -> dict[str, Commit]:
        """The updates that are finished, by id, in the order of their numbers."""
        found = {commit.update: commit for commit in self.commits if commit.kind == "update"}
        return dict(sorted(found.items(), key=lambda item: number_of(item[0])))

    @property
    def history(self) -> list[dict[str, Any]]:
        """Every change of the current release: ``update``, ``at``, ``because``, ``commit`` (its number in the log) and,
        of a rollback, ``rolled_back``."""
        return [commit.entry(number) for number, commit in enumerate(self.commits) if commit.promotes]

    @property
    def current(self) -> str | None:
        """The update whose release is current."""
        return next((commit.update for commit in reversed(self.commits) if commit.promotes), None)

    @property
    def standing(self) -> list[str]:
        """The releases up to the current one, in their order, without those that were rolled back."""
        found: list[str] = []
        for commit in self.commits:
            if not commit.promotes:
                continue
            if commit.rolled_back is not None and found[-1:] == [commit.rolled_back]:
                found.pop()
            if found[-1:] != [commit.update]:
                found.append(commit.update)
        return found

    def append(self, commit: Commit) -> None:
        """Add a change, in one step; ``StageError`` where another command has added one meanwhile."""
        data = encode(commit, len(self.commits), self.last)
        assert decode(data, len(self.commits)) == (commit, self.last), data  # it can never be written again
        create(self.folder / COMMITS, file_of(len(self.commits)), data)
        self.commits.append(commit)
        self.last = digest(data)


def read_log(folder: Folder) -> Log:
    """The log of the workspace in ``folder``; ``DamagedError`` where a file is missing, altered or unreadable."""
    place = folder / COMMITS
    commits: list[Commit] = []
    last = ""
    for number, (name, data) in enumerate(read_files(place)):
        if name != file_of(number):
            raise damaged(folder, number, f"missing, though {name} is there")
        try:
            commit, before = decode(data, number)
        except ValueError as error:
            raise damaged(folder, number, f"expected a commit of format 1 to {FORMAT}, {error}") from error
        if before != last and not (commits and commits[-1].rebuilt):
            raise damaged(
                folder,
                number,
                f"follows a commit of digest {before or 'none'}, found one of {last or 'none'} before it: one of "
                "the two was altered, or is from another time",
            )
        commits.append(commit)
        last = digest(data)
    return Log(folder, commits, last)


def read_files(place: Folder) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the commits' files, in their order."""
    names = place.files(".json")
    if place.is_local:
        if folders := place.folders():
            raise DamagedError(f"{place}/{folders[0]}: expected a commit's file, found a folder; move it elsewhere")
        yield from ((name, place.read(name)) for name in names)
        return
    with ThreadPoolExecutor(READERS) as readers:
        yield from zip(names, readers.map(place.read, names), strict=True)


def encode(commit: Commit, number: int, before: str) -> bytes:
    """A commit's file; ``before`` is the digest of the file before it."""
    said = asdict(commit)
    value = {"format": said.pop("format"), "commit": number, "previous": before, **said}
    if commit.format == 1:
        del value["facts"]
    if not commit.by:
        del value["by"]
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def decode(data: bytes, number: int) -> tuple[Commit, str]:
    """A commit from its file, and the digest of the file before it; ``ValueError`` says what is wrong with it."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"found no JSON ({error})") from error
    if not isinstance(value, dict) or value.get("format") not in range(1, FORMAT + 1):
        raise ValueError(f"found {str(value)[:80]}")
    place, before = value.pop("commit", None), value.pop("previous", None)
    if place != number or not isinstance(before, str):
        raise ValueError(f"found commit {place!r} after {before!r}")
    try:
        return SHAPE.validate_python(value), before
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"found {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def digest(data: bytes) -> str:
    """32 hex digits over a file's bytes."""
    return str(xxhash.xxh3_128_hexdigest(data))


def file_of(number: int) -> str:
    """A commit's file; names sort as numbers do."""
    return f"{number:08d}.json"


def damaged(folder: Folder, number: int, found: str) -> DamagedError:
    """The error for a commit's file, with what to do."""
    return DamagedError(
        f"{folder / COMMITS}/{file_of(number)}: {found}; `rewarm verify --repair {folder}` rebuilds what can be rebuilt"
    )
