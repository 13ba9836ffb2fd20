"""The state of a lineage as ``rewarm status`` shows it: the records of the last updates."""

from dataclasses import asdict, dataclass
from typing import Any

from rewarm.pipeline.lineage.lineage import Lineage, read_plan
from rewarm.pipeline.record import UNFINISHED, DatasetPart, Replay, StepTaken, Tokens, Training, UpdateRecord, part_of
from rewarm.pipeline.record.attempts import counted, read_attempts
from rewarm.stages import distill
from rewarm.stages.core.shapes import stage_manifest

SHOWN = 20  # updates
FOLDERS = ("mixture", "initial", "trunk", "release", "evaluation")  # committed once their stage is finished


@dataclass(frozen=True)
class Status:
    """A workspace and its last updates."""

    workspace: str
    release: str | None
    updates: list[UpdateRecord]
    """In order, including the current release; an unfinished update comes last."""
    earlier: int = 0
    """Number of finished updates that are not in ``updates``."""

    @property
    def name(self) -> str:
        """The last part of the workspace's path or address."""
        return self.workspace.partition("?")[0].rstrip("/").rpartition("/")[2] or self.workspace

    @property
    def datasets(self) -> dict[str, tuple[UpdateRecord, DatasetPart]]:
        """The datasets of these updates, each with its update."""
        return {name: (update, part) for update in self.updates for name, part in update.data.items()}

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types: the records, each with ``seconds`` by step."""
        datasets = {name: pair for name, pair in self.datasets.items() if pair[0].state != UNFINISHED}
        return {
            "workspace": self.workspace,
            "release": self.release,
            "earlier": self.earlier,
            "datasets": [dataset_json(name, update.id, part) for name, (update, part) in datasets.items()],
            "updates": [update_json(update) for update in self.updates],
        }


def status(lineage: Lineage, last: int | None = SHOWN) -> Status:
    """Return the last finished updates (None: all), including the current release, and the unfinished update."""
    first = 0 if last is None else max(0, len(lineage.entries) - last)
    shown = list(lineage.updates[first:])
    current = lineage.current()
    if current is not None and all(update.id != current.id for update in shown):
        shown = [current, *shown]
    left_out = len(lineage.entries) - len(shown)
    begun = unfinished(lineage)
    return Status(
        str(lineage.workspace.folder), lineage.release, shown + ([begun] if begun is not None else []), left_out
    )


def dataset_json(name: str, update: str, part: DatasetPart) -> dict[str, Any]:
    """Return the counts of one dataset."""
    return {
        "name": name,
        "update": update,
        "distilled": part.distill is not None,
        "documents": part.ingest.documents,
        "tokens": part.tokenize.num_tokens,
        "bytes": part.ingest.num_bytes,
        "validation_documents": part.ingest.validation_documents,
        "validation_tokens": part.tokenize.validation_tokens,
        "duplicates": part.duplicates,
        "quarantined": part.ingest.quarantined,
        "reasons": part.ingest.reasons,
        "cut": {"documents": part.ingest.cut_documents, "bytes": part.ingest.cut_bytes},
        "removals": part.ingest.removals,
        "backend": part.tokenize.backend,
        "selected": asdict(part.select) if part.select else None,
    }


def update_json(update: UpdateRecord) -> dict[str, Any]:
    """Return a record as JSON types, without its datasets and without fields that only the next update reads."""
    value = asdict(update)
    for name in ("data", "files"):
        del value[name]
    del value["replay"]["carried"]
    return {**value, "seconds": update.seconds}


def unfinished(lineage: Lineage) -> UpdateRecord | None:
    """Return the partial record of the update that is running or failed; None if there is none."""
    name = lineage.unfinished
    if name is None:
        return None
    folder = lineage.workspace.update(name)
    plan = read_plan(lineage.workspace, name)
    steps = [lineage.workspace.dataset(data) for data in plan["data"]]
    if distill.NAME not in lineage.datasets():
        steps.append(lineage.workspace.dataset(distill.NAME))
    steps += [step / "tokens" for step in steps] + [folder / part for part in FOLDERS]
    manifests = [stage_manifest(step) for step in steps if step.committed()]
    outcomes = {manifest["step"]: manifest["outcome"] for manifest in manifests}
    mixture = outcomes.get("replay", {})
    head = lineage.head
    return UpdateRecord(
        id=name,
        arrival=plan["arrival"],
        state=UNFINISHED,
        datasets=list(plan["data"]),
        started=plan.get("started", ""),
        follows=plan.get("tuned_from") or plan.get("anneals") or (head.id if head else None),
        tokens=part_of(Tokens, mixture),
        replay=part_of(Replay, mixture),
        train=part_of(Training, outcomes["train"]) if "train" in outcomes else None,
        steps={manifest["step"]: StepTaken(manifest["seconds"], manifest.get("attempts", 1)) for manifest in manifests},
        attempts=counted(read_attempts(folder)),
    )
