"""The entry of an update in the log: the few facts of its record that opening a lineage needs.

A lineage of a thousand updates has a thousand records, which grow with the number of datasets. The start of the next
update follows from the entries alone; records are read on demand.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import ConfigDict

RELEASED: Final = "released"
REFUSED: Final = "refused"
UNDECIDED: Final = "undecided"
UNFINISHED: Final = "unfinished"
LONGEST_NUMBER = 18  # digits
HELD_BACK = (REFUSED, UNDECIDED)  # finished but not promoted by the gate; a person can still promote the release

State = Literal["released", "refused", "undecided"]


@dataclass(frozen=True)
class Weights:
    """Digests of an update's weights."""

    trunk: str = ""
    release: str = ""


@dataclass(frozen=True)
class Facts:
    """The facts of a record that the update's commit repeats."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    arrival: str
    """The names of the datasets, joined by ``+``."""
    datasets: list[str]
    position: int
    """Tokens that the trunk has been trained on in the lineage, after this update."""
    weights: Weights
    order_seed: int = 0
    """Seed of the data order of the update's new datasets."""
    follows: str | None = None
    """The update whose trunk it started from; None: the one numbered before it, if any."""
    schedule: str = ""
    """The kind of the learning-rate schedule; empty if the trunk was not trained: imported, or annealed."""
    untrained: list[str] = field(default_factory=list)
    """New datasets of which no sequence was trained."""
    num_bytes: int = 0
    """Size of the record's file."""
    branch: bool = False
    """Whether the release is on a branch of its own: it has no trunk, and does not become current by itself."""

    def trained(self, dataset: str) -> bool:
        """Return whether any sequence of a new dataset was trained."""
        return dataset not in self.untrained


@dataclass(frozen=True)
class Entry:
    """One finished update in the log."""

    id: str
    """The update's number in the lineage and the name of its arrival: ``0001-ml-docs``."""
    state: State
    record: str
    """Digest of the record's file."""
    facts: Facts

    @property
    def number(self) -> int:
        """The update's number in the lineage."""
        return number_of(self.id)


def number_of(update: str) -> int:
    """Return an update's number in its lineage, from its id (``0012-news``)."""
    return int(update.partition("-")[0])


def is_number_of(text: str, number: int) -> bool:
    """Return whether a text is an update's number, with or without leading zeros."""
    return text.isdecimal() and len(text) <= LONGEST_NUMBER and int(text) == number
