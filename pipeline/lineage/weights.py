"""The weights of an update, and ``pruned.json``, which records when and which of them were pruned."""

from typing import Any, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.shapes import OPEN, read_as
from rewarm.stages.core.storage import Folder

PRUNED = "pruned.json"


class PrunedPart(TypedDict):
    """Pruned files of a trunk or a release."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    at: str
    files: list[str]


PARTS = TypeAdapter(dict[str, PrunedPart])
WEIGHTS = (".safetensors", ".safetensors.index.json")


def weight_files(model: Folder) -> list[str]:
    """Return the names of the weight files in a model's folder: no configuration, tokenizer or card."""
    return [name for name in model.files() if name.endswith(WEIGHTS)]


def read_pruned(update: Folder) -> dict[str, Any]:
    """Return what was pruned from an update: part → time, bytes, file names."""
    return cast(dict[str, Any], read_as(update, PRUNED, PARTS)) if update.exists(PRUNED) else {}


def is_pruned(update: Folder, part: str) -> bool:
    """Return whether weights of an update's ``trunk`` or ``release`` were pruned and not restored since."""
    gone = read_pruned(update).get(part, {"files": []})["files"]
    return not all((update / part / "model").exists(name) for name in gone)


def require_weights(workspace: Workspace, update: str) -> Folder:
    """Return the model folder of an update's release; raises ``UsageError`` if its weights are pruned or missing."""
    folder = workspace.update(update)
    model = folder / "release" / "model"
    if is_pruned(folder, "release"):
        raise UsageError(
            f"{update}: the weights of its release were pruned on {read_pruned(folder)['release']['at']}; only its "
            "records remain. Restore the weights from a copy, or choose another release"
        )
    if not weight_files(model):
        raise UsageError(f"{update}: no weights (*.safetensors) in {model}; restore them, or choose another release")
    return model
