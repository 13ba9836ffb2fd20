"""The replay stage: builds the mixture of an update from the arrival's sequences and those of earlier datasets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import xxhash

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import ORDER_VERSION, Mixture, Source, steps_for, trunk_steps
from rewarm.stages.data.order import Order
from rewarm.stages.data.tokens import TokenSet, write_selection
from rewarm.stages.replay.lineage import Carried, allot, locate, tokens_of, total_of
from rewarm.stages.replay.remarks import remarks
from rewarm.stages.replay.settings import ReplaySettings, exact_share
from rewarm.stages.replay.shares import Earlier, Part, check_names, divide

MIXTURE = "mixture.json"
SELECTIONS = "selections.json"  # path of each source's selection, relative to the mixture
DOMAINS = "domains"  # folder with the selections of the domains


@dataclass(frozen=True)
class ReplayOutcome:
    """Outcome of replay: the tokens to be trained in all, the new ones, and the replayed ones by source."""

    planned: int
    new: int
    replayed: int
    requested: float  # share of replay by the settings: given, or what the web's share leaves
    achieved: float
    source: str  # "earlier datasets", or "none" if there is nothing to replay
    epochs: float  # passes over the arrival
    by_dataset: dict[str, dict[str, Any]]  # key of a source → dataset, sequences, tokens, due, share, order, from, to
    arrivals: dict[str, dict[str, Any]] = field(default_factory=dict)  # name → tokens, sequences, trained, untrained
    version: int = 1  # of the order: ``stages.data.mixture``
    notes: list[str] = field(default_factory=list)  # of what differs from what the settings suggest


@dataclass(frozen=True)
class Share:
    """Share of one part of replay in an update."""

    part: Part
    due: Fraction  # tokens
    count: int  # sequences

    def to_json(self, seq_len: int, start: int, settings: ReplaySettings, total: int) -> dict[str, Any]:
        """Return the record's form; ``start``: tokens of its order read before, ``total``: all sequences trained."""
        return {
            "dataset": self.part.dataset.name,
            "sequences": self.count,
            "tokens": self.count * seq_len,
            "due": float(self.due),
            "share": self.count / total,
            "order": settings.order,
            "from": start,
            "to": start + self.count * seq_len,
        }


@dataclass(frozen=True)
class Arrival:
    """The new data of an update: one or more datasets that arrive together.

    ``tokens`` are the training shards by name. Several datasets share the new part by ``weights``, or by their number
    of sequences. ``view`` names the selection of those that are selections.
    """

    tokens: Mapping[str, TokenSet]
    weights: Mapping[str, int] = field(default_factory=dict)
    view: str = ""


@dataclass(frozen=True)
class Budget:
    """The amount of training of an update.

    ``tokens`` are rounded down to whole global batches; None: ``passes`` times all tokens of the arrival, the last
    batch being completed from the next pass.
    """

    seq_len: int
    global_batch: int  # sequences per step
    tokens: int | None = None
    passes: int = 1
    branch: Fraction = Fraction(0)  # share of it that the anneal trains and not the trunk


@dataclass(frozen=True)
class Draw:
    """Source of an update's random orders: the recipe's seed, and the id of the update."""

    seed: int
    update: str

    @property
    def number(self) -> int:
        """Seed of a reshuffled order, another one for each update."""
        return xxhash.xxh3_64_intdigest(f"{self.seed}/{self.update}".encode())


def check(settings: ReplaySettings, earlier: Sequence[Earlier], arrivals: Sequence[str], seq_len: int) -> None:
    """Refuse settings that name data that does not exist: ``UsageError`` lists the names that do."""
    check_names(settings, [dataset.name for dataset in earlier], arrivals)
    if settings.mixture == "domains":
        divide(earlier, settings, seq_len)


