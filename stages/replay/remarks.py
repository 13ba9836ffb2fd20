"""Remarks on a mixture: data left out because of rounding, a floor or too few tokens, with the figures.

A share that rounds to no sequence, an untrained tail or a dataset that is not replayed is not an error, but it would go
unnoticed in the totals.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rewarm.stages.data.mixture import Mixture, branch_steps
from rewarm.stages.replay.lineage import Carried, tokens_of
from rewarm.stages.replay.settings import ReplaySettings
from rewarm.stages.replay.shares import Division

if TYPE_CHECKING:
    from rewarm.stages.replay.run import Budget, ReplayOutcome

NAMED = 5  # most names in one remark
SMALL = 0.001  # fraction of an arrival that may stay untrained without a remark; the record has the figure either way


def remarks(
    outcome: "ReplayOutcome",
    mixture: Mixture,
    settings: ReplaySettings,
    division: Division,
    budget: "Budget",
    carried: Carried,
) -> list[str]:
    """Return a line for each way in which the mixture differs from what the settings suggest."""
    return [
        *of_arrivals(outcome, mixture, budget),
        *of_budget(outcome, mixture, budget),
        *division.notes,
        *of_share(outcome, mixture, settings),
        *of_parts(outcome, mixture, division, carried),
    ]


def named(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def of_arrivals(outcome: "ReplayOutcome", mixture: Mixture, budget: "Budget") -> list[str]:
    """Report arrival tokens that are not trained or trained repeatedly."""
    found, trunk = [], " by the trunk" if budget.branch else ""
    for name, part in outcome.arrivals.items():
        if not part["tokens"] > mixture.seq_len:
            found.append(
                f"{name}: its {part['tokens']:,} training tokens do not fill a sequence of {mixture.seq_len}: none of "
                "it is trained, and it does not count as learned. Add data to it, or lower train.seq_len"
            )
        elif part["untrained"] > SMALL * part["tokens"]:
            why = ""
            if part["passes"] < 1 and mixture.replayed and budget.tokens is None:
                why = "; replayed tokens replace them, so that the update costs as much as the arrival alone"
            elif part["passes"] < 1 and budget.tokens is not None:
                why = f"; the budget is {budget.tokens:,} tokens"
            elif part["passes"] >= 1:
                why = ": they do not fill a sequence"
            if part["passes"] < 1 and (annealed := annealed_tokens(mixture, budget)):
                why += f"; the anneal trains {annealed:,} tokens inside of this amount"
            found.append(
                f"{name}: {part['untrained']:,} of {part['tokens']:,} tokens are not trained{trunk} "
                f"({part['untrained'] / part['tokens']:.1%}){why}"
            )
        if part["passes"] > 1:
            found.append(f"{name} is read {part['passes']:.2f} times, each time in a different order")
    return found


def of_budget(outcome: "ReplayOutcome", mixture: Mixture, budget: "Budget") -> list[str]:
    """Report what whole steps leave over of a budget."""
    annealed = annealed_tokens(mixture, budget)
    left = 0 if budget.tokens is None else budget.tokens - outcome.planned - annealed
    if left <= 0:
        return []
    steps = f"step of {mixture.tokens_per_step:,} tokens"
    why = f"fill no further {steps} of trunk or anneal" if annealed else f"are less than one {steps}"
    return [f"{left:,} tokens of the budget of {budget.tokens:,} {why} and are not trained"]


def annealed_tokens(mixture: Mixture, budget: "Budget") -> int:
    """Return the tokens of an update that its anneal trains, not counting an anneal on top of them."""
    return branch_steps(mixture.steps, budget.branch) * mixture.tokens_per_step


def of_share(outcome: "ReplayOutcome", mixture: Mixture, settings: ReplaySettings) -> list[str]:
    """Report a share that is not applied, is raised to the floor, or rounds to no sequence."""
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
            f"the share of {wanted:.2%} is raised to the floor of {settings.floor:.2%} (replay.floor): "
            f"{settings.floor * outcome.planned:,.0f} tokens instead of {wanted * outcome.planned:,.0f}"
        )
    share = max(wanted, settings.floor)
    if not outcome.replayed:
        found.append(
            f"nothing is replayed in this update: the share of {share:.2%} of {places} sequences is "
            f"{share * places:.2f} sequences; the next update makes up for it"
        )
    return found


def of_parts(outcome: "ReplayOutcome", mixture: Mixture, division: Division, carried: Carried) -> list[str]:
    """Report datasets (or domains) that are not replayed in this update, or repeatedly, or at another length."""
    found = []
    if division.short:
        names = [f"{key} ({tokens:,})" for key, tokens in division.short.items()]
        found.append(f"not replayed because their tokens do not fill a sequence of {mixture.seq_len}: {named(names)}")
    without = [key for key, part in outcome.by_dataset.items() if part["due"] and not part["sequences"]]
    if without and outcome.replayed:
        due = sum(outcome.by_dataset[key]["due"] for key in without)
        found.append(
            f"{len(without)} of {len(outcome.by_dataset)} parts of replay round to no sequence in this update: "
            f"{named(without)}. Their {due:,.0f} tokens are carried to the next update"
        )
    for source in mixture.replayed:
        part = outcome.by_dataset[source.key]
        passes = part["sequences"] / source.num_sequences
        if passes > 1:
            found.append(f"{source.key} is read {passes:.2f} times, each time in a different order")
        runs = carried.read.get(source.key, ())
        if part["from"] and runs[-1][0] != mixture.seq_len:
            found.append(
                f"{source.key} was replayed in sequences of {runs[-1][0]} tokens before; it continues with the unread "
                f"tokens of its order, from token {tokens_of(runs):,}, in sequences of {mixture.seq_len}"
            )
    return found
