"""Preview of a recipe's learning rate over a base and its updates, including their anneals.

It uses the functions that training uses (``schedule_for``, ``anneal_from``) for whole steps, so the preview is exact.
It is shown as a table of phases, as a chart of braille characters (2 × 4 dots each) in the terminal, and as a page.
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.terminal import compact, figures, names, short
from rewarm.stages.anneal import anneal_from
from rewarm.stages.core.errors import UsageError
from rewarm.stages.data.mixture import trunk_steps
from rewarm.stages.train import Phase, Schedule, schedule_for

ASSUMED_STEPS = 1000  # of an update, where neither the recipe nor the user says how much is trained
ARRIVALS = 3
CURVE_POINTS = 60  # of a phase that is not straight
STRAIGHT = ("constant", "linear")
WARM_IN = "warm-in"  # of an update that continues the trunk's schedule with an empty optimizer
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Piece:
    """The part of a phase within one update."""

    update: str
    phase: str
    shape: str
    start: float  # tokens of the lineage
    end: float
    initial: float  # learning rates
    final: float
    branch: bool  # of the anneal, which the next update does not start from


@dataclass(frozen=True)
class Leg:
    """What one update trains: its trunk, and the branch of its release, if one is annealed."""

    name: str  # base, update 1, …
    start: int  # tokens of the lineage
    end: int
    steps: int
    schedule: Schedule
    branch: Schedule | None

    def pieces(self) -> list[Piece]:
        """Return the phases of the trunk within this update, then those of the branch."""
        return [
            Piece(self.name, phase.name, phase.shape, low, high, phase.rate(low), phase.rate(high), branch)
            for branch in (False, True)
            for phase, low, high in self._stretches(branch)
        ]

    def points(self, branch: bool) -> list[tuple[float, float]]:
        """(tokens, learning rate) along the trunk or along the branch."""
        found = []
        for phase, low, high in self._stretches(branch):
            count = 1 if phase.shape in STRAIGHT else CURVE_POINTS
            places = [low + (high - low) * number / count for number in range(count + 1)]
            rate = self.schedule.rate if phase.name == WARM_IN else phase.rate
            found += [(place, rate(place)) for place in places]
        return found

    def _stretches(self, branch: bool) -> list[tuple[Phase, float, float]]:
        """Each phase with the tokens from and to which it lasts in this update."""
        if branch:
            return [(phase, phase.start, phase.end) for phase in self.branch.phases] if self.branch else []
        *earlier, last = self.schedule.phases
        ends = [*(min(phase.end, self.end) for phase in earlier), float(self.end)]  # the last one holds after its end
        lasting = [
            (phase, max(phase.start, self.start), end) for phase, end in zip((*earlier, last), ends, strict=True)
        ]
        if self.schedule.warm_in is not None:
            begin, warm = self.schedule.warm_in
            rising = Phase(WARM_IN, "linear", begin, warm, 0.0, self.schedule.rate(warm))
            lasting = [(rising, begin, warm), *((phase, max(low, warm), high) for phase, low, high in lasting)]
        return [(phase, float(low), float(high)) for phase, low, high in lasting if low < high]


@dataclass(frozen=True)
class Preview:
    """A recipe's schedule over several arrivals."""

    recipe: str
    kind: str
    imported: bool
    assumed: bool  # the tokens are an assumption
    legs: tuple[Leg, ...]

    def to_json(self) -> dict[str, Any]:
        """Updates, phases and points as JSON types."""
        points = [
            {"update": leg.name, "branch": branch, "tokens": tokens, "lr": rate}
            for leg in self.legs
            for branch in (False, True)
            for tokens, rate in leg.points(branch)
        ]
        updates = [{"name": leg.name, "start": leg.start, "end": leg.end, "steps": leg.steps} for leg in self.legs]
        phases = [asdict(piece) for leg in self.legs for piece in leg.pieces()]
        told = {"recipe": self.recipe, "kind": self.kind, "imported": self.imported, "assumed_tokens": self.assumed}
        return {**told, "updates": updates, "phases": phases, "points": points}


