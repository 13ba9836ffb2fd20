"""The settings of the evaluate stage."""

from pydantic import Field, field_validator

from rewarm.stages.core.settings import PLACEMENT, Settings


class EvaluateSettings(Settings):
    """What is measured beside the loss per dataset, which is always measured on the full validation split."""

    tasks: tuple[str, ...] = ()
    """Further lm-eval tasks, groups or tags by name (``hellaswag``, ``mmlu``), and the papers' ready sets
    (``paper-english``, ``paper-german``, ``paper-medical``); their data come from the network or from the Hugging Face
    cache of the machines that evaluate."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """``piqa,arc_easy`` as on lm-eval's own command line."""
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    task_documents: int = Field(default=64, ge=0)
    """Validation documents that each dataset gives to each of its three generated tasks (to that on the order of words
    48 or more, where it has them); 0 makes none."""

    document_chars: int = Field(default=2000, ge=100)
    """Characters at which the rolling task cuts a document, so that a few long ones do not take all the time."""

    batch_size: int = Field(default=8, ge=1, json_schema_extra=PLACEMENT)
    """Sequences of ``train.seq_len`` in one forward pass, or as many tokens of shorter documents."""

    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples shown before each question of the named tasks; none: what the set, else the task's definition says."""

    limit: int | None = Field(default=None, ge=1)
    """Questions of each named task, counted from its beginning; none: all of them."""

    include_path: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """A folder of further lm-eval task definitions (YAML), at the same path on every machine that evaluates."""

    seed: int = 1234
    """Chooses the documents of the generated tasks, their wrong answers and the order of the answers; it also is
    lm-eval's seed."""
