"""One trial of a study, run in a separate process: an update that is not promoted, or a model trained from scratch.

A study is stored in ``studies/<name>/`` of the workspace, with the arrival's data and one folder per trial.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rewarm.pipeline.lineage.lease import Lease, hold
from rewarm.pipeline.lineage.lineage import PLAN as LINEAGE_PLAN
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.optimizer import keep_optimizer
from rewarm.pipeline.lineage.workspace import TRIAL, Workspace, check_name
from rewarm.pipeline.progress.log import TextLog
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.record import UpdateRecord, parse, to_json
from rewarm.pipeline.study.grid import BASE, Trial
from rewarm.pipeline.update.context import Data, Tokenizer, UpdateContext
from rewarm.pipeline.update.inputs import Arrival
from rewarm.pipeline.update.runner import Runner
from rewarm.pipeline.update.update import learn, put_in_order
from rewarm.stages import ingest, replay, tokenize, train
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.shapes import outcome_of, understood
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet


class StudyWorkspace(Workspace):
    """A workspace that writes new datasets and updates to the study's folder; everything else is the lineage's."""

    def __init__(self, uri: str, study: str, arrivals: list[str]) -> None:
        super().__init__(uri)
        self.study = self.folder / "studies" / check_name(study, "--name")
        self.arrivals = arrivals

    @contextmanager
    def lease(
        self, purpose: str | None = None, wait_s: float = 0.0, note: Callable[[str], None] | None = None
    ) -> Iterator[Lease]:
        """Hold the study's folder rather than the lineage, so that other commands can use the lineage."""
        with hold(self.study, purpose, wait_s, note=note) as lease:
            self.study = self.study.guarded(lease)
            try:
                yield lease
            finally:
                self.study = self.study.guarded(None)

    def dataset(self, name: str) -> Folder:
        """The folder of a dataset: the study's where it has just arrived."""
        return self.study / "datasets" / name if name in self.arrivals else super().dataset(name)

    def dedup(self, name: str) -> Folder:
        """The folder of a dataset's part of the dedup index."""
        return self.study / "dedup" / name if name in self.arrivals else super().dedup(name)

    def trial(self, name: str) -> Folder:
        """The folder of a trial."""
        return self.study / "trials" / name


class TrialWorkspace(StudyWorkspace):
    """A study's workspace in which one trial takes the place of the update."""

    def __init__(self, uri: str, study: str, arrivals: list[str], trial: str) -> None:
        super().__init__(uri, study, arrivals)
        self.made = trial
        self.others: dict[str, str] = {}

    def stand_in(self, update: str, trial: str) -> None:
        """Use another trial's folder as an update of the lineage."""
        self.others[update] = trial

    def update(self, update: str) -> Folder:
        """The folder of an update: the trial's own, another trial's, or one of the lineage."""
        return (
            self.trial(self.others.get(update, update))
            if update in (self.made, *self.others)
            else super().update(update)
        )


class Blank(Lineage):
    """The lineage without any trained update, for a baseline from scratch."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace)
        self.stand_on([])
        self.unfinished = None


class Rebased(Lineage):
    """The lineage reduced to one update: a base of another seed."""

    def __init__(self, workspace: Workspace, base: UpdateRecord) -> None:
        super().__init__(workspace)
        self.stand_on([base])
        self.unfinished = None


DONE = "done"  # the state of a trial that was not stopped early
LOG = "log.txt"
ON_OLD, ON_NEW = ("joint", "d0-only"), ("joint", "arrival-only")  # baselines from scratch, by the data they train on


@dataclass(frozen=True)
class Task:
    """Input of a trial's process, as plain records so that Tune can store it."""

    workspace: str
    study: str
    digests: dict[str, str]  # of the arrival's datasets
    recipe: dict[str, Any]  # the study's, before the trial's settings
    trial: Trial
    old_weight: float | None  # of the earlier datasets' loss in the score; None: all datasets alike
    base: str = ""  # the trial whose model it starts from, in place of the lineage's base


@dataclass(frozen=True)
class Result:
    """Result of a trial."""

    state: str  # done, or stopped early
    trial: dict[str, Any]
    update: UpdateRecord | None  # None unless it is done
    file: str

    @property
    def done(self) -> UpdateRecord:
        """The record of a trial that is done; ``DamagedError`` for another."""
        if self.update is None:
            raise DamagedError(f"{self.file}: expected the record of a trial that is done, found state {self.state!r}")
        return self.update


def read_result(folder: Folder) -> Result:
    """Read the result in a trial's folder; raise ``DamagedError`` if it is invalid."""
    file = f"{folder}/{TRIAL}"
    with understood(file):
        value = folder.read_json(TRIAL)
        update = parse(value["update"], f"{file}: update") if value["state"] == DONE else None
        return Result(value["state"], value["trial"], update, file)


class TrialLog:
    """A trial's progress as lines of a file."""

    def __init__(self, folder: Folder) -> None:
        self.log = TextLog(folder, LOG)

    def note(self, text: str) -> None:
        """Write one line."""
        self.log.line(text)

    def stage(self, name: str, skipped: bool) -> None:
        """Record that a stage begins or is skipped."""
        self.note(f"{name}: done before" if skipped else name)

    def begin(self, label: str, total: float, unit: str) -> None:
        """Do nothing: progress bars are for a single run."""

    def advance(self, by: float = 1, **figures: float) -> None:
        """Do nothing."""


