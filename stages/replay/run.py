"""Decide what an update trains on: the arrival's sequences, and among them those replayed from earlier datasets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import xxhash

from stages.errors import UsageError
from stages.mixture import MAX_DENOMINATOR, Mixture, Source, apportion
from stages.progress import Progress
from stages.replay.settings import ReplaySettings
from stages.replay.weights import Division, Earlier, Part, check_names, divide
from stages.storage import Folder
from stages.tokens import TokenSet, write_selection

MIXTURE = "mixture.json"
SELECTIONS = "selections.json"  # where the selection of each source that has one lies, relative to the mixture
DOMAINS = "domains"  # folder of the domains' selections


@dataclass(frozen=True)
class ReplayOutcome:
    """What will be trained: tokens in all, new ones, and those replayed, by source."""

    planned: int
    new: int
    replayed: int
    requested: float  # the share that the settings ask for: given, or left by the web's
    achieved: float
    source: str  # "earlier datasets", or "none" where there is nothing to replay
    epochs: float  # passes over the arrival
    by_dataset: dict[str, dict[str, Any]]  # key of a source → dataset, sequences, tokens, share, order, from, to


def check(settings: ReplaySettings, earlier: Sequence[Earlier], arrivals: Sequence[str], seq_len: int) -> None:
    """Refuse names in the settings that the data does not have; ``UsageError`` says what there is."""
    check_names(settings, [dataset.name for dataset in earlier], arrivals)
    if settings.mixture == "domains":
        divide(earlier, settings, seq_len)


def run(
    arrivals: Mapping[str, TokenSet],
    earlier: Sequence[Earlier],
    positions: Mapping[str, int],
    out: Folder,
    settings: ReplaySettings,
    seq_len: int,
    global_batch: int,
    budget: int | None,
    seed: int,
    update: str,
    progress: Progress,
    view: str = "",
    weights: Mapping[str, int] | None = None,
) -> ReplayOutcome:
    """Write ``out/mixture.json`` for the arrivals (name → training shards; usually one).

    ``budget`` is the tokens to train (null: all the arrivals hold), cut to whole global batches. ``positions`` say by
    key of a source where its replay stopped in its own order; ``update`` (its id) and the seed decide a reshuffled
    one. ``view`` names the selection of those arrivals that are one; several arrivals share the new part by
    ``weights``, or by their tokens. Where domains are drawn, ``out`` also holds which documents they are. Raises
    ``UsageError`` where the arrivals do not fill one global batch, and for settings that name what is not there.
    """
    assert settings.share != "auto", "the plan resolves it before replay"
    check_names(settings, [dataset.name for dataset in earlier], list(arrivals))
    new = new_sources(arrivals, seq_len, seed, view, weights or {})
    available = sum(source.num_sequences for source in new)
    wanted = available if budget is None else budget // seq_len
    steps = wanted // global_batch
    if not steps or not available:
        raise UsageError(
            f"{', '.join(arrivals)}: the training split makes {available} sequences of {seq_len} tokens, and the "
            f"budget allows {wanted}; one step takes {global_batch}. Add data, or lower train.global_batch."
        )
    progress.begin("dividing the replay", len(earlier), "datasets")
    division = divide(earlier, settings, seq_len)
    requested = Fraction(settings.share) if division.share is None else division.share
    share = share_of(requested, settings.floor) if division.parts else Fraction(0)
    draw = xxhash.xxh3_64_intdigest(f"{seed}/{update}".encode())
    replayed = replayed_sources(division.parts, positions, settings, draw)
    mixture = Mixture(new, replayed if share else (), str(share), seq_len, global_batch, steps)
    write_selections(out, arrivals, new, division.parts)
    out.write_json(MIXTURE, mixture.to_json())
    outcome = account(mixture, float(requested), settings.order)
    for text in remarks(outcome, mixture, settings.floor, division):
        progress.note(f"replay: {text}")
    return outcome


def new_sources(
    arrivals: Mapping[str, TokenSet], seq_len: int, seed: int, view: str, weights: Mapping[str, int]
) -> tuple[Source, ...]:
    """The arrivals that hold at least one sequence, weighted as given, or by their tokens."""
    sources = []
    for name, tokens in arrivals.items():
        stream = tokens.open()
        if count := stream.num_sequences(seq_len):
            seen = view if tokens.selection is not None else ""
            sources.append(Source(name, count, seed, weight=weights.get(name, stream.num_tokens), view=seen))
    return tuple(sources)


def share_of(requested: Fraction, floor: float) -> Fraction:
    """The share of replay, not below the floor unless it is 0; as a fraction that a mixture can count with."""
    share = max(requested, Fraction(floor)) if requested else requested
    return share.limit_denominator(MAX_DENOMINATOR)


def replayed_sources(
    parts: Sequence[Part], positions: Mapping[str, int], settings: ReplaySettings, draw: int
) -> tuple[Source, ...]:
    """The parts as a mixture reads them: in their own order from where they stopped, or in the order ``draw``."""
    weights = apportion([part.weight for part in parts]) if parts else ()
    sources = []
    for part, weight in zip(parts, weights, strict=True):
        own = Source(part.dataset.name, part.num_sequences, part.dataset.order_seed, 0, weight, part.domain)
        if settings.order == "reshuffled":
            own = replace(own, order_seed=draw)
        elif settings.position == "continue":
            own = replace(own, start=positions.get(own.key, 0))
        sources.append(own)
    return tuple(sources)


def write_selections(
    out: Folder, arrivals: Mapping[str, TokenSet], new: Sequence[Source], parts: Sequence[Part]
) -> None:
    """Keep which documents the domains are, and where the selections of all sources lie."""
    places: dict[str, str] = {}
    for source in new:
        if (selection := arrivals[source.dataset].selection) is not None:
            places[source.key] = selection.relative_to(out)
    for number, part in enumerate(parts):
        if part.domains is not None:
            write_selection(out / DOMAINS / f"{number:03d}", part.domains.rows(part.domain))
            places[f"{part.dataset.name}@{part.domain}"] = f"{DOMAINS}/{number:03d}"
    out.write_json(SELECTIONS, places)


def token_sets(folder: Folder, mixture: Mixture, shards: Callable[[str], Folder]) -> dict[str, TokenSet]:
    """What each source of the mixture in ``folder`` reads, by its key; ``shards`` finds a dataset's training shards."""
    places: dict[str, str] = folder.read_json(SELECTIONS) if folder.exists(SELECTIONS) else {}
    return {
        source.key: TokenSet(
            shards(source.dataset),
            folder.at(places[source.key]) if source.key in places else None,
        )
        for source in mixture.sources
    }


