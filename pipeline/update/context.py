"""State of an update: what all of its stages need to know to find their inputs and their places."""

from dataclasses import dataclass, field
from typing import Any

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import Recipe, evaluation_places
from rewarm.pipeline.record.attempts import SoFar
from rewarm.pipeline.update.inputs import Arrival, distilled_tokens
from rewarm.pipeline.update.runner import Runner
from rewarm.stages import anneal, ingest, replay, select, tokenize, train
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet


@dataclass(frozen=True)
class Tokenizer:
    """What the tokenizer step leaves."""

    digest: str
    form: str = ""  # of an imported one: how documents begin and end, in words


@dataclass(frozen=True)
class Start:
    """The weights that an update starts from."""

    digest: str
    parameters: int


@dataclass(frozen=True)
class Data:
    """What an update learns from; ``mixture`` is None where a model is taken over and nothing trained."""

    documents: dict[str, ingest.IngestOutcome]
    tokenizer: Tokenizer
    tokens: dict[str, tokenize.TokenizeOutcome]
    selected: dict[str, select.SelectOutcome] = field(default_factory=dict)
    mixture: replay.ReplayOutcome | None = None


@dataclass
class UpdateContext:
    """State of an update: everything its stages need to find their inputs."""

    workspace: Workspace
    lineage: Lineage
    arrival: Arrival
    recipe: Recipe
    id: str
    runner: Runner
    plan: dict[str, Any] | None = None  # what its ``auto`` settings were resolved by
    weights: dict[str, int] = field(default_factory=dict)  # of the new datasets; by their tokens where empty
    watchers: tuple[Any, ...] = ()  # Ray Train callbacks of the trunk's training
    also_measured: tuple[str, ...] = ()  # datasets that are neither of the lineage nor new here
    started: str = ""  # when the update was begun, ISO 8601, UTC
    attempts: SoFar = list  # of the update, this one the last

    @property
    def folder(self) -> Folder:
        """The update's folder."""
        return self.workspace.update(self.id)

    def named(self, stage: str, dataset: str) -> str:
        """A stage's name, with that of the dataset where several are new."""
        several = len(self.arrival.inputs) + (self.distilled_tokens > 0) > 1
        return f"{stage} {dataset}" if several else stage

    def new_tokens(self, name: str, selected: dict[str, select.SelectOutcome]) -> TokenSet:
        """What is trained of an arrival."""
        return TokenSet(self.train_tokens(name), self.folder / "selection" / name if name in selected else None)

    def places(self) -> tuple[bool, int]:
        """Whether models run on GPUs where they are not trained, and on how many actors."""
        return evaluation_places(self.recipe)

    def mixture(self) -> Mixture:
        """The mixture that replay wrote."""
        return Mixture.from_json((self.folder / "mixture").read_json(replay.MIXTURE))

    def schedule(self) -> train.Schedule:
        """The learning rate of this update, in the lineage."""
        mixture = self.mixture()
        tokens = mixture.steps * mixture.tokens_per_step
        before = self.lineage.followed()
        imported = self.lineage.head is not None and before is None
        return train.schedule_for(self.recipe.schedule, self.lineage.position, tokens, before, imported)

    @property
    def anneal_settings(self) -> anneal.AnnealSettings:
        """The recipe's; the base ranks none of its data, so its branch reads the tail."""
        settings = self.recipe.anneal
        return settings if self.lineage.entries else settings.model_copy(update={"data": "tail"})

    @property
    def imports(self) -> bool:
        """Whether this is the base, and taken over from elsewhere."""
        return not self.lineage.entries and self.recipe.model.path is not None

    @property
    def distilled_tokens(self) -> int:
        """Tokens that the model which is imported here writes itself."""
        return distilled_tokens(self.recipe, self.arrival.inputs) if self.imports else 0

    def train_tokens(self, dataset: str) -> Folder:
        """A dataset's training shards."""
        return self.workspace.train_tokens(dataset)

    def validation_tokens(self, dataset: str) -> Folder:
        """A dataset's validation shards."""
        return self.workspace.dataset(dataset) / "tokens" / "validation"


def earlier_datasets(workspace: Workspace, lineage: Lineage) -> list[replay.Earlier]:
    """What the next update can replay."""
    learned = [update.id for update in lineage.learned]
    return [
        replay.Earlier(
            name,
            workspace.train_tokens(name),
            workspace.dataset(name) / "documents",
            update.facts.order_seed,
            age=len(learned) - learned.index(update.id),
        )
        for name, update in lineage.datasets().items()
    ]