def run(
    arrival: Arrival,
    earlier: Sequence[Earlier],
    carried: Carried,
    budget: Budget,
    draw: Draw,
    out: Folder,
    settings: ReplaySettings,
    progress: Progress,
) -> ReplayOutcome:
    """Write ``out/mixture.json`` for an arrival.

    ``carried`` is the replay state of earlier updates. If domains are replayed, ``out`` also holds their selections.
    Raises ``UsageError`` if the arrival does not fill one global batch, or if the settings name data that does not
    exist.
    """
    seq_len, global_batch = budget.seq_len, budget.global_batch
    assert settings.share != "auto", "the plan resolves auto before replay"
    check_names(settings, [dataset.name for dataset in earlier], list(arrival.tokens))
    held = {name: tokens.open().num_tokens for name, tokens in arrival.tokens.items()}
    new = new_sources(arrival, held, seq_len, draw.seed)
    available = sum(source.num_sequences for source in new)
    allowed = None if budget.tokens is None else budget.tokens // seq_len
    steps = trunk_steps(steps_for(available, allowed, global_batch, budget.passes), budget.branch)
    if not steps:
        most = available if allowed is None else allowed
        raise UsageError(
            f"{', '.join(arrival.tokens)}: the training split holds {available} sequences of {seq_len} tokens, and the "
            f"budget allows {most}; one step needs {global_batch}. Add data, or lower train.global_batch."
        )
    progress.begin("dividing the replay", len(earlier), "datasets")
    division = divide(earlier, settings, seq_len)
    requested = Fraction(str(settings.share)) if division.share is None else division.share
    share = exact_share(max(requested, Fraction(str(settings.floor)))) if requested and division.parts else Fraction(0)
    if share == 1:
        raise UsageError(
            f"replay: a share of {float(requested):.8f} leaves no room for the arrival; raise the web's share in "
            "replay.domain_shares"
        )
    shares, units = share_out(division.parts, carried, share, steps * global_batch, seq_len)
    replayed = tuple(replayed_source(one, carried, settings, draw.number, seq_len) for one in shares if one.count)
    mixture = Mixture(new, replayed, str(share if replayed else 0), seq_len, global_batch, steps, units)
    write_selections(out, arrival.tokens, new, [one.part for one in shares if one.count])
    out.write_json(MIXTURE, mixture.to_json())
    outcome = count_sources(mixture, float(requested), settings, shares, carried, held)
    outcome = replace(outcome, notes=remarks(outcome, mixture, settings, division, budget, carried))
    for text in outcome.notes:
        progress.note(f"replay: {text}")
    return outcome


