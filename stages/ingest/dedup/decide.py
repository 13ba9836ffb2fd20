"""Pass 2 of ingest: which rows repeat others, and which of the rest validate.

    ids, addresses, keys ──search (tasks by band and key range)──▶ edges ──resolve, in input order──▶ fates

Three searches one after the other, each over the rows that the ones before left: older versions of an address, exact
duplicates, near-duplicates. Of equal texts the first row stays. A near-duplicate goes where an earlier row that itself
stays, or any document of an earlier dataset (its validation documents among them), is similar to it: no two documents
that stay were found similar, so none that trains is a near-duplicate of one that validates. All of it is a function
of the rows in their order; partitions, workers and interruptions leave no trace.

The driver's memory grows with the duplicates found (some hundred bytes each) and with the largest shard (some 40 bytes
a document), not with the rows of all.

What becomes of a row, and why one is dropped: the values of the ``.fates`` files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.split import (
    DROP,
    TRAIN,
    VALIDATE,
    Hashes,
    SplitSize,
    digest_parts,
    grown_bound,
    training_bound,
    worth_of,
)
from rewarm.stages.ingest.dedup.columns import read_columns, write_columns
from rewarm.stages.ingest.dedup.index import NearSegment, read_fates
from rewarm.stages.ingest.dedup.partition import Rows, num_partitions, run_tasks
from rewarm.stages.ingest.dedup.search import EDGES, INSIDE, edges_file, find_edges
from rewarm.stages.ingest.dedup.staged import Staged, write_dropped
from rewarm.stages.ingest.settings import SIGNATURE_VERSION, DuplicateSettings


class Fate(IntEnum):
    """A row's fate. A drop is counted under one reason: the first of these that holds, in the order of ``ORDER``."""

    DROP = DROP  # for another reason than repetition
    TRAIN = TRAIN
    VALIDATE = VALIDATE
    DUPLICATE = 3  # an earlier row of the arrival has the same text
    NEAR = 4  # a kept earlier row of the arrival has nearly the same
    EARLIER_EXACT = 5  # an earlier dataset has the same text
    EARLIER_NEAR = 6  # an earlier dataset has nearly the same
    OLDER_URL = 7  # the arrival has a later version of the address


ORDER = (Fate.OLDER_URL, Fate.DUPLICATE, Fate.EARLIER_EXACT, Fate.EARLIER_NEAR, Fate.NEAR)
REASONS = {  # as reports name them
    Fate.OLDER_URL: "older version of the address",
    Fate.DUPLICATE: "duplicate inside",
    Fate.EARLIER_EXACT: "already in an earlier dataset",
    Fate.EARLIER_NEAR: "near-duplicate of an earlier dataset",
    Fate.NEAR: "near-duplicate inside",
}


REPEATS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # of the shard
        pa.field("fate", pa.uint8(), nullable=False),
        *EDGES.remove(0),  # dataset and original, a row counted through all shards where the dataset is INSIDE
    ]
)
DROPS = np.dtype([("row", np.int64), ("fate", np.uint8), ("dataset", np.int32), ("original", np.int64)])
Drops = npt.NDArray[np.void]  # of dtype DROPS, rows ascending


@dataclass(frozen=True)
class Overlap:
    """What of the arrival an earlier dataset has; a row counts for the first of them that has it."""

    exact: int
    near: int


@dataclass(frozen=True)
class Decision:
    """Counts of rows; the fates themselves are in staging, ``NAME.fates``, one uint8 a row."""

    rows: int
    train: int
    validate: int
    drops: dict[str, int]  # by the reasons of ``fates.REASONS``; all are there, also with 0
    overlaps: tuple[Overlap, ...]  # with each earlier dataset, in their order
    digest: str  # as ``stages.data.split.content_digest``

    @property
    def kept(self) -> int:
        """Rows that stay."""
        return self.train + self.validate


def decide(
    staging: Folder,
    shards: Sequence[tuple[str, int]],
    earlier: Sequence[Folder],
    settings: DuplicateSettings,
    validation: SplitSize,
    progress: Progress,
) -> Decision:
    """Write ``NAME.fates`` and ``NAME.repeats`` for every shard (name, documents), from their signature files.

    ``earlier``: the index folders of earlier datasets. Ray must be initialised for arrivals of more than
    ``jobs.FEW_ROWS`` documents. What a search's tasks found stays in staging, so an interrupted decision goes on.
    ``UsageError`` where an earlier index was made by other settings, ``StageError`` where one is missing or torn.
    """
    staged = Staged(staging, tuple(name for name, _ in shards), tuple(rows for _, rows in shards))
    if settings.near:
        check_indices(earlier, settings, progress)
    drops = np.empty(0, DROPS)
    for kind in ("url", "exact", "near"):
        if (kind == "url" and not settings.latest_url) or (kind == "near" and not settings.near):
            continue
        drops = merged(drops, search(kind, staged, earlier, drops, settings, progress))
    write_fates(staged, drops, validation, progress)
    decision = account(staged, drops, len(earlier))
    progress.note(held_out(decision, validation, worth_of(validation_sizes(staged))))
    return decision


