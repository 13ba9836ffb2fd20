"""The metrics of an update's stages: which one runs, how far it is, what it took, what became of the documents.

Run a stage once: fingerprint it, skip it when committed, refuse it when something changed, time and record it.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import orjson
import xxhash

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import differences
from rewarm.pipeline.record.attempts import ATTEMPTS, attempt
from rewarm.pipeline.record.update import StepTaken
from rewarm.stages.core.digests import FILES, compare, digest_files, files_in, read_table, refuse_damage, write_table
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.identity import fingerprint, now
from rewarm.stages.core.metrics import Reporter
from rewarm.stages.core.progress import Announcer
from rewarm.stages.core.shapes import outcome_of, stage_manifest
from rewarm.stages.core.storage import MANIFEST, Folder

ACCOUNT = "account.json"  # a stage that takes documents in leaves what became of them under this name
REASONS = 20  # of a step's reasons, the most frequent ones get a series of their own
OTHER = "other"
INTERVAL = 1.0  # seconds between two reports of progress


def update_labels(workspace: Workspace, update: str) -> dict[str, str]:
    """The labels of an update's metrics."""
    return {"workspace": workspace.folder.name, "update": update}


class StageReport:
    """Reports an update's stages; nothing without labels."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.metrics = Reporter(labels)
        self._stage = ""
        self._started = False
        self._reported = 0.0

    def began(self, name: str) -> None:
        """A stage begins."""
        self._begin()
        if self._stage:
            self.metrics.set("rewarm_stage_active", 0, stage=self._stage)
        self._stage = name
        self.metrics.set("rewarm_stage_active", 1, stage=name)
        self.progressed(0.0)

    def done(self, name: str, seconds: float, folder: Folder) -> None:
        """A stage is finished, now or before; ``folder`` is what it left."""
        self._begin()
        if self._stage == name:
            self.progressed(1.0)
        self.metrics.set("rewarm_stage_active", 0, stage=name)
        self.metrics.set("rewarm_stage_seconds", seconds, stage=name)
        if folder.exists(ACCOUNT):
            self._documents(folder.name, folder.read_json(ACCOUNT))

    def moved(self, part: float) -> None:
        """Work of the running stage moved on, to ``part`` of its present piece; reported at most once a second."""
        if time.time() - self._reported >= INTERVAL:
            self.progressed(part)

    def progressed(self, part: float) -> None:
        """The same, reported now."""
        self._reported = time.time()
        self.metrics.set("rewarm_last_progress_timestamp_seconds", self._reported, stage=self._stage)
        self.metrics.set("rewarm_stage_progress_ratio", min(part, 1.0), stage=self._stage)

    def _begin(self) -> None:
        if not self._started:
            self._started = True
            self.metrics.set("rewarm_update_started_timestamp_seconds", time.time())

    def _documents(self, dataset: str, account: dict[str, Any]) -> None:
        for step in account["steps"]:
            labels = {"dataset": dataset, "step": step["name"]}
            self.metrics.set("rewarm_step_documents_in", step["documents_in"], **labels)
            self.metrics.set("rewarm_step_documents_out", step["documents_out"], **labels)
            for reason, count in bounded(step["reasons"]).items():
                self.metrics.set("rewarm_documents_refused", count, **labels, reason=reason)


def bounded(reasons: dict[str, int]) -> dict[str, int]:
    """The most frequent reasons, and all others together: a series each, however many kinds the data has."""
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in ordered[REASONS:])
    return dict(ordered[:REASONS]) | ({OTHER: rest} if rest else {})


class Metered:
    """Passes progress on to whoever shows it, and reports it as metrics."""

    def __init__(self, shown: Announcer, report: StageReport) -> None:
        self.shown = shown
        self.report = report
        self._total, self._done = 0.0, 0.0

    def stage(self, name: str, skipped: bool) -> None:
        """A stage begins, or is skipped."""
        if not skipped:
            self.report.began(name)
        self.shown.stage(name, skipped)

    def begin(self, label: str, total: float, unit: str) -> None:
        """A line of work is opened."""
        self._total, self._done = total, 0.0
        self.report.moved(0.0)
        self.shown.begin(label, total, unit)

    def advance(self, by: float = 1, **figures: float) -> None:
        """The open line moves on."""
        self._done += by
        self.report.moved(self._done / self._total if self._total else 0.0)
        self.shown.advance(by, **figures)

    def note(self, text: str) -> None:
        """One line that stays."""
        self.shown.note(text)


STARTED = "started.json"
BULK = ("train/", "documents/", "quarantine/")  # of a dataset and its tokens: large, and not read by every step
Outcome = TypeVar("Outcome")


class ChangedError(UsageError):
    """What was begun with other settings or inputs cannot be gone on with."""


@dataclass(frozen=True)
class Keeps:
    """Which files of a step its record vouches for: all in its folder, unless the stage wrote the table itself."""

    without: tuple[str, ...] = ()  # files and folders directly in it that are scratch, or proved in another way
    beside: tuple[Folder, ...] = ()  # folders elsewhere that the step also makes


ALL = Keeps()


class Runner:
    """Runs the steps of one update and remembers what each took."""

    def __init__(self, progress: Announcer, labels: dict[str, str] | None = None) -> None:
        """``labels`` are those of the update's metrics; without them none are reported."""
        self.labels = labels or {}
        self.report = StageReport(self.labels)
        self.progress: Announcer = Metered(progress, self.report)
        self.taken: dict[str, StepTaken] = {}
        self.digests: dict[str, str] = {}
        self.files: dict[Folder, str] = {}  # by a step's folder: the digest of the table of its files

    def run(
        self,
        name: str,
        work: Callable[[], Outcome],
        outcome: type[Outcome],
        folder: Folder,
        settings: dict[str, Any],
        inputs: dict[str, Any],
        version: int = 1,
        keeps: Keeps = ALL,
    ) -> Outcome:
        """Commit ``work``'s outcome to ``folder``'s manifest, or read it there if that was done before.

        ``settings`` and ``inputs`` (digests) decide the result, with the stage's ``version``; together they are the
        step's identity. Raises ``ChangedError`` with what differs where the folder belongs to another identity, and
        ``DamagedError`` if what was committed has changed since. ``keeps`` says which files the record vouches for.
        """
        identity = orjson.loads(
            orjson.dumps({"step": name, "version": version, "settings": settings, "inputs": inputs})
        )
        self.digests[name] = fingerprint(identity)
        if folder.committed():
            manifest = stage_manifest(folder)
            refuse_changes({**manifest["identity"]}, identity, f"{folder}: finished with other settings or inputs")
            self.progress.stage(name, skipped=True)
            self.taken[name] = StepTaken(manifest["seconds"], manifest.get("attempts", 1))
            if FILES in manifest:
                self.files[folder] = manifest[FILES]
                refuse_changed_files(folder, manifest[FILES])
            self.report.done(name, self.taken[name].seconds, folder)
            return outcome_of(folder, outcome)
        if folder.exists(STARTED):
            refuse_changes(folder.read_json(STARTED), identity, f"{folder}: was started with other settings or inputs")
        folder.write_json(STARTED, identity)
        folder.delete(FILES)  # of an attempt that was killed
        self.progress.stage(name, skipped=False)
        with attempt(folder) as so_far:
            done = work()
            self.files[folder] = seal(folder, keeps)
        attempts = so_far()
        self.taken[name] = StepTaken(round(sum(one["seconds"] for one in attempts), 3), len(attempts))
        made = {
            "step": name,
            "fingerprint": self.digests[name],
            "identity": identity,
            "outcome": asdict(done),  # type: ignore[call-overload]
            FILES: self.files[folder],
            "seconds": self.taken[name].seconds,
            "attempts": len(attempts),
            "finished": now(),
        }
        folder.write_json(MANIFEST, made)
        self.report.done(name, self.taken[name].seconds, folder)
        return done