def preview_schedule(
    name: str, recipe: Recipe, arrivals: int | None = None, tokens: str | None = None, imported: bool = False
) -> Preview:
    """Lay out a base and ``arrivals`` updates under ``recipe``.

    ``tokens`` lists what the base and each update train ("1.2M,600k": the last one goes for all that follow); without
    it the recipe's budget says. ``imported``: the base was trained elsewhere, the list begins with the first update.
    Raises ``UsageError`` for tokens that are none, too many of them, or less than a step.
    """
    if recipe.schedule.kind == "auto":
        raise UsageError("schedule.kind is auto: `rewarm plan` chooses it for an arrival; give one with --set")
    imported = imported or recipe.model.path is not None
    trained = 0 if imported else 1
    given = None if tokens is None else parse_tokens(tokens)
    if arrivals is None:
        arrivals = max(1, len(given) - trained) if given is not None and len(given) > 1 else ARRIVALS
    if arrivals + trained == 0:
        raise UsageError("--arrivals 0: an imported model without an update has no schedule")
    if given is not None and len(given) > arrivals + trained:
        raise UsageError(f"--tokens {tokens}: {len(given)} numbers for {arrivals + trained} trainings")
    counts = given or budget(recipe)[1 - trained :]
    counts = [*counts, *[counts[-1]] * (arrivals + trained - len(counts))][: arrivals + trained]
    assumed = given is None and not (recipe.budget.base_tokens or recipe.budget.update_tokens)
    names = [f"update {number}" if number else "base" for number in range(1 - trained, arrivals + 1)]
    return Preview(name, recipe.schedule.kind, imported, assumed, tuple(legs(recipe, names, counts, imported)))


def budget(recipe: Recipe) -> list[int]:
    """Tokens of the base and of an update; what the recipe leaves to the data is taken like the other, or assumed."""
    base, update = recipe.budget.base_tokens, recipe.budget.update_tokens
    assumed = ASSUMED_STEPS * recipe.train.global_batch * recipe.train.seq_len
    return [base or update or assumed, update or base or assumed]


