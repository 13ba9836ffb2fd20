"""The settings of the gate, the planner, disk and cost, and the model cards: none of them affects training.

The gate's settings decide whether a release is promoted. The planner's only decide how ``auto`` settings are resolved;
an update trains with the resolved values, which its recipe records.
"""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from rewarm.stages.core.settings import PLACEMENT, Settings

TrunkPolicy = Literal["continue", "before"]
UndecidedPolicy = Literal["hold", "pass"]


class GateSettings(Settings):
    """The requirements for promoting a candidate, and the consequences of not meeting them."""

    enabled: bool = True
    """Whether releases are compared with the current release; false promotes every finished update."""

    max_forgetting: float | None = Field(default=0.5, ge=0, allow_inf_nan=False)
    """Maximum rise of the loss on each earlier dataset against the current release, in nats per token; null: no limit.
    0.5 passes the rise that the recommended replay leaves in models of any size (0.4 with 1.8 M parameters; 0.06 to 0.3
    at 405 M), but not the rise with too little replay: on German with 1 %, Ibrahim et al. 2024 ended 0.57 above joint
    training. Use 0.2 for large models, as the presets after the papers do; every update without replay in the papers
    lost more than that."""

    max_forgetting_by_dataset: dict[str, float | None] = Field(default_factory=dict)
    """Limits for individual earlier datasets, by name, which override ``max_forgetting``: {docs: 0.1, old: null}."""

    @field_validator("max_forgetting_by_dataset")
    @classmethod
    def _limits(cls, value: dict[str, float | None]) -> dict[str, float | None]:
        for name, limit in value.items():
            if limit is not None and not 0 <= limit < float("inf"):
                raise ValueError(f"{name}: expected nats per token (0 or more), or null for no limit")
        return value

    max_forgetting_since_best: float | None = Field(default=2.0, ge=1, allow_inf_nan=False)
    """Maximum rise of an earlier dataset's loss above the best release so far (the one with the least loss on that
    dataset), as a multiple of the dataset's limit; null: no check. Without it, twelve updates in a row, each just
    within the limit, can lose twelve times the limit."""

    max_task_drop: float | None = Field(default=0.05, ge=0, le=1)
    """Maximum drop of an lm-eval task's score (accuracy, exact match, F1; 0 to 1); null: no limit. The default is five
    points: in the 10B update of Ibrahim et al., MMLU lost nine points against training on all data, which the mean loss
    did not show. Detecting five points takes about 500 questions."""

    max_task_drop_by_task: dict[str, float | None] = Field(default_factory=dict)
    """Limits for individual tasks, by name, which override ``max_task_drop``: {copa: 0.2, winogrande: null}."""

    @field_validator("max_task_drop_by_task")
    @classmethod
    def _drops(cls, value: dict[str, float | None]) -> dict[str, float | None]:
        for name, limit in value.items():
            if limit is not None and not 0 <= limit <= 1:
                raise ValueError(f"{name}: expected a difference of scores (0 to 1), or null for no limit")
        return value

    require_learning: bool = True
    """Whether the loss on the arrival's own validation split must be lower than the current release's. If it is not,
    either the arrival has nothing new or something went wrong; check which before promoting the release."""

    min_learning: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    """Smallest fall of the loss in nats per token that counts as learning (``require_learning``), if the arrival's
    validation split is large enough to detect it. A smaller but significant fall also counts as learning."""

    min_order: float | None = Field(default=0.5, ge=0, le=1)
    """Share of the excerpts from the arrival's validation documents in which the candidate must prefer the original
    word order to three local shuffles; chance is 0.25; null: no check. Text without order (shuffled, also within
    sentences, or corrupted by an export) stays at chance, however well its words are learned. If half of the documents
    are shuffled, at most 0.62 can be expected, so use a higher value for large models. Use null for lists whose order
    is arbitrary."""

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Significance level of the tests, after the correction: the probability of refusing a release by chance although
    it is within its limits, and of accepting a random change as learning."""

    correction: Literal["holm", "none"] = "holm"
    """Correction of the p-values of guards against harm for multiple testing (Holm 1979), or none. Requirements
    (learning, word order) are not corrected, because each must hold on its own."""

    power: float = Field(default=0.8, gt=0.5, lt=1)
    """Power of the tests: the probability with which a check detects its minimum detectable effect."""

    units: Literal["site", "document"] = "site"
    """Independent units of a validation split. ``site``: all documents of one web site (the registered domain of
    ``url``, else ``source``) are one unit, unless the split has only one site; ``document``: each document is one."""

    undecided: UndecidedPolicy = "hold"
    """Policy for a check whose validation split is too small to decide (its minimum detectable effect is beyond its
    limit, and the estimate is not significant either). ``hold``: the release waits for ``rewarm promote``. ``pass``: it
    is promoted if the estimates of all undecided checks are within their limits, and held otherwise."""

    trunk: TrunkPolicy = "before"
    """Start of the update after a refused or held one. ``before``: the trunk before it, ignoring that update: its data
    are not replayed, and a corrected arrival (under a new name) does not count as duplicates. ``continue``: its own
    trunk, which has learned the data; only the release is held back."""

    def task_limit(self, task: str) -> float | None:
        """Return the maximum drop of a task's score; None: no limit."""
        return self.max_task_drop_by_task.get(task, self.max_task_drop)

    def forgetting_limit(self, dataset: str) -> float | None:
        """Return the maximum rise of the loss on an earlier dataset, nats per token; None: no limit."""
        return self.max_forgetting_by_dataset.get(dataset, self.max_forgetting)