def account(mixture: Mixture, requested: float, order: str = "original") -> ReplayOutcome:
    """What the whole mixture takes from each source, and the share that this makes."""
    counts = mixture.count(0, mixture.steps)
    total, fresh = sum(counts), sum(counts[: len(mixture.new)])
    by_dataset = {
        source.key: {
            "dataset": source.dataset,
            "sequences": count,
            "tokens": count * mixture.seq_len,
            "share": count / total,
            "order": order,
            "from": source.start,
            "to": source.start + count,
        }
        for source, count in zip(mixture.replayed, counts[len(mixture.new) :], strict=True)
    }
    return ReplayOutcome(
        planned=total * mixture.seq_len,
        new=fresh * mixture.seq_len,
        replayed=(total - fresh) * mixture.seq_len,
        requested=requested,
        achieved=(total - fresh) / total,
        source="earlier datasets" if mixture.replayed else "none",
        epochs=max(count / source.num_sequences for source, count in zip(mixture.new, counts, strict=False)),
        by_dataset=by_dataset,
    )


def remarks(outcome: ReplayOutcome, mixture: Mixture, floor: float, division: Division) -> list[str]:
    """What is not as a reader of the settings would expect it."""
    found = list(division.notes)
    if outcome.requested and not mixture.replayed:
        found.append(f"no earlier data to replay; the share of {outcome.requested:.0%} is not applied")
    elif 0 < outcome.requested < floor:
        found.append(f"the share of {outcome.requested:.2%} is lifted to the floor of {floor:.2%} (replay.floor)")
    for source in mixture.replayed:
        passes = outcome.by_dataset[source.key]["sequences"] / source.num_sequences
        if passes > 1:
            found.append(f"{source.key} is read {passes:.2f} times, each time in another order")
    if outcome.epochs > 1:
        found.append(f"the budget asks for {outcome.epochs:.2f} passes over the arrival, each in another order")
    return found
