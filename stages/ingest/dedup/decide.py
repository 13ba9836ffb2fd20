"""Pass 2 of ingest: decides the fate of every row: dropped as a duplicate, held out for validation, or kept to train.

    ids, URLs, keys ──search (tasks by band and key range)──▶ edges ──resolve, in input order──▶ fates

There are three consecutive searches, each over the rows that the previous ones kept: older versions of a URL, exact
duplicates (texts equal but for the Unicode normal form, invisible characters and HTML entities), near-duplicates. Of
equal texts, the first row is kept. A near-duplicate is dropped if it is similar to an
earlier row that is kept, or to any document of an earlier dataset (validation documents included). No two kept
documents were found to be similar, so no training document is a near-duplicate of a validation document. The result
depends only on the rows and their order, not on partitions, workers or interruptions.

The driver's memory grows with the number of duplicates (some hundred bytes each) and with the largest shard (about 40
bytes per document), not with the total number of rows.
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
    has_folded,
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
    """Fate of a row in a ``.fates`` file. A dropped row counts under the first applicable reason, in the order
    ``ORDER``."""

    DROP = DROP  # for a reason other than duplication
    TRAIN = TRAIN
    VALIDATE = VALIDATE
    DUPLICATE = 3  # an earlier row of the arrival has the same text
    NEAR = 4  # an earlier kept row of the arrival has nearly the same text
    EARLIER_EXACT = 5  # an earlier dataset has the same text
    EARLIER_NEAR = 6  # an earlier dataset has nearly the same text
    OLDER_URL = 7  # the arrival has a later version of the URL


ORDER = (Fate.OLDER_URL, Fate.DUPLICATE, Fate.EARLIER_EXACT, Fate.EARLIER_NEAR, Fate.NEAR)
REASONS = {  # names in reports
    Fate.OLDER_URL: "older version of the address",
    Fate.DUPLICATE: "duplicate inside",
    Fate.EARLIER_EXACT: "already in an earlier dataset",
    Fate.EARLIER_NEAR: "near-duplicate of an earlier dataset",
    Fate.NEAR: "near-duplicate inside",
}


REPEATS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # in the shard
        pa.field("fate", pa.uint8(), nullable=False),
        *EDGES.remove(0),  # dataset and original; for the dataset INSIDE, the row counted over all shards
    ]
)
DROPS = np.dtype([("row", np.int64), ("fate", np.uint8), ("dataset", np.int32), ("original", np.int64)])
Drops = npt.NDArray[np.void]  # of dtype DROPS, rows ascending


@dataclass(frozen=True)
class Overlap:
    """Rows of the arrival that an earlier dataset contains; each row counts only for the first such dataset."""

    exact: int
    near: int


@dataclass(frozen=True)
class Decision:
    """Counts of rows; the fates themselves are in staging, ``NAME.fates``, one uint8 per row."""

    rows: int
    train: int
    validate: int
    drops: dict[str, int]  # by the reasons of ``REASONS``, including zeros
    overlaps: tuple[Overlap, ...]  # with each earlier dataset, in order
    digest: str  # as ``stages.data.split.content_digest``

    @property
    def kept(self) -> int:
        """Number of kept rows."""
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

    ``earlier``: the index folders of earlier datasets. Ray must be initialised for arrivals of more than ``FEW_ROWS``
    documents. Results of search tasks are kept in staging, so an interrupted decision resumes. Raises ``UsageError`` if
    an earlier index was made with other settings, ``StageError`` if one is missing or truncated.
    """
    staged = Staged(staging, tuple(name for name, _ in shards), tuple(rows for _, rows in shards))
    if settings.near:
        check_indices(earlier, settings, progress)
    if unfolded := [folder.name for folder in earlier if not has_folded(folder)]:
        progress.note(
            f"{len(unfolded)} datasets were indexed before texts were normalised ({', '.join(unfolded[:5])}): exact "
            "duplicates of their documents in NFD, or with soft hyphens or HTML entities, are detected only in the "
            "same form; ingest them again in a new workspace to detect all"
        )
    drops = np.empty(0, DROPS)
    for kind in ("url", "exact", "near"):
        if (kind == "url" and not settings.latest_url) or (kind == "near" and not settings.near):
            continue
        drops = merged(drops, search(kind, staged, earlier, drops, settings, progress))
    write_fates(staged, drops, validation, progress)
    decision = counted(staged, drops, len(earlier))
    progress.note(held_out(decision, validation, worth_of(validation_sizes(staged))))
    return decision


