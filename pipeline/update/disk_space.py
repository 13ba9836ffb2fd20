"""The disk space that an update needs, compared with the free space before it starts.

An update that fills the disk after days of training loses no result, but the time until someone frees space. The need
is estimated: documents and tokens from the size of the files and the bytes per byte of text of the workspace's last
dataset, models and checkpoints from the number of parameters. Files of an unfinished update, which will resume, count
as written. Free space is what an unprivileged process may write (``f_bavail``), which includes the quotas of projects
and containers, but not those of users. A bucket has no limit, but the local copies of its files do.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.plan.cost import CHECKPOINT_BYTES
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.record.update import DatasetPart
from rewarm.stages.core.errors import FullError
from rewarm.stages.core.leftovers import remove_leftovers
from rewarm.stages.core.local_files import cache_root
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.sizes import size
from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest import InputFile
from rewarm.stages.ingest.readers import FORMATS
from rewarm.stages.train import count_parameters, planned_parameters

PACKED = 4.0  # ratio of compression; an upper estimate
# Bytes on disk per byte of text, before the workspace has a dataset to measure: zstd shards, and the index of
# near-duplicates; a token of 2 bytes is 3.5 bytes of text.
DOCUMENTS, TOKENS = 0.7, 0.6
WEIGHT_BYTES = 4  # per parameter of the trunk
RAY_OBJECTS = 64 << 20  # bytes of the stages' records in Ray's object store; it spills if /dev/shm is smaller
SHARED_MEMORY = Path("/dev/shm")
PARTS = ("documents", "validation", "quarantine")


@dataclass(frozen=True)
class Demand:
    """The need for space on one file system."""

    path: str
    needs: dict[str, int]  # bytes by purpose
    free: int  # bytes

    @property
    def needed(self) -> int:
        """Total of the needs, bytes."""
        return sum(self.needs.values())

    @property
    def enough(self) -> bool:
        """Whether the free space is sufficient."""
        return self.needed <= self.free

    def __str__(self) -> str:
        parts = ", ".join(f"{what} {size(amount)}" for what, amount in self.needs.items() if amount)
        return f"{self.path}: needs about {size(self.needed)} ({parts or 'nothing'}), {size(self.free)} is free"

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return {**asdict(self), "needed": self.needed, "enough": self.enough}


def demands(
    lineage: Lineage,
    recipe: Recipe,
    inputs: Mapping[str, Sequence[InputFile]],
    planned: Mapping[str, float | None] | None = None,
) -> list[Demand]:
    """Return the space that an update of these files needs on each file system; ``planned`` has a plan's data bytes."""
    text = sum(text_bytes(file) for files in inputs.values() for file in files)
    return of_text(lineage, recipe, text, tuple(inputs), planned)


def like_the_last(lineage: Lineage, recipe: Recipe) -> list[Demand]:
    """Return the space that another update of the size of the lineage's last one needs."""
    last = lineage.read(lineage.latest.id).data.values() if lineage.latest else ()
    return of_text(lineage, recipe, sum(text_of(part) for part in last), (), None)


def of_text(
    lineage: Lineage,
    recipe: Recipe,
    text: float,
    datasets: Sequence[str],
    planned: Mapping[str, float | None] | None,
) -> list[Demand]:
    """Return the space that an update of ``text`` bytes of text needs on each file system."""
    home = lineage.workspace.folder
    documents, tokens = shares(lineage)
    parameters = parameters_of(lineage, recipe)
    weights, checkpoint = WEIGHT_BYTES * parameters, CHECKPOINT_BYTES * parameters
    data = {"documents": documents * text, "tokens": tokens * text}
    if planned is not None:
        data |= {name: float(planned[name] or 0.0) for name in data if name in planned}
    annealed = recipe.train.keep_checkpoints if recipe.anneal.share else 0
    kept = recipe.train.keep_checkpoints + annealed + 1  # plus the checkpoint that is being written
    made = {
        "models": weights * (2 if lineage.entries else 3),  # trunk and release; for the base also its initial weights
        "checkpoints": checkpoint * (kept if text else 0),
    }
    scratch: Mapping[str, float] = {"a checkpoint in transfer": checkpoint, "Ray's objects": spilled()}
    if os.environ.get("RAY_ADDRESS"):  # the workers write to disks of other machines
        scratch = {}
    here: Mapping[str, float] = {"copies": 2 * weights + data["tokens"]}
    if home.is_local:
        here = without({**data, **made}, there(lineage, datasets))
    return merged([(home.path if home.is_local else cache_root(), here), (Path(tempfile.gettempdir()), scratch)])


