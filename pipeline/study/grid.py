"""Trials of a study: a grid of settings, additional rows and the papers' baselines, each with every seed."""

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import xxhash

from rewarm.pipeline.recipe.recipe import Recipe, apply_values, as_number, read_value, settings, unknown_key
from rewarm.pipeline.study.settings import BASELINES
from rewarm.stages.core.errors import UsageError
from rewarm.stages.train import CARRIED_ON, Schedule

# What a trial may change. The model, the tokenizer and the documents are the same in all of them.
TRIED = ("replay", "schedule", "train", "anneal", "budget", "select")
LABEL_CHARS = 80
BASE = "base"  # a trial that trains a base for the trials of its seed to start from
DRAWS = {"replay.order": "reshuffled"}  # by the seed, in place of the lineage's own order


def meaning(kind: str, recipe: Recipe, followed: Schedule | None, position: int) -> str:
    """Describe how a baseline differs on this trunk from the papers' baseline of that name; empty if it does not.

    The papers' trunk ended at η_min. One that follows a schedule with a constant phase is still at a higher rate.
    """
    if kind not in ("constant-min", "no-rewarm") or followed is None or followed.kind not in CARRIED_ON:
        return ""
    rate, minimum = followed.rate(position), recipe.schedule.minimum
    if kind == "constant-min":
        return f"not the papers': the trunk is at {rate:.3g}, so this drops to η_min = {minimum:.3g} at once and stays"
    return f"not the papers': the trunk is at {rate:.3g} and not at η_min, so this anneals over the whole update"


@dataclass(frozen=True)
class Trial:
    """One training run of a study."""

    label: str  # of its row: the same under every seed
    kind: str  # "grid", "row", or a baseline's name
    settings: dict[str, Any]  # on top of the study's recipe
    seed: int
    draws: dict[str, Any] = field(default_factory=dict)  # settings by which a further seed draws what it replays
    meaning: str = ""  # of a baseline that is not what the papers call by its name

    @property
    def scratch(self) -> bool:
        """Whether the trial starts from random weights."""
        return self.kind == BASE or (self.kind in BASELINES and BASELINES[self.kind].scratch)

    @property
    def id(self) -> str:
        """The name of its folder: its label made plain, what tells long or odd labels apart, and the seed."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", self.label).strip("-.")[:LABEL_CHARS]
        drawn = sorted(self.draws.items()) if self.draws else ""
        told = xxhash.xxh3_64_hexdigest(f"{self.kind}{sorted(self.settings.items())}{drawn}".encode())[:6]
        return f"{plain}-{told}-s{self.seed}"

    def recipe(self, base: Recipe) -> Recipe:
        """The study's recipe under this trial's settings."""
        return apply_values(base, {**self.draws, **self.settings, "seed": self.seed}, f"trial {self.label}")

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def parse_grid(values: Sequence[str]) -> dict[str, list[Any]]:
    """Parse ``KEY=V1,V2`` arguments into key → values; values are YAML, so braces and brackets may contain commas."""
    grid: dict[str, list[Any]] = {}
    for text in values:
        key, separator, choices = text.partition("=")
        key = check_key(key.strip(), f"--grid {text}")
        parsed = read_value(f"[{choices}]", f"--grid {text}") if separator and choices.strip() else []
        parsed = [as_number(value) for value in parsed]
        if not parsed:
            raise UsageError(f"--grid {text}: expected KEY=VALUE,VALUE…, for example --grid replay.share=0,0.05,0.25")
        if key in grid:
            raise UsageError(f"--grid {text}: {key} is given twice; put all values into one --grid")
        if len({repr(value) for value in parsed}) < len(parsed):
            raise UsageError(f"--grid {text}: duplicate value")
        grid[key] = parsed
    return grid


def parse_row(text: str) -> tuple[str, dict[str, Any]]:
    """Parse an additional row ``LABEL: KEY=VALUE KEY=VALUE …``; values with spaces are quoted as in a shell."""
    label, separator, body = text.partition(":")
    chosen: dict[str, Any] = {}
    try:
        assignments = shlex.split(body)
    except ValueError as error:
        raise UsageError(f"--row {text}: {error}") from error
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--row {text}: {assignment!r} is no KEY=VALUE")
        if key in chosen:
            raise UsageError(f"--row {text}: {key} is given twice")
        chosen[check_key(key, f"--row {text}")] = read_value(value, f"--row {text}")
    if not separator or not label.strip():
        raise UsageError(f"--row {text}: expected 'LABEL: KEY=VALUE …', for example --row 'I: select.share=0.1'")
    return label.strip(), chosen


def parse_rows(values: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parse additional rows as label → settings; raises ``UsageError`` for a label that is given twice."""
    rows: dict[str, dict[str, Any]] = {}
    for text in values:
        label, chosen = parse_row(text)
        if label in rows:
            raise UsageError(f"--row {text}: the label {label!r} is given twice; give each row its own")
        rows[label] = chosen
    return rows


def check_key(key: str, origin: str) -> str:
    """Raise ``UsageError`` for a setting that a trial cannot change."""
    if key not in {name for name, _, _ in settings()}:
        raise unknown_key(key, origin)
    if key.partition(".")[0] not in TRIED:
        raise UsageError(f"{origin}: a study changes settings of {', '.join(TRIED)}; its data and model are the same")
    return key


def trials(
    grid: Mapping[str, Sequence[Any]],
    rows: Mapping[str, Mapping[str, Any]],
    baselines: Sequence[str],
    seeds: Sequence[int],
) -> list[Trial]:
    """Return all runs of the study, seed by seed, so that an unfinished study has complete columns.

    Without a grid, rows or baselines it is one row, the recipe as it is. The first seed replays what an update would;
    each further one draws its replay too (``DRAWS``), so that the spread over seeds is not that of the new data alone.
    """
    unknown = [name for name in baselines if name not in BASELINES]
    if unknown:
        raise UsageError(f"--baselines: there is no {', '.join(unknown)}; there are {', '.join(BASELINES)}")
    found = [("grid", label_of(point), point) for point in points(grid)] if grid else []
    found += [("row", label, dict(chosen)) for label, chosen in rows.items()]
    found += [(name, name, dict(BASELINES[name].settings)) for name in dict.fromkeys(baselines)]
    if not found:
        found = [("row", "recipe", {})]
    labels = [label for _, label, _ in found]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(f"two rows of the study are named {', '.join(twice)}; give them different names")
    return [
        Trial(label, kind, chosen, seed, dict(DRAWS) if number else {})
        for number, seed in enumerate(seeds)
        for kind, label, chosen in found
    ]


def points(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the grid's values."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def label_of(point: Mapping[str, Any]) -> str:
    """A grid point's name: ``replay.share=0.05 schedule.peak_multiplier=2``."""
    return " ".join(f"{key}={shown(value)}" for key, value in point.items())


def shown(value: Any) -> str:
    """A value as one would write it on the command line."""
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
