"""The report's tables as rows ready to print: outcomes, totals, the forgetting matrix, lm-eval, data."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.report import formats
from rewarm.pipeline.report.record import TextRecord, UpdateShown, WorkspaceRecord

NORMAL_95 = 1.96
"""Standard errors either side that hold 95 % of a normal distribution."""

SAME_FIGURE, BITS = ("word_perplexity", "byte_perplexity"), "bits_per_byte"
"""lm-eval's other units of ``bits_per_byte``, of which the table has one: a perplexity by word has nine digits."""

ROLLING, WORD_ORDER = re.compile(r"rewarm_.+_rolling"), re.compile(r"rewarm_.+_order")
"""Names of generated tasks."""

ALL_RIGHT = 0.9995
"""A score that is printed as 1.000."""

WORDS = {
    "arrival": "the data of one update: one or more datasets that arrive together",
    "lineage": "the sequence of updates of one workspace, from the base on",
    "trunk": "the end of training at the schedule's own rate, from which the next update starts",
    "anneal": "training on a branch from the trunk's end while the learning rate decays; its result is the release",
    "release": "the model of an update that is meant for use; under cosine it is the trunk",
    "gate": "the comparison that decides whether a candidate becomes the current release",
    "nats": "unit of loss: natural logarithm; 1 nat is 1.44 bits",
}
"""The words of the report that a reader may not know, as the glossary defines them."""

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
        """``worse``, ``better``, ``same``, or empty if there is nothing to compare with."""
        return formats.direction(self.change)


@dataclass(frozen=True)
class Outcome:
    """What one update's release learned and forgot, in one look."""

    cells: dict[str, Cell]
    """On every dataset it was measured on."""
    changes: Mapping[str, float]
    """Changes of the loss by dataset, the arrival's included."""
    learned: tuple[str, float] | None
    """The dataset that arrived, and the change of its loss; of several, the one that got least better."""
    forgotten: tuple[str, float] | None
    """The earlier dataset that got worst, and by how much; None if no earlier dataset was measured twice."""


@dataclass(frozen=True)
class Totals:
    """Totals of a lineage over all updates."""

    new: int
    replayed: int
    annealed: int
    """Tokens."""
    seconds: float
    cost: dict[str, float]
    """By currency, as far as it is known."""
    attempts: int
    """How often updates were started, of those that counted it."""
    failed: int
    """How many of these attempts ended with an error or were killed."""


@dataclass(frozen=True)
class Taken:
    """Tokens, time and cost of an update, predicted by its plan or measured."""

    tokens: Mapping[str, int]
    """New, replayed, annealed."""
    steps: int
    hours: float | None
    """Of all stages; None if it could not be predicted."""
    price: float | None
    """None without a price."""


@dataclass(frozen=True)
class Score:
    """One value of the lm-eval table."""

    value: float
    margin: float | None
    """Half the width of the 95 % interval; None if lm-eval gives no standard error."""
    trend: str
    """``better`` or ``worse`` than the update before by more than both margins together, or empty."""


@dataclass(frozen=True)
class ScoreRow:
    """One metric of one task over the updates."""

    task: str
    metric: str
    lower_is_better: bool
    scores: list[Score | None]


def outcome(record: WorkspaceRecord, update: UpdateShown) -> Outcome:
    """Summarise an update's release: losses on every dataset, what it learned, and what it forgot most."""
    cells = {name: cell for name, cell in _cells(record, update).items() if cell.loss is not None}
    learned = {name: change for name in update.arrivals if (change := _learned(update, name)) is not None}
    earlier = [(name, change) for name, change in update.forgetting.items() if name not in update.arrivals]
    return Outcome(
        cells,
        learned | update.forgetting,
        max(learned.items(), key=_worst, default=None),
        max(earlier, key=_worst, default=None),
    )


def _learned(update: UpdateShown, name: str) -> float | None:
    """The change of an arrival's loss: against the release before, or on the trunk since the update's start."""
    if name in update.forgetting:
        return update.forgetting[name]
    for check in update.gate.checks if update.gate else ():
        if (check.kind, check.name) == ("loss", name) and check.change is not None:
            return check.change
    gap = update.gap.get(name)
    return gap.end - gap.start if gap and update.start else None


def _worst(pair: tuple[str, float]) -> float:
    return math.inf if math.isnan(pair[1]) else pair[1]


def notices(record: WorkspaceRecord) -> list[str]:
    """What is unusual: no release yet; refused, undecided, unfinished or newer updates after the current release."""
    places = [number for number, update in enumerate(record.updates) if update.id == record.release]
    said = [] if places else ["There is no release yet."]
    for update in record.updates[places[0] + 1 if places else 0 :]:
        match update.state:
            case "refused":
                said.append(f"The gate refused the release of {update.id}; {record.release} stays the current one.")
            case "undecided":
                said.append(
                    f"The release of {update.id} is held, undecided: the gate could not see enough. Promote it with "
                    f"`rewarm promote`, or leave it; {record.release} stays the current one until then."
                )
            case "unfinished":
                said.append(f"Update {update.id} is not finished.")
            case "released" if update.adopted is None:
                said.append(f"Update {update.id} is newer than the current release.")
    return said


