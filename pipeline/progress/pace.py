"""How fast work goes, and how long it takes from here: one line of work, and the stages of an update around it."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

WINDOW = 120.0  # seconds of the past that a rate is taken over
RATED = ("train", "anneal")  # stages that are one line of work, so that its rate says more than an earlier update


@dataclass
class Work:
    """An open line of work: ``done`` of ``total`` units (0: not known how many). Times are seconds of one clock."""

    label: str
    total: float
    unit: str
    done: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)
    _samples: deque[tuple[float, float]] = field(default_factory=deque)

    def advance(self, by: float, figures: Mapping[str, float], at: float) -> None:
        """Move on. A step back (workers that were restarted) begins the rate anew."""
        self.done += by
        self.figures = figures or self.figures
        if by < 0:
            self._samples.clear()
        self._samples.append((at, self.done))
        while len(self._samples) > 2 and at - self._samples[0][0] > WINDOW:
            self._samples.popleft()

    def rate(self, at: float) -> float | None:
        """Units a second of late; None until it moved twice. The first move counts for nothing: it may be what a
        resumed run had done before."""
        if len(self._samples) < 2 or at <= self._samples[0][0]:
            return None
        began, first = self._samples[0]
        return (self.done - first) / (at - began)

    def left(self, at: float) -> float | None:
        """Seconds that the rest takes at this rate; None where nothing says."""
        rate = self.rate(at)
        return max(0.0, self.total - self.done) / rate if rate and self.total else None

    @property
    def part(self) -> float:
        """What is done of it, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


class Itinerary:
    """The stages of a run in their order, as far as they are known, with the seconds that each is expected to take."""

    def __init__(self, names: Sequence[str], expected: Mapping[str, float | None]) -> None:
        self.names, self.expected = list(names), dict(expected)
        self.place = -1

    def enter(self, name: str) -> None:
        """A stage begins. One that was not foreseen takes its place after the one before."""
        if name in self.names:
            self.place = self.names.index(name)
        else:
            self.place += 1
            self.names.insert(self.place, name)

    @property
    def current(self) -> str:
        """The stage under way; empty before the first."""
        return self.names[self.place] if self.place >= 0 else ""

    def left(self, elapsed: float, work_left: float | None) -> float | None:
        """Seconds to the end of the last stage; None where one of those to come is not known.

        ``elapsed``: seconds of the current stage so far; ``work_left``: what its line of work says of itself.
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
    """By stage, the seconds that a plan predicts, else those of an earlier update; None where neither knows it.

    ``grows``: tokens to train, of those that the earlier update trained. A stage that is done for several datasets in
    turn takes an even part of what it takes for all.
    """
    stages = [name.partition(" ")[0] for name in names]
    found: dict[str, float | None] = {}
    for name, stage in zip(names, stages, strict=True):
        before = [seconds for other, seconds in earlier.items() if other == name or other.partition(" ")[0] == name]
        before = before or [seconds for other, seconds in earlier.items() if other.partition(" ")[0] == stage]
        value = planned.get(stage, sum(before) * (grows if stage in RATED else 1.0) if before else None)
        found[name] = None if value is None else value / stages.count(stage)
    return found


def duration(seconds: float) -> str:
    """A time for people: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{round(whole / 60)} min"
    hours, minutes = divmod(round(whole / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
