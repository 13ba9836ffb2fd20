"""Division of the replayed part among earlier datasets, or among the domains of their documents.

A document's domain is the ``source`` that ingest recorded.
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

    names: list[str]  # in order of first occurrence
    codes: np.ndarray  # int32 [documents]: index of each document's domain in ``names``
    tokens: np.ndarray  # int64 [names]

    def rows(self, name: str) -> np.ndarray:
        """Return the rows of a domain's documents (int64, ascending)."""
        return np.flatnonzero(self.codes == self.names.index(name))


def read_domains(documents: Folder, stream: TokenStream) -> Domains:
    """Read the domains of the document shards that ``stream`` was made from; only the ``source`` column is read.

    Memory: four bytes a document. Raises ``StageError`` if the two do not have the same rows.
    """
    numbers: dict[str, int] = {}
    try:
        batches = read_shards(documents, ["source"], BATCH_ROWS)
        codes = np.concatenate([np.empty(0, np.int32), *(code(batch.column("source"), numbers) for batch in batches)])
    except (pa.ArrowException, OSError) as error:
        raise StageError(
            f"{documents}: cannot read the sources of the documents: {error}; replay with replay.mixture=datasets"
        ) from error
    if len(codes) != stream.num_documents:
        raise StageError(
            f"{documents}: holds {len(codes)} documents, but {stream.folder} holds the tokens of "
            f"{stream.num_documents}; expected the same documents in the same order. Restore the files that changed "
            "since tokenization."
        )
    lengths = np.diff(stream.document_spans()[0], prepend=0)
    tokens = np.bincount(codes, weights=lengths, minlength=len(numbers)).astype(np.int64)
    return Domains(list(numbers), codes, tokens)


def code(sources: pa.Array, numbers: dict[str, int]) -> np.ndarray:
    """Return the codes (int32) of a batch's domains; new names are added to ``numbers``."""
    encoded = sources.dictionary_encode(null_encoding="encode")
    found = [numbers.setdefault(name or UNNAMED, len(numbers)) for name in encoded.dictionary.to_pylist()]
    codes: np.ndarray = np.array(found, dtype=np.int32)[encoded.indices.to_numpy()]
    return codes


MAX_DOMAINS = 256  # a domain is a part of the mixture, not a web site: more than that is a mistake


@dataclass(frozen=True)
class Earlier:
    """A dataset that may be replayed."""

    name: str
    tokens: Folder  # its training shards
    documents: Folder  # the documents that they were made from
    order_seed: int  # of its own order: the seed of the update that introduced it
    age: int  # updates since then: 1 for the datasets of the update before


@dataclass(frozen=True)
class Part:
    """A dataset, or one domain of it, as a part of replay."""

    dataset: Earlier
    num_sequences: int
    num_tokens: int
    weight: Fraction  # above 0, relative to the other parts
    domain: str = ""  # "": all of the dataset
    domains: Domains | None = None  # the dataset's, if ``domain`` is one of them

    @property
    def key(self) -> str:
        """Key of the part as a ``Source``."""
        return f"{self.dataset.name}@{self.domain}" if self.domain else self.dataset.name


@dataclass(frozen=True)
class Division:
    """Parts of replay with their weights, and remarks on how they were chosen."""

    parts: list[Part]
    share: Fraction | None = None  # of replay, if the table of domain shares decides it
    notes: tuple[str, ...] = ()
    short: dict[str, int] = field(default_factory=dict)  # key of a part that does not fill a sequence → its tokens


def divide(earlier: Sequence[Earlier], settings: ReplaySettings, seq_len: int) -> Division:
    """Return the parts of replay that fill a sequence of ``seq_len`` tokens, with weights; none without replay."""
    if settings.share == 0 or not earlier:
        return Division([])
    division = by_domain if settings.mixture == "domains" else by_dataset
    return division(earlier, settings, seq_len)


