"""The settings of the gate. None of them decides how a model is trained: only whether its release is promoted."""

from typing import Literal

from pydantic import Field, field_validator

from stages.settings import Settings

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