def seal(folder: Folder, keeps: Keeps) -> str:
    """Leave the table of a finished step's files in its folder, unless its stage did; the table's digest.

    Everything that is kept is read once more: after a short step it is still in memory.
    """
    if folder.exists(FILES):
        return str(xxhash.xxh3_128_hexdigest(folder.read(FILES)))
    table = digest_files(folder, files_in(folder, (*keeps.without, STARTED, ATTEMPTS, MANIFEST, FILES)))
    for other in keeps.beside:
        place = other.relative_to(folder)
        table |= {f"{place}/{name}": found for name, found in digest_files(other, files_in(other)).items()}
    return write_table(folder, table)


def refuse_changed_files(folder: Folder, expected: str) -> None:
    """``DamagedError`` if a finished step's files are not those that it left, as its table of digest ``expected`` says.

    ``BULK`` is left out: training shards that are read are compared by the workers that read them, and all of it by
    ``rewarm verify``.
    """
    table = read_table(folder, expected)
    refuse_damage(folder, compare(folder, table, [name for name in table if not name.startswith(BULK)]))


def refuse_changes(before: dict[str, Any], after: dict[str, Any], what: str) -> None:
    """``ChangedError`` with every setting or input that differs, if any does."""
    changed = differences(before, after)
    if changed:
        raise ChangedError(
            f"{what}:\n  " + "\n  ".join(changed) + "\n"
            "Run it again with the settings and data it began with, or drop the unfinished update with "
            "`rewarm discard WORKSPACE`."
        )
