"""``rewarm verify --repair``: the reconstruction of the log of commits and of ``releases.json`` from the records.

An intact commit is never changed. A lost commit is rebuilt from the update's record or from the history in
``releases.json``; if the next commit's digest does not prove that the bytes are the original ones, the commit is marked
as ``rebuilt``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from rewarm.pipeline.lineage.commits import (
    COMMITS,
    RELEASES,
    Commit,
    decode,
    digest,
    encode,
    file_of,
    pointer,
    read_log,
)
from rewarm.pipeline.lineage.lineage import commit_of
from rewarm.pipeline.lineage.verify.records import read_records
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import number_of
from rewarm.stages.core.digests import now
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.object_store import create
from rewarm.stages.core.storage import Folder

DAMAGED = ".damaged"  # suffix of the file that keeps a damaged commit's bytes


@dataclass
class Remains:
    """The remains of a damaged log."""

    intact: dict[int, tuple[Commit, str, bytes]]  # by number: the commit, the digest before it, its file
    damaged: dict[int, bytes]  # files that are not valid commits
    length: int  # least number of commits that the log had
    last: tuple[int, str]  # number and digest of the last commit in ``releases.json``

    def expected(self, number: int) -> str | None:
        """Return the digest of a commit's file, from the next commit or ``releases.json``; None if unknown."""
        if (following := self.intact.get(number + 1)) is not None:
            return following[1]
        return self.last[1] if self.last[0] == number else None


@dataclass
class Known:
    """The commits that records and history imply."""

    records: list[Commit]  # the commit of every update with a record, in order
    uncommitted: list[Commit]  # those of them without an intact commit
    history: Mapping[int, dict[str, Any]]  # promotions, by the number of their commit

    def exact(self, number: int, last: str, expected: str | None) -> Commit | None:
        """Return the commit whose file has the ``expected`` digest; None if no candidate has it."""
        guesses = list(self.records)
        if (entry := self.history.get(number)) is not None:
            guesses += [replace(record, at=entry["at"], because=entry["because"]) for record in self.records]
            guesses.append(moved(entry))
        guesses += [replace(guess, format=1, facts=None) for guess in guesses]
        return next((guess for guess in guesses if digest(encode(guess, number, last)) == expected), None)

    def likely(self, number: int, length: int) -> Commit:
        """Return the most likely content of a lost commit: from the history, else the next uncommitted update."""
        entry = self.history.get(number)
        if entry is not None:
            own = [commit for commit in self.uncommitted if commit.update == entry["update"] and commit.promotes]
            return replace(own[0], at=entry["at"], because=entry["because"]) if own else moved(entry)
        elsewhere = {later["update"] for later in self.history.values()}
        here = [commit for commit in self.uncommitted if not (commit.promotes and commit.update in elsewhere)]
        if not here and number >= length:
            here = self.uncommitted
        return here[0] if here else Commit("lost", now(), because="its file was lost")

    def use(self, commit: Commit) -> None:
        """Count an update as committed."""
        if commit.kind == "update":
            self.uncommitted = [other for other in self.uncommitted if other.update != commit.update]


def moved(entry: Mapping[str, Any]) -> Commit:
    """Return the commit of a manual promotion or rollback, from its entry in the history."""
    rolled_back = entry.get("rolled_back")
    by = str(entry.get("by") or "")
    return Commit("release", entry["at"], entry["update"], because=entry["because"], rolled_back=rolled_back, by=by)


