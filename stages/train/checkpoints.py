"""Checkpoints of a training run: contents, integrity checks, and the choice of the one to resume from.

``progress.json`` is written by rank 0 once every rank's files are in storage, and holds their digests. A checkpoint
that does not match this table is skipped, and the previous one is used: DeepSpeed would silently load an optimizer
state with flipped bytes, and fail on a truncated file at every attempt.

They are stored here rather than by Ray Train, which keeps the newest of a whole run: a group of workers trains several
jobs, and the trunk's last checkpoint must stay while the branch saves its own. Runs of earlier versions have Ray
Train's list of their checkpoints beside them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import xxhash

from rewarm.stages.core.digests import Damage, Table, compare, digest_files, files_in, parse_table
from rewarm.stages.core.errors import DamagedError, UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train.job import Job, Log

PROGRESS = "progress.json"
SEAL = "seal"  # in progress.json: the digest of everything else in it
PREFIX = "checkpoint"
NAME = f"{PREFIX}_%Y-%m-%d_%H-%M-%S.%f"
SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's list of a run's checkpoints, of earlier versions


@dataclass(frozen=True)
class Saved:
    """Record of a checkpoint, stored with its tensors as ``progress.json``."""

    step: int  # steps completed
    world_size: int
    digest: str  # of the whole fp32 weights
    consumed: dict[str, int]  # sequences read of each dataset in this run
    log: Log
    files: Table = field(default_factory=dict)  # of all ranks; empty: saved by a version without file digests
    returns: int = 0  # to earlier checkpoints, before it was saved

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return {**asdict(self), "files": {name: one.to_json() for name, one in self.files.items()}}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Saved":
        """Read what ``to_json`` wrote."""
        return cls(**{**value, "log": Log(**value["log"]), "files": parse_table(value.get("files", {}))})


def digest_own(folder: Path) -> Table:
    """Return the table of the files that a rank has written for a checkpoint."""
    mine = Folder(folder)
    return digest_files(mine, files_in(mine))


def merged(tables: Sequence[Table]) -> Table:
    """Merge the tables of all ranks."""
    whole: Table = {}
    for table in tables:
        clashing = [name for name in table.keys() & whole.keys() if table[name] != whole[name]]
        assert not clashing, f"two ranks have written different contents to {clashing}"
        whole |= table
    return whole


def write_progress(folder: Folder, saved: Saved) -> None:
    """Write ``progress.json``, sealed with its own digest."""
    value = saved.to_json()
    folder.write_json(PROGRESS, {**value, SEAL: seal_of(value)})


def seal_of(value: dict[str, Any]) -> str:
    """Return the digest of a JSON value."""
    return str(xxhash.xxh3_128_hexdigest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)))


def read_progress(folder: Folder) -> Saved:
    """Read what ``write_progress`` wrote. Raises ``DamagedError`` if it is missing or has changed."""
    progress = progress_of(folder)
    if isinstance(progress, str):
        raise DamagedError(f"{folder}/{PROGRESS}: {progress}")
    return progress


def progress_of(folder: Folder) -> Saved | str:
    """Return what ``write_progress`` wrote, or a description of the damage."""
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
    """Return how a checkpoint differs from what was saved; each of ``world_size`` callers reads its share of files."""
    saved = progress_of(folder)
    if isinstance(saved, str):
        return [Damage(PROGRESS, "what was saved", saved)]
    return compare(folder, saved.files, sorted(saved.files)[rank::world_size])


def names_of(job: Job) -> list[str]:
    """Return the names of the run's checkpoints in storage, newest first; the newest may be incomplete."""
    run = job.checkpoints / job.name
    return sorted((name for name in run.folders() if name.startswith(PREFIX)), reverse=True)


def refuse_other_size(job: Job) -> None:
    """Raise ``UsageError`` if a run cannot resume because it began with another number of workers."""
    if not job.settings.needs_same_workers:
        return
    for name in names_of(job):
        saved = progress_of(job.checkpoints / job.name / name)
        if isinstance(saved, Saved) and saved.world_size != job.settings.num_workers:
            raise UsageError(
                f"{job.name}: {name} was saved by {saved.world_size} workers, and Muon's state cannot be divided anew; "
                f"set train.num_workers={saved.world_size} to resume"
            )


def new_name(job: Job) -> str:
    """Return the name of a checkpoint that is saved now. Names sort by age, also after the clock was set back.

    Local time is set back each autumn; the newest checkpoint must not be taken for the oldest then, and be deleted.
    """
    at = datetime.now()
    for newest in names_of(job)[:1]:
        at = max(at, datetime.strptime(newest, NAME) + timedelta(microseconds=1))
    return at.strftime(NAME)


def keep_newest(job: Job) -> None:
    """Delete all checkpoints but the newest ``settings.keep_checkpoints``, and older ones that were not finished.

    One that is newer than the newest finished one is being written by a later command, if this worker is a late one.
    """
    run = job.checkpoints / job.name
    finished = [name for name in names_of(job) if (run / name).exists(PROGRESS)]
    kept = set(finished[: job.settings.keep_checkpoints])
    run.delete(SNAPSHOT)  # before a checkpoint that it may list
    for name in names_of(job):
        if name not in kept and name < max(kept, default=""):
            run.delete(name)


def saved_step(run: Folder) -> int:
    """Return the highest step among the checkpoints that all workers of a run have saved; 0 if there are none."""
    steps = [0]
    for name in run.folders():
        try:
            steps.append(read_progress(run / name).step if name.startswith(PREFIX) else 0)
        except DamagedError:  # not finished; or damaged: resuming skips it too
            continue
    return max(steps)


def repair_list(job: Job) -> str | None:
    """Delete Ray Train's list of checkpoints if it is unusable: Ray Train does not start while a listed one is missing.

    The checkpoint to resume from is found in storage, not in this list. Returns what was wrong with the list, or None.
    """
    run = job.checkpoints / job.name
    if not run.exists(SNAPSHOT):
        return None
    try:
        value = run.read_json(SNAPSHOT)
        listed = [one["checkpoint_dir_name"] for one in value["checkpoint_results"]]
        gone = [name for name in listed if not run.exists(name)]
        wrong = f"lists {', '.join(gone)}, which is missing" if gone else None
    except (DamagedError, KeyError, TypeError) as error:
        wrong = f"cannot be read ({type(error).__name__}: {error})"
    if wrong is not None:
        run.delete(SNAPSHOT)
    return wrong
