"""The settings of the gate. None of them decides how a model is trained: only whether its release is promoted.

Settings of the planner. None of them decides a result: what an update trains with is in its resolved recipe.

What a recipe says about the model cards of its releases.
"""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from rewarm.stages.core.settings import PLACEMENT, Settings

TrunkPolicy = Literal["continue", "before"]
UndecidedPolicy = Literal["hold", "pass"]


class GateSettings(Settings):
    """What a candidate must keep and learn to be promoted, and what follows where it does not."""

    enabled: bool = True
    """Whether releases are compared with the current one at all; false promotes every finished update."""

    max_forgetting: float | None = Field(default=0.5, ge=0, allow_inf_nan=False)
    """Nats per token by which the loss on each earlier dataset may rise against the current release; null: no limit.
    0.5 lets pass what replay as advised costs in models of any size (0.4 in one of 1.8 M parameters; 0.06 to 0.3 at
    405 M), and not what too little of it does: on German with 1 %, Ibrahim et al. 2024 ended 0.57 above joint training.
    Of large models ask more: 0.2, as the papers' recipes do, is less than any update of theirs without replay lost."""

    max_forgetting_by_dataset: dict[str, float | None] = Field(default_factory=dict)
    """Limits of their own for single earlier datasets, by name, in place of ``max_forgetting``: {docs: 0.1, old:
    null}."""

    @field_validator("max_forgetting_by_dataset")
    @classmethod
    def _limits(cls, value: dict[str, float | None]) -> dict[str, float | None]:
        for name, limit in value.items():
            if limit is not None and not 0 <= limit < float("inf"):
                raise ValueError(f"{name}: expected nats per token, 0 or more, or null for no limit")
        return value

    max_forgetting_since_best: float | None = Field(default=2.0, ge=1, allow_inf_nan=False)
    """How many times its limit an earlier dataset's loss may be above the best release so far (the one of least loss on
    that dataset); null: not asked. Without it twelve updates in a row, each just inside the limit, lose twelve times
    the limit."""

    max_task_drop: float | None = Field(default=0.05, ge=0, le=1)
    """How much the score of an lm-eval task (accuracy, exact match, F1; 0 to 1) may fall; null: no limit. Five points:
    MMLU lost nine in Ibrahim et al.'s 10B update, against training on everything, which the mean loss did not show.
    Some 500 questions are needed to see five points."""

    max_task_drop_by_task: dict[str, float | None] = Field(default_factory=dict)
    """Limits of their own for single tasks, by name, in place of ``max_task_drop``: {copa: 0.2, winogrande: null}."""

    @field_validator("max_task_drop_by_task")
    @classmethod
    def _drops(cls, value: dict[str, float | None]) -> dict[str, float | None]:
        for name, limit in value.items():
            if limit is not None and not 0 <= limit <= 1:
                raise ValueError(f"{name}: expected a difference of scores, 0 to 1, or null for no limit")
        return value

    require_learning: bool = True
    """Whether the loss on the arrival's own validation split must be lower than the current release's. If it is not,
    either nothing was new or something went wrong: both are worth a look before the release is changed."""

    min_learning: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    """Nats per token below which an arrival counts as not learned, once its validation split could have shown so much
    (``require_learning``). A smaller fall that is beyond chance counts as learned all the same."""

    min_order: float | None = Field(default=0.5, ge=0, le=1)
    """In how large a part of the excerpts from the arrival's validation documents the candidate must prefer the words
    in their own order to three shuffles among neighbours; 0.25 is chance; null: not asked. Text that is in no order
    (shuffled, also within sentences, or broken by an export) stays at chance, however well its words are learned. Where
    half of the documents are shuffled, 0.62 is the most to be expected, so ask more of large models. Set null for lists
    whose order means nothing."""

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Significance level of the tests, after the correction: the probability that chance alone refuses a release which
    does no more harm than its limits allow, and that chance alone passes for learning."""

    correction: Literal["holm", "none"] = "holm"
    """How the p-values of the tests that guard against harm are corrected for their number (Holm 1979), or that they
    are not. Tests that a release must pass (learning, order) are not corrected: each must hold by itself."""

    power: float = Field(default=0.8, gt=0.5, lt=1)
    """Probability with which a check must be able to find what it looks for; what it finds with that is its minimum
    detectable effect."""

    units: Literal["site", "document"] = "site"
    """What counts as independent in a validation split. ``site``: the documents of one web site (the registered domain
    of ``url``, else ``source``) count as one, unless all are of one site; ``document``: each by itself."""

    undecided: UndecidedPolicy = "hold"
    """What follows from a check that its validation split is too small to decide (its minimum detectable effect is
    beyond its limit, and the estimate is not clear either). ``hold``: the release waits for ``rewarm promote``.
    ``pass``: it is promoted if the estimates of all undecided checks are within their limits, and waits otherwise."""

    trunk: TrunkPolicy = "before"
    """Where the update after a refused or held one starts. ``before``: from the trunk before it, ignoring that update:
    its data are not replayed, and a mended arrival (under a name of its own) is not taken for duplicates.
    ``continue``: from its trunk; it has learned, only its release is held back."""

    def task_limit(self, task: str) -> float | None:
        """How much the score of a task may fall; None: no limit."""
        return self.max_task_drop_by_task.get(task, self.max_task_drop)

    def forgetting_limit(self, dataset: str) -> float | None:
        """Nats per token by which the loss on an earlier dataset may rise; None: no limit."""
        return self.max_forgetting_by_dataset.get(dataset, self.max_forgetting)


class PlanSettings(Settings):
    """How much of an arrival is looked at, and from where on a measure says that a shift is strong; two must agree."""

    read_bytes: int = Field(default=256 * 2**20, ge=2**20, json_schema_extra=PLACEMENT)
    """Bytes of the arrival's files that are read (256 MiB); of a larger arrival, pieces spread evenly over it."""
    sample_bytes: int = Field(default=8_000_000, ge=10_000, json_schema_extra=PLACEMENT)
    """Bytes of text in the sample, chosen among the documents read by content hash; and of each earlier dataset."""
    loss_bytes: int = Field(default=500_000, ge=10_000, json_schema_extra=PLACEMENT)
    """Bytes of the sample that the model is run on: some 100,000 to 200,000 tokens."""
    strong_loss: float = Field(default=1.4, gt=1, json_schema_extra=PLACEMENT)
    """Bits per byte of the trunk on the arrival over those on the nearest earlier dataset: from here on it says
    strong. Bits per byte and not nats per token, because a tokenizer cuts strange text into more and easier tokens. A
    base of 1.8 M parameters on scientific docstrings gave 1.15 to 1.27 on other docstrings, 1.31 to 1.55 on code, and
    2.1 and more on seven other languages; a base of more training gives more."""
    strong_divergence: float = Field(default=0.09, gt=0, lt=0.6931, json_schema_extra=PLACEMENT)
    """Jensen–Shannon divergence (nats, at most ln 2) of the frequencies of the 500 commonest tokens against the nearest
    earlier dataset, beyond what as few of its own documents diverge by: from here on it says strong. Against scientific
    docstrings, with vocabularies of 1,024 to 32,768: other docstrings 0.04 to 0.07, code 0.11 to 0.18, German 0.21 to
    0.32, their own other half 0.001."""
    new_languages: float = Field(default=0.25, gt=0, le=1, json_schema_extra=PLACEMENT)
    """Share of the arrival's text in languages that earlier data hardly holds: from here on it says strong."""


