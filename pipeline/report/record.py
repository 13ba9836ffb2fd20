"""What the report is made from: plain records, built from the lineage, with the units of every field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["released", "refused", "undecided", "unfinished"]
"""``refused``: finished, but its release did not pass the gate; it is kept to be looked at. ``undecided``: finished,
and the gate could not see enough to decide; its release is held for a person."""


@dataclass(frozen=True)
class TextRecord:
    """What became of an arrival's documents, and what those that are trained on are like."""

    steps: Sequence[Mapping[str, Any]]
    """``{name, documents_in, documents_out, bytes_in, bytes_out, reasons}`` of each step of ingest, in its order; some
    with ``not_applied``: parts of a rule that are not defined for the script, and how many documents passed unasked."""
    languages: Mapping[str, int]
    """Documents by language, the most frequent first; and so for ``domains``, by host."""
    domains: Mapping[str, int]
    lengths: Mapping[str, int]
    """Documents by k, of 2^k bytes or more but less than 2^(k+1)."""
    qualities: Mapping[str, int]
    """Documents by k, of a quality of k/20 or more but less than (k+1)/20; empty where the records bring none."""
    earlier: Mapping[str, Mapping[str, int]]
    """Documents that an earlier dataset has: ``{dataset: {exact, near}}``."""
    decontaminated: Mapping[str, int]
    """Documents that overlap with held-out text, by whose."""
    cut: Mapping[str, Any] = field(default_factory=dict)
    """What was cut out of those that stay: ``{documents, cuts, bytes, holders}``; empty in older accounts."""


@dataclass(frozen=True)
class DatasetRecord:
    """One dataset of the workspace, as ingested."""

    name: str
    documents: int
    """Documents to train on: neither validation, duplicates nor quarantine."""
    tokens: int
    """Tokens to train on."""
    validation_documents: int
    duplicates: int
    """Documents dropped because they had been seen before, here or in an earlier arrival."""
    quarantined: int
    """Records that could not be read, and documents that a rule refused."""
    text: TextRecord | None = None
    """None where the model wrote it itself."""
    removals: Sequence[str] = ()
    """A sentence for each step of ingest that removed more than a tenth."""


@dataclass(frozen=True)
class TokenRecord:
    """The tokens one update read. ``new`` and ``replayed`` make up the trunk, ``annealed`` the branch beside it."""

    planned: int
    """The trunk's budget: what ``new + replayed`` comes to when the update is finished."""
    new: int = 0
    replayed: int = 0
    annealed: int = 0


@dataclass(frozen=True)
class ReplayPart:
    """What was replayed of one earlier dataset."""

    sequences: int
    tokens: int
    share: float
    """Of all sequences of the update's trunk, 0 to 1."""


@dataclass(frozen=True)
class ReplayRecord:
    """The account of replay."""

    requested: float
    """Share of the trunk's sequences, 0 to 1."""
    achieved: float
    source: str
    """Where replay came from: earlier tokens, distilled ones …"""
    by_dataset: Mapping[str, ReplayPart] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainRecord:
    """How the trunk was trained."""

    steps: int
    world_size: int
    tokens_per_second: float
    resumed_from: Sequence[int] = ()
    """The steps at which training went on from a checkpoint; empty when nothing interrupted it."""


@dataclass(frozen=True)
class Taken:
    """What an update takes: predicted by its plan, or in fact."""

    new: int
    replayed: int
    annealed: int
    """Tokens, like those before."""
    steps: int
    hours: float | None
    """Of all stages; None where it could not be predicted."""
    cost: float | None
    """None without a price."""


@dataclass(frozen=True)
class PlanRecord:
    """The plan of an update, for the settings that its recipe left open."""

    strength: str
    """``weak`` or ``strong``."""
    because: Sequence[str]
    choices: Mapping[str, tuple[object, str]]
    """Value and reason of each setting."""
    predicted: Taken
    actual: Taken
    currency: str


@dataclass(frozen=True)
class CurvePoint:
    """One training step."""

    tokens: int
    """Tokens of the whole lineage after this step; a branch counts on from the trunk's end."""
    loss: float
    """Nats per token, mean over the global batch."""
    lr: float
    grad_norm: float
    """Before clipping."""
    is_anneal: bool = False
    """On the branch towards the release, not on the trunk."""


@dataclass(frozen=True)
class ValidationPoint:
    """Validation losses measured during training."""

    tokens: int
    """Tokens of the whole lineage, as in `CurvePoint`."""
    losses: Mapping[str, float]
    """Nats per token of each dataset known by then."""
    is_anneal: bool = False


@dataclass(frozen=True)
class GapRecord:
    """The stability gap of one dataset in one update; tokens from the update's start, losses in nats per token."""

    depth: float
    """The largest rise above the starting loss; 0 where it never rose."""
    at_tokens: int
    """Where the rise was largest."""
    recovered_tokens: int | None
    """The first look after that at which the loss was back at the start's, or below; None: never in this update."""
    start: float
    end: float


