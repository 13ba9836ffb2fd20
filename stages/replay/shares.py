"""How the replayed part is divided: among earlier datasets, or among the domains of their documents.

The domains of a dataset: which of its documents come from where, by the ``source`` that ingest kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import pyarrow as pa

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import read_shards
from rewarm.stages.data.tokens import TokenStream
from rewarm.stages.replay.settings import ReplaySettings, nearest

UNNAMED = "unnamed"  # the domain of documents without a source
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Domains:
    """The domain of every document of a training split."""

    names: list[str]  # in the order in which they are met
    codes: np.ndarray  # int32 [documents]: the place of each one's domain in ``names``
    tokens: np.ndarray  # int64 [names]

    def rows(self, name: str) -> np.ndarray:
        """The rows of a domain's documents (int64, ascending)."""
        return np.flatnonzero(self.codes == self.names.index(name))


def read_domains(documents: Folder, stream: TokenStream) -> Domains:
    """The domains of the document shards that ``stream`` was made of; only their ``source`` is read.

    Memory: four bytes a document. Raises ``StageError`` where the two do not have the same rows.
    """
    numbers: dict[str, int] = {}
    try:
        batches = read_shards(documents, ["source"], BATCH_ROWS)
        codes = np.concatenate([np.empty(0, np.int32), *(code(batch.column("source"), numbers) for batch in batches)])
    except (pa.ArrowException, OSError) as error:
        raise StageError(
            f"{documents}: the documents' sources cannot be read: {error}; replay them with replay.mixture=datasets"
        ) from error
    if len(codes) != stream.num_documents:
        raise StageError(
            f"{documents}: holds {len(codes)} documents, {stream.folder} the tokens of {stream.num_documents}; they "
            "must be of the same ones, in the same order. Restore what was changed since they were tokenized."
        )
    lengths = np.diff(stream.document_spans()[0], prepend=0)
    tokens = np.bincount(codes, weights=lengths, minlength=len(numbers)).astype(np.int64)
    return Domains(list(numbers), codes, tokens)


def code(sources: pa.Array, numbers: dict[str, int]) -> np.ndarray:
    """The numbers (int32) of a batch's domains; names that are met for the first time are added to ``numbers``."""
    encoded = sources.dictionary_encode(null_encoding="encode")
    found = [numbers.setdefault(name or UNNAMED, len(numbers)) for name in encoded.dictionary.to_pylist()]
    codes: np.ndarray = np.array(found, dtype=np.int32)[encoded.indices.to_numpy()]
    return codes


MAX_DOMAINS = 256  # a domain is a part of the mixture, not a site: more of them are a mistake


@dataclass(frozen=True)
class Earlier:
    """A dataset that may be replayed."""

    name: str
    tokens: Folder  # its training shards
    documents: Folder  # the documents that they were made of
    order_seed: int  # of its own order: the seed of the update in which it was new
    age: int  # updates since then: 1 for the datasets of the update before


@dataclass(frozen=True)
class Part:
    """A dataset, or one domain of it, as a part of replay."""

    dataset: Earlier
    num_sequences: int
    num_tokens: int
    weight: Fraction  # above 0, relative to the other parts'
    domain: str = ""  # "": all of the dataset
    domains: Domains | None = None  # the dataset's, if ``domain`` is one of them

    @property
    def key(self) -> str:
        """As the key of a ``Source``."""
        return f"{self.dataset.name}@{self.domain}" if self.domain else self.dataset.name


@dataclass(frozen=True)
class Division:
    """What replay consists of."""

    parts: list[Part]
    share: Fraction | None = None  # of replay, if the domains' table decides it
    notes: tuple[str, ...] = ()
    short: dict[str, int] = field(default_factory=dict)  # key of what holds no sequence → its tokens


def divide(earlier: Sequence[Earlier], settings: ReplaySettings, seq_len: int) -> Division:
    """The parts of replay that hold a sequence of ``seq_len`` tokens, with their weights; none without replay."""
    if settings.share == 0 or not earlier:
        return Division([])
    division = by_domain if settings.mixture == "domains" else by_dataset
    return division(earlier, settings, seq_len)


def check_names(settings: ReplaySettings, earlier: Sequence[str], arrivals: Sequence[str]) -> None:
    """``UsageError`` unless ``replay.shares``, where given, names every earlier dataset and nothing unknown.

    The arrivals may be named too: the updates after this one replay them.
    """
    if settings.by != "shares":
        return
    for name in settings.shares:
        if name not in (known := [*earlier, *arrivals]):
            raise UsageError(f"replay.shares: there is no dataset {name!r}{nearest(name, known)}")
    unnamed = [name for name in earlier if name not in settings.shares]
    if unnamed:
        raise UsageError(
            f"replay.shares: gives no number to {', '.join(unnamed)}; give each earlier dataset one (0 leaves it out)"
        )


