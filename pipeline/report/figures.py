"""Data of every plot of the report: points and lines; their appearance is defined in page.js."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rewarm.pipeline.report import formats
from rewarm.pipeline.report.curves import Line, branches, downsample, join, smooth, trunks
from rewarm.pipeline.report.record import CurvePoint, UpdateShown, ValidationPoint, WorkspaceRecord

OTHERS = "Replayed: other datasets"
SHOWN, LAST = 24, 16  # datasets that have a line of their own, and how many of them are the last that arrived
Style = Literal["solid", "dashed", "faint", "hatched"]


@dataclass(frozen=True)
class Trace:
    """One line, or one kind of bar; ``x[i]`` and ``y[i]`` are None where a line breaks."""

    name: str
    x: list[float | None]
    y: list[float | None] | list[str]
    tone: str
    """A colour by its role: ``accent``, ``muted`` or ``series-N``; the theme says which colour that is."""
    style: Style = "solid"
    marker: int | None = None
    """The number of the marker's shape, so that lines differ without colour."""
    group: str = ""
    """Traces of one group share one entry of the legend."""
    labels: list[str] = field(default_factory=list)
    """What hovering shows instead of the bare number."""


@dataclass(frozen=True)
class Region:
    """The stretch of lineage tokens that one update's trunk covers."""

    start: float
    end: float
    label: str
    short: str


@dataclass(frozen=True)
class Figure:
    """One plot; without ``traces`` if there is no data yet."""

    id: str
    form: Literal["lines", "bars"]
    summary: str
    """What a person who cannot see the plot should know."""
    x_title: str
    y_title: str
    traces: list[Trace]
    regions: list[Region] = field(default_factory=list)
    y_format: str = ".3f"
    x_scale: Literal["lineage", "log"] = "lineage"
    """All plots over the tokens of the lineage span the same; a logarithmic one has its own range."""


def workspace_figures(record: WorkspaceRecord) -> list[Figure]:
    """The plots over the whole lineage."""
    return [
        training_loss(record),
        validation_loss(record),
        learning_rate(record),
        token_account(record),
        stage_times(record),
    ]


def update_figures(record: WorkspaceRecord, update: UpdateShown) -> list[Figure]:
    """The plots of one update; its datasets have the colours that they have over the lineage."""
    alone = of_update(record, update)
    return [
        training_loss(alone),
        validation_loss(alone),
        stability_gap(alone, update),
        learning_rate(alone),
        gradient_norm(alone),
        token_account(alone),
    ]


def of_update(record: WorkspaceRecord, update: UpdateShown) -> WorkspaceRecord:
    """Return the part of a record that one update's page shows; later arrivals change nothing of it."""
    own = [dataset for dataset in record.datasets if dataset.name in update.arrivals]
    return replace(record, updates=[update], datasets=own, order=record.order or record.names)


def training_loss(record: WorkspaceRecord) -> Figure:
    """Each step's loss, faint, under its running mean; branches dashed from the trunk's end."""
    traces, means = _with_mean(record, lambda point: point.loss)
    last = next((line[-1][1] for line in reversed(means) if line), math.nan)
    summary = f"Training loss over lineage tokens: {len(_regions(record))} updates, trunk now at {last:.3f} nats."
    return _over_tokens(record, "training-loss", summary, "Loss (nats per token)", traces)


def validation_loss(record: WorkspaceRecord) -> Figure:
    """The validation loss of every dataset, on the trunk and on each branch."""
    traces: list[Trace] = []
    summary = "Validation loss over lineage tokens."
    for name in most_telling(record):
        index, read = record.number(name), _loss_on(name)
        lines = _validation_lines(record.updates, read, anneal=False)
        beside = _from_trunks_end(lines, _validation_lines(record.updates, read, anneal=True))
        tone = f"series-{index}"
        traces += _line(name, lines, tone, marker=index)
        traces += _line(f"{name}, annealed", beside, tone, "dashed", marker=index, group=name)
        points = [point for line in lines for point in line]
        if points:
            summary += f" {name}: {points[0][1]:.3f} to {points[-1][1]:.3f} nats on the trunk."
    return _over_tokens(record, "validation-loss", summary, "Validation loss (nats per token)", traces)


