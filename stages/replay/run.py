"""Decide what an update trains on: the arrival's sequences, and among them those replayed from earlier datasets."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from stages.errors import UsageError
from stages.mixture import MAX_DENOMINATOR, Mixture, Source
from stages.progress import Progress
from stages.replay.settings import ReplaySettings
from stages.storage import Folder
from stages.tokens import TokenStream

MIXTURE = "mixture.json"


@dataclass(frozen=True)
class Earlier:
    """A dataset that may be replayed, and what of it has been replayed so far."""

    name: str
    tokens: Folder
    order_seed: int
    replayed: int  # sequences, in all updates before


@dataclass(frozen=True)
class ReplayOutcome:
    """What will be trained: tokens in all, new ones, and those replayed, by dataset."""

    planned: int
    new: int
    replayed: int
    requested: float
    achieved: float
    source: str  # "earlier datasets", or "none" where there is nothing to replay
    epochs: float  # passes over the arrival
    by_dataset: dict[str, dict[str, Any]]  # sequences, tokens, share, first and next position in the dataset's order


def run(
    arrivals: dict[str, Folder],
    earlier: list[Earlier],
    out: Folder,
    settings: ReplaySettings,
    seq_len: int,
    global_batch: int,
    budget: int | None,
    seed: int,
    progress: Progress,
) -> ReplayOutcome:
    """Write ``out/mixture.json`` for the arrivals (name → training shards; usually one).

    ``budget`` is the tokens to train (null: all the arrivals hold), cut to whole global batches. Replayed datasets
    share the replayed part by their tokens, each in its own order from where the last update stopped reading.
    Raises ``UsageError`` where the arrivals do not fill one global batch.
    """
    new = weighted([Earlier(name, tokens, seed, 0) for name, tokens in arrivals.items()], seq_len)
    available = sum(source.num_sequences for source in new)
    wanted = available if budget is None else budget // seq_len
    steps = wanted // global_batch
    if not steps or not available:
        raise UsageError(
            f"{', '.join(arrivals)}: the training split makes {available} sequences of {seq_len} tokens, and the "
            f"budget allows {wanted}; one step takes {global_batch}. Add data, or lower train.global_batch."
        )
    replayed = weighted(earlier, seq_len)
    share = Fraction(settings.share).limit_denominator(MAX_DENOMINATOR) if replayed else Fraction(0)
    mixture = Mixture(new, replayed if share else (), str(share), seq_len, global_batch, steps)
    out.write_json(MIXTURE, mixture.to_json())
    outcome = account(mixture, settings.share)
    if settings.share and not replayed:
        progress.note(f"replay: no earlier data to replay; the share of {settings.share:.0%} is not applied")
    if outcome.epochs > 1.0:
        progress.note(
            f"replay: the budget asks for {outcome.epochs:.2f} passes over the arrival, each in another order"
        )
    return outcome


def weighted(datasets: list[Earlier], seq_len: int) -> tuple[Source, ...]:
    """The datasets that hold at least one sequence, weighted by their tokens."""
    sources = []
    for dataset in datasets:
        stream = TokenStream(dataset.tokens)
        if count := stream.num_sequences(seq_len):
            sources.append(Source(dataset.name, count, dataset.order_seed, dataset.replayed, stream.num_tokens))
    return tuple(sources)


def account(mixture: Mixture, requested: float) -> ReplayOutcome:
    """What the whole mixture takes from each dataset, and the share that this makes."""
    counts = mixture.count(0, mixture.steps)
    total, fresh = sum(counts), sum(counts[: len(mixture.new)])
    by_dataset = {
        source.dataset: {
            "sequences": count,
            "tokens": count * mixture.seq_len,
            "share": count / total,
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
