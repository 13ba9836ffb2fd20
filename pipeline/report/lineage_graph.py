"""The lineage as a graph that runs down the page: a row for each update, drawn beside its text.

Trunks run in lanes on the left; the newest one's ancestors are the first lane, and a trunk that nothing continues
leaves it sideways. From the end of a trunk a dashed branch leads to its release, on the rail of those that were
promoted, or stops short of it where the gate refused it. The rail links one promotion to the next; a rollback runs back
up beside it. Lines reach to 100 % of their row, however high its text makes it.
"""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from rewarm.pipeline.report.record import UpdateShown, WorkspaceRecord

LANE, FIRST, NODE = 22, 14, 30
"""Pixels: between lanes, of the first lane from the left, and of the nodes from the top of their row."""
BRANCH, SHORT, BACK = 44, 22, 20
"""From the last lane to the rail, from where a refused release stops to the rail, and from the rail to rollbacks."""
TURN = 14
"""Height of a turn from one lane to another."""

Mark = Literal["current", "promoted", "kept", "refused", "undecided", ""]


@dataclass(frozen=True)
class Stroke:
    """A line from one point to another, or a path; heights are pixels or per cent of the row."""

    kind: Literal["trunk", "branch", "rail", "back"]
    x: float = 0
    top: str = "0"
    bottom: str = "100%"
    path: str = ""
    """Instead of the vertical line from ``top`` to ``bottom`` at ``x``."""


@dataclass(frozen=True)
class Row:
    """One update."""

    update: UpdateShown
    strokes: list[Stroke]
    node: int
    """Position of the trunk's end, from the left."""
    mark: Mark
    """Outcome of its release; empty if there is none yet."""
    release: int
    """Position of the release, from the left."""
    summary: str
    """The same in words."""


@dataclass(frozen=True)
class Graph:
    """All rows, the first update first, and how wide they are drawn."""

    rows: list[Row]
    width: int
    goes_back: bool
    """Whether there was a rollback."""


def graph(record: WorkspaceRecord) -> Graph:
    """The graph of a lineage."""
    updates = record.updates
    place = {update.id: number for number, update in enumerate(updates)}
    parents = [place.get(update.start) if update.start else None for update in updates]
    beside = {number for number, update in enumerate(updates) if update.adopted is not None}
    lanes = assign_lanes(parents, beside)
    rail = FIRST + LANE * max(lanes, default=0) + BRANCH
    promoted = [place[entry.update] for entry in record.history if entry.update in place]
    strokes: list[list[Stroke]] = [[] for _ in updates]
    _trunks(parents, lanes, strokes, beside)
    _promotions(promoted, rail, strokes)
    rows = []
    for number, update in enumerate(updates):
        mark, node = _mark(record, update, number in promoted), FIRST + LANE * lanes[number]
        end = rail - SHORT if mark in ("refused", "undecided") else rail
        if mark:
            strokes[number].append(Stroke("branch", path=f"M{node} {NODE}H{end}"))
        rows.append(Row(update, strokes[number], node, mark, end, _summary(update, mark)))
    goes_back = any(stroke.kind == "back" for row in rows for stroke in row.strokes)
    return Graph(rows, rail + (BACK if goes_back else 0) + FIRST, goes_back)


def assign_lanes(parents: Sequence[int | None], beside: Collection[int] = ()) -> list[int]:
    """The lane of each update, given where its trunk started: 0 for the newest and all that it comes from.

    Others take the first lane that is free from the row in which they leave to their last one. ``parents[i] < i``. A
    release that was tuned outside of the lineage (``beside``) is never the newest.
    """
    lanes: list[int | None] = [None] * len(parents)
    taken: dict[int, list[range]] = {}
    tips = sorted(range(len(parents)), key=lambda number: (number in beside, -number))
    for tip in tips:
        chain = []
        step: int | None = tip
        while step is not None and lanes[step] is None:
            chain.append(step)
            step = parents[step]
        if not chain:
            continue
        rows = range(0 if step is None else chain[-1], len(parents) if tip == tips[0] else tip + 1)
        lane = 0
        while any(other.start < rows.stop and rows.start < other.stop for other in taken.get(lane, [])):
            lane += 1
        taken.setdefault(lane, []).append(rows)
        for step in chain:
            lanes[step] = lane
    return [lane or 0 for lane in lanes]


def _trunks(
    parents: Sequence[int | None], lanes: Sequence[int], strokes: list[list[Stroke]], beside: Collection[int]
) -> None:
    """From each update's start, down its start's lane to its own row, and over to its own lane; dashed if tuned."""
    for number, parent in enumerate(parents):
        if parent is None:
            continue
        before, own = FIRST + LANE * lanes[parent], FIRST + LANE * lanes[number]
        kind: Literal["trunk", "branch"] = "branch" if number in beside else "trunk"
        strokes[parent].append(Stroke(kind, before, str(NODE)))
        for row in range(parent + 1, number):
            strokes[row].append(Stroke(kind, before))
        if before == own:
            strokes[number].append(Stroke(kind, own, "0", str(NODE)))
        else:
            strokes[number].append(Stroke(kind, path=f"M{before} 0C{before} {TURN} {own} {TURN} {own} {NODE}"))


def _promotions(promoted: Sequence[int], rail: int, strokes: list[list[Stroke]]) -> None:
    """From each promoted release to the next: down the rail, or back up beside it."""
    side = rail + BACK
    for before, after in itertools.pairwise(promoted):
        if after > before:
            strokes[before].append(Stroke("rail", rail, str(NODE)))
            strokes[after].append(Stroke("rail", rail, "0", str(NODE)))
        elif after < before:
            strokes[before].append(Stroke("back", path=f"M{rail} {NODE}Q{side} {NODE} {side} {NODE - TURN}V0"))
            strokes[after].append(Stroke("back", side, str(NODE + TURN)))
            turn = f"M{side} {NODE + TURN}Q{side} {NODE} {rail + 9} {NODE}m4 -4l-4 4l4 4"
            strokes[after].append(Stroke("back", path=turn))
        for row in range(min(before, after) + 1, max(before, after)):
            strokes[row].append(Stroke("rail", rail) if after > before else Stroke("back", side))


def _mark(record: WorkspaceRecord, update: UpdateShown, promoted: bool) -> Mark:
    if update.id == record.release:
        return "current"
    if update.state == "unfinished":
        return ""
    if promoted:
        return "promoted"
    if update.state == "refused":
        return "refused"
    return "undecided" if update.state == "undecided" else "kept"


def _summary(update: UpdateShown, mark: Mark) -> str:
    begun = f"Its trunk continues from {update.start}." if update.start else "The base."
    if update.adopted is not None:
        begun = f"It was tuned from the release of {update.adopted.tuned_from}."
    became = {
        "current": "Its release is the current one.",
        "promoted": "Its release was current once.",
        "kept": "Its release was never current.",
        "refused": "Its release was refused by the gate.",
        "undecided": "Its release is held, undecided.",
        "": "It has no release yet.",
    }
    return f"{begun} {became[mark]}"
