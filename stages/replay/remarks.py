"""Remarks on a mixture: what rounding, a floor or too little data leave out, with its number.

A share that gives no sequence, a tail that is not trained or a dataset that is not replayed is no error, but nobody
would find it in the sums.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rewarm.stages.data.mixture import Mixture
from rewarm.stages.replay.lineage import Carried, tokens_of
from rewarm.stages.replay.settings import ReplaySettings
from rewarm.stages.replay.shares import Division

if TYPE_CHECKING:
    from rewarm.stages.replay.run import ReplayOutcome

NAMED = 5  # most names in one remark
SMALL = 0.001  # part of an arrival that may stay untrained without a remark; the record has the number either way


def remarks(
    outcome: "ReplayOutcome",
    mixture: Mixture,
    settings: ReplaySettings,
    division: Division,
    budget: int | None,
    carried: Carried,
) -> list[str]:
    """What is not as a reader of the settings would expect it."""
    return [
        *of_arrivals(outcome, mixture, budget),
        *division.notes,
        *of_share(outcome, mixture, settings),
        *of_parts(outcome, mixture, division, carried),
    ]


def named(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def of_arrivals(outcome: "ReplayOutcome", mixture: Mixture, budget: int | None) -> list[str]:
    """What of the arrivals is not trained, or more than once; what of the budget is not used."""
    found = []
    for name, part in outcome.arrivals.items():
        if not part["tokens"] > mixture.seq_len:
            found.append(
                f"{name}: its {part['tokens']:,} training tokens do not fill a sequence of {mixture.seq_len}: nothing "
                "of it is trained, and it does not count as learned. Add data to it, or lower train.seq_len"
            )
        elif part["untrained"] > SMALL * part["tokens"]:
            why = ""
            if part["passes"] < 1 and mixture.replayed and budget is None:
                why = "; replay takes their place, so that the update costs the arrival's tokens"
            elif part["passes"] < 1 and budget is not None:
                why = f"; the budget is {budget:,} tokens"
            elif part["passes"] >= 1:
                why = ": they do not fill a sequence"
            found.append(
                f"{name}: {part['untrained']:,} tokens are not trained, of {part['tokens']:,} "
                f"({part['untrained'] / part['tokens']:.1%}){why}"
            )
        if part["passes"] > 1:
            found.append(f"{name} is read {part['passes']:.2f} times, each time in another order")
    if budget is not None and budget > outcome.planned:
        found.append(
            f"{budget - outcome.planned:,} tokens of the budget of {budget:,} are less than a step of "
            f"{mixture.tokens_per_step:,} and are not trained"
        )
    return found


def of_share(outcome: "ReplayOutcome", mixture: Mixture, settings: ReplaySettings) -> list[str]:
    """A share that is not applied, is lifted to the floor, or gives no sequence."""
    wanted, places = outcome.requested, mixture.steps * mixture.global_batch
    if not wanted:
        return []
    if not outcome.by_dataset:
        return [
            f"no earlier data to replay; the share of {wanted:.2%} ({wanted * places:.1f} sequences) is not applied"
        ]
    found = []
    if wanted < settings.floor:
        found.append(
            f"the share of {wanted:.2%} is lifted to the floor of {settings.floor:.2%} (replay.floor): "
            f"{settings.floor * outcome.planned:,.0f} tokens instead of {wanted * outcome.planned:,.0f}"
        )
    share = max(wanted, settings.floor)
    if not outcome.replayed:
        found.append(
            f"nothing is replayed in this update: the share of {share:.2%} of {places} sequences is "
            f"{share * places:.2f} of a sequence; the next update makes up for it"
        )
    return found


def of_parts(outcome: "ReplayOutcome", mixture: Mixture, division: Division, carried: Carried) -> list[str]:
    """Datasets (or domains) that get nothing in this update, or are read several times or in another length."""
    found = []
    if division.short:
        names = [f"{key} ({tokens:,})" for key, tokens in division.short.items()]
        found.append(f"not replayed, as their tokens do not fill a sequence of {mixture.seq_len}: {named(names)}")
    without = [key for key, part in outcome.by_dataset.items() if part["due"] and not part["sequences"]]
    if without and outcome.replayed:
        due = sum(outcome.by_dataset[key]["due"] for key in without)
        found.append(
            f"no sequence in this update for {len(without)} of {len(outcome.by_dataset)} parts of replay, whose turn "
            f"it is not yet: {named(without)}. Their {due:,.0f} tokens are carried to the next update"
        )
    for source in mixture.replayed:
        part = outcome.by_dataset[source.key]
        passes = part["sequences"] / source.num_sequences
        if passes > 1:
            found.append(f"{source.key} is read {passes:.2f} times, each time in another order")
        runs = carried.read.get(source.key, ())
        if part["from"] and runs[-1][0] != mixture.seq_len:
            found.append(
                f"{source.key} was replayed in sequences of {runs[-1][0]} tokens before; it goes on at token "
                f"{tokens_of(runs):,} of its order with what was not read yet, in sequences of {mixture.seq_len}"
            )
    return found
