"""Results of a study: one row for each combination of settings, with mean and spread over the seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rewarm.pipeline.gate.pairs import SCORES
from rewarm.pipeline.lineage.workspace import TRIAL
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.study.grid import Trial
from rewarm.pipeline.study.settings import BASELINES
from rewarm.pipeline.study.trial import Result, StudyWorkspace, read_result

PLAN = "study.json"
RESULTS = "results.json"
GENERATED = "rewarm_"  # how the names of tasks begin that evaluation makes from validation splits
ALIKE = 0.02  # of the compute of two rows that are compared: whole steps make them differ by less


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, and their sample standard deviation; None for one seed."""

    mean: float
    spread: float | None


@dataclass(frozen=True)
class Row:
    """One combination of settings. Losses are nats per token of the release on the full validation split."""

    name: str
    kind: str  # grid, row, or a baseline's name
    settings: dict[str, Any]
    seeds: list[int]  # those that are finished
    losses: dict[str, Spread]
    window_losses: dict[str, Spread]  # in the papers' way: the mean of the last steps' looks, on the trunk
    mean: float  # of the earlier datasets' mean loss and the arrival's, half and half as in the papers
    mean_spread: float | None
    score: float  # the same, by the weight that was asked for
    forgetting: dict[str, Spread]
    gap: dict[str, Spread]  # depth of the stability gap
    tokens: int  # trained by one run, the anneal included
    flops: float  # of one run, 6 × parameters × tokens
    seconds: float  # of one run's training, mean
    share: Spread | None = None  # of replay, as it was achieved; None: nothing was there to replay
    lm_eval: dict[str, Spread] = field(default_factory=dict)  # score by named task, in its first metric
    meaning: str = ""  # of a baseline that is not what the papers call by its name
    stopped: int = 0  # runs that ended early

    def to_json(self) -> dict[str, Any]:
        """Return JSON types, with the grid's settings repeated as columns for use as a table."""
        return {**self.settings, **asdict(self)}