def weigh(dataset: Earlier, tokens: int, settings: ReplaySettings) -> Fraction:
    """A dataset's weight by ``replay.by``; fading with age stops at ``replay.floor`` of its tokens."""
    if settings.by == "shares":
        return Fraction(str(settings.shares[dataset.name]))
    if settings.by == "recency":
        return tokens * Fraction(max(2.0 ** (-dataset.age / settings.half_life), settings.floor))
    return Fraction(tokens)


def by_dataset(earlier: Sequence[Earlier], settings: ReplaySettings, seq_len: int) -> Division:
    """Every dataset is a part."""
    parts, short = [], {}
    for dataset in earlier:
        stream = TokenStream(dataset.tokens)
        count, tokens = stream.num_sequences(seq_len), stream.num_tokens
        if not count:
            short[dataset.name] = tokens
        elif weight := weigh(dataset, tokens, settings):
            parts.append(Part(dataset, count, tokens, weight))
    return Division(parts, notes=faded(earlier, settings), short=short)


def faded(earlier: Sequence[Earlier], settings: ReplaySettings) -> tuple[str, ...]:
    """Says which datasets the floor keeps from fading further."""
    old = [one.name for one in earlier if 2.0 ** (-one.age / settings.half_life) < settings.floor]
    if settings.by != "recency" or not old:
        return ()
    return (f"{', '.join(old)}: faded to the floor, {settings.floor:.2%} of the tokens count",)


# -- domains -----------------------------------------------------------------------------------------------------


def by_domain(earlier: Sequence[Earlier], settings: ReplaySettings, seq_len: int) -> Division:
    """Every domain of every dataset is a part; datasets share a domain as they would share the whole replay.

    The web's share is the arrival's (Guo et al. 2024, strategy III). Raises ``UsageError`` for a domain that has a
    share and no sequence, and where the web is all there is.
    """
    held, short = domain_parts(earlier, settings, seq_len)
    if not held:
        return Division([], short=short)
    together = {name: sum((part.weight for part in parts), Fraction(0)) for name, parts in held.items()}
    table = {name: Fraction(str(share)) for name, share in settings.domain_shares.items()} or together
    web = settings.web_of(table)
    check_domains(settings, held, table, web)
    parts = [
        replace(part, weight=share * part.weight / together[name])
        for name, share in table.items()
        if share and name not in web
        for part in held[name]
    ]
    if len(names := {part.domain for part in parts}) > MAX_DOMAINS:
        raise UsageError(
            f"replay.mixture=domains: the earlier documents have {len(names)} sources that would be replayed, at most "
            f"{MAX_DOMAINS} are expected; name the domains that matter in replay.domain_shares"
        )
    web_share = sum((table[name] for name in web), Fraction(0)) / sum(table.values(), Fraction(0))
    notes = [*faded(earlier, settings), *unread(held, table)]
    if web_share:
        notes.append(f"the arrival takes the web's place ({', '.join(web)}: {float(web_share):.1%} of the mixture)")
    return Division(parts, 1 - web_share if web_share else None, tuple(notes), short)


def domain_parts(
    earlier: Sequence[Earlier], settings: ReplaySettings, seq_len: int
) -> tuple[dict[str, list[Part]], dict[str, int]]:
    """The parts that hold a sequence, by domain, and the tokens of those that hold none, by key.

    A dataset's weight is spread over its domains by their tokens.
    """
    held: dict[str, list[Part]] = {}
    short: dict[str, int] = {}
    for dataset in earlier:
        domains = read_domains(dataset.documents, TokenStream(dataset.tokens))
        total = int(domains.tokens.sum())
        for name, tokens in zip(domains.names, domains.tokens.tolist(), strict=True):
            count = max(0, (tokens - 1) // seq_len)
            if not count:
                short[f"{dataset.name}@{name}"] = tokens
            elif weight := weigh(dataset, total, settings) * Fraction(tokens, total):
                held.setdefault(name, []).append(Part(dataset, count, tokens, weight, name, domains))
    return held, short


def check_domains(
    settings: ReplaySettings, held: dict[str, list[Part]], table: dict[str, Fraction], web: list[str]
) -> None:
    """Refuse shares that the earlier data cannot fill."""
    there = f"the sources of the earlier documents are {', '.join(sorted(held))}"
    for name in settings.web or ():
        if name not in table:
            raise UsageError(f"replay.web: there is no domain {name!r}{nearest(name, table)}")
    missing = [name for name, share in table.items() if share and name not in web and name not in held]
    if missing:
        raise UsageError(
            f"replay.domain_shares: no sequence of {', '.join(missing)} to replay; {there}. Name them as they are "
            "called there, or leave out what is not there"
        )
    if not any(share for name, share in table.items() if name not in web):
        raise UsageError(
            f"replay.mixture=domains: only the web ({', '.join(web)}) has a share, and the arrival takes its place, so "
            f"nothing is replayed; {there}. Set replay.web=[] to replay the web too, or replay.share=0"
        )


def unread(held: dict[str, list[Part]], table: dict[str, Fraction]) -> list[str]:
    """Says which domains are there and have no share."""
    left = [name for name in held if not table.get(name)]
    return [f"not in replay.domain_shares, so not replayed: {', '.join(left)}"] if left else []
