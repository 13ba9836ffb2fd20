"""Checkpoints of a training run: their contents, whether one is whole, and which of them a run resumes from.

``progress.json`` is written by rank 0 and holds the table of all ranks' files with their digests, its own included. A
checkpoint that is not what this table says is set aside, and the one before it is used: DeepSpeed would load flipped
bytes of an optimizer state without a word, and fail on a truncated file at every try.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import xxhash

from rewarm.stages.core.digests import Damage, Table, compare, digest_files, files_in, parse_table
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train.job import Job, Log

PROGRESS = "progress.json"
SEAL = "seal"  # in progress.json: the digest of all else in it
PREFIX = "checkpoint"  # Ray Train's names: ``checkpoint_`` and the time, so they sort by age
SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's list of a run's checkpoints


@dataclass(frozen=True)
class Saved:
    """The record beside a checkpoint's tensors, as ``progress.json``."""

    step: int  # steps done
    world_size: int
    digest: str  # of the whole fp32 weights
    consumed: dict[str, int]  # sequences read of each dataset, in this run
    log: Log
    files: Table = field(default_factory=dict)  # of all ranks; empty: of a version that kept no digests of files

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {**asdict(self), "files": {name: one.to_json() for name, one in self.files.items()}}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Saved":
        """Read what ``to_json`` wrote."""
        return cls(**{**value, "log": Log(**value["log"]), "files": parse_table(value.get("files", {}))})


def digest_own(folder: Path) -> Table:
    """The table of the files that a rank has written for a checkpoint."""
    mine = Folder(folder)
    return digest_files(mine, files_in(mine))


def merged(tables: Sequence[Table]) -> Table:
    """All ranks' files in one table."""
    whole: Table = {}
    for table in tables:
        clashing = [name for name in table.keys() & whole.keys() if table[name] != whole[name]]
        assert not clashing, f"two ranks have written {clashing}, and not the same"
        whole |= table
    return whole


def write_progress(folder: Folder, saved: Saved) -> None:
    """Write ``progress.json``, sealed by its own digest."""
    value = saved.to_json()
    folder.write_json(PROGRESS, {**value, SEAL: seal_of(value)})


def seal_of(value: dict[str, Any]) -> str:
    """The digest of the JSON value."""
    return str(xxhash.xxh3_128_hexdigest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)))


def read_progress(folder: Folder) -> Saved:
    """What ``write_progress`` wrote; ``DamagedError`` if it is missing or something else by now."""
    found = progress_of(folder)
    if isinstance(found, str):
        raise DamagedError(f"{folder}/{PROGRESS}: {found}")
    return found


def progress_of(folder: Folder) -> Saved | str:
    """What ``write_progress`` wrote, or what is wrong with it."""
    try:
        value: dict[str, Any] = orjson.loads(folder.read(PROGRESS))
        seal = value.pop(SEAL, None)
        if seal is not None and (found := seal_of(value)) != seal:
            return f"digest {seal} expected, {found} found"
        return Saved.from_json(value)
    except FileNotFoundError:
        return "no such file"
    except (OSError, orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"


def damages(folder: Folder, rank: int = 0, world_size: int = 1) -> list[Damage]:
    """What of a checkpoint is not as it was saved; each of ``world_size`` callers reads its part of the files."""
    saved = progress_of(folder)
    if isinstance(saved, str):
        return [Damage(PROGRESS, "what was saved", saved)]
    return compare(folder, saved.files, sorted(saved.files)[rank::world_size])


def names_of(job: Job) -> list[str]:
    """The run's checkpoints that are in the storage, the newest first; the last one may be torn."""
    run = job.checkpoints / job.name
    return sorted((name for name in run.folders() if name.startswith(PREFIX)), reverse=True)


def saved_step(run: Folder) -> int:
    """The furthest step of the checkpoints that all workers of a run have saved; 0 without any."""
    steps = [0]
    try:
        listed = run.read_json(SNAPSHOT)["checkpoint_results"] if run.exists(SNAPSHOT) else []
        names = [one["checkpoint_dir_name"] for one in listed]
    except (DamagedError, KeyError, TypeError):  # a list that is named and deleted before the next attempt
        names = []
    for name in names:
        try:
            steps.append(read_progress(run / name).step)
        except DamagedError:  # it will not be resumed from either
            continue
    return max(steps)


def repair_list(job: Job) -> str | None:
    """Delete Ray Train's list of checkpoints if it cannot be used: it refuses to start while one of them is missing.

    Which checkpoint a run resumes from is found in the storage, not in this list. Returns what was wrong with it.
    """
    run = job.checkpoints / job.name
    if not run.exists(SNAPSHOT):
        return None
    try:
        value = run.read_json(SNAPSHOT)
        listed = [one["checkpoint_dir_name"] for one in value["checkpoint_results"]]
        gone = [name for name in listed if not run.exists(name)]
        wrong = f"names {', '.join(gone)}, which is not there" if gone else None
    except (DamagedError, KeyError, TypeError) as error:
        wrong = f"cannot be read ({type(error).__name__}: {error})"
    if wrong is not None:
        run.delete(SNAPSHOT)
    return wrong
