"""Run a stage once: fingerprint it, skip it when committed, refuse it when something changed, time and record it."""

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
import xxhash

from pipeline.config import differences
from pipeline.monitoring.stage import Metered, StageReport
from pipeline.runs.announcer import Announcer
from stages.errors import UsageError
from stages.storage import MANIFEST, Folder

STARTED = "started.json"
Outcome = TypeVar("Outcome")


class ChangedError(UsageError):
    """What was begun with other settings or inputs cannot be gone on with."""


class Runner:
    """Runs the steps of one update and remembers what each took."""

    def __init__(self, progress: Announcer, labels: dict[str, str] | None = None) -> None:
        """``labels`` are those of the update's metrics; without them none are reported."""
        self.labels = labels or {}
        self.report = StageReport(self.labels)
        self.progress: Announcer = Metered(progress, self.report)
        self.seconds: dict[str, float] = {}
        self.digests: dict[str, str] = {}

    def run(
        self,
        name: str,
        work: Callable[[], Outcome],
        outcome: type[Outcome],
        folder: Folder,
        settings: dict[str, Any],
        inputs: dict[str, Any],
        version: int = 1,
    ) -> Outcome:
        """Commit ``work``'s outcome to ``folder``'s manifest, or read it there if that was done before.

        ``settings`` and ``inputs`` (digests) decide the result, with the stage's ``version``; together they are the
        step's identity. Raises ``ChangedError`` with what differs where the folder belongs to another identity.
        """
        identity = orjson.loads(
            orjson.dumps({"step": name, "version": version, "settings": settings, "inputs": inputs})
        )
        self.digests[name] = fingerprint(identity)
        if folder.committed():
            manifest = folder.manifest()
            refuse_changes(manifest["identity"], identity, f"{folder}: finished with other settings or inputs")
            self.progress.stage(name, skipped=True)
            self.seconds[name] = manifest["seconds"]
            self.report.done(name, self.seconds[name], folder)
            return outcome(**manifest["outcome"])
        if folder.exists(STARTED):
            refuse_changes(folder.read_json(STARTED), identity, f"{folder}: was started with other settings or inputs")
        folder.write_json(STARTED, identity)
        self.progress.stage(name, skipped=False)
        start = time.perf_counter()
        done = work()
        self.seconds[name] = round(time.perf_counter() - start, 3)
        manifest = {
            "step": name,
            "fingerprint": self.digests[name],
            "identity": identity,
            "outcome": asdict(done),  # type: ignore[call-overload]
            "seconds": self.seconds[name],
            "finished": now(),
        }
        folder.write_json(MANIFEST, manifest)
        self.report.done(name, self.seconds[name], folder)
        return done


def fingerprint(identity: Any) -> str:
    """32 hex digits over a JSON value; keys in any order."""
    return str(xxhash.xxh3_128_hexdigest(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)))


def refuse_changes(before: dict[str, Any], after: dict[str, Any], what: str) -> None:
    """``ChangedError`` with every setting or input that differs, if any does."""
    changed = differences(before, after)
    if changed:
        raise ChangedError(
            f"{what}:\n  " + "\n  ".join(changed) + "\n"
            "Run it again with the settings and data it began with, or drop the unfinished update with "
            "`rewarm discard WORKSPACE`."
        )


def now() -> str:
    """The time, ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
