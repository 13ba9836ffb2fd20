"""The record of one update and its parts, with the unit of every field.

The same class serves a finished update and one that is running or failed: what has not happened yet is None, or has
its default. Parts of datasets are the outcomes of the stages themselves.
"""

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Annotated, Any, Literal, NotRequired, TypeVar, cast

from pydantic import BeforeValidator, ConfigDict
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from rewarm.pipeline.gate.verdict import Verdict
from rewarm.pipeline.record.entry import Facts, Weights, number_of
from rewarm.pipeline.record.gap import Gap
from rewarm.pipeline.shift.choices import Choice
from rewarm.pipeline.shift.shift import Shift
from rewarm.stages.core.shapes import OPEN
from rewarm.stages.distill import DistillOutcome
from rewarm.stages.ingest import IngestOutcome
from rewarm.stages.select import SelectOutcome
from rewarm.stages.tokenize import TokenizeOutcome
from rewarm.stages.train import Phase, Schedule

STRICT = ConfigDict(extra="forbid")
Part = TypeVar("Part")

Number = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]
"""A float that JSON writes as null if it is not finite."""
ByDataset = dict[str, dict[str, Number]]
"""``trunk`` or ``release`` → dataset → value."""


@dataclass(frozen=True, config=STRICT)
class DatasetPart:
    """One new dataset: the outcome of each stage that made it."""

    ingest: IngestOutcome
    tokenize: TokenizeOutcome
    select: SelectOutcome | None = None
    """None: all of it is read."""
    distill: DistillOutcome | None = None
    """None: it was not written by a model."""

    @property
    def digests(self) -> dict[str, str]:
        """What each stage made, by its name."""
        done = {"ingest": self.ingest.digest, "tokenize": self.tokenize.digest}
        done |= {"select": self.select.digest} if self.select else {}
        return done | ({"distill": self.distill.digest} if self.distill else {})

    @property
    def duplicates(self) -> int:
        """Documents left out because this arrival or an earlier dataset has them."""
        return self.ingest.duplicates + self.ingest.duplicates_earlier


@dataclass(frozen=True, config=STRICT)
class Tokens:
    """Tokens that an update read. ``new`` and ``replayed`` make up the trunk; the branch beside it is ``annealed``."""

    planned: int = 0
    """The trunk's budget: what ``new + replayed`` comes to when the update is finished."""
    new: int = 0
    replayed: int = 0
    annealed: int = 0


Replayed = TypedDict(
    "Replayed",
    {
        "dataset": NotRequired[str],
        "sequences": int,
        "tokens": int,
        "share": NotRequired[float],  # of all sequences of the trunk, 0 to 1
        "due": NotRequired[float],  # tokens; missing in records of order 1, which owe nothing
        "order": NotRequired[str],
        "from": NotRequired[int],  # tokens of its order that were read before
        "to": NotRequired[int],
    },
)
"""What was replayed of one source: a dataset, or ``dataset@domain``."""
Replayed.__pydantic_config__ = OPEN  # type: ignore[attr-defined]


@dataclass(frozen=True)
class ReplayedPart:
    """What was replayed of one dataset."""

    sequences: int = 0
    tokens: int = 0
    share: float = 0.0
    """Of all sequences of the trunk, 0 to 1."""

    def plus(self, sequences: int, tokens: int, share: float) -> "ReplayedPart":
        """The sum of this one and another."""
        return ReplayedPart(self.sequences + sequences, self.tokens + tokens, self.share + share)


