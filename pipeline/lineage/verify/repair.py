"""``rewarm verify --repair``: the log of commits and the pointer, rebuilt from updates' records and from each other.

An intact commit is never changed. One that is lost is rebuilt from the update's record or from the history in
``releases.json``; the next commit's digest proves that the bytes are the old ones, or the commit says ``rebuilt``.
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
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.identity import now
from rewarm.stages.core.object_store import create
from rewarm.stages.core.storage import Folder

DAMAGED = ".damaged"  # ends the name under which a damaged commit's bytes are kept


@dataclass
class Remains:
    """What is left of a log."""

    intact: dict[int, tuple[Commit, str, bytes]]  # by number: the commit, the digest before it, its file
    damaged: dict[int, bytes]  # files that are no commits
    length: int  # how many commits the log had, at least
    last: tuple[int, str]  # the number and digest of the commit that ``releases.json`` knew as the last

    def expected(self, number: int) -> str | None:
        """The digest of a commit's file, as the next one or ``releases.json`` has it."""
        if (following := self.intact.get(number + 1)) is not None:
            return following[1]
        return self.last[1] if self.last[0] == number else None


@dataclass
class Known:
    """What records and history say of commits."""

    records: list[Commit]  # of every update that has a record, in their order
    uncommitted: list[Commit]  # those of them that no intact commit names
    history: Mapping[int, dict[str, Any]]  # promotions, by the number of their commit

    def exact(self, number: int, last: str, expected: str | None) -> Commit | None:
        """The commit whose file has the ``expected`` digest; None if nothing known gives it."""
        guesses = list(self.records)
        if (entry := self.history.get(number)) is not None:
            guesses += [replace(one, at=entry["at"], because=entry["because"]) for one in self.records]
            guesses.append(moved(entry))
        guesses += [replace(one, format=1, facts=None) for one in guesses]
        return next((one for one in guesses if digest(encode(one, number, last)) == expected), None)

    def likely(self, number: int, length: int) -> Commit:
        """The best account of a lost commit: what the history says of it, else the next update that has none."""
        entry = self.history.get(number)
        if entry is not None:
            own = [one for one in self.uncommitted if one.update == entry["update"] and one.promotes]
            return replace(own[0], at=entry["at"], because=entry["because"]) if own else moved(entry)
        elsewhere = {later["update"] for later in self.history.values()}
        here = [one for one in self.uncommitted if not (one.promotes and one.update in elsewhere)]
        if not here and number >= length:
            here = self.uncommitted
        return here[0] if here else Commit("lost", now(), because="its file was lost")

    def use(self, commit: Commit) -> None:
        """Count an update as committed."""
        self.uncommitted = [one for one in self.uncommitted if commit.kind != "update" or one.update != commit.update]


def moved(entry: Mapping[str, Any]) -> Commit:
    """The commit of a promotion or rollback by hand, from the history's entry."""
    left = entry.get("rolled_back")
    by = str(entry.get("by") or "")
    return Commit("release", entry["at"], entry["update"], because=entry["because"], rolled_back=left, by=by)


def repair(workspace: Workspace) -> list[str]:
    """Rebuild what can be rebuilt; what was done, a line each. The caller holds the workspace's lease.

    Raises ``DamagedError`` where the log cannot be read even then, or a record is damaged.
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
            data = kept[2]  # altered, and nothing says what it was: reading the log below says so
        number, last = number + 1, digest(data)
    log = read_log(folder)
    if log.commits and read_raw(folder) != pointer(log):
        folder.write_json(RELEASES, pointer(log))
        done.append(f"{RELEASES}: written again from the log; the current release is {log.current or 'none'}")
    return done


def write_commit(place: Folder, number: int, data: bytes, old: bytes | None) -> None:
    """Put a rebuilt commit in its place; the bytes of a damaged one are kept beside it."""
    name = file_of(number)
    if old is not None:
        place.write(f"{name}{DAMAGED}", old)
        place.delete(name)
    create(place, name, data)


def said(commit: Commit) -> str:
    """What was rebuilt, in words."""
    if commit.kind == "lost":
        return "lost, and nothing says what it was: a promotion or a rollback by hand is missing from the history"
    if commit.kind == "release":
        return f"rebuilt from {RELEASES}: {commit.update} became the current release"
    return f"rebuilt from the record of {commit.update}, {commit.state}"


def read_remains(place: Folder, before: Mapping[str, Any]) -> Remains:
    """Every commit's file, sorted into those that can be read and the others; ``before`` is the pointer's account."""
    found = Remains({}, {}, 0, (before["commits"] - 1, before["last"]))
    for name in place.files(".json"):
        stem = name.removesuffix(".json")
        if stem.isdecimal() and name == file_of(int(stem)):
            number, data = int(stem), place.read(name)
            found.length = max(found.length, number + 1)
            try:
                commit, previous = decode(data, number)
            except ValueError:
                found.damaged[number] = data
            else:
                found.intact[number] = (commit, previous, data)
    return found


def refuse_strays(place: Folder, remains: Remains, known: Known) -> None:
    """``DamagedError`` for a file of a number that no log of these updates can have reached."""
    most = len(remains.intact) + len(remains.damaged) + len(known.records) + len(known.history)
    if remains.length > most:
        number = max([*remains.intact, *remains.damaged])
        raise DamagedError(
            f"{place}/{file_of(number)}: expected at most {most} commits of these updates, found one of this number; "
            "move the file elsewhere"
        )


def read_known(workspace: Workspace, remains: Remains, before: Mapping[str, Any]) -> Known:
    """What the updates' records and the pointer's history say."""
    committed = {commit.update for commit, _, _ in remains.intact.values() if commit.kind == "update"}
    records, taken = [commit_of(*record) for record in read_records(workspace)], set(map(number_of, committed))
    return Known(
        records,
        [commit for commit in records if number_of(commit.update) not in taken],
        {entry["commit"]: entry for entry in before["history"] if isinstance(entry.get("commit"), int)},
    )


def read_raw(folder: Folder) -> Any:
    """The value of ``releases.json``; None where it is missing or no JSON."""
    try:
        return orjson.loads(folder.read(RELEASES))
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None


def read_pointer(folder: Folder) -> dict[str, Any]:
    """What ``releases.json`` says of the log: ``commits``, how many there were, digest of the ``last``, ``history``.

    Of a damaged one only what has the right types.
    """
    found = read_raw(folder)
    value = found if isinstance(found, dict) else {}
    count, last, history = value.get("commits"), value.get("last"), value.get("history")
    entries = [entry for entry in history if well_formed(entry)] if isinstance(history, list) else []
    return {"commits": count if isinstance(count, int) else 0, "last": str(last), "history": entries}


def well_formed(entry: object) -> bool:
    """Whether an entry of the history has what a commit is rebuilt from."""
    return isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in ("update", "at", "because"))
