"""The record of a lineage: its updates in their order, what each left, and which release is current."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NotRequired, cast

import orjson
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from pipeline.commits import (
    COMMITS,
    HELD_BACK,
    REFUSED,
    RELEASED,
    UNDECIDED,
    Commit,
    Log,
    State,
    digest,
    number_of,
    read_log,
)
from pipeline.gate.settings import GateSettings, TrunkPolicy
from pipeline.workspace import RECORD, Workspace
from stages.errors import DamagedError, UsageError
from stages.identity import now
from stages.model_folder import dtype_of
from stages.replay import Carried, carried
from stages.shapes import OPEN, checked, read_as, understood
from stages.storage import Folder
from stages.train import Schedule

UPDATE = "update.json"
PLAN = "plan.json"
ID = re.compile(r"\d{4,}-.+")  # an update's: its number, and the arrival's name
GATE = TypeAdapter(GateSettings)
RELEASES = "releases.json"  # made from the log, for people and other programs; nothing here depends on it


@dataclass(frozen=True)
class Update:
    """One finished update, as ``update.json`` keeps it. Losses are nats per token of the whole validation split."""

    id: str
    arrival: str  # the datasets' names, joined by "+"
    datasets: list[str]
    state: State  # "released"; "refused" by the gate, or "undecided": held for a person
    finished: str
    position: int  # tokens the trunk has trained in the lineage, after this update
    tokens: dict[str, int]  # planned, new, replayed, annealed
    replay: dict[str, Any]  # requested, achieved, source, by_dataset, arrivals, version
    schedule: dict[str, Any]  # the phases, and the settings they come from
    losses: dict[str, dict[str, float]]  # trunk / release → dataset → nats
    bits_per_byte: dict[str, dict[str, float]]
    forgetting: dict[str, float]  # release's loss minus that of the release before
    lm_eval: dict[str, dict[str, float]]
    seconds: dict[str, float]
    train: dict[str, Any]  # steps, world_size, tokens_per_second, resumed_from
    weights: dict[str, str]  # trunk / release → digest
    order_seed: int  # of the datasets that were new here
    data: dict[str, dict[str, Any]]  # dataset → counts of ingest, tokenize and, where a part was chosen, select
    notes: list[str] = field(default_factory=list)
    parameters: int = 0  # of the model
    gap: dict[str, dict[str, Any]] = field(default_factory=dict)  # dataset → the stability gap: ``pipeline.gap.Gap``
    window_losses: dict[str, dict[str, float]] = field(default_factory=dict)  # as losses, of training's last looks
    plan: dict[str, Any] = field(default_factory=dict)  # shift, choices, predicted and actual; empty: nothing was auto
    gate: dict[str, Any] = field(default_factory=dict)  # ``pipeline.gate.verdict.Verdict``; empty for a base
    files: dict[str, str] = field(default_factory=dict)  # a step's folder, in the workspace → digest of its files
    follows: str | None = None  # the update whose trunk it started from; None: the one numbered before it, if any

    @property
    def number(self) -> int:
        """Its place in the lineage."""
        return number_of(self.id)

    def trained(self, dataset: str) -> bool:
        """Whether any of a new dataset was trained; so it is where the record does not say, as that of an import."""
        part = self.replay.get("arrivals", {}).get(dataset)
        return part is None or part["sequences"] > 0


class Lineage:
    """All updates of a workspace, read from its log (``pipeline.commits``) and their records.

    ``updates`` are those that are finished, the refused and the undecided among them. What the next update builds on
    (``learned``, and with it ``head``, ``position``, ``datasets``, ``replayed``, ``followed`` and ``trunk``) is a line
    of updates: it ends with the last of them, or by the trunk policy ``before`` with the last that was released.

    An update is finished in one step: when the log has its commit. A record without a commit is that of an update which
    was stopped just before; the same command finishes it.
    """

    def __init__(self, workspace: Workspace, trunk: TrunkPolicy | None = None) -> None:
        """``trunk`` is the policy of the update in hand; None: that of the workspace's recipe.

        Raises ``DamagedError`` where the log or a record is missing, altered or unreadable.
        """
        self.workspace = workspace
        self.policy: TrunkPolicy = trunk or policy_of(workspace)
        self.log: Log
        self.updates: list[Update]
        self.unfinished: str | None
        self._read()

    def _read(self) -> None:
        known = known_commits(self.workspace.folder)  # first: another command may commit between the two looks
        self.log = read_log(self.workspace.folder)
        refuse_shorter(self.log, known)
        finished = self.log.finished
        self.updates = [read_update(self.workspace, name, commit) for name, commit in finished.items()]
        begun = find_begun(self.workspace, finished)
        self.unfinished = next(iter(begun), None)

    # -- what the next update builds on --------------------------------------------------------------------------

    @property
    def learned(self) -> list[Update]:
        """The updates that the next one builds on, the base first: each started from the trunk of the one before."""
        chain: list[Update] = []
        update = self._start()
        while update is not None:
            chain.append(update)
            update = self._before(update)
        return chain[::-1]

    def _start(self) -> Update | None:
        if self.policy == "continue":
            return self.updates[-1] if self.updates else None
        return self._last_standing()

    def _last_standing(self) -> Update | None:
        """The last update that was released, by the gate or by hand."""
        for update in reversed(self.updates):
            if update.state == RELEASED or update.id in self.standing():
                return update
        return None

    def _before(self, update: Update) -> Update | None:
        if update.follows is not None:
            return self.find(update.follows)
        place = [other.id for other in self.updates].index(update.id)
        return self.updates[place - 1] if place else None

    def possible_starts(self) -> set[str]:
        """The ids of the updates whose trunk the next one may start from, by whichever policy."""
        return {update.id for update in (*self.updates[-1:], self._last_standing()) if update is not None}

    @property
    def head(self) -> Update | None:
        """The update whose trunk the next one starts from."""
        return learned[-1] if (learned := self.learned) else None

    @property
    def position(self) -> int:
        """Tokens that the trunk has trained so far."""
        return self.head.position if self.head else 0

    def datasets(self) -> dict[str, Update]:
        """Every dataset that the trunk has learned, and the update in which it was new.

        A dataset of which no sequence was trained is not learned, though its name is taken (``ingested``).
        """
        return {name: update for update in self.learned for name in update.datasets if update.trained(name)}

    def release_dtype(self) -> str:
        """The dtype of the lineage's releases: that of the imported base, or float32 after random weights."""
        if not self.updates:
            return "float32"
        return dtype_of(self.workspace.update(self.updates[0].id) / "release" / "model")

    def replayed(self) -> Carried:
        """What the updates so far replayed of each dataset, and what they owe it."""
        return carried(update.replay["by_dataset"] for update in self.learned)

    def followed(self) -> Schedule | None:
        """The schedule that the trunk was last trained under; None where nothing was trained (no base, or imported)."""
        trained = [update for update in self.learned if update.schedule]
        return Schedule.from_json(trained[-1].schedule) if trained else None

    def trunk(self) -> Folder:
        """Where the next update starts."""
        assert self.head is not None
        return self.workspace.update(self.head.id) / "trunk" / "model"

    # -- all updates ---------------------------------------------------------------------------------------------

    def ingested(self) -> dict[str, Update]:
        """Every dataset that a finished update brought, learned or not: their names are taken."""
        return {name: update for update in self.updates for name in update.datasets}

    def find(self, name: str | None) -> Update:
        """An update by id or by number, the current release by default; ``UsageError`` lists those there are."""
        if name is None:
            if (current := self.current()) is None:
                raise UsageError(f"{self.workspace.folder}: there is no release yet")
            return current
        for update in self.updates:
            if name == update.id or (name.isdigit() and int(name) == update.number):
                return update
        raise UsageError(f"no update {name!r}; there are {', '.join(update.id for update in self.updates) or 'none'}")

    def record(self, update: Update) -> None:
        """Finish an update: its record first; then its commit, the one step that makes it so."""
        assert update.id not in self.log.finished, update.id
        self.workspace.update(update.id).write(UPDATE, data := encode(update))
        self._commit(commit_of(update, digest(data)))

    # -- releases ------------------------------------------------------------------------------------------------

    @property
    def release(self) -> str | None:
        """The id of the current release."""
        return self.log.current

    @property
    def history(self) -> list[dict[str, Any]]:
        """Every change of the current release: ``pipeline.commits.Log.history``."""
        return self.log.history

    def current(self) -> Update | None:
        """The update that is the current release."""
        return next((update for update in self.updates if update.id == self.release), None)

    def promote(self, update_id: str, because: str = "") -> None:
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
        self._commit(Commit("release", now(), update.id, because=said))

    def rollback(self, because: str = "") -> str:
        """Go back to the release that was current before this one, in one step; its id.

        Raises ``UsageError`` where there is none, or it is gone. What the next update starts from does not change.
        """
        standing = self.standing()
        if len(standing) < 2:
            raise UsageError(f"{self.workspace.folder}: there is no release before {self.release or 'the first'}")
        left, back = standing[-1], standing[-2]
        self._require_model(back)
        self._commit(Commit("release", now(), back, because=because or f"rolled back from {left}", rolled_back=left))
        return back

    def standing(self) -> list[str]:
        """The releases up to the current one, in their order, without those that were rolled back."""
        return self.log.standing

    def _require_model(self, name: str) -> None:
        model = self.workspace.update(name) / "release" / "model"
        if not model.exists():
            raise UsageError(f"update {name}: its release is not there any more ({model})")

    def _commit(self, commit: Commit) -> None:
        self.log.append(commit)
        self.workspace.folder.write_json(RELEASES, pointer(self.log))
        self._read()