@dataclass(frozen=True)
class CheckRecord:
    """One comparison of the gate: a candidate against the current release, on one dataset or task."""

    kind: str
    """``loss``, ``task``; ``best``: a loss against the best release so far; ``order``: the candidate against chance on
    the order of the arrival's words."""
    name: str
    """The dataset's or the task's."""
    metric: str
    role: str
    """``old``: known before this update; ``new``: of its arrival."""
    candidate: float | None
    current: float | None
    change: float | None
    """Candidate minus current, in the metric's own unit."""
    limit: float | None
    """How far it may go the wrong way (``order``: the least it must reach); None where nothing is asked."""
    p: float | None
    """Of the paired test; None where none was made."""
    p_adjusted: float | None
    """After the correction for the number of tests."""
    n: int | None
    """Pairs: documents or samples."""
    passed: bool
    because: str = ""
    outcome: str = ""
    """``passed``, ``refused`` or ``undecided``; empty in records made before a check could be undecided."""
    detectable: float | None = None
    """The minimum detectable effect, in the unit of the change; None where it was not recorded, or is not finite."""
    units: int | None = None
    """Independent units among the pairs: sites, documents or questions."""

    @property
    def result(self) -> str:
        """``passed``, ``failed`` or ``undecided``."""
        return "undecided" if self.outcome == "undecided" else "passed" if self.passed else "failed"


@dataclass(frozen=True)
class GateRecord:
    """The gate's verdict on an update's release."""

    passed: bool
    against: str | None
    """The id of the update whose release was current then."""
    alpha: float | None
    """The level of significance that adjusted p-values are held against."""
    correction: str
    because: Sequence[str] = ()
    checks: Sequence[CheckRecord] = ()
    outcome: str = ""
    """``passed``, ``refused`` or ``held``; empty in records made before a release could be held."""

    @property
    def ruling(self) -> str:
        """The outcome, also of such a record."""
        return self.outcome or ("passed" if self.passed else "refused")


@dataclass(frozen=True)
class StageRecord:
    """One stage of an update as its manifest keeps it."""

    name: str
    folder: str
    """Where its outcome lies, from the workspace on."""
    version: int
    fingerprint: str
    """Over settings, inputs and version: equal ones give the same outcome."""
    seconds: float
    finished: str
    """ISO 8601."""


@dataclass(frozen=True)
class PromotionRecord:
    """An update's release became the current one."""

    update: str
    at: str
    """ISO 8601."""
    because: str = ""


@dataclass(frozen=True)
class UpdateRecord:
    """One update of the lineage; the base is the first. Whatever has not happened yet stays at its default."""

    id: str
    """Such as ``0001-ml-docs``."""
    arrival: str
    """The name of the dataset that arrived."""
    state: State
    tokens: TokenRecord | None = None
    """None for an imported model, which was trained elsewhere."""
    schedule: Mapping[str, object] = field(default_factory=dict)
    """kind, peak, minimum, …: shown as they are."""
    replay: ReplayRecord | None = None
    """None where there was nothing to replay: the base."""
    losses: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """``{"trunk": {dataset: loss}, "release": {dataset: loss}}`` in nats per token."""
    window_losses: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """As `losses`, but the mean of training's last looks at a part of the split: the papers' final loss."""
    bits_per_byte: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """As `losses`, in bits per byte of UTF-8 text."""
    forgetting: Mapping[str, float] = field(default_factory=dict)
    """The release's loss minus that of the release before, in nats per token; positive: it forgot."""
    gap: Mapping[str, GapRecord] = field(default_factory=dict)
    """The stability gap of every dataset that was validated from the update's start on."""
    lm_eval: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """``{task: {metric: value, metric_stderr: standard error}}``; lm-eval's own ``acc,none`` keys are understood."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time of each stage, in the order the stages ran."""
    train: TrainRecord | None = None
    plan: PlanRecord | None = None
    """None where the recipe left nothing open."""
    curve: Sequence[CurvePoint] = ()
    """In the order of the steps."""
    validation: Sequence[ValidationPoint] = ()
    datasets: Sequence[str] = ()
    """Those that were new here, where the arrival holds several; empty: `arrival` is the one."""
    start: str | None = None
    """The id of the update whose trunk this one started from; None for a base."""
    gate: GateRecord | None = None
    """None where there was nothing to compare with: a base."""
    finished: str = ""
    """ISO 8601; empty while it is not finished."""
    parameters: int = 0
    """Of the model."""
    stages: Sequence[StageRecord] = ()
    """In the order they were finished."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Of what went in and came out, by name: ``{"trunk": "90fa…", "arrival ml-docs": …}``."""
    notes: Sequence[str] = ()
    """What the stages had to say."""

    @property
    def arrivals(self) -> Sequence[str]:
        """The datasets that arrived."""
        return self.datasets or (self.arrival,)


@dataclass(frozen=True)
class WorkspaceRecord:
    """Everything the report shows."""

    workspace: str
    """Where the workspace lies."""
    release: str | None
    """The id of the update whose release is current; None before the first."""
    generated: str
    """ISO 8601 time at which the record was made."""
    datasets: Sequence[DatasetRecord]
    """In order of arrival."""
    updates: Sequence[UpdateRecord]
    """In order of time, the base first."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the engines: ``{"torch": "2.13.0", …}``."""
    history: Sequence[PromotionRecord] = ()
    """Every promotion, the first one first; the last one is of `release`."""
