"""Figures in what a benchmark prints: cells of Markdown tables by column and row, and numbers after fixed words."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

NUMBER = r"[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
RULE = re.compile(r"\|(?:\s*:?-+:?\s*\|)+")


class NotFoundError(LookupError):
    """A figure is not in the text, or more than once."""


@dataclass(frozen=True)
class Table:
    """A Markdown table; cells without the marks of bold, code and the blanks around them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(text: str) -> Iterator[Table]:
    """The Markdown tables of a text: a row, a rule of dashes, and rows until a line that is none."""
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(lines[1:], 1):
        if RULE.fullmatch(line) and lines[number - 1].startswith("|"):
            columns = cells(lines[number - 1])
            rows = tuple(cells(row) for row in takewhile(lambda row: row.startswith("|"), lines[number + 1 :]))
            for row in rows:
                if len(row) != len(columns):
                    raise NotFoundError(f"a row of {len(row)} cells under {len(columns)} columns: {' | '.join(row)}")
            yield Table(columns, rows)


def cells(line: str) -> tuple[str, ...]:
    """The cells of a row."""
    return tuple(cell.strip().strip("*`").strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1])


def number(text: str) -> float:
    """The number that a text begins with."""
    match = re.match(NUMBER, text)
    if match is None:
        raise NotFoundError(f"“{text}” does not begin with a number")
    return float(match[0].replace(",", "").replace("−", "-"))


class Figure(Protocol):
    """A number in a text."""

    def read(self, text: str) -> float:
        """The number; ``NotFoundError`` where it is not there, or not once."""


@dataclass(frozen=True)
class Cell:
    """A number in a table: its column, and by column the pattern that a cell of its row matches as a whole.

    ``over`` makes one figure of several rows; without it exactly one row is expected.
    """

    column: str
    where: Mapping[str, str] = field(default_factory=dict)
    over: Callable[[Iterable[float]], float] | None = None

    def read(self, text: str) -> float:
        """As ``Figure``."""
        numbers = [number(cell) for table in tables(text) for cell in self.matching(table)]
        rows = ", ".join(f"{column} {pattern}" for column, pattern in self.where.items()) or "any row"
        if not numbers or (self.over is None and len(numbers) > 1):
            raise NotFoundError(f"{len(numbers) or 'no'} cells of column “{self.column}”, {rows}")
        return self.over(numbers) if self.over else numbers[0]

    def matching(self, table: Table) -> list[str]:
        """The cells of one table that are meant."""
        asked = [self.column, *self.where]
        if any(column not in table.columns for column in asked):
            return []
        if twice := [column for column in asked if table.columns.count(column) > 1]:
            raise NotFoundError(f"column “{twice[0]}” is in a table twice")
        places = {column: table.columns.index(column) for column in asked}
        return [
            row[places[self.column]]
            for row in table.rows
            if all(re.fullmatch(pattern, row[places[column]]) for column, pattern in self.where.items())
        ]


@dataclass(frozen=True)
class After:
    """The number that follows words which the text has once."""

    words: str

    def read(self, text: str) -> float:
        """As ``Figure``."""
        numbers = re.findall(rf"{re.escape(self.words)}\s*({NUMBER})", text)
        if len(numbers) != 1:
            raise NotFoundError(f"{len(numbers) or 'no'} numbers after “{self.words}”")
        return number(numbers[0])


@dataclass(frozen=True)
class Ratio:
    """One figure divided by another."""

    upper: Figure
    lower: Figure

    def read(self, text: str) -> float:
        """As ``Figure``."""
        lower = self.lower.read(text)
        if not lower:
            raise NotFoundError("the ratio's lower figure is 0")
        return self.upper.read(text) / lower


@dataclass(frozen=True)
class Goal:
    """A limit of a figure, from above or from below."""

    limit: float
    from_above: bool

    def holds(self, value: float) -> bool:
        """Whether a figure is within it."""
        return value <= self.limit if self.from_above else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.from_above else '≥'} {shown(self.limit)}"


def at_most(limit: float) -> Goal:
    """A limit from above."""
    return Goal(limit, True)


def at_least(limit: float) -> Goal:
    """A limit from below."""
    return Goal(limit, False)


def shown(value: float) -> str:
    """Three digits; all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@dataclass(frozen=True)
class Finding:
    """A figure as the table shows it; ``met`` is None if there is no goal."""

    figure: str
    goal: str
    met: bool | None


@dataclass(frozen=True)
class Measured:
    """A figure, its unit and its goal, if there is one."""

    figure: Figure
    unit: str
    goal: Goal | None = None

    def find(self, text: str) -> Finding:
        """The figure in a text."""
        value = self.figure.read(text)
        if self.goal is None:
            return Finding(f"{shown(value)} {self.unit}".strip(), "–", None)
        return Finding(
            f"{shown(value)} {self.unit}".strip(), f"{self.goal} {self.unit}".strip(), self.goal.holds(value)
        )


@dataclass(frozen=True)
class Judged:
    """A line of a script that judges itself: ``NAME …: figure; goal …: met`` or ``missed``."""

    name: str

    def find(self, text: str) -> Finding:
        """The line in a text."""
        pattern = rf"^{re.escape(self.name)}.*?: (.*); goal (.*): (met|missed)$"
        lines = re.findall(pattern, text, re.MULTILINE)
        if len(lines) != 1:
            raise NotFoundError(f"{len(lines) or 'no'} lines that begin with “{self.name}” and end with a verdict")
        figure, goal, verdict = lines[0]
        return Finding(figure, goal, verdict == "met")