def check_indices(earlier: Sequence[Folder], settings: DuplicateSettings, progress: Progress) -> None:
    """Refuse indices of other settings before anything is searched; say which have no signatures."""
    segments = [(folder.name, NearSegment.open(folder, settings)) for folder in earlier]
    exact_only = [name for name, segment in segments if segment is None]
    if exact_only:
        progress.note(
            f"near-duplicates of {', '.join(exact_only)} are not looked for: indexed without signatures; exact ones are"
        )
    unfolded = [name for name, segment in segments if segment and segment.version < SIGNATURE_VERSION]
    if unfolded:
        progress.note(
            f"{len(unfolded)} datasets were indexed before normal forms were folded ({', '.join(unfolded[:5])}): of "
            "their documents in NFD, or with soft hyphens or HTML entities, near-duplicates in another form are not "
            "found; ingest them again in a new workspace to find those too"
        )


def search(
    kind: str,
    staged: Staged,
    earlier: Sequence[Folder],
    drops: Drops,
    settings: DuplicateSettings,
    progress: Progress,
) -> Drops:
    """The rows that one search drops."""
    without = f"{kind}.without"
    write_dropped(staged.staging, without, drops["row"])
    partitions = num_partitions(staged.num_rows, settings.memory_mb)
    tasks: list[dict[str, Any]] = [
        {"kind": kind, "band": band, "partition": partition, "partitions": partitions, "without": without}
        for band in range(settings.bands if kind == "near" else 1)
        for partition in range(partitions)
    ]
    labels = {"url": "comparing addresses", "exact": "looking for duplicates", "near": "looking for near-duplicates"}
    work = partial(find_edges, staged=staged, earlier=list(earlier), settings=settings)
    run_tasks(work, tasks, staged.num_rows, progress, labels[kind])
    edges = read_edges(staged.staging, [edges_file(task) for task in tasks])
    return {"url": resolve_urls, "exact": resolve_exact, "near": resolve_near}[kind](edges)


def read_edges(staging: Folder, names: Sequence[str]) -> Drops:
    """All edges of a search once each, by row, earlier datasets' after the arrival's own; fates are left open."""
    found = np.empty(0, DROPS)
    for name in names:
        rows, datasets, originals = read_columns(staging, name, EDGES)
        part = np.zeros(len(rows), DROPS)
        part["row"], part["dataset"], part["original"] = rows, datasets, originals
        found = np.concatenate([found, part])
        order = np.lexsort((found["original"], found["dataset"], found["row"]))
        found = found[order]
        found = found[np.append(True, found[1:] != found[:-1])[: len(found)]]
    return found


# -- resolve -----------------------------------------------------------------------------------------------------


def resolve_urls(edges: Drops) -> Drops:
    """Every row with a later version goes; its original is the version that stays."""
    drops = first_of_rows(edges)
    drops["fate"] = Fate.OLDER_URL
    later = dict(zip(drops["row"].tolist(), drops["original"].tolist(), strict=True))
    for place, version in enumerate(drops["original"].tolist()):
        stays = version
        while stays in later:
            stays = later[stays]
        drops["original"][place] = stays
    return drops


def resolve_exact(edges: Drops) -> Drops:
    """Every row with an edge goes; it has one."""
    drops = edges.copy()
    drops["fate"] = np.where(edges["dataset"] == INSIDE, Fate.DUPLICATE, Fate.EARLIER_EXACT)
    return drops


def resolve_near(edges: Drops) -> Drops:
    """A row goes if a document of an earlier dataset is similar to it, or a row before it that stays.

    The first of these is its original. Edges come by row, so when a row's turn comes, the fate of every row before it
    is known.
    """
    known = first_of_rows(edges[edges["dataset"] != INSIDE])
    known["fate"] = Fate.EARLIER_NEAR
    inside = edges[edges["dataset"] == INSIDE]
    gone = set(known["row"].tolist())
    chosen = []
    for place, (row, original) in enumerate(zip(inside["row"].tolist(), inside["original"].tolist(), strict=True)):
        if row not in gone and original not in gone:
            gone.add(row)
            chosen.append(place)
    near = inside[chosen]
    near["fate"] = Fate.NEAR
    return merged(known, near)


