"""Data of the branch: a mixture derived from the trunk's, as a pure function of it and of the settings.

Replayed datasets continue from the position where the trunk stopped reading them, so the branch does not repeat the
trunk's replay. The lineage's replay state counts the trunk alone: the next update starts from the trunk, which has not
seen the branch's data, and may replay it for the first time.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from rewarm.stages.anneal.settings import AnnealSettings
from rewarm.stages.core.errors import UsageError
from rewarm.stages.data.mixture import MAX_DENOMINATOR, Mixture, Source
from rewarm.stages.data.tokens import TokenSet

BEST = "best"  # view of an arrival with its best documents only


@dataclass(frozen=True)
class Reading:
    """Steps ``first`` to ``first + steps - 1`` of a mixture, and their description in ``what``."""

    mixture: Mixture
    first: int
    steps: int
    what: str


def reading(trunk: Mixture, settings: AnnealSettings, best: tuple[Source, ...] = ()) -> Reading:
    """Return the data of a branch off the end of ``trunk``, ``settings.share`` of the trunk's steps long.

    ``tail``: the trunk's last steps unchanged. ``next``: the steps that would follow them. ``best``: ``best`` (see
    ``best_sources``) replaces the new sources, with the trunk's share of replay. ``replay``: ``settings.replay_share``
    of replay, and the last sequences of each new source that the trunk read; if they are too few, also the ones that
    follow. If the trunk's mixture has no replayed source, there is nothing to replay and the tail is read.
    """
    steps = settings.steps(trunk.steps)
    tail = Reading(trunk, trunk.steps - steps, steps, "the tail of the mixture")
    if settings.data == "tail":
        return tail
    if settings.data == "next":
        mixture = dataclasses.replace(trunk, steps=trunk.steps + steps)
        what = f"what the mixture reads next, {unread(mixture, trunk.steps):.0%} of its new text not read before"
        return Reading(mixture, trunk.steps, steps, what)
    if settings.data == "replay" and not trunk.replayed:
        return dataclasses.replace(tail, what=f"{tail.what}, because the trunk replayed nothing")
    ends = [source.start + count for source, count in zip(trunk.sources, trunk.count(0, trunk.steps), strict=True)]
    replayed = tuple(
        dataclasses.replace(source, start=end)
        for source, end in zip(trunk.replayed, ends[len(trunk.new) :], strict=True)
    )
    if settings.data == BEST:
        mixture = dataclasses.replace(trunk, new=best, replayed=replayed, steps=steps, carried=0)
        return Reading(mixture, 0, steps, f"the best {settings.best_share:.0%} of the arrival")
    share = Fraction(settings.replay_share).limit_denominator(MAX_DENOMINATOR)
    mixture = dataclasses.replace(trunk, replayed=replayed, share=str(share), steps=steps, carried=0)
    new = tuple(
        dataclasses.replace(source, start=max(source.start, end - count))
        for source, end, count in zip(trunk.new, ends, mixture.count(0, steps), strict=False)
    )
    mixture = dataclasses.replace(mixture, new=new)
    return Reading(mixture, 0, steps, f"a mixture with {settings.replay_share:.0%} of replay")


def best_sources(trunk: Mixture, best: Mapping[str, TokenSet]) -> tuple[Source, ...]:
    """Return the best parts of the trunk's new datasets as sources, each in a separate order, weighted by sequences.

    ``best`` maps the name of every new dataset to its best documents. A dataset whose best part does not fill a
    sequence is left out. Raises ``UsageError`` if a dataset is missing, or no best part fills a sequence.
    """
    seeds = {source.dataset: source.order_seed for source in trunk.new}
    if missing := sorted(set(seeds) - set(best)):
        raise UsageError(
            f"anneal.data best: no best part was selected of {', '.join(missing)}; set anneal.data to tail"
        )
    sources = []
    for dataset, seed in seeds.items():
        stream = best[dataset].open()
        if count := stream.num_sequences(trunk.seq_len):
            sources.append(Source(dataset, count, seed, weight=count, view=BEST, num_tokens=stream.num_tokens))
    if not sources:
        raise UsageError(
            f"anneal.data best: the best part of {', '.join(seeds)} fills no sequence of {trunk.seq_len} tokens; "
            "raise anneal.best_share"
        )
    return tuple(sources)


def unread(mixture: Mixture, first: int) -> float:
    """Return the share of the arrival's sequences from step ``first`` to the end that no earlier step reads."""
    before, after = (mixture.count(0, steps)[: len(mixture.new)] for steps in (first, mixture.steps))
    fresh = sum(
        max(0, min(end, source.num_sequences - source.start) - start)
        for source, start, end in zip(mixture.new, before, after, strict=True)
    )
    return fresh / max(1, sum(after) - sum(before))
