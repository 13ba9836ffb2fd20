"""Verification of a training run's inputs before use: the start's files and the token shards of its mixture.

Every byte is compared with the recorded digest once at each start of a group of workers: on a shared disk each rank
reads its share of the files, from a bucket one rank per node reads that node's copies.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch.distributed as dist

from rewarm.stages.core.digests import RESTORE, Damage, FileDigest, Table, compare_here, compare_whole
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet, read_selection
from rewarm.stages.train.job import Job

if TYPE_CHECKING:
    from rewarm.stages.train.engine import Place

CHUNK = 1 << 18  # positions of the mixture processed at a time


def refuse_together(problem: str | None) -> None:
    """Raise ``DamagedError`` on every rank if any has a problem, so that none waits for another. A collective."""
    problems: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(problems, problem)
    found = list(dict.fromkeys(text for text in problems if text))
    if found:
        raise DamagedError("\n".join(found))


def check_inputs(job: Job, place: "Place") -> tuple[int, list[str]]:
    """Verify the start and the shards that the run will read; return the bytes read by all ranks, and notes.

    A collective. Raises ``DamagedError`` on all ranks if a file does not match the record.
    """
    wanted, notes = files_to_check(job, start_here(job, place))
    mine = part_of(wanted, job.checkpoints.is_local, place)
    found = [f"{folder.at(name)}: {text}" for folder, name, text in damaged(mine)]
    refuse_together("\n".join([*found, f"To do: {RESTORE}"]) if found else None)
    return sum(entry.bytes for _, _, entry in wanted), notes


def start_here(job: Job, place: "Place") -> Folder:
    """Return the start on this machine; a copy from a bucket that does not match the record is fetched once more."""
    if not job.start.is_local and place.local_rank == 0 and job.start_files is not None:
        compare_whole(job.start, job.start_files)
    return Folder(job.start.local())


def part_of(
    wanted: list[tuple[Folder, str, FileDigest]], shared: bool, place: "Place"
) -> list[tuple[Folder, str, FileDigest]]:
    """Return the files that a rank verifies."""
    if shared:
        return wanted[place.rank :: place.world_size]
    return wanted if place.local_rank == 0 else []


def damaged(wanted: list[tuple[Folder, str, FileDigest]]) -> Iterator[tuple[Folder, str, Damage]]:
    """Yield the files that do not match their digests."""
    by_folder: dict[Folder, Table] = {}
    for folder, name, entry in wanted:
        by_folder.setdefault(folder, {})[name] = entry
    for folder, table in by_folder.items():
        for damage in compare_here(folder, table):
            yield folder, damage.file, damage


def files_to_check(job: Job, start: Folder) -> tuple[list[tuple[Folder, str, FileDigest]], list[str]]:
    """Return folder, name and digest of every file that the run reads, and notes on what cannot be verified."""
    wanted, notes = [], []
    if job.start_files is None:
        notes.append(f"{job.start}: recorded without file digests; only its weights were verified")
    else:
        wanted += [(start, name, job.start_files[name]) for name in sorted(job.start_files)]
    listed: dict[tuple[Folder, str], FileDigest] = {}
    for key, names in shards_read(job.mixture, job.first, job.steps, job.shards, job.tokens).items():
        listed |= {(job.tokens[key].folder, name): job.shards[key][name] for name in names}
    wanted += [(folder, name, entry) for (folder, name), entry in listed.items()]
    unknown = dict.fromkeys(source.dataset for source in job.mixture.sources if source.key not in job.shards)
    if unknown:
        notes.append(f"{', '.join(unknown)}: recorded without digests of the token shards, which were not verified")
    return wanted, notes


def shards_read(
    mixture: Mixture, first: int, steps: int, shards: Mapping[str, Table], tokens: Mapping[str, TokenSet]
) -> dict[str, list[str]]:
    """Return, by source key, the shards that hold a token of the sequences read in ``steps`` steps from ``first``.

    Only sources with a table are included; the shards themselves are not opened. The lengths of a selection's documents
    are not known without opening them, so every shard that holds one of them counts as read.
    """
    known = {number: source for number, source in enumerate(mixture.sources) if source.key in shards}
    ends = {number: ends_of(shards[source.key], "tokens") for number, source in known.items()}
    needed = {number: np.zeros(len(ends[number]), bool) for number in known}
    for number, source in known.items():
        if (selection := tokens[source.key].selection) is not None:
            rows = read_selection(selection)
            held = np.searchsorted(ends_of(shards[source.key], "documents"), rows, side="right")
            needed[number][np.unique(held)] = True
    open_ends = {number for number, source in known.items() if tokens[source.key].selection is None}
    last = (first + steps) * mixture.global_batch
    for low in range(first * mixture.global_batch, last, CHUNK):
        open_ends = {number for number in open_ends if not needed[number].all()}
        if not open_ends:
            break
        numbers, positions = mixture.assign(np.arange(low, min(low + CHUNK, last), dtype=np.int64))
        for number in open_ends:
            chosen = positions[numbers == number]
            if len(chosen):
                mark(needed[number], ends[number], known[number].starts(chosen, mixture.seq_len), mixture.seq_len)
    return {
        source.key: [name for name, read in zip(sorted(shards[source.key]), needed[number], strict=True) if read]
        for number, source in known.items()
    }


def ends_of(table: Table, what: str) -> np.ndarray:
    """Return the end of each shard's tokens (or documents), counted over all shards in order; int64 [shards]."""
    return np.cumsum([table[name].counts[what] for name in sorted(table)], dtype=np.int64)


def mark(needed: np.ndarray, ends: np.ndarray, starts: np.ndarray, seq_len: int) -> None:
    """Mark the shards that hold any of the ``seq_len + 1`` tokens from any of the starts."""
    low = np.searchsorted(ends, starts, side="right")
    high = np.searchsorted(ends, starts + seq_len, side="right")
    edges = np.zeros(len(ends) + 1, np.int64)
    np.add.at(edges, low, 1)
    np.add.at(edges, np.minimum(high, len(ends) - 1) + 1, -1)
    needed |= np.cumsum(edges)[:-1] > 0
