"""Settings for an update by rules from the literature, each with its reason. Pure functions."""

from dataclasses import dataclass
from typing import Any

from rewarm.pipeline.shift.shift import Shift
from rewarm.stages.train import CARRIED_ON, DECAYING

WEAK_SHARE, STRONG_SHARE = 0.05, 0.25


@dataclass(frozen=True)
class Choice:
    """One setting."""

    value: Any
    because: str


@dataclass(frozen=True)
class Situation:
    """Facts about the lineage and its recipe on which the choices depend."""

    has_data: bool  # whether there is earlier data to replay
    follows: str | None  # kind of schedule of the last trained update; None: imported, trained elsewhere
    budget: int | None  # budget.update_tokens
    anneal_share: float  # anneal.share


def choose(shift: Shift, situation: Situation) -> dict[str, Choice]:
    """Choose the settings of the update, by name."""
    return {
        "replay.share": replay_share(shift),
        "replay.source": replay_source(situation),
        "schedule.kind": schedule_kind(situation),
        "schedule.peak_multiplier": Choice(
            1.0,
            "the recipe's η_max as it is: half of it adapts less and forgets less, twice of it the reverse (Ibrahim et "
            "al. 2024, section 6.1.2)",
        ),
        "anneal.share": anneal_share(situation),
        "budget.update_tokens": budget(situation),
        "train.keep_optimizer": Choice(False, "the papers reset its state between datasets (Ibrahim et al. 2024)"),
    }


def base_choices() -> dict[str, Choice]:
    """Choose the settings of a base; nothing is measured because no data precedes it."""
    return {
        "replay.share": Choice(WEAK_SHARE, "a base replays nothing; its updates choose their own share"),
        "schedule.kind": Choice(
            "infinite",
            "a lineage that begins here can warm up and cool down once, so that no update re-warms "
            "(Ibrahim et al. 2024, section 7.2)",
        ),
    }


def replay_share(shift: Shift) -> Choice:
    """Choose 5 % of every batch for a weak shift, 25 % otherwise."""
    measured = "; ".join(shift.because)
    if shift.strength == "weak":
        return Choice(
            WEAK_SHARE,
            f"weak shift ({measured}): 5 % kept the old loss within 0.07 nats of 50 % for 0.01 on the new data "
            "(Ibrahim et al. 2024, sections 6.2 and 6.3). For a long series of similar crawls TiC-LM (arXiv "
            "2504.02107) found 50 % best",
        )
    if shift.strength == "unclear":
        return Choice(
            STRONG_SHARE,
            f"unclear shift ({measured}), so the cautious choice: too much replay costs the new data little (1.16 nats "
            "at 25 % against 1.13), too little costs the old much (2.57 against 2.33; Ibrahim et al. 2024, sections "
            "6.2 and 6.3)",
        )
    return Choice(
        STRONG_SHARE,
        f"strong shift ({measured}): a new language cost 0.24 nats less of the old at 25 % than at 5 %, for 0.03 "
        "on the new data (Ibrahim et al. 2024, sections 6.2 and 6.3)",
    )


def replay_source(situation: Situation) -> Choice:
    """Choose real data if there is any."""
    if situation.has_data:
        return Choice("earlier", "the earlier datasets' own tokens are in the workspace")
    return Choice(
        "distilled",
        "the model came without its data; replaying what it writes itself kept most of what it knew (arXiv 2605.26097)",
    )


def schedule_kind(situation: Situation) -> Choice:
    """Continue the trunk's schedule; re-warm a trunk that was decayed."""
    follows = situation.follows
    if follows in CARRIED_ON:
        return Choice(
            follows,
            "the trunk is at a constant rate, so nothing is re-warmed and a release is annealed on a branch "
            "(Ibrahim et al. 2024, section 7.2)",
        )
    if follows in DECAYING:
        return Choice(follows, f"the lineage's own: re-warm and re-decay ({follows}) in every update, as before")
    state = "the model was decayed where it was trained" if follows is None else f"the trunk followed {follows}"
    return Choice(
        "cosine",
        f"{state}: re-warming and re-decaying, with replay, matched re-training (Ibrahim et al. 2024, sections 6.1 and "
        "6.3)",
    )


def anneal_share(situation: Situation) -> Choice:
    """Choose the length of the branch that produces a release."""
    if situation.follows in CARRIED_ON:
        return Choice(situation.anneal_share, "the recipe's; about 15 % in Ibrahim et al. 2024, section 7.2")
    return Choice(0.0, "a schedule that decays ends in a release by itself")


def budget(situation: Situation) -> Choice:
    """Choose how long to train."""
    if situation.budget is None:
        return Choice(
            None, "one pass: as many tokens as the arrival holds, replay included (Ibrahim et al. 2024, section 4.2)"
        )
    return Choice(situation.budget, "the recipe's")