class DiskSettings(Settings):
    """What is done where the disk has less room than an update is estimated to need."""

    check: Literal["refuse", "warn"] = Field(default="refuse", json_schema_extra=PLACEMENT)
    """Refuse to start (a watch tries again later), or start with a note."""


class CostSettings(Settings):
    """What is known of speed and prices."""

    tokens_per_second: float | None = Field(default=None, gt=0, json_schema_extra=PLACEMENT)
    """Training speed of one worker; null: as the lineage's last update measured it."""
    per_worker_hour: float | None = Field(default=None, ge=0, json_schema_extra=PLACEMENT)
    """Price of one worker (with its GPU) for an hour."""
    per_gb_month: float | None = Field(default=None, ge=0, json_schema_extra=PLACEMENT)
    """Price of keeping a gigabyte (10⁹ bytes) for a month."""
    currency: str = Field(default="USD", min_length=1, json_schema_extra=PLACEMENT)
    """What prices are in."""
    base_tokens: int | None = Field(default=None, ge=1, json_schema_extra=PLACEMENT)
    """Tokens that an imported base was pre-trained on elsewhere, for the price of re-training from scratch."""


UNKNOWN = "unknown"


class CardSettings(Settings):
    """What only people know about a release. Nothing here changes a model, and it may change at any time."""

    license: str = Field(default=UNKNOWN, min_length=1, json_schema_extra=PLACEMENT)
    """Licence of the releases, as an identifier of Hugging Face's list (``apache-2.0``, ``cc-by-4.0``, ``other`` …).
    It depends on the data and on the model that was imported, so nothing is assumed; ``unknown`` becomes the licence
    that an imported model's card names."""
    license_name: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Name of the licence, where ``license`` is ``other``."""
    license_link: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Address or file of the licence's text, where ``license`` is ``other``."""
    name: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """The model's name, in the card's title; null: the workspace's folder and the update."""
    base_model: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Hub id (``ORG/NAME``) of the model that was imported with ``--from``; null: the one that its card
    or its place in the hub's cache names, if any."""
    language: tuple[str, ...] = Field(default=(), json_schema_extra=PLACEMENT)
    """Languages by their ISO 639 codes; empty: those detected in 5 % of the documents or more."""
    tags: tuple[str, ...] = Field(default=(), json_schema_extra=PLACEMENT)
    """Further tags for the hub."""
    intended_use: str = Field(default="", json_schema_extra=PLACEMENT)
    """What the model is meant for; a paragraph of Markdown before the standard one on limits."""

    @model_validator(mode="after")
    def _other(self) -> "CardSettings":
        if self.license == "other" and not (self.license_name and self.license_link):
            raise ValueError("license other needs license_name and license_link, as the hub does")
        return self
