"""The state of an update, from which its stages find their inputs, settings and folders."""

from dataclasses import dataclass, field
from typing import Any

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import Recipe, evaluation_places
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.record.attempts import SoFar
from rewarm.pipeline.update.inputs import Arrival, distilled_tokens
from rewarm.pipeline.update.measured import measured_datasets
from rewarm.pipeline.update.runner import Done, Runner
from rewarm.stages import anneal, evaluate, ingest, replay, select, tokenize, train
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet
from rewarm.stages.inference.actors import Pool


@dataclass(frozen=True)
class Tokenizer:
    """Outcome of the tokenizer step."""

    digest: str
    form: str = ""  # for an imported tokenizer: a description of how documents begin and end


@dataclass(frozen=True)
class Start:
    """The weights that an update starts from."""

    digest: str
    parameters: int


@dataclass(frozen=True)
class Data:
    """The data of an update; ``mixture`` is None if a model is imported and nothing is trained."""

    documents: dict[str, ingest.IngestOutcome]
    tokenizer: Tokenizer
    tokens: dict[str, tokenize.TokenizeOutcome]
    selected: dict[str, select.SelectOutcome] = field(default_factory=dict)
    mixture: Done[replay.ReplayOutcome] | None = None


@dataclass
class UpdateContext:
    """State of an update, with everything that its stages need to find their inputs."""

    workspace: Workspace
    lineage: Lineage
    arrival: Arrival
    recipe: Recipe
    id: str
    runner: Runner
    plan: dict[str, Any] | None = None  # resolves the recipe's ``auto`` settings
    weights: dict[str, int] = field(default_factory=dict)  # weights of the new datasets; empty: by their tokens
    watchers: tuple[Any, ...] = ()  # Ray Train callbacks of the trunk's training
    also_measured: tuple[str, ...] = ()  # datasets that are neither in the lineage nor new
    started: str = ""  # start of the update, ISO 8601, UTC
    attempts: SoFar = list  # attempts of the update, of which the last is the current one
    actors: Pool | None = None  # see ``pool``
    tuned_from: str | None = None  # the update whose release was tuned to the one that is adopted

    @property
    def folder(self) -> Folder:
        """The update's folder."""
        return self.workspace.update(self.id)

    def compared_with(self) -> UpdateRecord | None:
        """Return the update whose release this one's is compared with; None for a base."""
        return self.lineage.compared_with() if self.tuned_from is None else self.lineage.read(self.tuned_from)

    def named(self, stage: str, dataset: str) -> str:
        """Return a stage's name, with the dataset's name if several datasets are new."""
        several = len(self.arrival.inputs) + (self.distilled_tokens > 0) > 1
        return f"{stage} {dataset}" if several else stage

    def new_tokens(self, name: str, selected: dict[str, select.SelectOutcome]) -> TokenSet:
        """Return the tokens of an arrival to train on."""
        return TokenSet(self.train_tokens(name), self.folder / "selection" / name if name in selected else None)

    def measured(self) -> list[str]:
        """Return the earlier datasets that this update measures."""
        return measured_datasets(list(self.lineage.datasets()), self.recipe.evaluate, self.id)

    def places(self) -> tuple[bool, int]:
        """Return whether models run on GPUs outside training, and the number of actors."""
        return evaluation_places(self.recipe)

    def pool(self) -> Pool:
        """Return the actors that evaluation and gate share; ``close`` ends them."""
        if self.actors is None:
            gpus, num_actors = self.places()
            self.actors = Pool(num_actors, gpus, evaluate.worker_environment(self.recipe.evaluate))
        return self.actors

    def close(self) -> None:
        """Release what the update's steps share."""
        if self.actors is not None:
            self.actors.close()
            self.actors = None

    def mixture(self) -> Mixture:
        """Read the mixture that replay wrote."""
        return Mixture.from_json((self.folder / "mixture").read_json(replay.MIXTURE))

    def schedule(self) -> train.Schedule:
        """Return the learning-rate schedule of this update, over the lineage's tokens."""
        mixture = self.mixture()
        tokens = mixture.steps * mixture.tokens_per_step
        before = self.lineage.followed()
        imported = self.lineage.head is not None and before is None
        reset = not self.recipe.train.keep_optimizer
        return train.schedule_for(self.recipe.schedule, self.lineage.position, tokens, before, imported, reset)

    @property
    def anneal_settings(self) -> anneal.AnnealSettings:
        """The recipe's anneal settings; a base neither ranks its data nor replays, so its branch does neither."""
        settings = self.recipe.anneal
        if self.lineage.entries or settings.data == "next":
            return settings
        return settings.model_copy(update={"data": "tail"})

    @property
    def imports(self) -> bool:
        """Whether this is a base that is imported."""
        return not self.lineage.entries and self.recipe.model.path is not None

    @property
    def distilled_tokens(self) -> int:
        """Tokens that an imported model generates."""
        return distilled_tokens(self.recipe, self.arrival.inputs) if self.imports else 0

    def train_tokens(self, dataset: str) -> Folder:
        """Return the folder of a dataset's training shards."""
        return self.workspace.train_tokens(dataset)

    def validation_tokens(self, dataset: str) -> Folder:
        """Return the folder of a dataset's validation shards."""
        return self.workspace.dataset(dataset) / "tokens" / "validation"


def earlier_datasets(workspace: Workspace, lineage: Lineage) -> list[replay.Earlier]:
    """Return the datasets that the next update can replay."""
    ages = {update.id: age for age, update in enumerate(reversed(lineage.learned), 1)}
    return [
        replay.Earlier(
            name,
            workspace.train_tokens(name),
            workspace.dataset(name) / "documents",
            update.facts.order_seed,
            age=ages[update.id],
        )
        for name, update in lineage.datasets().items()
    ]