def first_of_rows(edges: Drops) -> Drops:
    """The first edge of each row."""
    return edges[np.unique(edges["row"], return_index=True)[1]]


def merged(some: Drops, others: Drops) -> Drops:
    """Both, by row; no row is in both."""
    both = np.concatenate([some, others])
    return both[np.argsort(both["row"], kind="stable")]


# -- fates -------------------------------------------------------------------------------------------------------


def held_out(decision: Decision, wanted: SplitSize, worth: float) -> str:
    """The size of the validation split, in words, and whether it is what was wanted."""
    share = decision.validate / max(1, decision.kept)
    text = f"{decision.validate:,} of {decision.kept:,} documents are held out for validation ({share:.1%})"
    text += f", worth {worth:.1f} of equal length"
    if worth >= wanted.worth:
        return text
    return (
        f"{text}; the gate wants {wanted.worth}, and takes no more than ingest.validation_cap = {wanted.cap:g} of them"
    )


def sizes_of(staged: Staged, shard: int) -> npt.NDArray[np.int64]:
    """Bytes of text of every staged document of a shard."""
    filesystem, place = staged.staging.filesystem()
    with filesystem.open_input_file(f"{place}/{staged.names[shard]}.parquet") as source:
        found: npt.NDArray[np.int64] = pq.read_table(source, columns=["num_bytes"]).column(0).to_numpy()
    return found


def validation_sizes(staged: Staged) -> npt.NDArray[np.int64]:
    """Bytes of text of every document that validates."""
    parts = [
        sizes_of(staged, shard)[read_fates(staged.staging, name) == VALIDATE] for shard, name in enumerate(staged.names)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def write_fates(staged: Staged, drops: Drops, validation: SplitSize, progress: Progress) -> None:
    """Split what stays and leave every row's fate, and what the dropped ones repeat, in staging."""
    places = np.searchsorted(drops["row"], staged.offsets)
    parts = [slice(first, last) for first, last in zip(places[:-1].tolist(), places[1:].tolist(), strict=True)]

    def staying(shard: int) -> npt.NDArray[np.bool_]:
        stays = np.ones(staged.documents[shard], bool)
        stays[drops["row"][parts[shard]] - staged.offsets[shard]] = False
        return stays

    shards = range(len(parts))
    bound = training_bound((staged.hashes(shard)[staying(shard)] for shard in shards), validation.share)
    if validation.share and validation.cap > validation.share:
        sized = ((staged.hashes(shard)[staying(shard)], sizes_of(staged, shard)[staying(shard)]) for shard in shards)
        bound = grown_bound(bound, sized, staged.num_rows - len(drops), validation)
    progress.begin("deciding", len(parts), "files")
    for shard, part in enumerate(parts):
        mine = drops[part]
        rows: Rows = mine["row"] - staged.offsets[shard]
        fates = np.where(staged.hashes(shard) < bound, VALIDATE, TRAIN).astype(np.uint8)
        fates[rows] = mine["fate"]
        name = staged.names[shard]
        write_columns(
            staged.staging, f"{name}.repeats", REPEATS_SCHEMA, [rows, mine["fate"], mine["dataset"], mine["original"]]
        )
        staged.staging.write(f"{name}.fates", fates.tobytes())
        progress.advance()


def account(staged: Staged, drops: Drops, num_earlier: int) -> Decision:
    """The counts of what was decided."""
    counts = sum(
        (np.bincount(read_fates(staged.staging, name), minlength=8) for name in staged.names), np.zeros(8, int)
    )
    by_dataset = {
        fate: np.bincount(drops["dataset"][drops["fate"] == fate], minlength=num_earlier)
        for fate in (Fate.EARLIER_EXACT, Fate.EARLIER_NEAR)
    }
    return Decision(
        rows=staged.num_rows,
        train=int(counts[Fate.TRAIN]),
        validate=int(counts[Fate.VALIDATE]),
        drops={REASONS[fate]: int(counts[fate]) for fate in ORDER},
        overlaps=tuple(
            Overlap(int(exact), int(near))
            for exact, near in zip(by_dataset[Fate.EARLIER_EXACT], by_dataset[Fate.EARLIER_NEAR], strict=True)
        ),
        digest=staged_digest(staged.staging, staged.names),
    )


def staged_digest(staging: Folder, names: Sequence[str]) -> str:
    """The content digest by the shards' fates as they stand: the caller may have changed some."""

    def parts() -> Iterator[tuple[Hashes, npt.NDArray[np.uint8]]]:
        for number, name in enumerate(names):
            yield Staged(staging, tuple(names), ()).hashes(number), read_fates(staging, name)

    return digest_parts(parts)