def run_trial(task: Task, watchers: tuple[Any, ...] = ()) -> None:
    """Run one trial to its end and write ``trial.json`` to its folder; a finished trial is kept.

    ``watchers`` are Ray Train callbacks of the trunk's training.
    """
    workspace = TrialWorkspace(task.workspace, task.study, list(task.digests), task.trial.id)
    folder = workspace.trial(task.trial.id)
    if folder.exists(TRIAL):
        return
    log = TrialLog(folder)
    log.note(f"{task.trial.label}, seed {task.trial.seed}")
    recipe = task.trial.recipe(Recipe.model_validate(task.recipe))
    lineage = Lineage(workspace, recipe.gate.trunk)
    weights: dict[str, int] = {}
    unseen: tuple[str, ...] = ()
    if task.trial.scratch:
        old, new = task.trial.kind in (BASE, *ON_OLD), task.trial.kind in ON_NEW
        weights = trained_tokens(workspace, lineage) if old else {}
        weights |= {name: arrival_tokens(workspace, name, recipe) for name in task.digests} if new else {}
        inside = sum(update.tokens.annealed for update in lineage.updates) if old and recipe.branch else 0
        recipe = with_budget(recipe, sum(weights.values()) + inside)
        unseen = tuple(name for name in [*lineage.datasets(), *task.digests] if name not in weights)
        lineage = Blank(workspace)
    elif task.base:
        lineage = rebased(workspace, lineage, task.base)
    names = list(weights or task.digests)
    arrival = Arrival({name: [] for name in names}, task.digests)
    context = UpdateContext(
        workspace,
        lineage,
        arrival,
        recipe,
        task.trial.id,
        Runner(log),
        weights=weights,
        watchers=watchers,
        also_measured=unseen,
    )
    with closing(context):
        update = learn(context, data_of(context))
    if task.trial.kind == BASE:  # trials of its seed start from it as from an update of the lineage
        folder.write_json(LINEAGE_PLAN, {"arrival": BASE, "data": task.digests, "recipe": recipe.identity()})
        keep_optimizer(folder, outcome_of(folder / "trunk", train.TrainOutcome).checkpoint, recipe.train)
    (folder / "checkpoints").delete()
    folder.write_json(TRIAL, {"state": DONE, "trial": task.trial.to_json(), "update": to_json(update)})


def rebased(workspace: TrialWorkspace, lineage: Lineage, base: str) -> Lineage:
    """The lineage with another model as its base: one that a trial trained on the same data from another seed."""
    record = read_result(workspace.trial(base)).done
    begun = lineage.updates[0]
    names = ("losses", "bits_per_byte", "weights", "schedule", "position", "order_seed")
    changed: dict[str, Any] = {name: getattr(record, name) for name in names}
    made = Rebased(workspace, replace(begun, **changed))
    workspace.stand_in(begun.id, base)  # from here on: until then the lineage's own records were read
    return made


def trained_tokens(workspace: Workspace, lineage: Lineage) -> dict[str, int]:
    """Tokens of each earlier dataset that the lineage has trained as new; all of it where the model was imported."""
    tokens = {}
    for name, update in lineage.datasets().items():
        mixture = workspace.update(update.id) / "mixture"
        if mixture.exists(replay.MIXTURE):
            made = Mixture.from_json(mixture.read_json(replay.MIXTURE))
            counts = zip(made.new, made.count(0, made.steps), strict=False)
            tokens[name] = sum(count for source, count in counts if source.dataset == name) * made.seq_len
        else:
            tokens[name] = TokenSet(workspace.dataset(name) / "tokens" / "train").open().num_tokens
    return tokens


def arrival_tokens(workspace: StudyWorkspace, name: str, recipe: Recipe) -> int:
    """Tokens of an arrival's dataset that an update trains: its budget, divided by size, or all of it."""
    streams = {
        arrival: TokenSet(workspace.dataset(arrival) / "tokens" / "train").open().num_tokens
        for arrival in workspace.arrivals
    }
    whole, budget = streams[name], recipe.budget.update_tokens
    return whole if budget is None else budget * whole // sum(streams.values())


def with_budget(recipe: Recipe, tokens: int) -> Recipe:
    """The recipe with a base of so many tokens."""
    return recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"base_tokens": tokens})})


def data_of(context: UpdateContext) -> Data:
    """Return the trial's data: the existing datasets, in the trial's own order."""
    names, datasets = list(context.arrival.inputs), context.workspace.dataset
    documents = {name: outcome_of(datasets(name), ingest.IngestOutcome) for name in names}
    tokens = {name: outcome_of(datasets(name) / "tokens", tokenize.TokenizeOutcome) for name in names}
    tokenizer = Tokenizer(tokenize.tokenizer_digest(context.workspace.tokenizer))
    return put_in_order(context, documents, tokenizer, tokens)
