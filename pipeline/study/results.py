"""Results of a study: one row for each combination of settings, with mean and spread over the seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rewarm.pipeline.gate.pairs import SCORES
from rewarm.pipeline.lineage.workspace import TRIAL
from rewarm.pipeline.plan.studied import SHARE
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.shift.objective import Standing, choose_best, mean_loss, within
from rewarm.pipeline.study.grid import Trial
from rewarm.pipeline.study.settings import BASELINES
from rewarm.pipeline.study.trial import Result, StudyWorkspace, read_result
from rewarm.stages.core.shapes import outcome_of
from rewarm.stages.evaluate import EvaluateOutcome

GENERATED = "rewarm_"  # how the names of tasks begin that evaluation makes from validation splits
BEFORE = "before"  # folder of a study, with the evaluation of the release that any update starts with
ALIKE = 0.02  # of the compute of two rows that are compared: whole steps make them differ by less


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, and their sample standard deviation; None for one seed."""

    mean: float
    spread: float | None


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, and half of its 95 % interval by Student's t; None for one pair."""

    mean: float
    half: float | None
    pairs: int


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
    score: float  # of all datasets alike, or by the weight that was asked for
    forgetting: dict[str, Spread]
    gap: dict[str, Spread]  # depth of the stability gap
    tokens: int  # trained by one run, the anneal included
    flops: float  # of one run, 6 × parameters × tokens
    seconds: float  # of one run's training, mean
    share: Spread | None = None  # of replay, as it was achieved; None: nothing was there to replay
    bits_per_byte: dict[str, Spread] = field(default_factory=dict)  # of the release, by dataset
    scores: dict[str, float] = field(default_factory=dict)  # seed → ``score``
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
    old_weight: float | None  # None: all datasets alike
    arrival_cost: float | None = None  # the objective's limit, ``plan.arrival_cost``
    unfinished: list[str] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)  # loss of the release before the update, by dataset
    bits_before: dict[str, float] = field(default_factory=dict)  # the same in bits per byte

    @property
    def fit(self) -> list[Row]:
        """The rows that an update of the lineage could follow."""
        return [row for row in self.rows if not (row.kind in BASELINES and BASELINES[row.kind].scratch)]

    @property
    def best(self) -> Row | None:
        """The row that an update of the lineage should follow by the objective; None if no row is finished."""
        names = {row.name: row for row in self.fit}
        best = choose_best({name: self.standing(row) for name, row in names.items()}, self.arrival_cost)
        return None if best is None else names[best]

    def standing(self, row: Row) -> Standing:
        """Return a row's figures for the objective."""
        return Standing(row.score, self.cost_of(row))

    def cost_of(self, row: Row) -> float | None:
        """Return how far a row's loss on the arrival is above that of the same row without replay, in nats.

        None if no such row is finished, or the row replays by domains, whose share is not a setting.
        """
        without = next((one for one in self.fit if shares_of(one) == 0 and rest_of(one) == rest_of(row)), None)
        if without is None:
            return None
        pairs = [(row.losses[name], without.losses[name]) for name in self.arrivals if name in row.losses]
        return statistics.fmean(mine.mean - theirs.mean for mine, theirs in pairs) if pairs else None

    def behind(self, row: Row) -> Difference | None:
        """Return how far a row's score is above the best row's, over the seeds that both have; None for itself."""
        best = self.best
        if best is None or row.name == best.name:
            return None
        found = [row.scores[seed] - best.scores[seed] for seed in row.scores if seed in best.scores]
        return difference(found) if found else None

    @property
    def objective(self) -> list[str]:
        """What the objective's limit decided, in words; nothing if it is off."""
        if self.arrival_cost is None or not self.fit:
            return []
        standings = {row.name: self.standing(row) for row in self.fit}
        unknown = [name for name, one in standings.items() if one.cost is None]
        beyond = {name: one.cost for name, one in standings.items() if not within(one, self.arrival_cost)}
        found = []
        if beyond:
            listed = ", ".join(f"{name} {cost:+.3f}" for name, cost in beyond.items())
            found.append(
                f"★ leaves out {len(beyond)} rows whose arrival is more than plan.arrival_cost = {self.arrival_cost:g} "
                f"nats above the same row without replay: {listed}"
                + ("; no row is within it" if len(beyond) == len(standings) else "")
            )
        if unknown:
            found.append(
                f"plan.arrival_cost = {self.arrival_cost:g} could not be checked for {len(unknown)} of "
                f"{len(standings)} rows: none of the same settings has replay.share=0"
            )
        return found

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

    def row_to_json(self, row: Row) -> dict[str, Any]:
        """Return a row as JSON types, with its figures against other rows."""
        behind = self.behind(row)
        compared = {"arrival_cost": self.cost_of(row), "behind_best": None if behind is None else asdict(behind)}
        return {**row.to_json(), **compared}

    def to_json(self) -> dict[str, Any]:
        """As JSON types: what ``rewarm study --json`` prints."""
        return {
            "study": self.name,
            "earlier": self.earlier,
            "arrivals": self.arrivals,
            "old_weight": self.old_weight,
            "arrival_cost": self.arrival_cost,
            "before": {"losses": self.before, "bits_per_byte": self.bits_before},
            "rows": [self.row_to_json(row) for row in self.rows],
            "best": self.best.to_json() if self.best else None,
            "compute": self.compute,
            "unfinished": self.unfinished,
        }


