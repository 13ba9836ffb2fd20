"""Curves over lineage tokens: trunks, anneal branches, running means and downsampling."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from rewarm.pipeline.report.record import CurvePoint, UpdateShown

Point = tuple[float, float]
"""(tokens of the lineage, value)."""
Line = list[Point]

MAX_POINTS = 2000
"""Of one trace; more than a screen can show."""


def trunks(updates: Sequence[UpdateShown], read: Callable[[CurvePoint], float]) -> list[Line]:
    """Return the trunk of each update as a line, empty if nothing was trained."""
    return [[(float(point.tokens), read(point)) for point in update.curve if not point.is_anneal] for update in updates]


def branches(updates: Sequence[UpdateShown], read: Callable[[CurvePoint], float]) -> list[Line]:
    """The anneal branch of each update, from the last point of its trunk; empty if there is none."""
    lines: list[Line] = []
    for update, trunk in zip(updates, trunks(updates, read), strict=True):
        branch = [(float(point.tokens), read(point)) for point in update.curve if point.is_anneal]
        lines.append([*trunk[-1:], *branch] if branch else [])
    return lines


def smooth(line: Line) -> Line:
    """The centred running mean over about a sixtieth of the line, one-sided at its ends; not-a-number is left out."""
    half = len(line) // 120
    if half == 0:
        return line
    values = np.array([value for _, value in line], dtype=np.float64)
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    middle = np.arange(len(line))
    low, high = np.maximum(middle - half, 0), np.minimum(middle + half + 1, len(line))
    number = counts[high] - counts[low]
    means = np.where(number > 0, (sums[high] - sums[low]) / np.maximum(number, 1), math.nan)
    return [(tokens, float(mean)) for (tokens, _), mean in zip(line, means, strict=True)]


def downsample(lines: Sequence[Line], limit: int = MAX_POINTS) -> list[Line]:
    """At most about ``limit`` points over all ``lines``; the ends, peaks and dips of every stretch stay."""
    total = sum(len(line) for line in lines)
    if total <= limit:
        return list(lines)
    return [_peaks(line, max(4, limit * len(line) // total)) for line in lines]


def _peaks(line: Line, limit: int) -> Line:
    """The first and last point, and of every stretch in between its lowest and its highest."""
    if len(line) <= limit:
        return line
    edges = np.linspace(1, len(line) - 1, max(1, (limit - 2) // 2) + 1).astype(int)
    kept = {0, len(line) - 1}
    for low, high in itertools.pairwise(edges):
        stretch = [i for i in range(low, high) if math.isfinite(line[i][1])] or [int(low)]
        kept |= {min(stretch, key=lambda i: line[i][1]), max(stretch, key=lambda i: line[i][1])}
    return [line[i] for i in sorted(kept)]


def join(lines: Sequence[Line], *, keep_apart: bool) -> tuple[list[float | None], list[float | None]]:
    """The coordinates of all ``lines`` in one trace.

    Trunks continue one another and are joined, unless one starts before the other's end (an update from an
    earlier trunk); branches are always kept apart. None breaks a line; a value that is not finite is None.
    """
    x: list[float | None] = []
    y: list[float | None] = []
    end: float | None = None
    for line in lines:
        if not line:
            continue
        if end is not None and (keep_apart or line[0][0] < end):
            x.append(None)
            y.append(None)
        x += [tokens for tokens, _ in line]
        y += [float(f"{value:.6g}") if math.isfinite(value) else None for _, value in line]
        end = line[-1][0]
    return x, y
