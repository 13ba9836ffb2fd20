"""The conversion of workspaces of format 1, which kept promotions in ``releases.json`` and had no log of commits."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson

from rewarm.pipeline.lineage.commits import COMMITS, RELEASES, Commit, digest, encode, file_of, pointer, read_log
from rewarm.pipeline.lineage.lineage import commit_of
from rewarm.pipeline.lineage.verify.records import read_records
from rewarm.pipeline.lineage.workspace import FORMAT_VERSION, RECORD, Workspace
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.object_store import create
from rewarm.stages.core.storage import Folder

Entry = dict[str, Any]


def convert(workspace: Workspace) -> list[str]:
    """Write the log of a workspace of format 1 from its records; returns notes for the user, one line each.

    The caller holds the workspace's lease. Data, weights and records do not change. After an interruption the same call
    resumes. Raises ``DamagedError`` if a record or ``releases.json`` cannot be read.
    """
    folder, records = workspace.folder, [commit_of(*record) for record in read_records(workspace)]
    history = read_history(folder)
    notes = list(warnings(records, history))
    last = ""
    for number, commit in enumerate(in_order(records, history or [])):
        data = encode(commit, number, last)
        create(folder / COMMITS, file_of(number), data)
        last = digest(data)
    log = read_log(folder)
    if log.commits:
        folder.write_json(RELEASES, pointer(log))
    folder.write_json(RECORD, {**workspace.record(), "format": FORMAT_VERSION})
    return [*notes, f"{folder}: converted to format {FORMAT_VERSION}; the current release is {log.current or 'none'}"]


def warnings(records: Sequence[Commit], history: Sequence[Entry] | None) -> Iterator[str]:
    """Yield a line for each fact that the old files do not record, or contradict."""
    if history is None and records:
        yield (
            f"{RELEASES} is missing: every released update counts as promoted when it finished; manual promotions and "
            "rollbacks are unknown"
        )
    promoted = {entry["update"] for entry in history or ()}
    for commit in records if history is not None else ():
        if commit.promotes and commit.update not in promoted:
            yield f"{commit.update}: has a finished record but is missing from {RELEASES}; it is now released"


def in_order(records: Sequence[Commit], history: Sequence[Entry]) -> Iterator[Commit]:
    """Yield the commits of the old history: every update once, in the order of its number, and manual promotions."""
    left = list(records)
    for entry in history:
        own = next((commit for commit in left if commit.update == entry["update"]), None)
        while own is not None and left[0] is not own:
            yield left.pop(0)  # refused earlier
        if own is not None:
            yield replace(left.pop(0), **({"at": entry["at"], "because": because(entry)} if own.promotes else {}))
        if own is None or not own.promotes:
            rolled_back = entry.get("rolled_back")
            yield Commit("release", entry["at"], entry["update"], because=because(entry), rolled_back=rolled_back)
    yield from left


def because(entry: Entry) -> str:
    """Return the reason of an entry; empty in the oldest workspaces, which did not record reasons."""
    return str(entry.get("because") or "")


def read_history(folder: Folder) -> list[Entry] | None:
    """Return the promotions in an old ``releases.json``; None if there is no such file.

    Raises ``DamagedError`` if the file holds anything else.
    """
    if not folder.exists(RELEASES):
        return None
    try:
        history: list[Entry] = orjson.loads(folder.read(RELEASES))["history"]
        assert all(isinstance(entry["update"], str) and isinstance(entry["at"], str) for entry in history)
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise DamagedError(
            f"{folder}/{RELEASES}: expected the promotions of a workspace of format 1, found something else ({error}); "
            "restore the file from a copy, or delete it, which loses the history of manual promotions"
        ) from error
    return history
