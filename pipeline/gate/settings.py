"""The settings of the gate. None of them decides how a model is trained: only whether its release is promoted."""

from typing import Literal

from pydantic import Field, field_validator

from stages.settings import Settings

TrunkPolicy = Literal["continue", "before"]


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

    max_task_drop: float | None = Field(default=0.05, ge=0, le=1)
    """How much the score of an lm-eval task (accuracy, exact match, F1; 0 to 1) may fall; null: no limit. Five points:
    MMLU lost nine in Ibrahim et al.'s 10B update, against training on everything, which the mean loss did not show."""

    require_learning: bool = True
    """Whether the loss on the arrival's own validation split must be lower than the current release's. Where it is
    not, either nothing was new or something went wrong: both are worth a look before the release is changed."""

    min_order: float | None = Field(default=0.5, ge=0, le=1)
    """In how large a part of the excerpts from the arrival's validation documents the candidate must prefer the words
    in their own order to three shuffles among neighbours; 0.25 is chance; null: not asked. Text that is in no order
    (shuffled, also within sentences, or broken by an export) stays at chance, however well its words are learned. Where
    half of the documents are shuffled, 0.62 is the most to be expected, so ask more of large models. Set null for lists
    whose order means nothing."""

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Significance level of the tests, after the correction: the probability that chance alone refuses a release."""

    correction: Literal["holm", "none"] = "holm"
    """How the p-values of one verdict are corrected for their number (Holm 1979), or that they are not."""

    trunk: TrunkPolicy = "before"
    """Where the update after a refused one starts. ``before``: from the trunk before it, as if the refused update had
    not been: its data are not replayed, and a mended arrival (under a name of its own) is not taken for duplicates.
    ``continue``: from its trunk; it has learned, only its release is held back."""

    def forgetting_limit(self, dataset: str) -> float | None:
        """Nats per token by which the loss on an earlier dataset may rise; None: no limit."""
        return self.max_forgetting_by_dataset.get(dataset, self.max_forgetting)
