"""The report's tables as rows ready to print: the verdict, the forgetting matrix, lm-eval, replay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report import formats
from pipeline.report.figures import dataset_names
from pipeline.report.record import TextRecord, UpdateRecord, WorkspaceRecord

NORMAL_95 = 1.96
"""Standard errors either side that hold 95 % of a normal distribution."""

LOWER_IS_BETTER = ("perplexity", "bits_per_byte", "loss", "brier")


@dataclass(frozen=True)
class Cell:
    """A release's loss on one dataset."""

    loss: float | None
    bits_per_byte: float | None
    change: float | None
    """Against the release before, nats per token."""
    heat: int
    """How strong the cell's colour is, 0 to 100."""

    @property
    def kind(self) -> str:
        """``worse``, ``better``, ``same``, or empty where nothing came before."""
        return formats.direction(self.change)


@dataclass(frozen=True)
class Verdict:
    """The head of the report, in one look."""

    release: UpdateRecord | None
    position: int
    """Of the release among the updates; the base is 0."""
    cells: dict[str, Cell]
    """The current release on every dataset it was measured on."""
    forgotten: tuple[str, float] | None
    """The earlier dataset that got worst, and by how much; None where no earlier dataset was measured twice."""
    notices: list[str]
    """What is unusual: no release yet, a failed or an unfinished update after the release."""


@dataclass(frozen=True)
class Score:
    """One value of the lm-eval table."""

    value: float
    margin: float | None
    """Half the width of the 95 % interval; None where lm-eval gives no standard error."""
    trend: str
    """``better`` or ``worse`` than the update before by more than both margins together, or empty."""


@dataclass(frozen=True)
class ScoreRow:
    """One metric of one task over the updates."""

    task: str
    metric: str
    lower_is_better: bool
    scores: list[Score | None]


def verdict(record: WorkspaceRecord) -> Verdict:
    """The current release on every dataset, what it forgot most, and what a reader must know beside it."""
    release = next((update for update in record.updates if update.id == record.release), None)
    notices = []
    if release is None:
        notices.append("There is no release yet.")
    position = record.updates.index(release) if release else -1
    for update in record.updates[position + 1 :]:
        match update.state:
            case "failed":
                notices.append(f"Update {update.id} failed and was not released.")
            case "running":
                notices.append(f"Update {update.id} is not finished.")
            case "released":
                notices.append(f"Update {update.id} is newer than the current release.")
    if release is None:
        return Verdict(None, position, {}, None, notices)
    cells = {name: cell for name, cell in _cells(record, release).items() if cell.loss is not None}
    earlier = [(name, change) for name, change in release.forgetting.items() if name != release.arrival]
    worst = max(earlier, key=lambda pair: math.inf if math.isnan(pair[1]) else pair[1], default=None)
    return Verdict(release, position, cells, worst, notices)


def matrix(record: WorkspaceRecord) -> list[tuple[UpdateRecord, dict[str, Cell]]]:
    """One row for each update that has a measured release, one cell for each dataset."""
    return [(update, _cells(record, update)) for update in record.updates if update.losses.get("release")]


def _cells(record: WorkspaceRecord, update: UpdateRecord) -> dict[str, Cell]:
    losses, bits = update.losses.get("release", {}), update.bits_per_byte.get("release", {})
    return {
        name: Cell(losses.get(name), bits.get(name), update.forgetting.get(name), _heat(update.forgetting.get(name)))
        for name in dataset_names(record)
    }


def _heat(change: float | None) -> int:
    """0 for no change, 100 for a quarter of a nat and more; a square root between, so that 0.01 can be seen."""
    if change is None or formats.direction(change) == "same":
        return 0
    return 100 if not math.isfinite(change) else round(100 * min(1.0, 2 * math.sqrt(abs(change))))


def measured(record: WorkspaceRecord) -> list[UpdateRecord]:
    """The updates that lm-eval has seen: the columns of its table."""
    return [update for update in record.updates if update.lm_eval]


def scores(updates: Sequence[UpdateRecord]) -> list[ScoreRow]:
    """One row for each metric of each task, in the order of first appearance."""
    keys = dict.fromkeys(
        (task, key)
        for update in updates
        for task, metrics in update.lm_eval.items()
        for key in metrics
        if not key.partition(",")[0].endswith("_stderr")
    )
    return [_score_row(updates, task, key) for task, key in keys]


def _score_row(updates: Sequence[UpdateRecord], task: str, key: str) -> ScoreRow:
    metric, _, filtered = key.partition(",")
    error_key = f"{metric}_stderr,{filtered}" if filtered else f"{metric}_stderr"
    lower = any(word in metric for word in LOWER_IS_BETTER)
    row: list[Score | None] = []
    before: Score | None = None
    for update in updates:
        metrics = update.lm_eval.get(task, {})
        value, error = metrics.get(key), metrics.get(error_key)
        if value is None:
            row.append(None)
            continue
        margin = None if error is None or not math.isfinite(error) else NORMAL_95 * error
        before = Score(value, margin, _trend(before, value, margin, lower))
        row.append(before)
    label = f"{metric} ({filtered})" if filtered not in ("", "none") else metric
    return ScoreRow(task, label, lower, row)


def _trend(before: Score | None, value: float, margin: float | None, lower: bool) -> str:
    if before is None or before.margin is None or margin is None:
        return ""
    moved = value - before.value
    if not abs(moved) > math.hypot(margin, before.margin):
        return ""
    return "better" if (moved < 0) == lower else "worse"


def lengths(text: TextRecord) -> list[tuple[str, int]]:
    """Documents by length, from the shortest; powers of four, so that a few bars show all."""
    sums: dict[int, int] = {}
    for power, number in text.lengths.items():
        sums[int(power) // 2] = sums.get(int(power) // 2, 0) + number
    return [(f"from {formats.size(4**half)}", sums[half]) for half in sorted(sums)]


def qualities(text: TextRecord) -> list[tuple[str, int]]:
    """Documents by quality, from the lowest; by tenths."""
    sums: dict[int, int] = {}
    for part, number in text.qualities.items():
        sums[int(part) // 2] = sums.get(int(part) // 2, 0) + number
    return [(f"from {tenth / 10:.1f}", sums[tenth]) for tenth in sorted(sums)]
