"""The objective of an update: what decides between the settings that a study or a forecast compares.

The lowest mean loss over all datasets, old and new, among the settings whose loss on the arrival is at most
``plan.arrival_cost`` above that of the same update without replay. Without the limit the mean alone would choose ever
more replay where the old text is far from learned, and the update would no longer learn what it was run for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

Key = TypeVar("Key")


@dataclass(frozen=True)
class Standing:
    """One candidate's figures, in nats per token."""

    mean: float  # over all datasets, or by the user's weights
    cost: float | None  # of its replay: the arrival's loss above that without replay; None: not known


def mean_loss(losses: Mapping[str, float], arrivals: Sequence[str], old_weight: float | None = None) -> float:
    """Return the mean over all datasets, or ``old_weight`` × the earlier ones' mean + the rest × the arrivals'; nats.

    If there are only earlier or only new datasets, their mean; NaN without any.
    """
    new = [loss for name, loss in losses.items() if name in arrivals]
    old = [loss for name, loss in losses.items() if name not in arrivals]
    if old_weight is None or not new or not old:
        return fmean([*new, *old]) if new or old else float("nan")
    return old_weight * fmean(old) + (1 - old_weight) * fmean(new)


def within(standing: Standing, limit: float | None) -> bool:
    """Return whether a candidate's arrival costs at most ``limit`` (None: any), or it is not known."""
    return limit is None or standing.cost is None or standing.cost <= limit


def choose_best(candidates: Mapping[Key, Standing], limit: float | None) -> Key | None:
    """Return the candidate of the lowest mean within the limit; the one of the least cost if none is; None of none."""
    allowed = [key for key, standing in candidates.items() if within(standing, limit)]
    if allowed:
        return min(allowed, key=lambda key: candidates[key].mean)
    return min(candidates, key=lambda key: candidates[key].cost or 0.0, default=None)
