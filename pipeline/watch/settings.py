"""What a watch is told: where arrivals come in, when they are complete, when they are taken in, and whom to tell."""

import shlex
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from rewarm.pipeline.watch.cron import check_cron, zone_of
from rewarm.stages.core.settings import Settings


class WatchSettings(Settings):
    """One watch of one inbox."""

    inbox: str = Field(min_length=1)
    """Folder (a path, ``s3://`` or ``gs://``) of which each file and each direct subfolder is an arrival."""
    cron: str | None = None
    """When arrivals are taken in, as a cron expression of five fields; null: whenever the inbox is looked at."""
    timezone: str = "UTC"
    """Time zone of ``cron``, as ``Europe/Berlin``; UTC knows no clock change."""
    missed: Literal["skip", "catch-up"] = "catch-up"
    """What becomes of ticks that passed while the watch was down, paused or busy: nothing, or one tick for them all.
    By default one, as an arrival that waits for a weekly tick would else wait two weeks."""
    every: float = Field(default=60, gt=0)
    """Seconds between two looks at the inbox; a minute, as a listing of a bucket costs little and an update hours."""
    marker: str = Field(default="_SUCCESS", pattern=r"^[^./\s][^/\s]*$")
    """File that says that a folder is complete (Hadoop's and Spark's by default); ``FILE.marker`` says it of a file."""
    quiet: float = Field(default=600, ge=0)
    """Seconds without a change after which an arrival without a marker counts as complete; ten minutes outlast a
    stalled upload. 0: only a marker says so."""
    retries: int = Field(default=3, ge=0)
    """How often a failed update is run again by itself, before a person is asked; an attempt that finished a stage or
    saved a checkpoint starts the count anew."""
    backoff: float = Field(default=60, gt=0)
    """Seconds before the first retry; each further one waits twice as long, up to an hour."""
    after_failure: Literal["wait", "discard"] = "wait"
    """What becomes of an unfinished update that cannot go on: it waits for a person, and what was trained stays, but
    so does the queue; or it is dropped, and the next arrival is taken in."""
    max_cost: float | None = Field(default=None, ge=0)
    """Largest cost of one update, in ``cost.currency``: what its attempts so far cost, failed and killed ones included,
    and what is predicted for the rest. A dearer one is held before its next attempt. Null: no limit."""
    max_total_cost: float | None = Field(default=None, ge=0)
    """The same for all attempts that begin in one calendar month (UTC). Null: no limit."""
    webhooks: tuple[str, ...] = ()
    """Addresses that every notice is posted to as JSON."""
    command: str | None = Field(default=None, min_length=1)
    """Command that every notice is given to, as JSON on its standard input and in ``REWARM_NOTICE``."""
    sets: tuple[str, ...] = ()
    """Settings (``KEY=VALUE``) that plan and update are given."""

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
            if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
                raise ValueError("a webhook is an http:// or https:// address")
        return value

    @field_validator("command")
    @classmethod
    def _words(cls, value: str | None) -> str | None:
        if value is not None and not shlex.split(value):
            raise ValueError("a command is expected")
        return value

    @model_validator(mode="after")
    def _within(self) -> Self:
        if None not in (self.max_cost, self.max_total_cost) and self.max_cost > self.max_total_cost:  # type: ignore[operator]
            raise ValueError(f"max_cost {self.max_cost:g} is above max_total_cost {self.max_total_cost:g}")
        return self