def check_names(settings: ReplaySettings, earlier: Sequence[str], arrivals: Sequence[str]) -> None:
    """Refuse ``replay.shares``, if given, unless it names every earlier dataset and nothing unknown.

    The arrivals may be named too: later updates replay them. Raises ``UsageError``.
    """
    if settings.by != "shares":
        return
    for name in settings.shares:
        if name not in (known := [*earlier, *arrivals]):
            raise UsageError(f"replay.shares: no dataset {name!r}{nearest(name, known)}")
    unnamed = [name for name in earlier if name not in settings.shares]
    if unnamed:
        raise UsageError(
            f"replay.shares: no number for {', '.join(unnamed)}; give one to each earlier dataset (0 excludes it)"
        )


def weigh(dataset: Earlier, tokens: int, settings: ReplaySettings) -> Fraction:
    """Return a dataset's weight by ``replay.by``; the discount for age stops at ``replay.floor`` of its tokens."""
    if settings.by == "shares":
        return Fraction(str(settings.shares[dataset.name]))
    if settings.by == "recency":
        return tokens * Fraction(max(2.0 ** (-dataset.age / settings.half_life), settings.floor))
    return Fraction(tokens)


def by_dataset(earlier: Sequence[Earlier], settings: ReplaySettings, seq_len: int) -> Division:
    """Make every dataset a part."""
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
    """Report the datasets whose discount for age has reached the floor."""
    old = [one.name for one in earlier if 2.0 ** (-one.age / settings.half_life) < settings.floor]
    if settings.by != "recency" or not old:
        return ()
    return (f"{', '.join(old)}: discounted to the floor, {settings.floor:.2%} of the tokens count",)


# -- domains -----------------------------------------------------------------------------------------------------


def by_domain(earlier: Sequence[Earlier], settings: ReplaySettings, seq_len: int) -> Division:
    """Make every domain of every dataset a part; datasets share a domain as they would share the whole replay.

    The arrival receives the web's share (Guo et al. 2024, strategy III). Raises ``UsageError`` if a domain has a share
    but no sequence, or if the web is the only domain.
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
            f"replay.mixture=domains: the earlier documents have {len(names)} sources to replay, at most {MAX_DOMAINS} "
            "are expected; name the domains that matter in replay.domain_shares"
        )
    web_share = sum((table[name] for name in web), Fraction(0)) / sum(table.values(), Fraction(0))
    notes = [*faded(earlier, settings), *unread(held, table)]
    if web_share:
        notes.append(f"the arrival replaces the web ({', '.join(web)}: {float(web_share):.1%} of the mixture)")
    return Division(parts, 1 - web_share if web_share else None, tuple(notes), short)


def domain_parts(
    earlier: Sequence[Earlier], settings: ReplaySettings, seq_len: int
) -> tuple[dict[str, list[Part]], dict[str, int]]:
    """Return the parts that fill a sequence, by domain, and the tokens of those that do not, by key.

    A dataset's weight is distributed over its domains by their tokens.
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
            raise UsageError(f"replay.web: no domain {name!r}{nearest(name, table)}")
    missing = [name for name, share in table.items() if share and name not in web and name not in held]
    if missing:
        raise UsageError(
            f"replay.domain_shares: no sequence of {', '.join(missing)} to replay; {there}. Use these names, or "
            "remove the others"
        )
    if not any(share for name, share in table.items() if name not in web):
        raise UsageError(
            f"replay.mixture=domains: only the web ({', '.join(web)}) has a share, and the arrival replaces it, so "
            f"nothing is replayed; {there}. Set replay.web=[] to replay the web too, or replay.share=0"
        )


def unread(held: dict[str, list[Part]], table: dict[str, Fraction]) -> list[str]:
    """Report the domains that exist but have no share."""
    left = [name for name in held if not table.get(name)]
    return [f"not in replay.domain_shares, so not replayed: {', '.join(left)}"] if left else []
