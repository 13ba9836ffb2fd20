"""Records of updates for tests: what a test does not say has a value that does no harm."""

from typing import Any

import orjson

from rewarm.pipeline.lineage.commits import COMMITS, RELEASES, digest, file_of, pointer, read_log
from rewarm.pipeline.lineage.commits import encode as encode_commit
from rewarm.pipeline.lineage.lineage import PLAN, UPDATE, commit_of
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import UpdateRecord, encode, parse


def record(name: str = "0001-news", **values: Any) -> UpdateRecord:
    """A finished update's record; ``values`` are its fields, with parts as objects or as JSON types."""
    arrival = name.partition("-")[2]
    known = {"id": name, "arrival": arrival, "datasets": [arrival], "state": "released"}
    return UpdateRecord(**{**known, "finished": "2026-01-01T00:00:00+00:00", **values})


def record_of_format_1(**values: Any) -> UpdateRecord:
    """A record from the fields that a file of format 1 has."""
    return parse(values, "update.json")


def verdict(passed: bool, *because: str, **values: Any) -> dict[str, Any]:
    """A verdict against the base, as JSON types."""
    said = {"against": "0000-docs", "alpha": 0.05, "correction": "holm", "checks": []}
    return {"passed": passed, "because": list(because), "outcome": "passed" if passed else "refused", **said, **values}


def write_updates(workspace: Workspace, count: int, **values: Any) -> None:
    """Write a lineage of so many updates, each of one dataset, in place of committing them one after the other."""
    commits, last = workspace.folder.path / COMMITS, ""
    commits.mkdir()
    for number in range(count):
        name = f"{number:04d}-crawl-{number}"
        made = record(name, position=number + 1, weights={"trunk": name, "release": name}, **values)
        folder = workspace.folder.path / "updates" / name
        folder.mkdir(parents=True)
        (folder / PLAN).write_bytes(orjson.dumps({"arrival": made.arrival, "data": {made.arrival: "0d"}}))
        (folder / UPDATE).write_bytes(data := encode(made))
        entry = encode_commit(commit_of(made, data), number, last)
        (commits / file_of(number)).write_bytes(entry)
        last = digest(entry)
    workspace.folder.write_json(RELEASES, pointer(read_log(workspace.folder)))
