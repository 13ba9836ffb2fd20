"""The entry of an update in the log: the few facts of its record that opening a lineage needs.

A lineage of a thousand updates has a thousand records, which grow with the number of datasets. What the next update
builds on follows from the entries alone; a record is read when something in it is asked for.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import ConfigDict

RELEASED: Final = "released"
REFUSED: Final = "refused"
UNDECIDED: Final = "undecided"
UNFINISHED: Final = "unfinished"
HELD_BACK = (REFUSED, UNDECIDED)  # finished, and not promoted by the gate: a person can still promote the release

State = Literal["released", "refused", "undecided"]


@dataclass(frozen=True)
class Weights:
    """Digests of the weights that an update left."""

    trunk: str = ""
    release: str = ""


@dataclass(frozen=True)
class Facts:
    """What a commit repeats of the record of the update that it finishes."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    arrival: str
    """The names of the datasets, joined by ``+``."""
    datasets: list[str]
    position: int
    """Tokens that the trunk has trained in the lineage, after this update."""
    weights: Weights
    order_seed: int = 0
    """Of the datasets that were new here."""
    follows: str | None = None
    """The update whose trunk it started from; None: the one numbered before it, if any."""
    schedule: str = ""
    """The kind of the learning-rate schedule; empty if nothing was trained: an imported model."""
    untrained: list[str] = field(default_factory=list)
    """The datasets of which no sequence was trained."""
    num_bytes: int = 0
    """Of the record's file."""

    def trained(self, dataset: str) -> bool:
        """Whether any of a new dataset was trained."""
        return dataset not in self.untrained


@dataclass(frozen=True)
class Entry:
    """One finished update in the log."""

    id: str
    """Its number in the lineage, and its arrival's name: ``0001-ml-docs``."""
    state: State
    record: str
    """Digest of its record's file."""
    facts: Facts

    @property
    def number(self) -> int:
        """Its place in the lineage."""
        return number_of(self.id)


def number_of(update: str) -> int:
    """An update's place in its lineage, from its id (``0012-news``)."""
    return int(update.partition("-")[0])