def legs(recipe: Recipe, names: Sequence[str], counts: Sequence[int], imported: bool) -> list[Leg]:
    """Return one leg for each name, in whole steps, each continuing the previous one."""
    per_step = recipe.train.global_batch * recipe.train.seq_len
    if short := [count for count in counts if count < per_step]:
        raise UsageError(f"{short[0]:,} tokens are less than one step of train.global_batch × seq_len = {per_step:,}")
    sizes = [trunk_steps(count // per_step, recipe.branch) for count in counts]
    made: list[Leg] = []
    for name, steps, done in zip(names, sizes, itertools.accumulate(sizes, initial=0), strict=False):
        start, tokens = done * per_step, steps * per_step
        before = made[-1].schedule if made else None
        reset = not recipe.train.keep_optimizer
        schedule = schedule_for(recipe.schedule, start, tokens, before, imported, reset)
        made.append(Leg(name, start, start + tokens, steps, schedule, branch(recipe, schedule, start + tokens, steps)))
    return made


def branch(recipe: Recipe, trunk: Schedule, position: int, steps: int) -> Schedule | None:
    """The schedule of the branch that ends in a release, off a trunk of ``steps`` steps up to ``position``, if any."""
    length = recipe.anneal.steps(steps)
    if trunk.decayed or not length or recipe.anneal.shape == "average":
        return None
    per_step = recipe.train.global_batch * recipe.train.seq_len
    return anneal_from(trunk, position, length * per_step, recipe.schedule.minimum, recipe.anneal)


def parse_tokens(text: str) -> list[int]:
    """``1.2M,600k`` → [1200000, 600000]; plain numbers, 1e9 and 1_000_000 are read, too."""
    tokens = []
    for part in text.split(","):
        match = re.fullmatch(r"([\d._]+(?:e[+]?\d+)?)\s*([kMGBT]?)", part.strip())
        try:
            tokens.append(round(float(match[1]) * UNITS[match[2]]) if match else 0)
        except (ValueError, OverflowError):
            tokens.append(0)
        if tokens[-1] < 1:
            raise UsageError(
                f"--tokens {text}: {part.strip()!r} is not a number of tokens; expected for example 1.2M,600k"
            )
    return tokens


TRUNK, BRANCH = "cyan", "yellow"
MAX_WIDTH, HEIGHT = 110, 14  # characters of the chart
MARGIN = 12  # for the axis to its left


def phases_table(preview: Preview) -> Table:
    """One row for each phase of each update: tokens from and to, learning rate from and to."""
    caption = "From and to count tokens of the lineage."
    if any(leg.branch for leg in preview.legs):
        caption += " An anneal is a branch: the next update starts where the trunk ended."
    if preview.assumed:
        caption += (
            f" The recipe has no budget: {preview.legs[0].steps:,} steps of training are assumed each (--tokens)."
        )
    table = compact(heading(preview), caption)
    names(table, "update", "phase", "shape")
    figures(table, "from", "to", "steps", "learning rate", "→")
    for leg in preview.legs:
        for number, piece in enumerate(leg.pieces()):
            steps = (piece.end - piece.start) * leg.steps / (leg.end - leg.start)
            cells = [piece.phase, piece.shape, short(piece.start), short(piece.end), f"{steps:,.4g}"]
            name = "" if number else leg.name
            rates = [f"{piece.initial:.3g}", f"{piece.final:.3g}"]
            table.add_row(name, *cells, *rates, style=BRANCH if piece.branch else None)
        table.add_section()
    return table


def heading(preview: Preview) -> str:
    """What is shown, in a line."""
    updates = len(preview.legs) - (0 if preview.imported else 1)
    counted = f"{updates} update{'' if updates == 1 else 's'}"
    return f"{preview.recipe}: {preview.kind} schedule, " + (
        f"{counted} of an imported model" if preview.imported else f"a base and {counted}"
    )


def terminal_chart(preview: Preview, width: int) -> Text:
    """The learning rate over the lineage's tokens, for a terminal of ``width`` characters."""
    curves = [Curve(trunk_points(preview.legs), TRUNK)]
    curves += [Curve(leg.points(branch=True), BRANCH) for leg in preview.legs if leg.branch]
    marks = [(float(leg.start), f"{leg.name}, {short(leg.end - leg.start)}") for leg in preview.legs]
    drawn = chart(curves, max(20, min(MAX_WIDTH, width - MARGIN)), HEIGHT, marks, ".3g")
    drawn.append("\n\ntrunk", style=TRUNK)
    if len(curves) > 1:
        drawn.append("  anneal (a branch)", style=BRANCH)
    return drawn.append("   learning rate over tokens\n")


def trunk_points(legs: tuple[Leg, ...]) -> list[tuple[float, float]]:
    """The trunk from the first leg to the last, in one line."""
    return [point for leg in legs for point in leg.points(branch=False)]


def page(preview: Preview) -> str:
    """One HTML file with the plot, which needs no network (about 5 MB, nearly all of it the plotting library)."""
    import plotly.graph_objects as go

    hover = "%{x:,.0f} tokens: %{y:.4g}<extra>%{fullData.name}</extra>"
    figure = go.Figure()
    for leg in preview.legs:
        figure.add_vline(leg.start, line={"width": 1, "color": "#bbb"}, annotation_text=leg.name)
    trunk = trunk_points(preview.legs)
    lines = [("trunk", trunk, {"color": "#1f6f8b", "width": 2})]
    dashed = {"color": "#c77d0a", "width": 2, "dash": "dash"}
    lines += [("anneal", leg.points(branch=True), dashed) for leg in preview.legs if leg.branch]
    for number, (name, points, style) in enumerate(lines):
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            name=name,
            legendgroup=name,
            showlegend=number < 2,
            line=style,
            hovertemplate=hover,
        )
    figure.update_layout(
        title=heading(preview),
        template="plotly_white",
        xaxis_title="tokens of the lineage",
        yaxis={"title": "learning rate", "rangemode": "tozero", "exponentformat": "e"},
    )
    return str(figure.to_html(include_plotlyjs=True, div_id="schedule"))


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
    with what begins there; its label is shortened or left out where the next one begins. Later curves are drawn over
    earlier ones.
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
    """The labels under their columns; one without room before the next ends at its last comma, or is left out.

    A number that is cut reads as another number.
    """
    line = ""
    for number, (column, label) in enumerate(zip(columns, labels, strict=True)):
        room = (columns[number + 1] if number + 1 < len(columns) else width) - column - 1
        fitting = next((text for text in (label, label.rpartition(",")[0]) if len(text) <= room), "")
        line = line.ljust(column) + fitting
    return line.rstrip()
