"""Settings of the evaluate stage."""

from pydantic import Field, field_validator

from rewarm.stages.core.settings import ADDED, PLACEMENT, Settings

APART = ("tasks", "samples", "sample_tokens", "sample_temperature")
"""Settings on which neither losses nor the scores of generated tasks depend."""


class EvaluateSettings(Settings):
    """Measurements in addition to the loss per dataset, which always covers the full validation split."""

    tasks: tuple[str, ...] = ()
    """Additional lm-eval tasks, groups or tags by name (``hellaswag``, ``mmlu``), and the predefined sets of the papers
    (``paper-english``, ``paper-german``, ``paper-medical``). Their data is downloaded, or read from the Hugging Face
    cache of the machines that evaluate."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """Accept ``piqa,arc_easy`` as in lm-eval's command line."""
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    earlier_datasets: int | None = Field(default=32, ge=1, json_schema_extra=ADDED)
    """Earlier datasets that an update measures (validations during training, evaluation, gate), drawn by its id, if the
    lineage has more; the command and the record say which. null: all, which makes an update of a few steps take longer
    with every dataset of the lineage."""

    all_datasets_every: int = Field(default=10, ge=1, json_schema_extra=ADDED)
    """Updates whose number is a multiple of this measure all earlier datasets; no effect if ``earlier_datasets`` is
    null."""

    task_documents: int = Field(default=64, ge=0)
    """Validation documents per dataset in each of its generated tasks: whole documents, continuation, and for a new
    dataset word order (at least 48 documents, if available); 0: no generated tasks."""

    document_chars: int = Field(default=2000, ge=100)
    """Characters at which the rolling task truncates documents, so that a few long ones do not dominate the run
    time."""

    samples: int = Field(default=2, ge=0, json_schema_extra=ADDED)
    """Beginnings of validation documents per dataset that each release continues, for `rewarm samples`, the report and
    the card; 0: none. Documents of less than 48 tokens have no beginning."""

    sample_tokens: int = Field(default=40, ge=1, json_schema_extra=ADDED)
    """Tokens that a release writes after each of them."""

    sample_temperature: float = Field(default=0.7, ge=0, json_schema_extra=ADDED)
    """Temperature at which they are drawn, with the same random numbers for every release; 0: the most likely
    tokens."""

    batch_size: int = Field(default=8, ge=1, json_schema_extra=PLACEMENT)
    """Sequences of ``train.seq_len`` tokens in one forward pass, or as many tokens in shorter documents."""

    num_fewshot: int | None = Field(default=None, ge=0)
    """Few-shot examples before each question of the named tasks; null: as defined by the set, else by the task."""

    limit: int | None = Field(default=None, ge=1)
    """Number of questions of each named task, from its beginning; null: all."""

    include_path: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Folder with additional lm-eval task definitions (YAML), at the same path on every machine that evaluates."""

    seed: int = Field(default=1234, ge=0, lt=2**32)
    """Seed for the documents, wrong answers and answer order of the generated tasks; also lm-eval's seed."""
