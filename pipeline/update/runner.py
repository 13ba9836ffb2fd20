"""The runner of an update's steps, and the metrics that it reports.

Each step runs once: it is fingerprinted, skipped if it is committed, refused if its settings or inputs changed, timed
and recorded. The metrics are the active stage, its progress and duration, and the counts of documents by outcome.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import orjson
import xxhash

from rewarm.pipeline.lineage.lineage import PLAN, Lineage, read_plan
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import differences
from rewarm.pipeline.record.attempts import ATTEMPTS, attempt
from rewarm.pipeline.record.update import StepTaken
from rewarm.stages.core.digests import (
    FILES,
    compare,
    digest_files,
    files_in,
    fingerprint,
    now,
    read_table,
    refuse_damage,
    write_table,
)
from rewarm.stages.core.errors import UnfinishedError, UsageError, origin
from rewarm.stages.core.metrics import Reporter
from rewarm.stages.core.patience import Waiting, disk_fault, shown
from rewarm.stages.core.progress import Announcer
from rewarm.stages.core.shapes import outcome_of, stage_manifest, understood
from rewarm.stages.core.storage import MANIFEST, Folder

ACCOUNT = "account.json"  # counts of documents by outcome, in the folder of a stage that processes documents
REASONS = 20  # most frequent reasons of a step with a series of their own
OTHER = "other"
INTERVAL = 1.0  # seconds between two reports of progress


def update_labels(workspace: Workspace, update: str) -> dict[str, str]:
    """Return the labels of an update's metrics."""
    return {"workspace": workspace.folder.name, "update": update}


class StageReport:
    """Metrics of an update's stages; not reported without labels."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.metrics = Reporter(labels)
        self._stage = ""
        self._started = False
        self._reported = -INTERVAL  # by a clock that nobody sets

    def began(self, name: str) -> None:
        """Report that a stage begins."""
        self._begin()
        if self._stage:
            self.metrics.set("rewarm_stage_active", 0, stage=self._stage)
        self._stage = name
        self.metrics.set("rewarm_stage_active", 1, stage=name)
        self.progressed(0.0)

    def done(self, name: str, seconds: float, folder: Folder) -> None:
        """Report that a stage is finished, now or earlier; ``folder`` has its output."""
        self._begin()
        if self._stage == name:
            self.progressed(1.0)
        self.metrics.set("rewarm_stage_active", 0, stage=name)
        self.metrics.set("rewarm_stage_seconds", seconds, stage=name)
        if folder.exists(ACCOUNT):
            with understood(f"{folder}/{ACCOUNT}"):
                self._documents(folder.name, folder.read_json(ACCOUNT))

    def moved(self, part: float) -> None:
        """Report the progress of the current task, ``part`` from 0 to 1; at most once per second."""
        if time.monotonic() - self._reported >= INTERVAL:
            self.progressed(part)

    def progressed(self, part: float) -> None:
        """Report the progress of the current task at once."""
        self._reported = time.monotonic()
        self.metrics.set("rewarm_last_progress_timestamp_seconds", time.time(), stage=self._stage)
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
        """Begin or skip a stage."""
        if not skipped:
            self.report.began(name)
        self.shown.stage(name, skipped)

    def begin(self, label: str, total: float, unit: str) -> None:
        """Begin a task."""
        self._total, self._done = total, 0.0
        self.report.moved(0.0)
        self.shown.begin(label, total, unit)

    def advance(self, by: float = 1, **figures: float) -> None:
        """Advance the current task."""
        self._done += by
        self.report.moved(self._done / self._total if self._total else 0.0)
        self.shown.advance(by, **figures)

    def note(self, text: str) -> None:
        """Show a permanent line."""
        self.shown.note(text)


STARTED = "started.json"
BULK = ("train/", "documents/", "quarantine/")  # large files of a dataset that not every step reads
Outcome = TypeVar("Outcome")


class ChangedError(UsageError):
    """A step or update was begun with other settings or inputs and cannot be resumed."""


@dataclass(frozen=True)
class Keeps:
    """The files of a step that its record covers: all in its folder, unless the stage writes the table itself."""

    without: tuple[str, ...] = ()  # top-level files and folders that are temporary or verified in another way
    beside: tuple[Folder, ...] = ()  # other folders that the step writes


ALL = Keeps()


@dataclass(frozen=True)
class Step(Generic[Outcome]):
    """A step of an update: its work, the folder of its result, and everything that determines the result."""

    name: str
    work: Callable[[], Outcome]
    outcome: type[Outcome]
    folder: Folder
    settings: dict[str, Any]
    inputs: dict[str, Any]
    """Digests of the inputs, and fingerprints of the steps that wrote them."""
    version: int = 1
    """Version of the stage."""
    keeps: Keeps = ALL
    """The files that the record covers."""

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, as JSON types."""
        parts = {"step": self.name, "version": self.version, "settings": self.settings, "inputs": self.inputs}
        identity: dict[str, Any] = orjson.loads(orjson.dumps(parts))
        return identity


@dataclass(frozen=True)
class Done(Generic[Outcome]):
    """A finished step."""

    outcome: Outcome
    fingerprint: str
    """Of the step's identity: a later step that reads its folder has it among its inputs."""
    seconds: float
    """Total of all attempts."""


