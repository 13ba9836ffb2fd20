"""Input records of the report: the updates' records with their curves, stages and ingest records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic.dataclasses import dataclass as pydantic_dataclass

from rewarm.pipeline.lineage.samples import Sample
from rewarm.pipeline.record import DatasetPart, UpdateRecord, number_of


@dataclass(frozen=True)
class TextRecord:
    """Ingest record of an arrival: documents kept and removed by each step, and statistics of the kept text."""

    steps: Sequence[Mapping[str, Any]]
    """``{name, documents_in, documents_out, bytes_in, bytes_out, reasons}`` of each step of ingest, in its order; some
    with ``not_applied``: parts of a rule that are not defined for the script, and how many documents passed unasked;
    reading with ``passed_over``: records of archives that only describe others, by type."""
    languages: Mapping[str, int]
    """Documents by language, the most frequent first; and so for ``domains``, by host."""
    domains: Mapping[str, int]
    lengths: Mapping[str, int]
    """Documents by k, of 2^k bytes or more but less than 2^(k+1)."""
    qualities: Mapping[str, int]
    """Documents by k, of a quality of k/20 or more but less than (k+1)/20; empty if the records have no quality."""
    earlier: Mapping[str, Mapping[str, int]]
    """Documents that an earlier dataset has: ``{dataset: {exact, near}}``."""
    decontaminated: Mapping[str, int]
    """Documents that overlap with held-out text, by whose."""
    cut: Mapping[str, Any] = field(default_factory=dict)
    """Text cut out of kept documents: ``{documents, cuts, bytes, holders}``; empty in older accounts."""


@dataclass(frozen=True)
class DatasetShown:
    """One dataset of the workspace, as its update recorded it."""

    name: str
    part: DatasetPart
    text: TextRecord | None = None
    """None if the model wrote it itself."""


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
class StageRecord:
    """One stage of an update as its manifest keeps it."""

    name: str
    folder: str
    """Folder of its output, relative to the workspace."""
    version: int
    fingerprint: str
    """Over settings, inputs and version: equal ones give the same outcome."""
    seconds: float
    finished: str
    """ISO 8601."""


@dataclass(frozen=True)
class PromotionRecord:
    """Promotion of an update's release."""

    update: str
    at: str
    """ISO 8601."""
    because: str = ""


@pydantic_dataclass(frozen=True)
class UpdateShown(UpdateRecord):
    """The record of an update, with what its page draws beside it."""

    start: str | None = None
    """The id of the update whose trunk this one started from; None for a base."""
    curve: Sequence[CurvePoint] = ()
    """In the order of the steps."""
    validation: Sequence[ValidationPoint] = ()
    stages: Sequence[StageRecord] = ()
    """In the order they were finished."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Of what went in and came out, by name: ``{"trunk": "90fa…", "arrival ml-docs": …}``."""
    samples: Sequence[Sample] = ()
    """What the release writes after some beginnings, beside the release before."""

    @property
    def arrivals(self) -> Sequence[str]:
        """The datasets that arrived; of a model that was imported without any, its name."""
        return self.datasets or (self.arrival,)


@dataclass(frozen=True)
class EarlierUpdate:
    """A finished update that the report lists and does not draw."""

    id: str
    state: str
    has_page: bool = True
    """Whether its page, which was made when it was recent, is still in the report."""


@dataclass(frozen=True)
class WorkspaceRecord:
    """All data that the report shows: of a long lineage, its last updates and the one that is released."""

    workspace: str
    """Path or URI of the workspace."""
    release: str | None
    """The id of the update whose release is current; None before the first."""
    generated: str
    """ISO 8601 time at which the record was made."""
    datasets: Sequence[DatasetShown]
    """Those of ``updates``, in order of arrival."""
    updates: Sequence[UpdateShown]
    """In order of time, the first one first."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the engines: ``{"torch": "2.13.0", …}``."""
    history: Sequence[PromotionRecord] = ()
    """Every promotion, the first one first; the last one is of `release`."""
    earlier: Sequence[EarlierUpdate] = ()
    """The finished updates that are not in ``updates``, in order of time."""
    beside: Sequence[UpdateShown] = ()
    """Updates that are not in ``updates`` but that one of them is compared with."""
    order: Sequence[str] = ()
    """All datasets of the lineage in order of arrival; empty: those of ``updates``."""

    @property
    def name(self) -> str:
        """The last part of the workspace's path or address."""
        return self.workspace.partition("?")[0].rstrip("/").rpartition("/")[2] or self.workspace

    @cached_property
    def names(self) -> list[str]:
        """Every dataset that is listed or was measured, in order of arrival."""
        names = dict.fromkeys(dataset.name for dataset in self.datasets)
        for update in self.updates:
            for losses in update.losses.values():
                names |= dict.fromkeys(losses)
            for point in update.validation:
                names |= dict.fromkeys(point.losses)
            names |= dict.fromkeys(update.replay.parts)
        return sorted(names, key=lambda name: self._places.get(name, len(self._places)))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.order)}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return self._places or {name: place for place, name in enumerate(self.names)}

    def number(self, name: str) -> int:
        """The place of a dataset in the order of arrival, which decides its colour on every page."""
        return self._numbers.get(name, len(self._numbers))

    @cached_property
    def finished(self) -> list[str]:
        """The ids of all finished updates, in order of time."""
        shown = [update.id for update in self.updates if update.state != "unfinished"]
        return sorted([*(one.id for one in self.earlier), *shown], key=number_of)