@dataclass(frozen=True)
class Study:
    """A study's table."""

    name: str
    earlier: list[str]
    arrivals: list[str]
    rows: list[Row]
    old_weight: float
    unfinished: list[str] = field(default_factory=list)

    @property
    def fit(self) -> list[Row]:
        """The rows that an update of the lineage could follow."""
        return [row for row in self.rows if not (row.kind in BASELINES and BASELINES[row.kind].scratch)]

    @property
    def best(self) -> Row | None:
        """Row of lowest score that an update of the lineage could follow; None if no row is finished."""
        return min(self.fit, key=lambda row: row.score, default=None)

    @property
    def compute(self) -> str:
        """How far the best row's compute is from the others', and which is best at equal compute; empty: it is equal.

        Compute is counted in FLOPs; rows within ``ALIKE`` of each other are equal.
        """
        best = self.best
        if best is None:
            return ""
        others = [row.flops / best.flops for row in self.fit if abs(row.flops / best.flops - 1) > ALIKE]
        if not others:
            return ""
        groups = [
            min((row for row in self.fit if abs(row.flops / one.flops - 1) <= ALIKE), key=lambda row: row.score)
            for one in self.fit
        ]
        each = dict.fromkeys((row.name, row.flops / best.flops) for row in groups if row.name != best.name)
        listed = "; ".join(f"with {part:.2f} times its compute the lowest is {name}" for name, part in each)
        spread = f"{min(others):.2f}" if len(set(others)) == 1 else f"{min(others):.2f} to {max(others):.2f}"
        return f"★ is not at equal compute: other rows took {spread} times the compute of {best.name}" + (
            f" ({listed})" if listed else ""
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON types: what ``rewarm study --json`` prints."""
        return {
            "study": self.name,
            "earlier": self.earlier,
            "arrivals": self.arrivals,
            "old_weight": self.old_weight,
            "rows": [row.to_json() for row in self.rows],
            "best": self.best.to_json() if self.best else None,
            "compute": self.compute,
            "unfinished": self.unfinished,
        }


def score(losses: Mapping[str, float], arrivals: Sequence[str], old_weight: float) -> float:
    """``old_weight`` × the mean loss of the earlier datasets + the rest × the mean loss of the arrival's; nats.

    If there are only earlier or only new datasets, their mean.
    """
    new = [loss for name, loss in losses.items() if name in arrivals]
    old = [loss for name, loss in losses.items() if name not in arrivals]
    if not new or not old:
        return statistics.fmean([*new, *old]) if new or old else math.nan
    return old_weight * statistics.fmean(old) + (1 - old_weight) * statistics.fmean(new)


def collect(workspace: StudyWorkspace, trials: Sequence[Trial], old_weight: float) -> Study:
    """Read the results of all trials that have one."""
    found: dict[str, list[Result]] = {}
    unfinished = []
    for trial in trials:
        folder = workspace.trial(trial.id)
        if folder.exists(TRIAL):
            found.setdefault(trial.label, []).append(read_result(folder))
        else:
            unfinished.append(trial.id)
    arrivals = workspace.arrivals
    meanings = {trial.label: trial.meaning for trial in trials}
    rows = [row for label, results in found.items() if (row := row_of(results, arrivals, old_weight, meanings[label]))]
    names = dict.fromkeys(name for row in rows for name in row.losses)
    earlier = [name for name in names if name not in arrivals]
    return Study(workspace.study.name, earlier, arrivals, rows, old_weight, unfinished)


def row_of(results: list[Result], arrivals: Sequence[str], old_weight: float, meaning: str = "") -> Row | None:
    """Return one row from the results of its seeds; None if every run was stopped early."""
    updates = [result.update for result in results if result.update is not None]
    if not updates:
        return None
    trial = results[0].trial
    losses = [update.losses["release"] for update in updates]
    halves = [score(one, arrivals, 0.5) for one in losses]
    mean = spread(halves)
    trained = updates[0].tokens.planned + updates[0].tokens.annealed
    return Row(
        name=trial["label"],
        kind=trial["kind"],
        settings=trial["settings"],
        seeds=[result.trial["seed"] for result in results if result.update is not None],
        losses=spreads(losses),
        window_losses=spreads([update.window_losses.get("trunk", {}) for update in updates]),
        mean=mean.mean,
        mean_spread=mean.spread,
        score=statistics.fmean(score(one, arrivals, old_weight) for one in losses),
        forgetting=spreads([update.forgetting for update in updates]),
        gap=spreads([{name: one.depth for name, one in update.gap.items()} for update in updates]),
        tokens=trained,
        flops=6.0 * updates[0].parameters * trained,
        seconds=statistics.fmean(trained_seconds(update) for update in updates),
        share=spread(shares) if (shares := achieved(updates)) else None,
        lm_eval=spreads([scores(update) for update in updates]),
        meaning=meaning,
        stopped=len(results) - len(updates),
    )


def achieved(updates: Sequence[UpdateRecord]) -> list[float]:
    """Return the achieved replay shares of runs that had something to replay."""
    return [update.replay.achieved for update in updates if update.replay.by_dataset]


def scores(update: UpdateRecord) -> dict[str, float]:
    """lm-eval's score of each named task, in the first of the metrics that it has; generated tasks are left out."""
    found = {}
    for task, metrics in update.lm_eval.items():
        score = next((value for name in SCORES if (value := metrics.get(name)) is not None), None)
        if score is not None and not task.startswith(GENERATED):
            found[task] = score
    return found


def trained_seconds(update: UpdateRecord) -> float:
    """Seconds of training, the anneal included, with the start of the workers."""
    return math.fsum(seconds for stage, seconds in update.seconds.items() if stage in ("train", "anneal"))


def spreads(values: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """By name, over the seeds that have it."""
    names = dict.fromkeys(name for one in values for name in one)
    return {name: spread([one[name] for one in values if name in one]) for name in names}


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)
