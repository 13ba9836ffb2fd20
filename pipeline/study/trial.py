"""One trial, in a process of its own: an update of the lineage that nobody promotes, or a model from scratch."""

from dataclasses import dataclass, replace
from typing import Any

from pipeline.arrival import Arrival
from pipeline.config import Recipe
from pipeline.lineage import Lineage
from pipeline.making import Data, Making, Tokenizer
from pipeline.record import UpdateRecord, parse, to_json
from pipeline.runs.journal import TextLog
from pipeline.steps import Runner
from pipeline.study.grid import BASE, Trial
from pipeline.study.places import Blank, Rebased, StudyWorkspace, TrialWorkspace
from pipeline.update import learn, put_in_order
from pipeline.workspace import TRIAL, Workspace
from stages import ingest, replay, tokenize
from stages.errors import DamagedError
from stages.mixture import Mixture
from stages.shapes import outcome_of, understood
from stages.storage import Folder
from stages.tokens import TokenSet

DONE = "done"  # the state of a trial that was not stopped early
LOG = "log.txt"
ON_OLD, ON_NEW = ("joint", "d0-only"), ("joint", "arrival-only")  # baselines from scratch, by the data they train on


@dataclass(frozen=True)
class Task:
    """Everything a trial's process needs; plain records, so that Tune can store it."""

    workspace: str
    study: str
    digests: dict[str, str]  # of the arrival's datasets
    recipe: dict[str, Any]  # the study's, before the trial's settings
    trial: Trial
    old_weight: float  # of the earlier datasets' loss in the score
    base: str = ""  # the trial whose model it starts from, in place of the lineage's base


@dataclass(frozen=True)
class Result:
    """What a trial left."""

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
    """The result in a trial's folder; ``DamagedError`` if it is none."""
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
        """One line."""
        self.log.line(text)

    def stage(self, name: str, skipped: bool) -> None:
        """A stage begins, or is skipped."""
        self.note(f"{name}: done before" if skipped else name)

    def begin(self, label: str, total: float, unit: str) -> None:
        """Nothing: bars are for people who watch one run."""

    def advance(self, by: float = 1, **figures: float) -> None:
        """Nothing."""


def run_trial(task: Task, watchers: tuple[Any, ...] = ()) -> None:
    """Run one trial to its end and leave ``trial.json`` in its folder; what an earlier call finished is kept.

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
        recipe = with_budget(recipe, sum(weights.values()))
        unseen = tuple(name for name in [*lineage.datasets(), *task.digests] if name not in weights)
        lineage = Blank(workspace)
    elif task.base:
        lineage = rebased(workspace, lineage, task.base)
    names = list(weights or task.digests)
    arrival = Arrival({name: [] for name in names}, task.digests)
    making = Making(
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
    update = learn(making, data_of(making))
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
        one: TokenSet(workspace.dataset(one) / "tokens" / "train").open().num_tokens for one in workspace.arrivals
    }
    whole, budget = streams[name], recipe.budget.update_tokens
    return whole if budget is None else budget * whole // sum(streams.values())


def with_budget(recipe: Recipe, tokens: int) -> Recipe:
    """The recipe with a base of so many tokens."""
    return recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"base_tokens": tokens})})


def data_of(making: Making) -> Data:
    """What the trial learns from: the datasets are there already, and it puts them in an order of its own."""
    names, datasets = list(making.arrival.inputs), making.workspace.dataset
    documents = {name: outcome_of(datasets(name), ingest.IngestOutcome) for name in names}
    tokens = {name: outcome_of(datasets(name) / "tokens", tokenize.TokenizeOutcome) for name in names}
    tokenizer = Tokenizer(tokenize.tokenizer_digest(making.workspace.tokenizer))
    return put_in_order(making, documents, tokenizer, tokens)
