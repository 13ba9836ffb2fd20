"""Lines in the terminal: two by four dots a character (braille), so that a curve looks like one."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

BLANK = 0x2800  # the braille character without dots; those after it are a bit mask
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # [column][row] of a character's dots


@dataclass(frozen=True)
class Curve:
    """A line through points (x, y), drawn in a style of ``rich``."""

    points: Sequence[tuple[float, float]]
    style: str


def chart(curves: Sequence[Curve], width: int, height: int, marks: Sequence[tuple[float, str]], y_format: str) -> Text:
    """All curves over one another, y from 0 to the highest point, with the y axis to the left and ``marks`` below.

    ``width`` and ``height`` count characters of the plot without its axes. ``marks`` are places on the x axis, each
    with what begins there; its label is cut where the next one begins. Later curves are drawn over earlier ones.
    """
    xs = [x for curve in curves for x, _ in curve.points] + [x for x, _ in marks]
    low, span = min(xs), (max(xs) - min(xs)) or 1.0
    top = max((y for curve in curves for _, y in curve.points), default=0.0) or 1.0
    masks = [[0] * width for _ in range(height)]
    styles = [[""] * width for _ in range(height)]
    for curve in curves:
        scaled = [((x - low) / span * (2 * width - 1), (1 - y / top) * (4 * height - 1)) for x, y in curve.points]
        for column, row in dots(scaled):
            masks[row // 4][column // 2] |= DOTS[column % 2][row % 4]
            styles[row // 4][column // 2] = curve.style
    labels = {0: format(top, y_format), height // 2: format(top * (1 - height // 2 / height), y_format)}
    labels[height - 1] = format(0.0, y_format)
    margin = max(len(label) for label in labels.values())
    drawn = Text()
    for number, (mask_row, style_row) in enumerate(zip(masks, styles, strict=True)):
        drawn.append(f"{labels.get(number, ''):>{margin}} ┤" if number in labels else f"{'':>{margin}} │")
        for mask, style in zip(mask_row, style_row, strict=True):
            drawn.append(chr(BLANK + mask) if mask else " ", style=style or None)
        drawn.append("\n")
    columns = [round((x - low) / span * (width - 1)) for x, _ in marks]
    drawn.append(f"{'':>{margin}} └" + "".join("┬" if number in columns else "─" for number in range(width)) + "\n")
    drawn.append(f"{'':>{margin}}  " + below(columns, [label for _, label in marks], width))
    return drawn


def dots(points: Sequence[tuple[float, float]]) -> set[tuple[int, int]]:
    """The dots (column, row) that a line through the points covers, without gaps."""
    found = {(round(x), round(y)) for x, y in points[:1]}
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        count = max(1, math.ceil(max(abs(to_x - x), abs(to_y - y))))
        for part in range(count + 1):
            found.add((round(x + (to_x - x) * part / count), round(y + (to_y - y) * part / count)))
    return found


def below(columns: Sequence[int], labels: Sequence[str], width: int) -> str:
    """The labels under their columns, each cut before the next."""
    line = ""
    for number, (column, label) in enumerate(zip(columns, labels, strict=True)):
        room = (columns[number + 1] if number + 1 < len(columns) else width) - column - 1
        line = line.ljust(column) + label[: max(room, 0)]
    return line.rstrip()