def new_sources(arrival: Arrival, held: Mapping[str, int], seq_len: int, seed: int) -> tuple[Source, ...]:
    """Return the datasets that hold a sequence, weighted as given, or by their sequences so that all end together."""
    sources = []
    for name, tokens in arrival.tokens.items():
        if count := max(0, (held[name] - 1) // seq_len):
            view, weight = arrival.view if tokens.selection is not None else "", arrival.weights.get(name, count)
            sources.append(Source(name, count, seed, weight=weight, view=view, num_tokens=held[name]))
    return tuple(sources)


def share_out(
    parts: Sequence[Part], carried: Carried, share: Fraction, places: int, seq_len: int
) -> tuple[list[Share], int]:
    """Return the sequences of each part, among ``places`` in all, and ``Mixture.carried``.

    A part is due its weight's share of ``share * places``, plus what it is owed.
    """
    if not parts:
        return [], 0
    whole = sum((part.weight for part in parts), Fraction(0))
    dues = [share * places * part.weight / whole for part in parts]
    owed = [carried.owed.get(part.key, Fraction(0)) / seq_len for part in parts]
    total, units = total_of(share, places, sum(owed, Fraction(0)))  # debts to other sources are left for their turn
    counts = allot([due + more for due, more in zip(dues, owed, strict=True)], total)
    return [Share(part, due * seq_len, count) for part, due, count in zip(parts, dues, counts, strict=True)], units


def replayed_source(share: Share, carried: Carried, settings: ReplaySettings, draw: int, seq_len: int) -> Source:
    """Return a part as a mixture's source: in its own order from where it stopped, or in the order ``draw``."""
    part = share.part
    own = Source(
        part.dataset.name,
        part.num_sequences,
        part.dataset.order_seed,
        weight=share.count,
        view=part.domain,
        num_tokens=part.num_tokens,
    )
    if settings.order == "reshuffled":
        return replace(own, order_seed=draw)
    if settings.position == "restart":
        return own
    place = locate(Order(own.num_tokens, own.order_seed, own.key), carried.read.get(own.key, ()))
    if place.read and place.read[-1][0] == seq_len:
        return replace(own, passes=place.passes, read=place.read[:-1], start=place.read[-1][1])
    return replace(own, passes=place.passes, read=place.read)


def write_selections(
    out: Folder, arrivals: Mapping[str, TokenSet], new: Sequence[Source], parts: Sequence[Part]
) -> None:
    """Write the selections of the domains, and the paths of the selections of all sources."""
    places: dict[str, str] = {}
    for source in new:
        if (selection := arrivals[source.dataset].selection) is not None:
            places[source.key] = selection.relative_to(out)
    for number, part in enumerate(parts):
        if part.domains is not None:
            write_selection(out / DOMAINS / f"{number:03d}", part.domains.rows(part.domain))
            places[part.key] = f"{DOMAINS}/{number:03d}"
    out.write_json(SELECTIONS, places)


def token_sets(folder: Folder, mixture: Mixture, shards: Callable[[str], Folder]) -> dict[str, TokenSet]:
    """Return the documents that each source of the mixture in ``folder`` reads, by its key.

    ``shards`` returns a dataset's training shards.
    """
    places: dict[str, str] = folder.read_json(SELECTIONS) if folder.exists(SELECTIONS) else {}
    return {
        source.key: TokenSet(
            shards(source.dataset),
            folder.at(places[source.key]) if source.key in places else None,
        )
        for source in mixture.sources
    }


def count_sources(
    mixture: Mixture,
    requested: float,
    settings: ReplaySettings,
    shares: Sequence[Share],
    carried: Carried,
    held: Mapping[str, int],
) -> ReplayOutcome:
    """Count what the whole mixture takes from each source, and the share of replay that results."""
    counts = mixture.count(0, mixture.steps)
    total, fresh = sum(counts), sum(counts[: len(mixture.new)])
    by_dataset = {}
    for share in shares:
        goes_on = settings.order == "original" and settings.position == "continue"
        start = tokens_of(carried.read.get(share.part.key, ())) if goes_on else 0
        by_dataset[share.part.key] = share.to_json(mixture.seq_len, start, settings, total)
    trained = {source.dataset: (source, count) for source, count in zip(mixture.new, counts, strict=False)}
    return ReplayOutcome(
        planned=total * mixture.seq_len,
        new=fresh * mixture.seq_len,
        replayed=(total - fresh) * mixture.seq_len,
        requested=requested,
        achieved=(total - fresh) / total,
        source="earlier datasets" if mixture.replayed else "none",
        epochs=max(count / source.num_sequences for source, count in trained.values()),
        by_dataset=by_dataset,
        arrivals={name: arrival(tokens, mixture, trained.get(name)) for name, tokens in held.items()},
        version=ORDER_VERSION,
    )


def arrival(tokens: int, mixture: Mixture, trained: tuple[Source, int] | None) -> dict[str, Any]:
    """Count how much of an arrival of ``tokens`` tokens is trained; ``trained``: its source and sequences, or None."""
    if trained is None:
        return {"tokens": tokens, "sequences": 0, "trained": 0, "untrained": tokens, "passes": 0.0}
    source, count = trained
    return {
        "tokens": tokens,
        "sequences": count,
        "trained": count * mixture.seq_len,
        "untrained": untrained(source, count, mixture.seq_len),
        "passes": count / source.num_sequences,
    }


def untrained(source: Source, count: int, seq_len: int) -> int:
    """Count the tokens of a new source that its first ``count`` sequences do not predict.

    The very first token is never predicted.
    """
    if count < source.num_sequences:
        return source.num_tokens - count * seq_len
    tail = source.num_tokens - 1 - source.num_sequences * seq_len
    later = np.arange(source.num_sequences, min(count, 2 * source.num_sequences), dtype=np.int64)
    if not tail or (source.starts(later, seq_len) == source.num_tokens - 1 - seq_len).any():
        return 0
    return tail
