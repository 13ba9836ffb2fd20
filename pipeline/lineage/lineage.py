"""The record of a lineage: its updates in their order, what each left, and which release is current."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from rewarm.pipeline.lineage.commits import COMMITS, Commit, Log, digest, read_log
from rewarm.pipeline.lineage.stored import Records, read_entries, refuse_other_sizes
from rewarm.pipeline.lineage.workspace import RECORD, Workspace
from rewarm.pipeline.recipe.settings import GateSettings, TrunkPolicy
from rewarm.pipeline.record import (
    HELD_BACK,
    REFUSED,
    RELEASED,
    UNDECIDED,
    UNFINISHED,
    UPDATE,
    Entry,
    State,
    UpdateRecord,
    encode,
    number_of,
)
from rewarm.stages.core.errors import DamagedError, UsageError
from rewarm.stages.core.identity import now
from rewarm.stages.core.shapes import OPEN, checked, read_as
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.model_folder import dtype_of
from rewarm.stages.replay import Carried
from rewarm.stages.train import Schedule

PLAN = "plan.json"
ID = re.compile(r"\d{4,}-.+")  # an update's: its number, and the arrival's name
GATE = TypeAdapter(GateSettings)
RELEASES = "releases.json"  # made from the log, for people and other programs; nothing here depends on it


class Lineage:
    """All updates of a workspace: an entry for each in its log (``pipeline.lineage.commits``), and their records.

    ``entries`` are those of the finished updates, the refused and the undecided among them; ``updates`` are their
    records, which are read when they are asked for. What the next update builds on (``learned``, and with it ``head``,
    ``position``, ``datasets``, ``replayed``, ``followed`` and ``trunk``) is a line of updates: it ends with the last of
    them, or by the trunk policy ``before`` with the last that was released.

    An update is finished in one step: when the log has its commit. A record without a commit is that of an update which
    was stopped just before; the same command finishes it.
    """

    def __init__(self, workspace: Workspace, trunk: TrunkPolicy | None = None) -> None:
        """``trunk`` is the policy of the update in hand; None: that of the workspace's recipe.

        Raises ``DamagedError`` if the log is damaged, or a record is missing, of another size, or altered where it is
        read here: those of updates that were committed without their facts.
        """
        self.workspace = workspace
        self.policy: TrunkPolicy = trunk or policy_of(workspace)
        self.log: Log
        self.entries: list[Entry]
        self.unfinished: str | None
        self._read()

    def _read(self) -> None:
        known = known_commits(self.workspace.folder)  # first: another command may commit between the two looks
        self.log = read_log(self.workspace.folder)
        refuse_shorter(self.log, known)
        sizes = {name: commit.facts.num_bytes for name, commit in self.log.finished.items() if commit.facts}
        refuse_other_sizes(self.workspace, sizes)
        self._take({})

    def _take(self, records: dict[str, UpdateRecord]) -> None:
        """Take the entries of all updates from the log; ``records`` has those that were read before."""
        finished = self.log.finished
        self.entries = list(read_entries(self.workspace, finished, records))
        self._records = Records(self.workspace, self.entries, records)
        self.unfinished = next(iter(find_begun(self.workspace, finished)), None)

    def stand_on(self, updates: Sequence[UpdateRecord]) -> None:
        """Let these updates be all, whatever the workspace holds."""
        self.entries = [Entry(one.id, finished(one), "", one.facts(0)) for one in updates]
        self._records = Records(self.workspace, self.entries, {one.id: one for one in updates})

    @property
    def updates(self) -> Records:
        """The records of the finished updates, in their order."""
        return self._records

    def read(self, update: str) -> UpdateRecord:
        """The record of a finished update, by its id."""
        return self.updates[self._places[update]]

    @property
    def _places(self) -> dict[str, int]:
        return {entry.id: place for place, entry in enumerate(self.entries)}

    # -- what the next update builds on --------------------------------------------------------------------------

    @property
    def learned(self) -> list[Entry]:
        """The updates that the next one builds on, the base first: each started from the trunk of the one before."""
        places, chain = self._places, []
        place = self._start()
        while place is not None:
            entry = self.entries[place]
            chain.append(entry)
            follows = entry.facts.follows
            place = self._place(places, follows) if follows is not None else place - 1 if place else None
        return chain[::-1]

    def _place(self, places: dict[str, int], update: str) -> int:
        if update not in places:
            raise UsageError(f"no update {update!r}; there are {', '.join(places) or 'none'}")
        return places[update]

    def _start(self) -> int | None:
        if self.policy == "continue":
            return len(self.entries) - 1 if self.entries else None
        return self._last_standing()

    def _last_standing(self) -> int | None:
        """The place of the last update that was released, by the gate or by hand."""
        standing = set(self.standing())
        for place in range(len(self.entries) - 1, -1, -1):
            if self.entries[place].state == RELEASED or self.entries[place].id in standing:
                return place
        return None

    def possible_starts(self) -> set[str]:
        """The ids of the updates whose trunk the next one may start from, by whichever policy."""
        last = self._last_standing()
        return {entry.id for entry in self.entries[-1:]} | (set() if last is None else {self.entries[last].id})

    @property
    def head(self) -> Entry | None:
        """The update whose trunk the next one starts from."""
        place = self._start()
        return None if place is None else self.entries[place]

    @property
    def position(self) -> int:
        """Tokens that the trunk has trained so far."""
        return self.head.facts.position if self.head else 0

    def datasets(self) -> dict[str, Entry]:
        """Every dataset that the trunk has learned, and the update in which it was new.

        A dataset of which no sequence was trained is not learned, though its name is taken (``ingested``).
        """
        return {name: one for one in self.learned for name in one.facts.datasets if one.facts.trained(name)}

    def release_dtype(self) -> str:
        """The dtype of the lineage's releases: that of the imported base, or float32 after random weights."""
        if not self.entries:
            return "float32"
        return dtype_of(self.workspace.update(self.entries[0].id) / "release" / "model")

    def replayed(self) -> Carried:
        """What the updates so far replayed of each dataset, and what they owe it.

        Each record has the sum up to its own update; those of format 1 do not, and are added up.
        """
        later: list[UpdateRecord] = []
        found = Carried()
        for entry in reversed(self.learned):
            record = self.read(entry.id)
            if record.replay.carried is not None:
                found = Carried.from_json(record.replay.carried)
                break
            later.append(record)
        for record in reversed(later):
            found = found.after(record.replay.by_dataset)
        return found

    def followed(self) -> Schedule | None:
        """The schedule that the trunk was last trained under; None if nothing was trained (no base, or imported)."""
        trained = [entry for entry in self.learned if entry.facts.schedule]
        laid = self.read(trained[-1].id).schedule if trained else None
        return laid.schedule if laid else None

    def trunk(self) -> Folder:
        """Where the next update starts."""
        assert self.head is not None
        return self.workspace.update(self.head.id) / "trunk" / "model"

    # -- all updates ---------------------------------------------------------------------------------------------

    def ingested(self) -> dict[str, Entry]:
        """Every dataset that a finished update brought, learned or not: their names are taken."""
        return {name: entry for entry in self.entries for name in entry.facts.datasets}

    def find(self, name: str | None) -> UpdateRecord:
        """An update by id or by number, the current release by default; ``UsageError`` lists those there are."""
        if name is None:
            if (current := self.current()) is None:
                raise UsageError(f"{self.workspace.folder}: there is no release yet")
            return current
        for entry in self.entries:
            if name == entry.id or (name.isdigit() and int(name) == entry.number):
                return self.read(entry.id)
        raise UsageError(f"no update {name!r}; there are {', '.join(one.id for one in self.entries) or 'none'}")

    def record(self, update: UpdateRecord) -> None:
        """Finish an update: its record first; then its commit, the one step that makes it so."""
        assert update.id not in self.log.finished, update.id
        self.workspace.update(update.id).write(UPDATE, data := encode(update))
        self._commit(commit_of(update, data))

    # -- releases ------------------------------------------------------------------------------------------------

    @property
    def release(self) -> str | None:
        """The id of the current release."""
        return self.log.current

    @property
    def history(self) -> list[dict[str, Any]]:
        """Every change of the current release: ``pipeline.lineage.commits.Log.history``."""
        return self.log.history

    def current(self) -> UpdateRecord | None:
        """The update that is the current release."""
        return self.read(self.release) if self.release in self._places else None

    def promote(self, update_id: str, because: str = "", by: str = "") -> None:
        """Make a finished update's release the current one, in one step; nothing where it is so already.

        Raises ``UsageError`` where there is no such update or its release is gone, and where the gate refused it and
        no reason is given. An undecided release waits for this very decision, and needs none.
        """
        update = self.find(update_id)
        if update.id == self.release:
            return
        if update.state == REFUSED and not because:
            raise UsageError(f"update {update.id}: the gate refused its release; say why it is promoted all the same")
        self._require_model(update.id)
        said = because or ("decided by a person" if update.state == UNDECIDED else "")
        self._commit(Commit("release", now(), update.id, because=said, by=by))

    def rollback(self, because: str = "", by: str = "") -> str:
        """Go back to the release that was current before this one, in one step; its id.

        Raises ``UsageError`` where there is none, or it is gone. What the next update starts from does not change.
        """
        standing = self.standing()
        if len(standing) < 2:
            raise UsageError(f"{self.workspace.folder}: there is no release before {self.release or 'the first'}")
        left, back = standing[-1], standing[-2]
        self._require_model(back)
        said = because or f"rolled back from {left}"
        self._commit(Commit("release", now(), back, because=said, rolled_back=left, by=by))
        return back

    def standing(self) -> list[str]:
        """The releases up to the current one, in their order, without those that were rolled back."""
        return self.log.standing

    def _require_model(self, name: str) -> None:
        model = self.workspace.update(name) / "release" / "model"
        if not model.exists():
            raise UsageError(f"update {name}: its release is not there any more ({model})")

    def _commit(self, commit: Commit) -> None:
        self.workspace.raise_format()
        self.log.append(commit)
        self.workspace.folder.write_json(RELEASES, pointer(self.log))
        self._take(self._records.known)