class Brought(TypedDict):
    """How much of a new dataset was trained."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    sequences: int
    tokens: NotRequired[int]
    trained: NotRequired[int]
    untrained: NotRequired[int]
    passes: NotRequired[float]  # over the dataset


@dataclass(frozen=True, config=STRICT)
class Replay:
    """The mixture: the share of replay, and what was read of each source."""

    requested: float = 0.0
    """Share of the trunk's sequences, 0 to 1."""
    achieved: float = 0.0
    source: str = "none"
    """Where replay came from: earlier datasets, or none."""
    by_dataset: dict[str, Replayed] = field(default_factory=dict)
    arrivals: dict[str, Brought] = field(default_factory=dict)
    version: int = 1
    """Of the order: ``stages.data.mixture``."""
    carried: dict[str, Any] | None = None
    """What the lineage up to this update replayed of each source and owes it (``stages.replay.Carried``), so that the
    next one need not add it up; None in records of format 1."""

    @property
    def parts(self) -> dict[str, "ReplayedPart"]:
        """What was replayed of each dataset, its domains together; those whose turn it was not are left out."""
        found: dict[str, ReplayedPart] = {}
        for key, one in self.by_dataset.items():
            if one["sequences"]:
                name = key.partition("@")[0]
                before = found.get(name, ReplayedPart())
                found[name] = before.plus(one["sequences"], one["tokens"], one.get("share", 0.0))
        return found


@dataclass(frozen=True, config=STRICT)
class Laid:
    """The learning-rate schedule of the trunk, on the axis of the lineage's tokens."""

    kind: str
    phases: list[Phase]
    began: float | None = None
    """Tokens at which the series of an autoregressive schedule began."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Those that the phases come from."""

    @property
    def schedule(self) -> Schedule:
        """As training takes it."""
        return Schedule(self.kind, tuple(self.phases), self.began)

    @property
    def shown(self) -> dict[str, object]:
        """The settings, with the phases in one line."""
        phases = ", ".join(f"{phase.name} to {phase.final:g} at {phase.end:,.0f}" for phase in self.phases)
        return {"kind": self.kind, **self.settings, **({"phases": phases} if phases else {})}


@dataclass(frozen=True, config=STRICT)
class Training:
    """How the trunk was trained."""

    steps: int = 0
    world_size: int = 0
    tokens_per_second: float = 0.0
    """Of all workers together."""
    resumed_from: list[int] = field(default_factory=list)
    """The steps at which training resumed from a checkpoint; empty: never interrupted."""


@dataclass(frozen=True, config=STRICT)
class Annealing:
    """How the release was made of the trunk."""

    branched: bool = False
    """Whether a branch was trained; else the release is the trunk, or an average of it."""
    because: str = ""
    steps: int = 0
    averaged: list[int] = field(default_factory=list)
    """Steps of the trunk after which its weights entered the mean."""


@dataclass(frozen=True, config=STRICT)
class Forecast:
    """What the plan predicted."""

    tokens: dict[str, int]
    """New, replayed, annealed."""
    steps: int
    seconds: dict[str, float]
    """By stage, as far as it was known."""
    hours: float | None
    """Of all stages; None if it could not be predicted."""
    cost: float | None
    """None without a price."""
    currency: str


@dataclass(frozen=True, config=STRICT)
class Plan:
    """The plan of an update, for the settings that its recipe left open."""

    shift: Shift
    choices: dict[str, Choice]
    """Value and reason of each setting."""
    retrain: dict[str, Any]
    """What training from random weights on all data would have taken."""
    predicted: Forecast


@dataclass(frozen=True, config=STRICT)
class StepTaken:
    """What a step of the update took."""

    seconds: float
    """Of all its attempts."""
    attempts: int | None = None
    """All but the last failed or were killed; None in records of format 1, which did not count them."""


@dataclass(frozen=True, config=STRICT)
class Attempts:
    """How often the update was started, and what came of it."""

    count: int
    failed: int = 0
    """Those that ended with an error or were killed."""
    seconds: float = 0.0
    """Of all attempts, from their beginning to their end."""
    lost_seconds: float = 0.0
    """Of these, the seconds of the failed ones; what they committed was used again."""


@dataclass(frozen=True, config=STRICT)
class Cost:
    """What the update cost, all attempts of all steps together."""

    hours: float
    price: float | None = None
    """``hours`` × workers × ``cost.per_worker_hour``; None without a price."""
    currency: str = ""


