"""The pace of a run: rate and remaining time of the current task, and of the stages of an update around it."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

WINDOW = 120.0  # seconds over which a rate is averaged
RATED = ("train", "anneal")  # stages with a single task, whose rate predicts better than an earlier update


@dataclass
class Work:
    """A task in progress: ``done`` of ``total`` units (0: unknown). Times are seconds on one clock."""

    label: str
    total: float
    unit: str
    done: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)
    began: float | None = None
    _samples: deque[tuple[float, float]] = field(default_factory=deque)

    def advance(self, by: float, figures: Mapping[str, float], at: float) -> None:
        """Advance the task. A negative step, after workers were restarted, resets the rate."""
        self.done += by
        self.figures = figures or self.figures
        if by < 0:
            self._samples.clear()
        self._samples.append((at, self.done))
        while len(self._samples) > 2 and at - self._samples[0][0] > WINDOW:
            self._samples.popleft()

    def waited(self, at: float) -> float:
        """Return the seconds since the task began, if it has not advanced yet; else 0."""
        return 0.0 if self._samples or self.began is None else at - self.began

    def rate(self, at: float) -> float | None:
        """Return the recent rate in units per second; None before the second step.

        The first step is not counted, because it may include work from before a resume.
        """
        if len(self._samples) < 2 or at <= self._samples[0][0]:
            return None
        began, first = self._samples[0]
        return (self.done - first) / (at - began)

    def left(self, at: float) -> float | None:
        """Return the seconds left at the current rate; None if unknown."""
        rate = self.rate(at)
        return max(0.0, self.total - self.done) / rate if rate and self.total else None

    @property
    def part(self) -> float:
        """The share that is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


class Itinerary:
    """The known stages of a run, in order, with the expected seconds of each."""

    def __init__(self, names: Sequence[str], expected: Mapping[str, float | None]) -> None:
        self.names, self.expected = list(names), dict(expected)
        self.place = -1

    def enter(self, name: str) -> None:
        """Enter a stage. A stage that was not foreseen is inserted after the current one."""
        if name in self.names:
            self.place = self.names.index(name)
        else:
            self.place += 1
            self.names.insert(self.place, name)

    @property
    def current(self) -> str:
        """The current stage; empty before the first."""
        return self.names[self.place] if self.place >= 0 else ""

    def left(self, elapsed: float, work_left: float | None) -> float | None:
        """Return the seconds until the end of the last stage; None if one of the stages ahead cannot be predicted.

        ``elapsed``: seconds of the current stage so far; ``work_left``: seconds left in its task, by its rate.
        """
        ahead = [self.expected.get(name) for name in self.names[self.place + 1 :]]
        before = self.expected.get(self.current)
        by_rate = self.current.partition(" ")[0] in RATED or before is None
        own = work_left if by_rate and work_left is not None else None if before is None else max(0.0, before - elapsed)
        known = [seconds for seconds in ahead if seconds is not None]
        return None if own is None or len(known) < len(ahead) else own + sum(known)


def expected_seconds(
    names: Sequence[str], earlier: Mapping[str, float], grows: float, planned: Mapping[str, float]
) -> dict[str, float | None]:
    """Return the seconds of each stage as a plan predicts them, else as an earlier update took; None if unknown.

    ``grows``: ratio of the tokens to train to those of the earlier update. A stage that runs once per dataset gets an
    even share of the stage's total.
    """
    stages = [name.partition(" ")[0] for name in names]
    expected: dict[str, float | None] = {}
    for name, stage in zip(names, stages, strict=True):
        before = [seconds for other, seconds in earlier.items() if other == name or other.partition(" ")[0] == name]
        before = before or [seconds for other, seconds in earlier.items() if other.partition(" ")[0] == stage]
        value = planned.get(stage, sum(before) * (grows if stage in RATED else 1.0) if before else None)
        expected[name] = None if value is None else value / stages.count(stage)
    return expected


def duration(seconds: float) -> str:
    """Format a duration for display: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{round(whole / 60)} min"
    hours, minutes = divmod(round(whole / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