def encode(update: Update) -> bytes:
    """An update's record as its file has it."""
    return orjson.dumps(
        asdict(update), option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    )


def read_update(workspace: Workspace, name: str, commit: Commit) -> Update:
    """A finished update's record; ``DamagedError`` where it is not the one that was committed."""
    folder = workspace.update(name)
    try:
        data = folder.read(UPDATE)
    except FileNotFoundError as error:
        raise DamagedError(
            f"{folder}/{UPDATE}: the record of a finished update is missing; restore it from a copy of the workspace"
        ) from error
    if (found := digest(data)) != commit.record:
        raise DamagedError(
            f"{folder}/{UPDATE}: expected the record that was committed, of digest {commit.record}, found one of "
            f"{found}; restore it from a copy of the workspace"
        )
    with understood(f"{folder}/{UPDATE}, a record of another version"):
        return Update(**orjson.loads(data))


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


def commit_of(update: Update, record: str) -> Commit:
    """The commit of a finished update; ``record`` is the digest of its record's file. It follows from the record."""
    said: list[str] = update.gate.get("because", [])
    because = "; ".join(said) if update.state in HELD_BACK else "".join(said[:1])
    return Commit("update", update.finished, update.id, update.state, because, record)


class Plan(TypedDict):
    """What ``plan.json`` says of an update that was begun."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    arrival: str
    data: dict[str, str]
    started: NotRequired[str]


PLANS = TypeAdapter(Plan)


def read_plan(workspace: Workspace, name: str) -> dict[str, Any]:
    """What an update was begun with."""
    return cast(dict[str, Any], read_as(workspace.update(name), PLAN, PLANS))


def policy_of(workspace: Workspace) -> TrunkPolicy:
    """The trunk policy of a workspace's recipe; the default where it has none, or no record yet."""
    recipe = workspace.record()["recipe"] if workspace.folder.exists(RECORD) else {}
    return checked(recipe.get("gate", {}), GATE, f"{workspace.folder}/{RECORD}: recipe.gate").trunk


__all__ = [
    "HELD_BACK",
    "PLAN",
    "REFUSED",
    "RELEASED",
    "RELEASES",
    "UNDECIDED",
    "UPDATE",
    "Lineage",
    "Update",
    "policy_of",
    "read_plan",
]