@dataclass(frozen=True, config=STRICT)
class UpdateRecord:
    """One update of the lineage; the base is the first. Losses are nats per token of the whole validation split."""

    id: str
    """Its number in the lineage, and its arrival's name: ``0001-ml-docs``."""
    arrival: str
    """The names of the datasets, joined by ``+``."""
    state: Literal["released", "refused", "undecided", "unfinished"]
    """``refused``: by the gate; ``undecided``: held for a person; ``unfinished``: running, or it failed."""
    datasets: list[str] = field(default_factory=list)
    """Those that were new here."""
    started: str = ""
    """ISO 8601, UTC, when it was begun; empty in records of format 1. And so ``finished``, empty until then."""
    finished: str = ""
    position: int = 0
    """Tokens that the trunk has trained in the lineage, after this update."""
    follows: str | None = None
    """The update whose trunk it started from; None: the one numbered before it, if any."""
    parameters: int = 0
    """Of the model."""
    order_seed: int = 0
    """Of the datasets that were new here."""
    tokens: Tokens = field(default_factory=Tokens)
    data: dict[str, DatasetPart] = field(default_factory=dict)
    replay: Replay = field(default_factory=Replay)
    schedule: Laid | None = None
    """None: nothing was trained, as for an imported model."""
    train: Training | None = None
    anneal: Annealing | None = None
    """None in records of format 1."""
    losses: ByDataset = field(default_factory=dict)
    window_losses: ByDataset = field(default_factory=dict)
    """As ``losses``, but the mean of training's last looks at a part of the split: the papers' final loss."""
    bits_per_byte: ByDataset = field(default_factory=dict)
    """As ``losses``, in bits per byte of UTF-8 text."""
    forgetting: dict[str, Number] = field(default_factory=dict)
    """The release's loss minus that of the release before, nats per token; positive: it forgot."""
    gap: dict[str, Gap] = field(default_factory=dict)
    """The stability gap of each dataset that was validated from the update's start on."""
    lm_eval: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Task → metric, and ``<metric>_stderr`` → value."""
    plan: Plan | None = None
    """None: the recipe left nothing open."""
    gate: Verdict | None = None
    """None: a base, which has nothing to be compared with."""
    steps: dict[str, StepTaken] = field(default_factory=dict)
    """In the order the steps ran."""
    attempts: Attempts | None = None
    """None in records of format 1, and of a trial."""
    cost: Cost | None = None
    weights: Weights = field(default_factory=Weights)
    files: dict[str, str] = field(default_factory=dict)
    """A step's folder, in the workspace → digest of the table of its files."""
    card: str = ""
    """Digest of the release's model card, which is written after all steps; empty: not recorded by earlier versions."""
    notes: list[str] = field(default_factory=list)
    """What the steps had to say."""

    @property
    def number(self) -> int:
        """Its place in the lineage."""
        return number_of(self.id)

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time of each step, of all its attempts."""
        return {name: step.seconds for name, step in self.steps.items()}

    def trained(self, dataset: str) -> bool:
        """Whether any of a new dataset was trained; also if the record does not say, as that of an import."""
        part = self.replay.arrivals.get(dataset)
        return part is None or part["sequences"] > 0

    def facts(self, num_bytes: int) -> Facts:
        """What the log repeats of a finished update whose record's file has so many bytes."""
        return Facts(
            arrival=self.arrival,
            datasets=self.datasets,
            position=self.position,
            weights=self.weights,
            order_seed=self.order_seed,
            follows=self.follows,
            schedule=self.schedule.kind if self.schedule else "",
            untrained=[name for name in self.datasets if not self.trained(name)],
            num_bytes=num_bytes,
        )


def part_of(kind: type[Part], outcome: object) -> Part:
    """A part of the record from a step's outcome, by the fields that both have."""
    names = [one.name for one in fields(cast(Any, kind))]
    value = outcome if isinstance(outcome, Mapping) else vars(outcome)
    return kind(**{name: value[name] for name in names if name in value})