def shares_of(row: Row) -> float | None:
    """Return the share of replay that a row's settings ask for; None if they leave it to the recipe."""
    share = row.settings.get(SHARE)
    return float(share) if isinstance(share, int | float) else None


def rest_of(row: Row) -> dict[str, Any]:
    """Return a row's settings without its share of replay, and without those that only replay reads."""
    replay = SHARE.partition(".")[0]
    return {name: value for name, value in row.settings.items() if name.partition(".")[0] != replay}


def collect(
    workspace: StudyWorkspace, trials: Sequence[Trial], old_weight: float | None, arrival_cost: float | None = None
) -> Study:
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
    measured = workspace.study / BEFORE
    before = outcome_of(measured, EvaluateOutcome) if measured.committed() else EvaluateOutcome()
    return Study(
        *(workspace.study.name, earlier, arrivals, rows, old_weight, arrival_cost, unfinished),
        before=before.losses.get("release", {}),
        bits_before=before.bits_per_byte.get("release", {}),
    )


def row_of(results: list[Result], arrivals: Sequence[str], old_weight: float | None, meaning: str = "") -> Row | None:
    """Return one row from the results of its seeds; None if every run was stopped early."""
    updates = [result.update for result in results if result.update is not None]
    if not updates:
        return None
    trial = results[0].trial
    losses = [update.losses["release"] for update in updates]
    halves = [mean_loss(one, arrivals, 0.5) for one in losses]
    mean = spread(halves)
    seeds = [result.trial["seed"] for result in results if result.update is not None]
    scored = {str(seed): mean_loss(one, arrivals, old_weight) for seed, one in zip(seeds, losses, strict=True)}
    trained = updates[0].tokens.planned + updates[0].tokens.annealed
    return Row(
        name=trial["label"],
        kind=trial["kind"],
        settings=trial["settings"],
        seeds=seeds,
        losses=spreads(losses),
        window_losses=spreads([update.window_losses.get("trunk", {}) for update in updates]),
        mean=mean.mean,
        mean_spread=mean.spread,
        score=statistics.fmean(scored.values()),
        bits_per_byte=spreads([update.bits_per_byte.get("release", {}) for update in updates]),
        scores=scored,
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


def difference(values: Sequence[float]) -> Difference:
    """Return the mean of differences paired by seed, with half of its 95 % interval: t · s / √n (Student's t)."""
    if len(values) < 2:
        return Difference(values[0], None, 1)
    from scipy.stats import t

    error = statistics.stdev(values) / math.sqrt(len(values))
    return Difference(statistics.fmean(values), float(t.ppf(0.975, len(values) - 1)) * error, len(values))
