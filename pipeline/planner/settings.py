"""Settings of the planner. None of them decides a result: what an update trains with is in its resolved recipe."""

from typing import Literal

from pydantic import Field

from stages.settings import PLACEMENT, Settings


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