def text_bytes(file: InputFile) -> float:
    """Return an upper estimate of the bytes of text in a file."""
    return file.size * FORMATS[file.format].text_ratio * (PACKED if file.compression else 1.0)


def text_of(part: DatasetPart) -> int:
    """Return the bytes of text of a dataset, from its record."""
    return part.ingest.num_bytes + part.ingest.validation_bytes


def shares(lineage: Lineage) -> tuple[float, float]:
    """Return bytes of documents (with the dedup index) and of tokens per byte of text, as in the last dataset."""
    known = list(lineage.datasets().items())
    if not known or not lineage.workspace.folder.is_local:  # a bucket is not listed for an estimate
        return DOCUMENTS, TOKENS
    name, entry = known[-1]
    part = lineage.read(entry.id).data.get(name)
    if part is None or not text_of(part):
        return DOCUMENTS, TOKENS
    folder, text = lineage.workspace.dataset(name), text_of(part)
    documents = sum(folder.size(one) for one in PARTS) + lineage.workspace.dedup(name).size()
    return documents / text, folder.size("tokens") / text


def parameters_of(lineage: Lineage, recipe: Recipe) -> int:
    """Return the number of parameters of the model to train."""
    if lineage.head is not None:
        return count_parameters(lineage.trunk())
    if recipe.model.path is not None:
        return count_parameters(Folder(recipe.model.path))
    return planned_parameters(recipe.model, recipe.tokenizer.vocab_size, recipe.train.seq_len)


def spilled() -> int:
    """Return the bytes of Ray's objects that do not fit in shared memory."""
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.exists() else 0
    return max(0, RAY_OBJECTS - free)


def there(lineage: Lineage, datasets: Sequence[str]) -> dict[str, float]:
    """Return the bytes that the unfinished update has already written, by purpose."""
    if lineage.unfinished is None:
        return {}
    workspace, folder = lineage.workspace, lineage.workspace.update(lineage.unfinished)
    checkpoints = folder.size("checkpoints")
    return {
        "documents": sum(workspace.dataset(name).size(part) for name in datasets for part in PARTS),
        "tokens": sum(workspace.dataset(name).size("tokens") for name in datasets),
        "checkpoints": checkpoints,
        "models": folder.size() - checkpoints,
    }


def without(needs: Mapping[str, float], done: Mapping[str, float]) -> dict[str, float]:
    """Return the bytes that are still to be written, by purpose."""
    return {what: max(0.0, amount - done.get(what, 0.0)) for what, amount in needs.items()}


def merged(wanted: Sequence[tuple[Path, Mapping[str, float]]]) -> list[Demand]:
    """Merge the needs to one demand per file system, with the path that came first."""
    found: dict[int, tuple[Path, dict[str, int]]] = {}
    for path, needs in wanted:
        place = path
        while not place.exists():
            place = place.parent
        _, known = found.setdefault(place.stat().st_dev, (place, {}))
        for what, amount in needs.items():
            known[what] = known.get(what, 0) + round(amount)
    return [Demand(str(place), needs, shutil.disk_usage(place).free) for place, needs in found.values()]


def make_room(lineage: Lineage, recipe: Recipe, inputs: Mapping[str, Sequence[InputFile]], progress: Progress) -> None:
    """Remove what ended runs left on this machine; raise ``FullError`` if an update still does not fit on the disk."""
    for line in remove_leftovers():
        progress.note(line)
    require_room(demands(lineage, recipe, inputs), recipe, progress)


def require_room(found: Sequence[Demand], recipe: Recipe, progress: Progress) -> None:
    """Raise ``FullError`` if there is not enough space, unless the recipe only asks for a note (``disk.check``)."""
    short = [one for one in found if not one.enough]
    if not short:
        return
    said = "; ".join(map(str, short))
    if recipe.disk.check == "warn":
        progress.note(f"not enough disk space (disk.check=warn): {said}")
        return
    raise FullError(
        f"{said}. Free space there (`rewarm prune` lists weights that can be deleted), keep fewer checkpoints "
        "(train.keep_checkpoints), or start anyway with --set disk.check=warn"
    )
