"""Progress that is passed on whole, and metrics that do nothing where nobody collects them."""

import subprocess
import sys
from pathlib import Path

import pytest

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.update.runner import OTHER, REASONS, Metered, StageReport, bounded, update_labels
from rewarm.stages.core.metrics import LABEL_LENGTH, METRICS, Reporter, ray_is_initialized


class Lines:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def stage(self, name: str, skipped: bool) -> None:
        self.told.append(("stage", name, skipped))

    def begin(self, label: str, total: float, unit: str) -> None:
        self.told.append(("begin", label, total, unit))

    def advance(self, by: float = 1, **figures: float) -> None:
        self.told.append(("advance", by, figures))

    def note(self, text: str) -> None:
        self.told.append(("note", text))


def test_progress_is_passed_on_as_it_is() -> None:
    lines = Lines()
    metered = Metered(lines, StageReport({"workspace": "lm", "update": "0000-docs"}))
    metered.stage("ingest", skipped=False)
    metered.begin("reading", 10, "bytes")
    metered.advance(4, loss=2.5)
    metered.begin("nothing to do", 0, "bytes")
    metered.advance()
    metered.note("done")
    assert lines.told == [
        ("stage", "ingest", False),
        ("begin", "reading", 10, "bytes"),
        ("advance", 4, {"loss": 2.5}),
        ("begin", "nothing to do", 0, "bytes"),
        ("advance", 1, {}),
        ("note", "done"),
    ]


@pytest.mark.parametrize("kinds", [0, 1, REASONS, REASONS + 1, 500])
def test_reasons_are_bounded_and_their_sum_is_kept(kinds: int) -> None:
    reasons = {f"reason {number}": number + 1 for number in range(kinds)}
    found = bounded(reasons)
    assert len(found) == min(kinds, REASONS + 1)
    assert sum(found.values()) == sum(reasons.values())
    assert (OTHER in found) == (kinds > REASONS)
    assert bounded(dict(reversed(reasons.items()))) == found


def test_the_labels_are_the_workspaces_name_and_the_updates_id(tmp_path: Path) -> None:
    assert update_labels(Workspace(str(tmp_path / "lm")), "0001-news") == {"workspace": "lm", "update": "0001-news"}


WITHOUT = """
from rewarm.stages.core.metrics import Reporter
for labels in ({}, {"workspace": "lm", "update": "0000-docs"}):
    reporter = Reporter(labels)
    reporter.set("rewarm_stage_active", 1, stage="train")
    reporter.count("rewarm_trained_tokens_total", 5, stage="train")
    assert not reporter._instruments
"""


def test_without_ray_nothing_is_reported() -> None:
    """In a process of its own: another test's Ray may run in this one."""
    subprocess.run([sys.executable, "-c", WITHOUT], check=True, timeout=60)


def test_without_labels_nothing_is_reported(ray_cluster: None) -> None:
    reporter = Reporter({})
    reporter.set("rewarm_stage_active", 1, stage="train")
    assert not reporter._instruments


def test_a_cluster_takes_every_metric(ray_cluster: None) -> None:
    """Names, labels and boundaries are Ray's to refuse; long labels are cut."""
    assert ray_is_initialized()
    reporter = Reporter({"workspace": "w" * 200, "update": "0000-docs"})
    assert reporter._tags("rewarm_disk_free_bytes", {})["workspace"] == "w" * LABEL_LENGTH
    for metric in METRICS.values():
        labels = {label: "x" for label in metric.labels if label not in reporter.labels}
        {"gauge": reporter.set, "counter": reporter.count, "histogram": reporter.observe}[metric.kind](
            metric.name, 1, **labels
        )
    assert reporter._instruments.keys() == METRICS.keys()
    reporter.count("rewarm_trained_tokens_total", 0, stage="train")


def test_the_command_line_imports_neither_ray_nor_torch() -> None:
    """A command that starts no Ray and loads no model does not wait for their imports."""
    code = "import sys, rewarm.pipeline.cli; sys.exit(bool({'ray', 'torch'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