def most_telling(record: WorkspaceRecord) -> list[str]:
    """Up to ``SHOWN`` datasets, in order of arrival: the last ones, and the furthest above their best loss.

    How far that is, the checks of the current release say (else of the last one that the gate compared).
    """
    if len(record.names) <= SHOWN:
        return record.names
    last, older = set(record.names[-LAST:]), record.names[:-LAST]
    judged = [update for update in record.updates if update.gate]
    current = next((update for update in judged if update.id == record.release), judged[-1] if judged else None)
    checks = current.gate.checks if current and current.gate else []
    above = {check.name: check.change for check in checks if check.kind == "best" and check.change is not None}
    worst = set(sorted(older, key=lambda name: -above.get(name, -math.inf))[: SHOWN - LAST])
    return [name for name in record.names if name in last or name in worst]


def stability_gap(record: WorkspaceRecord, update: UpdateShown) -> Figure:
    """Each dataset's validation loss minus that at the update's start; a base has no gap.

    Over the tokens since the start, logarithmic, like the evaluations: the gap occurs in an update's first steps.
    """
    traces: list[Trace] = []
    for name in record.names:
        index = record.number(name)
        (line,) = _validation_lines([update], _loss_on(name), anneal=False)
        risen = [(tokens - line[0][0], loss - line[0][1]) for tokens, loss in line]
        if name in update.gap and update.start is not None:
            traces += _line(name, [risen[1:]], f"series-{index}", marker=index)
    summary = "Validation loss minus that at the update's start, over tokens since then."
    if traces:
        depth, name = max((gap.depth, name) for name, gap in update.gap.items())
        summary += f" The deepest gap: {depth:.3f} nats, of {name}."
    return Figure(
        "stability-gap",
        "lines",
        summary,
        "Tokens since the start (log scale)",
        "Loss above the start (nats per token)",
        traces,
        y_format="+.3f",
        x_scale="log",
    )


def learning_rate(record: WorkspaceRecord) -> Figure:
    """The learning rate of every step, branches included."""
    lines = trunks(record.updates, lambda point: point.lr)
    traces = [
        *_line("Trunk", lines, "accent"),
        *_line("Anneal to the release", branches(record.updates, lambda point: point.lr), "accent-2", "dashed"),
    ]
    highest = max((rate for line in lines for _, rate in line), default=math.nan)
    summary = f"Learning rate over lineage tokens, at most {highest:.3g}."
    return _over_tokens(record, "learning-rate", summary, "Learning rate", traces, y_format=".3~e")


def gradient_norm(record: WorkspaceRecord) -> Figure:
    """The gradient's norm before clipping, trunk and branches."""
    traces, _ = _with_mean(record, lambda point: point.grad_norm)
    summary = "Norm of the gradient before clipping, over lineage tokens."
    return _over_tokens(record, "gradient-norm", summary, "Gradient norm", traces)


def token_account(record: WorkspaceRecord) -> Figure:
    """Tokens read by each update: new, replayed of each earlier dataset, annealed."""
    counted = [update for update in record.updates if update.tokens.planned]
    bars: dict[str, list[float]] = {"New": [], "Annealed": [], OTHERS: [], "Replayed, not itemised": []}
    names = most_telling(record)
    replayed: dict[str, list[float]] = {name: [] for name in names}
    for update in counted:
        tokens, parts = update.tokens, update.replay.parts
        assert tokens is not None
        for name in names:
            replayed[name].append(parts[name].tokens if name in parts else 0)
        bars["New"].append(tokens.new)
        bars["Annealed"].append(tokens.annealed)
        bars[OTHERS].append(sum(part.tokens for name, part in parts.items() if name not in replayed))
        rest = tokens.replayed - sum(part.tokens for part in parts.values())
        bars["Replayed, not itemised"].append(rest if rest > tokens.replayed / 100 else 0)
    ids = [update.id for update in counted]
    traces = [
        *_bar("New", ids, bars["New"], "accent", formats.count),
        *(
            trace
            for name in names
            for trace in _bar(
                f"Replayed: {name}",
                ids,
                replayed[name],
                f"series-{record.number(name)}",
                formats.count,
                style="hatched",
            )
        ),
        *_bar(OTHERS, ids, bars[OTHERS], "muted", formats.count, style="hatched"),
        *_bar("Replayed, not itemised", ids, bars["Replayed, not itemised"], "muted", formats.count, style="hatched"),
        *_bar("Annealed (branch)", ids, bars["Annealed"], "muted", formats.count),
    ]
    summary = "Tokens read by each update: new, replayed and annealed. The table below holds the same figures."
    return Figure("token-account", "bars", summary, "Tokens", "", traces)


