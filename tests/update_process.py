"""An update in a process of its own, on a Ray of its own, and whether it ends as one that nothing disturbed."""

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from small_lineage import Lineage, command, rewarm, started_by, wait_gone

COMPARED = ("weights", "losses", "bits_per_byte", "forgetting", "gap", "lm_eval", "tokens", "replay", "gate")
UPDATE = "*/updates/0001-code"
COMMITS = {  # of the command itself, in order
    "begun": f"{UPDATE}/plan.json",
    "ingest": "*/datasets/code/manifest.json",
    "tokenize": "*/datasets/code/tokens/manifest.json",
    "replay": f"{UPDATE}/mixture/manifest.json",
    "train": f"{UPDATE}/trunk/manifest.json",
    "anneal": f"{UPDATE}/release/manifest.json",
    "evaluate": f"{UPDATE}/evaluation/manifest.json",
    "gate": f"{UPDATE}/evaluation/against-*/manifest.json",
    "record": f"{UPDATE}/update.json",
    "commit": "*/commits/00000001.json",
    "releases": "*/releases.json",
}
BYTES = (  # of an update's data and models
    *("datasets/code/documents", "datasets/code/validation", "datasets/code/quarantine", "datasets/code/tokens/train"),
    *("datasets/code/tokens/validation", "dedup/code", "updates/0001-code/mixture", "updates/0001-code/trunk/model"),
    "updates/0001-code/release/model",
)
TIMED = ("manifest.json", "started.json", "attempts.json", "README.md")  # records and the card have times


class Update:
    """The update ``0001-code`` of a workspace."""

    def __init__(self, base: Lineage, workspace: Path, environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as stream:
            arguments = command(*base.update(workspace))
            self.process = subprocess.Popen(arguments, stdout=stream, stderr=stream, env=environment)

    def wait(self, seconds: float = 400) -> int:
        return self.process.wait(seconds)

    def family(self) -> list[psutil.Process]:
        return started_by(psutil.Process(self.process.pid))

    def kill(self, everything: bool) -> None:
        """Kill the command alone, whose Ray ends with it; or all of it at once, as when its machine is lost."""
        family = self.family()
        self.process.kill()
        for one in family if everything else ():
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait()
        wait_gone(family)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-3000:].rstrip()

    def last_line(self) -> str:
        return self.said().rpartition("\n")[2]


def status(workspace: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rewarm("status", workspace, "--json").stdout)
    return found


def contents(workspace: Path) -> dict[str, bytes]:
    """The bytes of an update's data and models, without temporary files of killed writers."""
    return {
        str(path.relative_to(workspace)): path.read_bytes()
        for part in BYTES
        for path in sorted((workspace / part).rglob("*"))
        if path.is_file() and path.name not in TIMED and not hidden(path.relative_to(workspace))
    }


def hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def assert_whole(workspace: Path) -> None:
    """Every file is as its record says, and nothing is left over but temporary files of killed writers."""
    done = rewarm("verify", workspace, "--json")
    found = json.loads(done.stdout)
    left = [one for one in found["orphans"] if one["kind"] != "scratch"]
    assert (done.returncode, found["problems"], left) == (0, [], []), done.stderr


def assert_as_undisturbed(workspace: Path, updated: Path) -> None:
    """The update ended in the same bytes as one that nothing disturbed, was committed once, and nothing is lost."""
    found, expected = status(workspace), status(updated)
    assert [update["id"] for update in found["updates"]] == ["0000-docs", "0001-code"]
    assert found["release"] == "0001-code"
    for field in COMPARED:
        assert found["updates"][1][field] == expected["updates"][1][field], field
    mine, theirs = contents(workspace), contents(updated)
    assert mine.keys() ^ theirs.keys() == set()
    assert [name for name in mine if mine[name] != theirs[name]] == []
    assert sorted(path.name for path in (workspace / "commits").glob("[0-9]*")) == ["00000000.json", "00000001.json"]
    released = json.loads((workspace / "releases.json").read_text())
    assert [entry["update"] for entry in released["history"]] == ["0000-docs", "0001-code"], "promoted once"
    assert_whole(workspace)
