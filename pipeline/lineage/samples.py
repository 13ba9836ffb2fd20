"""The samples of a release beside those of the release before: texts that both wrote after the same beginnings.

They are written by the evaluation of each release, and by the gate for datasets that were new to the release before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import UpdateRecord
from rewarm.stages.core.shapes import OPEN, read_as
from rewarm.stages.core.storage import Folder
from rewarm.stages.evaluate.samples import GENERATED


class Written(TypedDict):
    """One sample as the evaluation wrote it."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    doc_id: str
    prompt: str
    own: str
    text: str
    ended: bool


class Drawn(TypedDict):
    """The samples of a dataset."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    temperature: float
    tokens: int
    samples: list[Written]


DRAWN = TypeAdapter(dict[str, Drawn])


@dataclass(frozen=True)
class Sample:
    """The beginning of a validation document, and its continuations."""

    dataset: str
    doc_id: str
    prompt: str
    own: str
    """The document's own text."""
    text: str
    """The release's."""
    ended: bool
    """Whether the release ended the document itself."""
    temperature: float
    before: str | None = None
    """The text of the release before; None if it wrote none after this beginning."""


def read_samples(workspace: Workspace, update: UpdateRecord) -> list[Sample]:
    """Return the samples of an update's release, by dataset in the order in which it measured them."""
    evaluation = workspace.update(update.id) / "evaluation"
    found, earlier = read_drawn(evaluation), compared_with(update)
    if not found or earlier is None:
        return [sample for name, drawn in found.items() for sample in of_dataset(name, drawn, [])]
    before = [read_drawn(workspace.update(earlier) / "evaluation"), read_drawn(evaluation / f"against-{earlier}")]
    return [
        sample
        for name, drawn in found.items()
        for sample in of_dataset(name, drawn, [other[name] for other in before if name in other])
    ]


def compared_with(update: UpdateRecord) -> str | None:
    """Return the update whose samples are shown beside those of this one; None for a base."""
    return update.gate.against if update.gate else update.follows


def telling(samples: Sequence[Sample], arrivals: Sequence[str], each: int, most: int) -> list[Sample]:
    """Return the first ``each`` samples of at most ``most`` datasets: the arrivals, then those that arrived last."""
    names = list(dict.fromkeys(one.dataset for one in samples))
    ordered = [*(name for name in arrivals if name in names), *(name for name in names[::-1] if name not in arrivals)]
    return [one for name in ordered[:most] for one in [sample for sample in samples if sample.dataset == name][:each]]


def of_dataset(dataset: str, found: Drawn, earlier: list[Drawn]) -> Iterator[Sample]:
    """Yield the samples of one dataset, with those of the release before on the same beginnings."""
    before = {
        (one["doc_id"], one["prompt"]): one["text"]
        for other in earlier
        if other["temperature"] == found["temperature"]
        for one in other["samples"]
    }
    for one in found["samples"]:
        yield Sample(
            dataset,
            one["doc_id"],
            one["prompt"],
            one["own"],
            one["text"],
            one["ended"],
            found["temperature"],
            before.get((one["doc_id"], one["prompt"])),
        )


def read_drawn(evaluation: Folder) -> dict[str, Drawn]:
    """Read the samples that one evaluation wrote, by dataset; none if it wrote none, or if it is gone."""
    return read_as(evaluation, GENERATED, DRAWN) if evaluation.exists(GENERATED) else {}
