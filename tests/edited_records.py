"""Records that a test changes after the fact, with the log that would then have been written."""

import json
from collections.abc import Callable
from typing import Any

from rewarm.pipeline.lineage.verify.repair import repair
from rewarm.pipeline.lineage.workspace import Workspace


def edit_record(workspace: Workspace, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a finished update's record; every released update then counts as promoted once, in order."""
    file = workspace.update(name).path / "update.json"
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))
    workspace.folder.delete("commits")
    workspace.folder.delete("releases.json")
    repair(workspace)
