"""The metrics of an update's stages: which one runs, how far it is, what it took, what became of the documents."""

import time
from typing import Any

from pipeline.runs.announcer import Announcer
from pipeline.workspace import Workspace
from stages.metrics import Reporter
from stages.storage import Folder

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
