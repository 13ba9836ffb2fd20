"""Settings of a study: the baselines that it can include, and how its trials are executed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EARLY_STOP = ("none", "asha", "median")


@dataclass(frozen=True)
class Baseline:
    """A baseline of the papers."""

    name: str
    because: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    scratch: bool = False  # random weights instead of the trunk


CONSTANT = {"schedule.kind": "constant", "anneal.share": 0.0}
BASELINES = {
    one.name: one
    for one in (
        Baseline("joint", "from scratch on all data so far and the arrival: the cost that an update saves", {}, True),
        Baseline("arrival-only", "from scratch on the arrival alone", {}, True),
        Baseline("d0-only", "from scratch on the earlier data alone: what the model has before the update", {}, True),
        Baseline(
            "constant-min", "no re-warming: constant at η_min (section 6.1.2)", {**CONSTANT, "schedule.level": "min"}
        ),
        Baseline(
            "constant-max", "re-warmed, then constant at η_max (section 6.1.2)", {**CONSTANT, "schedule.level": "max"}
        ),
        Baseline(
            "no-rewarm",
            "decays on from the rate at which the trunk ended",
            {"schedule.kind": "cosine", "schedule.rewarm": False},
        ),
        Baseline("no-replay", "the recipe without replay", {"replay.share": 0.0}),
    )
}


@dataclass(frozen=True)
class Options:
    """Execution options of a study; they do not affect the results of trials."""

    concurrent: int | None = None  # trials side by side; None: as many as the cluster's CPUs or GPUs hold
    early_stop: str = "none"  # "asha", "median": trials whose score lags behind are ended
    old_weight: float | None = None  # of the earlier datasets' mean loss; the arrival's has the rest; None: all alike
    from_base: bool = False  # whether each further seed also trains a base of its own