def check_indices(earlier: Sequence[Folder], settings: DuplicateSettings, progress: Progress) -> None:
    """Refuse indices made with other settings before the search; report indices without signatures."""
    segments = [(folder.name, NearSegment.open(folder, settings)) for folder in earlier]
    exact_only = [name for name, segment in segments if segment is None]
    if exact_only:
        progress.note(
            f"near-duplicates of {', '.join(exact_only)} are not detected (indexed without signatures); exact ones are"
        )
    unfolded = [name for name, segment in segments if segment and segment.version < SIGNATURE_VERSION]
    if unfolded:
        oldest = min(segment.version for _, segment in segments if segment)
        forms = "in NFD, or with soft hyphens or HTML entities, " if oldest == 1 else ""
        progress.note(
            f"{len(unfolded)} datasets were indexed before texts were normalised as now ({', '.join(unfolded[:5])}): "
            f"near-duplicates of their documents {forms}with zero-width spaces in Khmer and the like or with an Arabic "
            "tatweel are detected only in the same form; ingest them again in a new workspace to detect all"
        )


def search(
    kind: str,
    staged: Staged,
    earlier: Sequence[Folder],
    drops: Drops,
    settings: DuplicateSettings,
    progress: Progress,
) -> Drops:
    """Run one search and return the rows that it drops."""
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
    """Return the distinct edges of a search by row, the arrival's before earlier datasets'; fates are not set."""
    edges = np.empty(0, DROPS)
    for name in names:
        rows, datasets, originals = read_columns(staging, name, EDGES)
        part = np.zeros(len(rows), DROPS)
        part["row"], part["dataset"], part["original"] = rows, datasets, originals
        edges = np.concatenate([edges, part])
        order = np.lexsort((edges["original"], edges["dataset"], edges["row"]))
        edges = edges[order]
        edges = edges[np.append(True, edges[1:] != edges[:-1])[: len(edges)]]
    return edges


# -- resolve -----------------------------------------------------------------------------------------------------


def resolve_urls(edges: Drops) -> Drops:
    """Drop every row with a later version; its original is the version that is kept."""
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
    """Drop every row with an edge: a duplicate of the arrival's first such row, otherwise of the first dataset."""
    drops = first_of_rows(edges)
    drops["fate"] = np.where(drops["dataset"] == INSIDE, Fate.DUPLICATE, Fate.EARLIER_EXACT)
    return drops


def resolve_near(edges: Drops) -> Drops:
    """Drop a row if it is similar to a document of an earlier dataset, or to an earlier row that is kept.

    The first of these is its original. Edges are sorted by row, so the fates of all earlier rows are known when a row
    is processed.
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
    """Return the first edge of each row."""
    return edges[np.unique(edges["row"], return_index=True)[1]]


def merged(some: Drops, others: Drops) -> Drops:
    """Merge two disjoint sets of drops by row."""
    both = np.concatenate([some, others])
    return both[np.argsort(both["row"], kind="stable")]


# -- fates -------------------------------------------------------------------------------------------------------


def held_out(decision: Decision, wanted: SplitSize, worth: float) -> str:
    """Return a sentence with the size of the validation split and whether it is sufficient."""
    share = decision.validate / max(1, decision.kept)
    text = f"{decision.validate:,} of {decision.kept:,} documents are held out for validation ({share:.1%})"
    text += f", worth {worth:.1f} of equal length"
    if worth >= wanted.worth:
        return text
    return f"{text}; the gate requires {wanted.worth}, but at most ingest.validation_cap = {wanted.cap:g} are held out"


def sizes_of(staged: Staged, shard: int) -> npt.NDArray[np.int64]:
    """Return the bytes of text of every staged document of a shard."""
    filesystem, place = staged.staging.filesystem()
    with filesystem.open_input_file(f"{place}/{staged.names[shard]}.parquet") as source:
        sizes: npt.NDArray[np.int64] = pq.read_table(source, columns=["num_bytes"]).column(0).to_numpy()
    return sizes


def validation_sizes(staged: Staged) -> npt.NDArray[np.int64]:
    """Return the bytes of text of every validation document."""
    parts = [
        sizes_of(staged, shard)[read_fates(staged.staging, name) == VALIDATE] for shard, name in enumerate(staged.names)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def write_fates(staged: Staged, drops: Drops, validation: SplitSize, progress: Progress) -> None:
    """Split the kept rows and write every row's fate, and the originals of dropped rows, to staging."""
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


def counted(staged: Staged, drops: Drops, num_earlier: int) -> Decision:
    """Return the counts of the decision."""
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
    """Return the content digest for the shards' current fates, which the caller may have changed."""

    def parts() -> Iterator[tuple[Hashes, npt.NDArray[np.uint8]]]:
        for number, name in enumerate(names):
            yield Staged(staging, tuple(names), ()).hashes(number), read_fates(staging, name)

    return digest_parts(parts)
