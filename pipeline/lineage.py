"""The record of a lineage: its updates in their order, what each left, and which release is current."""

from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.steps import now
from pipeline.workspace import Workspace
from stages.errors import UsageError
from stages.storage import Folder
from stages.train import Schedule

UPDATE = "update.json"
PLAN = "plan.json"
RELEASES = "releases.json"


@dataclass(frozen=True)
class Update:
    """One finished update, as ``update.json`` keeps it. Losses are nats per token of the whole validation split."""

    id: str
    arrival: str  # the datasets' names, joined by "+"
    datasets: list[str]
    state: str  # "released"
    finished: str
    position: int  # tokens the trunk has trained in the lineage, after this update
    tokens: dict[str, int]  # planned, new, replayed, annealed
    replay: dict[str, Any]  # requested, achieved, source, by_dataset
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

    @property
    def number(self) -> int:
        """Its place in the lineage."""
        return int(self.id.partition("-")[0])


class Lineage:
    """All updates of a workspace, read from its files."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        names = (workspace.folder / "updates").folders()
        finished = [name for name in names if workspace.update(name).exists(UPDATE)]
        self.updates = [Update(**workspace.update(name).read_json(UPDATE)) for name in finished]
        unfinished = [name for name in names if name not in finished and workspace.update(name).exists(PLAN)]
        self.unfinished: str | None = unfinished[0] if unfinished else None

    @property
    def head(self) -> Update | None:
        """The last finished update."""
        return self.updates[-1] if self.updates else None

    @property
    def position(self) -> int:
        """Tokens that the trunk has trained so far."""
        return self.head.position if self.head else 0

    @property
    def release(self) -> str | None:
        """The id of the current release."""
        if not self.workspace.folder.exists(RELEASES):
            return None
        current: str | None = self.workspace.folder.read_json(RELEASES)["current"]
        return current

    def current(self) -> Update | None:
        """The update that is the current release."""
        return next((update for update in self.updates if update.id == self.release), None)

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

    def datasets(self) -> dict[str, Update]:
        """Every dataset so far, and the update in which it was new."""
        return {name: update for update in self.updates for name in update.datasets}

    def replayed(self) -> dict[str, int]:
        """By the key of what was replayed (a dataset, or ``dataset@domain``): where in its own order replay stopped.

        Reshuffled replay reads in orders of its own and moves nothing here.
        """
        parts = [part for update in self.updates for part in update.replay["by_dataset"].items()]
        return {key: part["to"] for key, part in parts if part.get("order") != "reshuffled"}

    def followed(self) -> Schedule | None:
        """The schedule that the trunk was last trained under; None where nothing was trained (no base, or imported)."""
        trained = [update for update in self.updates if update.schedule]
        return Schedule.from_json(trained[-1].schedule) if trained else None

    def trunk(self) -> Folder:
        """Where the next update starts."""
        assert self.head is not None
        return self.workspace.update(self.head.id) / "trunk" / "model"

    def record(self, update: Update) -> None:
        """Finish an update: its record first, then, in one step, the release."""
        self.workspace.update(update.id).write_json(UPDATE, asdict(update))
        self.promote(update.id)

    @property
    def history(self) -> list[dict[str, str]]:
        """Every change of the current release: ``update``, ``at``, ``because``; and ``rolled_back``, what was left."""
        folder = self.workspace.folder
        found: list[dict[str, str]] = folder.read_json(RELEASES)["history"] if folder.exists(RELEASES) else []
        return found

    def promote(self, update_id: str, because: str = "") -> None:
        """Make an update's release the current one, in one step; nothing where it is that already."""
        if self.release != update_id:
            self._make_current(update_id, because)

    def rollback(self, because: str = "") -> str:
        """Go back to the release that was current before this one; its id. ``UsageError`` where there is none."""
        standing: list[str] = []
        for entry in self.history:
            if "rolled_back" in entry:
                standing.pop()
            else:
                standing.append(entry["update"])
        if len(standing) < 2:
            raise UsageError(f"{self.workspace.folder}: there is no release before {self.release or 'the first'}")
        said = because or f"rolled back from {standing[-1]}"
        self._make_current(standing[-2], said, rolled_back=standing[-1])
        return standing[-2]

    def _make_current(self, name: str, because: str, **more: str) -> None:
        entry = {"update": name, "at": now(), "because": because, **more}
        self.workspace.folder.write_json(RELEASES, {"current": name, "history": [*self.history, entry]})
