"""A stand-in for ``rewarm plan`` and ``rewarm update`` that keeps their contract and trains nothing.

As the real ones: it holds the lease, refuses an update beside an unfinished one, begins with ``plan.json``, goes on
where it was killed, and ends with its record and its commit. Each beginning and end goes into ``ran.txt``. One with
"stuck" in its name never finishes a step.
"""

import json
import sys
import time
from pathlib import Path

from watch_world import update

import rewarm.pipeline.cli
from rewarm.pipeline import watch_child
from rewarm.pipeline.cli.app import exits
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.terminal import Terminal
from rewarm.stages.core.errors import UnfinishedError, UsageError
from rewarm.stages.core.storage import MANIFEST

STEPS, STEP_SECONDS = 10, 0.1


def main() -> None:
    command, uri, _, data = sys.argv[1:5]
    name, _, path = data.partition("=")
    with exits():
        run(command, uri, name, path)


def run(command: str, uri: str, name: str, path: str) -> None:
    if "bad" in name:
        raise UsageError(f"{path}: not a single usable document")
    if command == "plan":
        print(json.dumps({"cost": 1.0, "currency": "EUR", "hours": 0.1, "steps": STEPS, "tokens": {"new": 5}}))
        return
    workspace = Workspace(uri)
    with Terminal() as progress, workspace.lease():
        take_in(workspace, name, sorted(file.name for file in Path(path).iterdir()), progress)


def take_in(workspace: Workspace, name: str, files: list[str], progress: Terminal) -> None:
    """Ten steps, each of which a kill leaves done."""
    lineage = Lineage(workspace)
    if name in lineage.datasets():
        raise UsageError(f"dataset {name!r} was already ingested")
    number = len(lineage.updates)
    wanted = f"{number:04d}-{name}"
    if lineage.unfinished not in (None, wanted):
        raise UnfinishedError(f"update {lineage.unfinished} is not finished")
    folder = workspace.update(wanted)
    if lineage.unfinished is None:
        folder.write_json("plan.json", {"data": {name: files}})
    note(workspace, f"begin {name}")
    for step in range(len(folder.folders()), STEPS):
        time.sleep(600 if "stuck" in name else STEP_SECONDS)
        progress.note(f"step {step}")
        (folder / f"{step:02d}").write_json(MANIFEST, {})
    lineage.record(update(number, name))
    note(workspace, f"end {name}")


def note(workspace: Workspace, line: str) -> None:
    if not workspace.folder.is_local:
        (workspace.folder / "ran").write(f"{time.time_ns()} {line}", b"")
        return
    with (workspace.folder.path / "ran.txt").open("a") as stream:
        stream.write(f"{line}\n")


if __name__ == "__main__":
    rewarm.pipeline.cli.main = main
    watch_child.main()