class Runner:
    """Runs the steps of one update and keeps their durations and the digests of their files for its record."""

    def __init__(self, progress: Announcer, labels: dict[str, str] | None = None) -> None:
        """``labels`` are the labels of the update's metrics; without them, no metrics are reported."""
        self.labels = labels or {}
        self.report = StageReport(self.labels)
        self.progress: Announcer = Metered(progress, self.report)
        self.taken: dict[str, StepTaken] = {}
        self.files: dict[Folder, str] = {}  # folder of a step → digest of the table of its files

    def run(self, step: Step[Outcome]) -> Done[Outcome]:
        """Run a step and commit its outcome to its folder's manifest, or read the outcome if it is committed.

        Raises ``ChangedError`` with the differences if the folder belongs to a step of another identity, and
        ``DamagedError`` if committed files have changed since.
        """
        name, folder, identity = step.name, step.folder, step.identity()
        if folder.committed():
            manifest = stage_manifest(folder)
            refuse_changes({**manifest["identity"]}, identity, f"{folder}: finished with other settings or inputs")
            self.progress.stage(name, skipped=True)
            self.taken[name] = StepTaken(manifest["seconds"], manifest.get("attempts", 1))
            if FILES in manifest:
                self.files[folder] = manifest[FILES]
                refuse_changed_files(folder, manifest[FILES])
            outcome = outcome_of(folder, step.outcome)
        else:
            outcome = self._carry_out(step, identity)
        seconds = self.taken[name].seconds
        self.report.done(name, seconds, folder)
        return Done(outcome, fingerprint(identity), seconds)

    def _carry_out(self, step: Step[Outcome], identity: dict[str, Any]) -> Outcome:
        """Do the work of a step that is not committed, and commit its outcome."""
        name, folder = step.name, step.folder
        if folder.exists(STARTED):
            with understood(f"{folder}/{STARTED}"):
                refuse_changes(
                    folder.read_json(STARTED), identity, f"{folder}: was started with other settings or inputs"
                )
        folder.write_json(STARTED, identity)
        folder.delete(FILES)  # from a killed attempt
        self.progress.stage(name, skipped=False)
        with attempt(folder) as so_far:
            outcome = repeated(name, step.work, folder, self.progress)
            self.files[folder] = seal(folder, step.keeps)
        attempts = so_far()
        self.taken[name] = StepTaken(round(sum(entry["seconds"] for entry in attempts), 3), len(attempts))
        manifest = {
            "step": name,
            "fingerprint": fingerprint(identity),
            "identity": identity,
            "outcome": asdict(outcome),  # type: ignore[call-overload]
            FILES: self.files[folder],
            "seconds": self.taken[name].seconds,
            "attempts": len(attempts),
            "finished": now(),
        }
        folder.write_json(MANIFEST, manifest)
        return outcome


def begin_or_resume(lineage: Lineage, wanted: str, begun: dict[str, Any], other: str, progress: Announcer) -> str:
    """Begin an update that makes a release only, or resume the unfinished one; return when it was begun.

    ``other`` names what such an update is made of, for the error. Raises ``UnfinishedError`` if another update is
    unfinished, and ``ChangedError`` if this one was begun with other settings or inputs.
    """
    workspace, started = lineage.workspace, now()
    if lineage.unfinished not in (None, wanted):
        raise UnfinishedError(
            f"update {lineage.unfinished} is not finished: run the same command again to resume it, or discard it with "
            f"`rewarm discard {workspace.folder}`"
        )
    if lineage.unfinished is None:
        workspace.update(wanted).write_json(PLAN, {**begun, "started": started})
        return started
    before = read_plan(workspace, wanted)
    started = str(before.pop("started", started))
    refuse_changes(before, begun, f"update {wanted}, begun {started}, has other settings or another {other}")
    progress.note(f"update {wanted}: resuming what was begun {started}")
    return started


def repeated(name: str, work: Callable[[], Outcome], folder: Folder, progress: Announcer) -> Outcome:
    """Return ``work()``, repeated while a disk fails under it: as after a kill, what a step has finished is kept.

    Raises ``UnreachableError`` or ``FullError`` if the disk still fails, or fails again, after the deadline.
    """
    waiting: Waiting | None = None
    while True:
        try:
            return work()
        except Exception as error:
            fault = disk_fault(error)
            if fault is None or origin(error) is not None:
                raise
            waiting = waiting or Waiting(str(folder))
            waiting.wait(fault)
            progress.note(f"{name}: {shown(str(fault))}; resuming the stage (a temporary fault of the disk)")


def seal(folder: Folder, keeps: Keeps) -> str:
    """Write the table of a finished step's files to its folder, unless the stage did; returns the table's digest.

    All covered files are read once more; after a short step they are still in the page cache.
    """
    if folder.exists(FILES):
        return str(xxhash.xxh3_128_hexdigest(folder.read(FILES)))
    table = digest_files(folder, files_in(folder, (*keeps.without, STARTED, ATTEMPTS, MANIFEST, FILES)))
    for other in keeps.beside:
        place = other.relative_to(folder)
        table |= {f"{place}/{name}": found for name, found in digest_files(other, files_in(other)).items()}
    return write_table(folder, table)


def refuse_changed_files(folder: Folder, expected: str) -> None:
    """Raise ``DamagedError`` if a finished step's files differ from its table, which has the digest ``expected``.

    Files in ``BULK`` are skipped: training shards are verified by the workers that read them, and all files by
    ``rewarm verify``.
    """
    table = read_table(folder, expected)
    refuse_damage(folder, compare(folder, table, [name for name in table if not name.startswith(BULK)]))


def refuse_changes(before: dict[str, Any], after: dict[str, Any], what: str) -> None:
    """Raise ``ChangedError`` with every setting or input that differs, if any."""
    changed = differences(before, after)
    if changed:
        raise ChangedError(
            f"{what}:\n  " + "\n  ".join(changed) + "\n"
            "Run it again with its original settings and data, or discard the unfinished update with "
            "`rewarm discard WORKSPACE`."
        )
