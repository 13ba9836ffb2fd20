"""The lineage of a workspace: its updates in order, the trunk the next one starts from, the current release."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from rewarm.pipeline.escaping import cut
from rewarm.pipeline.lineage.commits import (
    COMMITS,
    Commit,
    Log,
    digest,
    known_commits,
    read_log,
    refuse_shorter,
    write_pointer,
)
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
    is_number_of,
    number_of,
)
from rewarm.stages.core.digests import now
from rewarm.stages.core.errors import DamagedError, UsageError
from rewarm.stages.core.shapes import OPEN, checked, read_as
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.model_folder import dtype_of
from rewarm.stages.replay import Carried
from rewarm.stages.train import Schedule

PLAN = "plan.json"
ID = re.compile(r"\d{4,}-.+")  # an update's id: its number and the arrival's name
GATE = TypeAdapter(GateSettings)


class Lineage:
    """All updates of a workspace: the entries of its log (``pipeline.lineage.commits``) and their records.

    ``entries`` are the entries of all finished updates, including refused and undecided ones; ``updates`` are their
    records, which are read on demand. The next update builds on a chain of updates (``learned``, from which ``head``,
    ``position``, ``datasets``, ``replayed``, ``followed`` and ``trunk`` follow). The chain ends with the last update,
    or, under the trunk policy ``before``, with the last released one.

    An update finishes atomically, when its commit is added to the log. A record without a commit belongs to an update
    that was stopped just before its commit; the same command finishes it.
    """

    def __init__(self, workspace: Workspace, trunk: TrunkPolicy | None = None, before: "Lineage | None" = None) -> None:
        """``trunk`` is the trunk policy of the current update; None: the policy of the workspace's recipe.

        ``before`` is the lineage as this process opened it earlier; only what is new since then is read.

        Raises ``DamagedError`` if the log is damaged, or if a record is missing or has the wrong size. Records of
        updates that were committed without their facts are read, so an altered one raises too.
        """
        self.workspace = workspace
        self.policy: TrunkPolicy = trunk or policy_of(workspace)
        self._from: str | None = None
        self.log: Log
        self.entries: list[Entry]
        self.unfinished: str | None
        self._read(before)

    def reopened(self) -> "Lineage":
        """Return the lineage as the workspace has it now, under the same trunk policy.

        Only commits that were added since are read, and only their records' sizes compared, so that looking again costs
        two listings however long the lineage is. What was altered in the meantime is found by whoever opens it anew.
        """
        try:
            return Lineage(self.workspace, self.policy, self)
        except DamagedError:
            return Lineage(self.workspace, self.policy)  # repaired, or restored from a copy

    def _read(self, before: "Lineage | None") -> None:
        # Read first: another command may commit in between
        known = known_commits(self.workspace.folder) if before is None else len(before.log.commits)
        self.log = read_log(self.workspace.folder, before.log if before else None)
        refuse_shorter(self.log, known)
        seen = before.log.finished if before else {}
        new = {name: commit for name, commit in self.log.finished.items() if name not in seen}
        refuse_other_sizes(self.workspace, {name: one.facts.num_bytes for name, one in new.items() if one.facts})
        self._take(before.updates.known if before else {})

    def _take(self, records: dict[str, UpdateRecord]) -> None:
        """Read the entries of all updates from the log; ``records`` has the records that were read before."""
        finished = self.log.finished
        self._use(list(read_entries(self.workspace, finished, records)), records)
        self.unfinished = next(iter(find_begun(self.workspace, finished)), None)

    def _use(self, entries: list[Entry], records: dict[str, UpdateRecord]) -> None:
        self.entries = entries
        self._places = {entry.id: place for place, entry in enumerate(entries)}
        self._records = Records(self.workspace, entries, records)

    def stand_on(self, updates: Sequence[UpdateRecord]) -> None:
        """Use these updates as the lineage, whatever the workspace holds."""
        entries = [Entry(update.id, finished(update), "", update.facts(0)) for update in updates]
        self._use(entries, {update.id: update for update in updates})

    @property
    def updates(self) -> Records:
        """The records of the finished updates, in order."""
        return self._records

    def read(self, update: str) -> UpdateRecord:
        """Return the record of a finished update, by its id."""
        return self.updates[self._places[update]]

    # -- the chain that the next update builds on ----------------------------------------------------------------

    @property
    def learned(self) -> list[Entry]:
        """The updates that the next one builds on, base first: each started from its predecessor's trunk."""
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
            raise UsageError(f"no update {update!r}; available updates: {', '.join(places) or 'none'}")
        return places[update]

    def start_from(self, update: str) -> None:
        """Build on the trunk of this update, whatever the policy: its trunk is annealed, or its release was tuned."""
        self._from = update

    def trunk_trained_by(self, entry: Entry) -> Entry | None:
        """Return the update that trained an entry's trunk: itself, or the one that it anneals; None if imported."""
        place: int | None = self._places[entry.id]
        while place is not None and not self.entries[place].facts.schedule:
            follows = self.entries[place].facts.follows
            place = self._places[follows] if follows is not None else None
        return None if place is None else self.entries[place]

    def _start(self) -> int | None:
        if self._from is not None:
            return self._place(self._places, self._from)
        places = [place for place, entry in enumerate(self.entries) if not entry.facts.branch]
        if self.policy == "before":  # the last one that was released, by the gate or by hand
            standing, entries = set(self.standing()), self.entries
            places = [place for place in places if entries[place].state == RELEASED or entries[place].id in standing]
        return places[-1] if places else None

    def possible_starts(self) -> list[Entry]:
        """Return the updates whose trunk the next one may start from, newest first.

        Under any trunk policy, and after any promotion or rollback by hand, these are the last update and, if it was
        refused or is undecided, those before it up to the last released one. A branch of its own is never one.
        """
        starts = []
        for entry in reversed(self.entries):
            if entry.facts.branch:
                continue
            starts.append(entry)
            if entry.state not in HELD_BACK:
                break
        return starts

    @property
    def head(self) -> Entry | None:
        """The update whose trunk the next one starts from."""
        place = self._start()
        return None if place is None else self.entries[place]

    @property
    def position(self) -> int:
        """Tokens that the trunk has been trained on so far."""
        return self.head.facts.position if self.head else 0

    def datasets(self) -> dict[str, Entry]:
        """Return every dataset that the trunk has learned, with the update in which it was new.

        A dataset of which no sequence was trained is not learned, but its name is taken (``ingested``).
        """
        return {name: entry for entry in self.learned for name in entry.facts.datasets if entry.facts.trained(name)}

    def release_dtype(self) -> str:
        """Return the dtype of the lineage's releases: the imported base's, or float32 for a base trained here."""
        if not self.entries:
            return "float32"
        return dtype_of(self.workspace.update(self.entries[0].id) / "release" / "model")

    def replayed(self) -> Carried:
        """Return the replay carried over from the updates so far: what was read of each dataset, and what is due.

        Each record has the sum up to its own update; records of format 1 do not, and are added up.
        """
        later: list[UpdateRecord] = []
        carried = Carried()
        for entry in reversed(self.learned):
            record = self.read(entry.id)
            if record.replay.carried is not None:
                carried = Carried.from_json(record.replay.carried)
                break
            later.append(record)
        for record in reversed(later):
            carried = carried.after(record.replay.by_dataset)
        return carried

    def followed(self) -> Schedule | None:
        """Return the schedule that the trunk was last trained under; None without training (no base, or imported)."""
        trained = [entry for entry in self.learned if entry.facts.schedule]
        laid = self.read(trained[-1].id).schedule if trained else None
        return laid.schedule if laid else None

    def trunk(self) -> Folder:
        """Return the model folder that the next update starts from."""
        assert self.head is not None
        return self.workspace.update(self.head.id) / "trunk" / "model"

    # -- all updates ---------------------------------------------------------------------------------------------

    @property
    def latest(self) -> Entry | None:
        """The last update that brought data, else the last one: others anneal a trunk or adopt a tuned release."""
        last = self.entries[-1] if self.entries else None
        return next((entry for entry in reversed(self.entries) if entry.facts.datasets), last)

    def ingested(self) -> dict[str, Entry]:
        """Return every dataset of a finished update, learned or not: their names are taken."""
        return {name: entry for entry in self.entries for name in entry.facts.datasets}

    def find(self, name: str | None) -> UpdateRecord:
        """Return an update by id, number or arrival, by default the current release.

        Raises ``UsageError`` with the updates that exist.
        """
        if name is None:
            if (current := self.current()) is None:
                raise UsageError(f"{self.workspace.folder}: there is no release yet")
            return current
        for entry in self.entries:
            if name == entry.id or is_number_of(name, entry.number):
                return self.read(entry.id)
        for entry in self.entries:
            if name == entry.facts.arrival or name in entry.facts.datasets:
                return self.read(entry.id)
        ids = ", ".join(entry.id for entry in self.entries)
        raise UsageError(f"no update {cut(name)!r}; available updates: {ids or 'none'}")

    def record(self, update: UpdateRecord) -> None:
        """Finish an update: write its record, then its commit, which is the atomic step."""
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

    def compared_with(self) -> UpdateRecord | None:
        """Return the update whose release the next one's is compared with: the current release.

        If that was tuned outside of the lineage, it is the release that it was tuned from.
        """
        found = self.current()
        while found is not None and found.adopted is not None:
            found = self.read(found.adopted.tuned_from)
        return found

    def promote(self, update_id: str, because: str = "", by: str = "") -> None:
        """Make a finished update's release the current one, atomically; does nothing if it already is.

        Raises ``UsageError`` if there is no such update, if its release no longer exists, or if the gate refused it and
        no reason is given. An undecided release is waiting for this decision, so it needs no reason.
        """
        update = self.find(update_id)
        if update.id == self.release:
            return
        if update.state == REFUSED and not because:
            raise UsageError(f"update {update.id}: the gate refused its release; give a reason for promoting it anyway")
        self._require_model(update.id)
        reason = because or ("decided by a person" if update.state == UNDECIDED else "")
        self._commit(Commit("release", now(), update.id, because=reason, by=by))

    def rollback(self, because: str = "", by: str = "") -> str:
        """Roll back to the previous release, atomically; returns its id.

        Raises ``UsageError`` if there is no previous release, or if it no longer exists. The start of the next update
        does not change.
        """
        standing = self.standing()
        if len(standing) < 2:
            raise UsageError(f"{self.workspace.folder}: there is no release before {self.release or 'the first'}")
        current, previous = standing[-1], standing[-2]
        self._require_model(previous)
        reason = because or f"rolled back from {current}"
        self._commit(Commit("release", now(), previous, because=reason, rolled_back=current, by=by))
        return previous

    def standing(self) -> list[str]:
        """Return the releases up to the current one, in order, without those that were rolled back."""
        return self.log.standing

    def _require_model(self, name: str) -> None:
        model = self.workspace.update(name) / "release" / "model"
        if not model.exists():
            raise UsageError(f"update {name}: its release no longer exists ({model})")

    def _commit(self, commit: Commit) -> None:
        self.workspace.raise_format()
        self.log.append(commit)
        write_pointer(self.workspace.folder, self.log)
        self._take(self._records.known)