def totals(record: WorkspaceRecord) -> Totals:
    """Tokens, wall time and cost of all updates."""
    tokens = [update.tokens for update in record.updates]
    cost: dict[str, float] = {}
    for update in record.updates:
        if update.cost and update.cost.price is not None:
            cost[update.cost.currency] = cost.get(update.cost.currency, 0.0) + update.cost.price
    return Totals(
        sum(part.new for part in tokens),
        sum(part.replayed for part in tokens),
        sum(part.annealed for part in tokens),
        sum(sum(update.seconds.values()) for update in record.updates),
        cost,
        sum(update.attempts.count for update in record.updates if update.attempts),
        sum(update.attempts.failed for update in record.updates if update.attempts),
    )


def compared(update: UpdateRecord) -> list[tuple[str, Taken]]:
    """Compare the plan's prediction with the measured update; empty without a plan."""
    if update.plan is None:
        return []
    plan, cost = update.plan.predicted, update.cost
    return [
        ("planned", Taken(plan.tokens, plan.steps, plan.hours, plan.cost)),
        (
            "actual",
            Taken(
                vars(update.tokens),
                update.train.steps if update.train else 0,
                cost.hours if cost else None,
                cost.price if cost else None,
            ),
        ),
    ]


def matrix(record: WorkspaceRecord) -> list[tuple[UpdateShown, dict[str, Cell]]]:
    """One row for each update that has a measured release, one cell for each dataset."""
    return [(update, _cells(record, update)) for update in record.updates if update.losses.get("release")]


def since_arrival(record: WorkspaceRecord) -> dict[str, Cell]:
    """The current release on each dataset against the first release that was measured on it; empty without any."""
    current = next((update for update in record.updates if update.id == record.release), None)
    now = current.losses.get("release", {}) if current else {}
    found = {}
    for name, loss in now.items():
        first = next(u for u in record.updates if name in u.losses.get("release", {}))
        change = None if first is current else loss - first.losses["release"][name]
        found[name] = Cell(loss, None, change, _heat(change))
    return found if any(cell.change is not None for cell in found.values()) else {}


def _cells(record: WorkspaceRecord, update: UpdateRecord) -> dict[str, Cell]:
    losses, bits = update.losses.get("release", {}), update.bits_per_byte.get("release", {})
    return {
        name: Cell(losses.get(name), bits.get(name), update.forgetting.get(name), _heat(update.forgetting.get(name)))
        for name in record.names
    }


def _heat(change: float | None) -> int:
    """0 for no change, 100 for a quarter of a nat and more; a square root between, so that 0.01 can be seen."""
    if change is None or formats.direction(change) == "same":
        return 0
    return 100 if not math.isfinite(change) else round(100 * min(1.0, 2 * math.sqrt(abs(change))))


def measured(updates: Sequence[UpdateShown]) -> list[UpdateShown]:
    """Those that lm-eval has seen: the columns of its table."""
    return [update for update in updates if update.lm_eval]


def scores(updates: Sequence[UpdateRecord]) -> list[ScoreRow]:
    """One row for each metric of each task, in the order of first appearance."""
    keys = dict.fromkeys(
        (task, key)
        for update in updates
        for task, metrics in update.lm_eval.items()
        for key in metrics
        if not (metric := key.partition(",")[0]).endswith("_stderr")
        and not (metric in SAME_FIGURE and f"{BITS},{key.partition(',')[2]}".rstrip(",") in metrics)
    )
    return [_score_row(updates, task, key) for task, key in keys]


def telling(rows: Sequence[ScoreRow]) -> tuple[list[ScoreRow], str]:
    """Return the rows that tell something, and a sentence about the others; empty if there are none.

    Left out are generated tasks whose figure is elsewhere or always the same: the rolling ones, which give bits per
    byte of cut documents where the losses have those of the whole split, and word order that no release got wrong.
    """
    rolling = [row for row in rows if ROLLING.fullmatch(row.task)]
    order = [
        row
        for row in rows
        if WORD_ORDER.fullmatch(row.task) and all(one is None or one.value >= ALL_RIGHT for one in row.scores)
    ]
    said = []
    if rolling:
        said.append(f"{len(rolling)} rows of bits per byte on shortened documents (the losses have the whole split’s)")
    if order:
        said.append(f"{len(order)} rows of word order that every release got right (at least {ALL_RIGHT:g})")
    shown = [row for row in rows if row not in rolling and row not in order]
    return shown, f"Not shown: {' and '.join(said)}." if said else ""


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