def stage_times(record: WorkspaceRecord) -> Figure:
    """Wall time of each update, stacked by stage, in the unit that suits the longest."""
    timed = [update for update in record.updates if update.seconds]
    longest = max((sum(update.seconds.values()) for update in timed), default=0.0)
    unit, divisor = ("s", 1) if longest < 180 else ("min", 60) if longest < 3 * 3600 else ("h", 3600)
    ids = [update.id for update in timed]
    traces = [
        trace
        for index, stage in enumerate(stages(record))
        for trace in _bar(
            stage,
            ids,
            [update.seconds.get(stage, 0.0) for update in timed],
            f"series-{index}",
            formats.duration,
            scale=1 / divisor,
        )
    ]
    summary = "Wall time of each update by stage. The table below holds the same figures."
    return Figure("stage-times", "bars", summary, f"Wall time ({unit})", "", traces)


def stages(record: WorkspaceRecord) -> list[str]:
    """Every stage that was timed, in the order of the first update that ran it."""
    return list(dict.fromkeys(stage for update in record.updates for stage in update.seconds))


def _with_mean(record: WorkspaceRecord, read: Callable[[CurvePoint], float]) -> tuple[list[Trace], list[Line]]:
    """A noisy figure of every step: all values, faint, under the running means; and the trunks' means."""
    raw = trunks(record.updates, read)
    means = [smooth(line) for line in raw]
    beside = [smooth(line) for line in branches(record.updates, read)]
    traces = [
        *_line("Every step", raw, "muted", "faint"),
        *_line("Trunk", means, "accent"),
        *_line("Anneal to the release", _from_trunks_end(means, beside), "accent-2", "dashed"),
    ]
    return traces, means


def _loss_on(name: str) -> Callable[[ValidationPoint], float | None]:
    return lambda point: point.losses.get(name)


def _validation_lines(
    updates: Sequence[UpdateShown], read: Callable[[ValidationPoint], float | None], *, anneal: bool
) -> list[Line]:
    return [
        [
            (float(point.tokens), loss)
            for point in update.validation
            if point.is_anneal == anneal and (loss := read(point)) is not None
        ]
        for update in updates
    ]


def _from_trunks_end(trunk_lines: Sequence[Line], branch_lines: Sequence[Line]) -> list[Line]:
    """Each branch, led from the last point of its own trunk."""
    return [
        [trunk[-1], *(point for point in branch if point[0] > trunk[-1][0])] if trunk and branch else branch
        for trunk, branch in zip(trunk_lines, branch_lines, strict=True)
    ]


def _regions(record: WorkspaceRecord) -> list[Region]:
    regions: list[Region] = []
    for update in record.updates:
        points = [point.tokens for point in update.curve if not point.is_anneal]
        points = points or [point.tokens for point in update.validation if not point.is_anneal]
        if not points:
            continue
        while regions and points[0] < regions[-1].end:
            regions.pop()  # that trunk was left behind: this one goes on from an earlier one
        start = float(min(regions[-1].end, points[0]) if regions else points[0])
        short = update.id.split("-")[0].lstrip("0") or "0"
        regions.append(Region(start, float(points[-1]), update.arrival, short))
    return regions


def _over_tokens(
    record: WorkspaceRecord, name: str, summary: str, y_title: str, traces: list[Trace], *, y_format: str = ".3f"
) -> Figure:
    return Figure(name, "lines", summary, "Tokens of the lineage", y_title, traces, _regions(record), y_format)


def _line(
    name: str, lines: Sequence[Line], tone: str, style: Style = "solid", *, marker: int | None = None, group: str = ""
) -> list[Trace]:
    """Return one trace through all ``lines``, or none if they have no points."""
    x, y = join(downsample(lines), keep_apart=style == "dashed")
    return [Trace(name, x, y, tone, style, marker, group or name)] if x else []


def _bar(
    name: str,
    ids: list[str],
    values: Sequence[float],
    tone: str,
    label: Callable[[float | None], str],
    *,
    style: Style = "solid",
    scale: float = 1.0,
) -> list[Trace]:
    """Return one kind of bar over all updates, or none if every value is zero."""
    if not any(values):
        return []
    lengths: list[float | None] = [value * scale for value in values]
    return [Trace(name, lengths, ids, tone, style, group=name, labels=[label(value) for value in values])]