def find_begun(workspace: Workspace, finished: Mapping[str, Commit]) -> list[str]:
    """Return the updates that were begun and are not finished, in the order of their numbers: at most one.

    Raises ``DamagedError`` if several have records, or if one that is not the next has: those were finished, and their
    commits are lost. A folder with the number of a finished update is ignored: it was created by a command that had
    lost the lease.
    """
    taken = {number_of(name) for name in finished}
    folders = filter(ID.fullmatch, (workspace.folder / "updates").folders())
    names = [name for name in folders if number_of(name) not in taken]
    recorded = [name for name in names if workspace.update(name).exists(UPDATE)]
    if len(recorded) > 1 or (recorded and number_of(recorded[0]) != len(finished)):
        raise DamagedError(
            f"{workspace.folder}/{COMMITS}: no commit of {', '.join(recorded)}, although their records exist "
            f"({UPDATE}); `rewarm verify --repair {workspace.folder}` commits them again"
        )
    begun = [name for name in names if name in recorded or workspace.update(name).exists(PLAN)]
    return sorted(begun, key=number_of)


def finished(update: UpdateRecord) -> State:
    """Return the state of a finished update."""
    state = update.state
    assert state != UNFINISHED, update.id
    return state


def commit_of(update: UpdateRecord, data: bytes) -> Commit:
    """Return the commit of a finished update, which follows from its record; ``data`` is the record's file."""
    reasons = update.gate.because if update.gate else []
    because = "; ".join(reasons) if update.state in HELD_BACK else "".join(reasons[:1])
    return Commit(
        "update", update.finished, update.id, finished(update), because, digest(data), facts=update.facts(len(data))
    )


class Begun(TypedDict):
    """The part of ``plan.json`` that every version writes when an update begins."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    arrival: str
    data: dict[str, str]
    started: NotRequired[str]


PLANS = TypeAdapter(Begun)


def read_plan(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return the data, the recipe and the plan that an update was begun with."""
    return cast(dict[str, Any], read_as(workspace.update(name), PLAN, PLANS))


def policy_of(workspace: Workspace) -> TrunkPolicy:
    """Return the trunk policy of a workspace's recipe; the default if the recipe or the workspace has none yet."""
    recipe = workspace.record()["recipe"] if workspace.folder.exists(RECORD) else {}
    return checked(recipe.get("gate", {}), GATE, f"{workspace.folder}/{RECORD}: recipe.gate").trunk


__all__ = ["PLAN", "UPDATE", "Lineage", "commit_of", "policy_of", "read_plan"]