def find_begun(workspace: Workspace, finished: Mapping[str, Commit]) -> list[str]:
    """The updates that were begun and are not finished, in the order of their numbers: one, or none.

    Raises ``DamagedError`` where several have records, or one that is not the next: those were finished, and their
    commits are lost. A folder whose number a finished update has is neither: a command that had lost the workspace made
    it.
    """
    taken = {number_of(name) for name in finished}
    folders = filter(ID.fullmatch, (workspace.folder / "updates").folders())
    names = [name for name in folders if number_of(name) not in taken]
    recorded = [name for name in names if workspace.update(name).exists(UPDATE)]
    if len(recorded) > 1 or (recorded and number_of(recorded[0]) != len(finished)):
        raise DamagedError(
            f"{workspace.folder}/{COMMITS}: has no commit of {', '.join(recorded)}, whose records are there "
            f"({UPDATE}); `rewarm verify --repair {workspace.folder}` commits them again"
        )
    begun = [name for name in names if name in recorded or workspace.update(name).exists(PLAN)]
    return sorted(begun, key=number_of)


def refuse_shorter(log: Log, known: int) -> None:
    """``DamagedError`` where ``releases.json`` knows of more commits than the log has: nothing may take their place."""
    if known > len(log.commits):
        raise DamagedError(
            f"{log.folder}/{COMMITS}: ends with commit {len(log.commits) - 1}, but {RELEASES} knows of {known - 1}: "
            f"the last ones are lost. Restore them, or rebuild them with `rewarm verify --repair {log.folder}`"
        )


