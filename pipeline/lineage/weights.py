"""What was taken out of an update to save space: ``pruned.json`` in its folder says which weights, and when."""

from typing import Any, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.shapes import OPEN, read_as
from rewarm.stages.core.storage import Folder

PRUNED = "pruned.json"


class PrunedPart(TypedDict):
    """What was pruned of a trunk or a release."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    at: str
    files: list[str]


PARTS = TypeAdapter(dict[str, PrunedPart])
WEIGHTS = (".safetensors", ".safetensors.index.json")


def weight_files(model: Folder) -> list[str]:
    """Names of the files in a model's folder that hold its weights; configuration, tokenizer and card do not."""
    return [name for name in model.files() if name.endswith(WEIGHTS)]


def read_pruned(update: Folder) -> dict[str, Any]:
    """What was pruned of an update: part → when, how much, and the names of the files."""
    return cast(dict[str, Any], read_as(update, PRUNED, PARTS)) if update.exists(PRUNED) else {}


def is_pruned(update: Folder, part: str) -> bool:
    """Whether weights of an update's ``trunk`` or ``release`` were taken out, and not restored since."""
    gone = read_pruned(update).get(part, {"files": []})["files"]
    return not all((update / part / "model").exists(name) for name in gone)


def require_weights(workspace: Workspace, update: str) -> Folder:
    """The model's folder of an update's release; ``UsageError`` where its weights were pruned or are not there."""
    folder = workspace.update(update)
    model = folder / "release" / "model"
    if is_pruned(folder, "release"):
        raise UsageError(
            f"{update}: the weights of its release were pruned on {read_pruned(folder)['release']['at']}; only its "
            "records are left. Restore them from a copy, or take another release"
        )
    if not weight_files(model):
        raise UsageError(f"{update}: no weights (*.safetensors) in {model}; restore them, or take another release")
    return model