def repair(workspace: Workspace) -> list[str]:
    """Rebuild lost and damaged commits; returns one line for each change. The caller holds the workspace's lease.

    Raises ``DamagedError`` if the log still cannot be read afterwards, or if a record is damaged.
    """
    folder = workspace.folder
    before = read_pointer(folder)
    remains = read_remains(folder / COMMITS, before)
    known = read_known(workspace, remains, before)
    refuse_strays(folder / COMMITS, remains, known)
    remains.length = max(remains.length, min(before["commits"], len(known.records) + len(known.history)))
    done: list[str] = []
    number, last = 0, ""
    while number < remains.length or known.uncommitted:
        kept, expected = remains.intact.get(number), remains.expected(number)
        if kept is not None and (kept[0].rebuilt or expected in (None, digest(kept[2]))):
            data = kept[2]
        elif (commit := known.exact(number, last, expected)) is not None or kept is None:
            rebuilt = commit or known.likely(number, remains.length)
            rebuilt = rebuilt if commit or expected is None else replace(rebuilt, rebuilt=True)
            data = encode(rebuilt, number, last)
            write_commit(folder / COMMITS, number, data, kept[2] if kept else remains.damaged.get(number))
            known.use(rebuilt)
            done.append(f"{COMMITS}/{file_of(number)}: {said(rebuilt)}")
        else:
            data = kept[2]  # altered, and its content cannot be recovered: ``read_log`` below raises
        number, last = number + 1, digest(data)
    log = read_log(folder)
    if log.commits and read_raw(folder) != pointer(log):
        folder.write_json(RELEASES, pointer(log))
        done.append(f"{RELEASES}: rewritten from the log; the current release is {log.current or 'none'}")
    return done


def write_commit(folder: Folder, number: int, data: bytes, old: bytes | None) -> None:
    """Write a rebuilt commit; the bytes of a damaged one are kept in a file beside it."""
    name = file_of(number)
    if old is not None:
        folder.write(f"{name}{DAMAGED}", old)
        folder.delete(name)
    create(folder, name, data)


def said(commit: Commit) -> str:
    """Describe a rebuilt commit."""
    if commit.kind == "lost":
        return "lost, and its content cannot be recovered: a manual promotion or rollback is missing from the history"
    if commit.kind == "release":
        return f"rebuilt from {RELEASES}: {commit.update} became the current release"
    return f"rebuilt from the record of {commit.update}, {commit.state}"


def read_remains(folder: Folder, before: Mapping[str, Any]) -> Remains:
    """Read all commits, intact and damaged; ``before`` is the content of ``releases.json``."""
    remains = Remains({}, {}, 0, (before["commits"] - 1, before["last"]))
    for name in folder.files(".json"):
        stem = name.removesuffix(".json")
        if stem.isdecimal() and name == file_of(int(stem)):
            number, data = int(stem), folder.read(name)
            remains.length = max(remains.length, number + 1)
            try:
                commit, previous = decode(data, number)
            except ValueError:
                remains.damaged[number] = data
            else:
                remains.intact[number] = (commit, previous, data)
    return remains


def refuse_strays(folder: Folder, remains: Remains, known: Known) -> None:
    """Raise ``DamagedError`` for a file with a number that a log of these updates cannot have reached."""
    most = len(remains.intact) + len(remains.damaged) + len(known.records) + len(known.history)
    if remains.length > most:
        number = max([*remains.intact, *remains.damaged])
        raise DamagedError(
            f"{folder}/{file_of(number)}: expected at most {most} commits for these updates, found a commit with this "
            "number; move the file elsewhere"
        )


def read_known(workspace: Workspace, remains: Remains, before: Mapping[str, Any]) -> Known:
    """Collect the commits that the updates' records and the history in ``releases.json`` imply."""
    committed = {commit.update for commit, _, _ in remains.intact.values() if commit.kind == "update"}
    records, taken = [commit_of(*record) for record in read_records(workspace)], set(map(number_of, committed))
    return Known(
        records,
        [commit for commit in records if number_of(commit.update) not in taken],
        {entry["commit"]: entry for entry in before["history"] if isinstance(entry.get("commit"), int)},
    )


def read_raw(folder: Folder) -> Any:
    """Return the value of ``releases.json``; None if it is missing or not valid JSON."""
    try:
        return orjson.loads(folder.read(RELEASES))
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None


def read_pointer(folder: Folder) -> dict[str, Any]:
    """Return ``commits`` (their number), ``last`` (digest of the last one) and ``history`` from ``releases.json``.

    From a damaged file, only values of the right types are used.
    """
    raw = read_raw(folder)
    value = raw if isinstance(raw, dict) else {}
    count, last, history = value.get("commits"), value.get("last"), value.get("history")
    entries = [entry for entry in history if well_formed(entry)] if isinstance(history, list) else []
    return {"commits": count if isinstance(count, int) else 0, "last": str(last), "history": entries}


def well_formed(entry: object) -> bool:
    """Return whether an entry of the history has all values that rebuilding a commit needs."""
    return isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in ("update", "at", "because"))