def known_commits(folder: Folder) -> int:
    """How many commits the log had when ``releases.json`` was written; 0 where that does not say."""
    try:
        found = folder.read_json(RELEASES)
        return int(found["commits"])
    except (OSError, ValueError, TypeError, KeyError, DamagedError):
        return 0  # it is made from the log, which is what counts


def pointer(log: Log) -> dict[str, Any]:
    """What ``releases.json`` says: the current release, how many commits the log has, the history of promotions."""
    return {"current": log.current, "commits": len(log.commits), "last": log.last, "history": log.history}


def finished(update: UpdateRecord) -> State:
    """The state of a finished update."""
    state = update.state
    assert state != UNFINISHED, update.id
    return state


def commit_of(update: UpdateRecord, data: bytes) -> Commit:
    """The commit of a finished update; ``data`` is its record's file. It follows from the record."""
    said = update.gate.because if update.gate else []
    because = "; ".join(said) if update.state in HELD_BACK else "".join(said[:1])
    return Commit(
        "update", update.finished, update.id, finished(update), because, digest(data), facts=update.facts(len(data))
    )


class Begun(TypedDict):
    """What ``plan.json`` says of an update that was begun."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    arrival: str
    data: dict[str, str]
    started: NotRequired[str]


PLANS = TypeAdapter(Begun)


def read_plan(workspace: Workspace, name: str) -> dict[str, Any]:
    """What an update was begun with."""
    return cast(dict[str, Any], read_as(workspace.update(name), PLAN, PLANS))


def policy_of(workspace: Workspace) -> TrunkPolicy:
    """The trunk policy of a workspace's recipe; the default where it has none, or no record yet."""
    recipe = workspace.record()["recipe"] if workspace.folder.exists(RECORD) else {}
    return checked(recipe.get("gate", {}), GATE, f"{workspace.folder}/{RECORD}: recipe.gate").trunk


__all__ = ["PLAN", "RELEASES", "UPDATE", "Lineage", "commit_of", "policy_of", "read_plan"]
