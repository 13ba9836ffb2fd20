"""Settings of a watch: its inbox, when arrivals are complete, when they are processed, and who is notified."""

import shlex
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from rewarm.pipeline.watch.cron import check_cron, zone_of
from rewarm.stages.core.settings import Settings


class WatchSettings(Settings):
    """Settings of one watch of one inbox."""

    inbox: str = Field(min_length=1)
    """Folder (path, ``s3://`` or ``gs://``) whose files and direct subfolders are the arrivals."""
    cron: str | None = None
    """When arrivals are processed, as a cron expression with five fields; null: after every check of the inbox."""
    timezone: str = "UTC"
    """Time zone of ``cron``, e.g. ``Europe/Berlin``; UTC has no clock changes."""
    missed: Literal["skip", "catch-up"] = "catch-up"
    """Whether ticks missed while the watch was down, paused or busy are skipped, or made up for by a single tick.
    The default is ``catch-up``: otherwise an arrival that missed a weekly tick would wait two weeks."""
    every: float = Field(default=60, gt=0)
    """Seconds between two checks of the inbox. A minute: listing a bucket is cheap, and an update takes hours."""
    marker: str = Field(default="_SUCCESS", pattern=r"^[^./\s][^/\s]*$")
    """File that marks a folder as complete (by default that of Hadoop and Spark); for a file it is ``FILE.marker``."""
    quiet: float = Field(default=600, ge=0)
    """Seconds without a change after which an arrival without a marker counts as complete; ten minutes outlast a
    stalled upload. 0: only a marker completes an arrival."""
    retries: int = Field(default=3, ge=0)
    """How often a failed update is retried before it is held; an attempt that finished a stage or saved a checkpoint
    resets the count."""
    backoff: float = Field(default=60, gt=0)
    """Seconds before the first retry; doubles with each further retry, up to an hour."""
    after_failure: Literal["wait", "discard"] = "wait"
    """Whether an unfinished update that cannot continue waits for a person, which keeps its progress but blocks the
    queue, or is discarded so that the next arrival can be processed."""
    max_cost: float | None = Field(default=None, ge=0)
    """Largest cost of one update, in ``cost.currency``: the cost of its attempts so far, including failed and killed
    ones, plus the predicted cost of the rest. A more expensive update is held before its next attempt. Null: no
    limit."""
    max_total_cost: float | None = Field(default=None, ge=0)
    """The same limit for all attempts that begin in one calendar month (UTC). Null: no limit."""
    webhooks: tuple[str, ...] = ()
    """Addresses to which every notice is posted as JSON."""
    command: str | None = Field(default=None, min_length=1)
    """Command to run for every notice, with the notice as JSON on its stdin and in ``REWARM_NOTICE``."""
    sets: tuple[str, ...] = ()
    """Settings (``KEY=VALUE``) passed to plan and update."""

    @field_validator("cron")
    @classmethod
    def _a_cron(cls, value: str | None) -> str | None:
        if value is not None:
            check_cron(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _a_zone(cls, value: str) -> str:
        zone_of(value)
        return value

    @field_validator("webhooks")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            try:
                parts = urlsplit(address)
                known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
            except ValueError:  # of the host, or of the port; its text repeats parts of the address
                known = False
            if not known:
                raise ValueError(
                    "expected http:// or https:// addresses, such as https://HOST/PATH or http://HOST:8080/PATH"
                )
        return value

    @field_validator("command")
    @classmethod
    def _words(cls, value: str | None) -> str | None:
        if value is not None and not shlex.split(value):
            raise ValueError("expected a command")
        return value

    @model_validator(mode="after")
    def _within(self) -> Self:
        if None not in (self.max_cost, self.max_total_cost) and self.max_cost > self.max_total_cost:  # type: ignore[operator]
            raise ValueError(f"max_cost {self.max_cost:g} exceeds max_total_cost {self.max_total_cost:g}")
        return self
