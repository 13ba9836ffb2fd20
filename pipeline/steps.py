"""Run a stage once: fingerprint it, skip it when committed, refuse it when something changed, time and record it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import orjson
import xxhash

from pipeline.attempts import ATTEMPTS, attempt
from pipeline.config import differences
from pipeline.monitoring.stage import Metered, StageReport
from pipeline.record.update import StepTaken
from pipeline.runs.announcer import Announcer
from stages.digests import FILES, compare, digest_files, files_in, read_table, refuse_damage, write_table
from stages.errors import UsageError
from stages.identity import fingerprint, now
from stages.shapes import outcome_of, stage_manifest
from stages.storage import MANIFEST, Folder

STARTED = "started.json"
BULK = ("train/", "documents/", "quarantine/")  # of a dataset and its tokens: large, and not read by every step
Outcome = TypeVar("Outcome")


class ChangedError(UsageError):
    """What was begun with other settings or inputs cannot be gone on with."""


@dataclass(frozen=True)
class Keeps:
    """Which files of a step its record vouches for: all in its folder, unless the stage wrote the table itself."""

    without: tuple[str, ...] = ()  # files and folders directly in it that are scratch, or proved in another way
    beside: tuple[Folder, ...] = ()  # folders elsewhere that the step also makes


ALL = Keeps()


class Runner:
    """Runs the steps of one update and remembers what each took."""

    def __init__(self, progress: Announcer, labels: dict[str, str] | None = None) -> None:
        """``labels`` are those of the update's metrics; without them none are reported."""
        self.labels = labels or {}
        self.report = StageReport(self.labels)
        self.progress: Announcer = Metered(progress, self.report)
        self.taken: dict[str, StepTaken] = {}
        self.digests: dict[str, str] = {}
        self.files: dict[Folder, str] = {}  # by a step's folder: the digest of the table of its files

    def run(
        self,
        name: str,
        work: Callable[[], Outcome],
        outcome: type[Outcome],
        folder: Folder,
        settings: dict[str, Any],
        inputs: dict[str, Any],
        version: int = 1,
        keeps: Keeps = ALL,
    ) -> Outcome:
        """Commit ``work``'s outcome to ``folder``'s manifest, or read it there if that was done before.

        ``settings`` and ``inputs`` (digests) decide the result, with the stage's ``version``; together they are the
        step's identity. Raises ``ChangedError`` with what differs where the folder belongs to another identity, and
        ``DamagedError`` if what was committed has changed since. ``keeps`` says which files the record vouches for.
        """
        identity = orjson.loads(
            orjson.dumps({"step": name, "version": version, "settings": settings, "inputs": inputs})
        )
        self.digests[name] = fingerprint(identity)
        if folder.committed():
            manifest = stage_manifest(folder)
            refuse_changes({**manifest["identity"]}, identity, f"{folder}: finished with other settings or inputs")
            self.progress.stage(name, skipped=True)
            self.taken[name] = StepTaken(manifest["seconds"], manifest.get("attempts", 1))
            if FILES in manifest:
                self.files[folder] = manifest[FILES]
                refuse_changed_files(folder, manifest[FILES])
            self.report.done(name, self.taken[name].seconds, folder)
            return outcome_of(folder, outcome)
        if folder.exists(STARTED):
            refuse_changes(folder.read_json(STARTED), identity, f"{folder}: was started with other settings or inputs")
        folder.write_json(STARTED, identity)
        folder.delete(FILES)  # of an attempt that was killed
        self.progress.stage(name, skipped=False)
        with attempt(folder) as so_far:
            done = work()
            self.files[folder] = seal(folder, keeps)
        attempts = so_far()
        self.taken[name] = StepTaken(round(sum(one["seconds"] for one in attempts), 3), len(attempts))
        made = {
            "step": name,
            "fingerprint": self.digests[name],
            "identity": identity,
            "outcome": asdict(done),  # type: ignore[call-overload]
            FILES: self.files[folder],
            "seconds": self.taken[name].seconds,
            "attempts": len(attempts),
            "finished": now(),
        }
        folder.write_json(MANIFEST, made)
        self.report.done(name, self.taken[name].seconds, folder)
        return done


def seal(folder: Folder, keeps: Keeps) -> str:
    """Leave the table of a finished step's files in its folder, unless its stage did; the table's digest.

    Everything that is kept is read once more: after a short step it is still in memory.
    """
    if folder.exists(FILES):
        return str(xxhash.xxh3_128_hexdigest(folder.read(FILES)))
    table = digest_files(folder, files_in(folder, (*keeps.without, STARTED, ATTEMPTS, MANIFEST, FILES)))
    for other in keeps.beside:
        place = other.relative_to(folder)
        table |= {f"{place}/{name}": found for name, found in digest_files(other, files_in(other)).items()}
    return write_table(folder, table)


def refuse_changed_files(folder: Folder, expected: str) -> None:
    """``DamagedError`` if a finished step's files are not those that it left, as its table of digest ``expected`` says.

    ``BULK`` is left out: training shards that are read are compared by the workers that read them, and all of it by
    ``rewarm verify``.
    """
    table = read_table(folder, expected)
    refuse_damage(folder, compare(folder, table, [name for name in table if not name.startswith(BULK)]))


def refuse_changes(before: dict[str, Any], after: dict[str, Any], what: str) -> None:
    """``ChangedError`` with every setting or input that differs, if any does."""
    changed = differences(before, after)
    if changed:
        raise ChangedError(
            f"{what}:\n  " + "\n  ".join(changed) + "\n"
            "Run it again with the settings and data it began with, or drop the unfinished update with "
            "`rewarm discard WORKSPACE`."
        )