class PlanSettings(Settings):
    """The sample of an arrival, and the thresholds of a strong shift; two of the three measures must agree."""

    read_bytes: int = Field(default=256 * 2**20, ge=2**20, json_schema_extra=PLACEMENT)
    """Bytes of the arrival's files to read (256 MiB); from a larger arrival, blocks spread evenly over it."""
    sample_bytes: int = Field(default=8_000_000, ge=10_000, json_schema_extra=PLACEMENT)
    """Bytes of text in the sample of the arrival, chosen by content hash, and in that of each earlier dataset."""
    loss_bytes: int = Field(default=500_000, ge=10_000, json_schema_extra=PLACEMENT)
    """Bytes of the sample to run the model on: about 100,000 to 200,000 tokens."""
    strong_loss: float = Field(default=1.4, gt=1, json_schema_extra=PLACEMENT)
    """Threshold of a strong shift for the trunk's bits per byte on the arrival, divided by those on the nearest earlier
    dataset. Bits per byte rather than nats per token, because a tokenizer splits unfamiliar text into more and easier
    tokens. A base of 1.8 M parameters on scientific docstrings gave 1.15 to 1.27 on other docstrings, 1.31 to 1.55 on
    code, and at least 2.1 on seven other languages; a base with more training gives higher values."""
    strong_divergence: float = Field(default=0.09, gt=0, lt=0.6931, json_schema_extra=PLACEMENT)
    """Threshold of a strong shift for the Jensen–Shannon divergence (nats, at most ln 2) of the frequencies of the 500
    most common tokens from the nearest earlier dataset, minus the divergence of a sample of that dataset of the same
    size. Against scientific docstrings, with vocabularies of 1,024 to 32,768: other docstrings 0.04 to 0.07, code 0.11
    to 0.18, German 0.21 to 0.32, their own other half 0.001."""
    arrival_cost: float | None = Field(default=0.05, ge=0, allow_inf_nan=False, json_schema_extra=PLACEMENT)
    """Limit of the objective by which a study chooses its best row, and its forecast the replay share: the lowest mean
    loss over all datasets with the arrival's loss at most so many nats per token above that of the same update without
    replay; null: no limit, the mean alone. Ibrahim et al. 2024 paid 0.01 for a weak and 0.03 to 0.04 for a strong shift
    with the shares they recommend."""
    new_languages: float = Field(default=0.25, gt=0, le=1, json_schema_extra=PLACEMENT)
    """Threshold of a strong shift for the share of the arrival's text in languages that are rare in earlier data."""


class DiskSettings(Settings):
    """The check of free disk space before an update."""

    check: Literal["refuse", "warn"] = Field(default="refuse", json_schema_extra=PLACEMENT)
    """If the estimated need exceeds the free space: refuse to start (a watch retries later), or start with a note."""


class CostSettings(Settings):
    """Speed and prices, for estimates of cost."""

    tokens_per_second: float | None = Field(default=None, gt=0, json_schema_extra=PLACEMENT)
    """Training speed of one worker, tokens per second; null: as measured in the lineage's last update."""
    per_worker_hour: float | None = Field(default=None, ge=0, json_schema_extra=PLACEMENT)
    """Price of one worker (with its GPU) per hour."""
    per_gb_month: float | None = Field(default=None, ge=0, json_schema_extra=PLACEMENT)
    """Price of storing a gigabyte (10⁹ bytes) for a month."""
    currency: str = Field(default="USD", min_length=1, json_schema_extra=PLACEMENT)
    """Currency of the prices."""
    base_tokens: int | None = Field(default=None, ge=1, json_schema_extra=PLACEMENT)
    """Tokens that an imported base was pre-trained on elsewhere, for the estimated cost of training from scratch."""


UNKNOWN = "unknown"


class CardSettings(Settings):
    """The parts of a release's model card that are not derived from the lineage. They do not affect the model."""

    license: str = Field(default=UNKNOWN, min_length=1, json_schema_extra=PLACEMENT)
    """Licence of the releases, as an identifier of Hugging Face's list (``apache-2.0``, ``cc-by-4.0``, ``other`` …).
    It depends on the data and on the imported model, so there is no default; ``unknown`` becomes the licence in the
    card of an imported model."""
    license_name: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Name of the licence, if ``license`` is ``other``."""
    license_link: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """URL or file of the licence's text, if ``license`` is ``other``."""
    name: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """Name of the model in the card's title; null: the workspace's folder and the update."""
    base_model: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Hub id (``ORG/NAME``) of the model that was imported with ``--from``; null: the id in its card or in its path in
    the Hub's cache, if any."""
    base_model_revision: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Commit of that model on the Hub; ``--from ORG/NAME`` records it."""
    language: tuple[str, ...] = Field(default=(), json_schema_extra=PLACEMENT)
    """Languages by their ISO 639 codes; empty: the languages detected in at least 5 % of the documents."""
    tags: tuple[str, ...] = Field(default=(), json_schema_extra=PLACEMENT)
    """Additional tags for the Hub."""
    intended_use: str = Field(default="", json_schema_extra=PLACEMENT)
    """Intended use of the model; a paragraph of Markdown before the standard one on limits."""
    samples: int = Field(default=1, ge=0, json_schema_extra=PLACEMENT)
    """Samples of each dataset in the card, of at most four datasets; each quotes the beginning of a held-out document;
    0: none."""

    @model_validator(mode="after")
    def _other(self) -> "CardSettings":
        if self.license == "other" and not (self.license_name and self.license_link):
            raise ValueError("license other needs license_name and license_link, as the hub does")
        return self
