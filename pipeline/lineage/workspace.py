"""Where things lie in a workspace, on any filesystem, and who may write there."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pyarrow.fs as pafs
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from rewarm.pipeline.lineage.lease import Lease, hold
from rewarm.stages.core.errors import DamagedError, UsageError
from rewarm.stages.core.local_files import REMOVED, remove
from rewarm.stages.core.patience import CONTACT_S, limited
from rewarm.stages.core.shapes import OPEN, read_as
from rewarm.stages.core.storage import Folder


class WorkspaceRecord(TypedDict):
    """What ``workspace.json`` says."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    format: int
    recipe: dict[str, Any]


FORMAT_VERSION = 3
KEPT_FORMAT = 2  # whose commits lack the facts of their updates: read as it is, and raised by the next commit
CONVERTED_FORMAT = 1  # of workspaces without a log of commits: `rewarm convert`
BUCKETS = ("s3", "gs", "gcs")
RECORD = "workspace.json"
CARD = "README.md"
TRIAL = "trial.json"  # in the folder of a study's trial, once that is finished
LEVELS = ("datasets/", "datasets/*/", "dedup/", "updates/", "updates/*/", "updates/*/*/")  # where folders are deleted
RECORDS = TypeAdapter(WorkspaceRecord)
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Workspace:
    """A lineage's folder: datasets, dedup index, updates, releases.

    workspace.json                                the recipe, the format version
    tokenizer/                                    the lineage's tokenizer
    datasets/<name>/{documents,validation,quarantine,tokens}/ + manifest.json
    dedup/<name>/                                 what was ingested, for the arrivals after it
    updates/<id>/{plan.json,scores,selection,mixture,initial,trunk,release,checkpoints,evaluation}/ + update.json
    commits/00000000.json …                       the log: an immutable file for each update that finished
    releases.json                                 which release is current, made from the log for other programs
    report/{index,<id>}.html                      a page for the workspace, and one for each update
    """

    def __init__(self, uri: str) -> None:
        """Raises ``UsageError`` for an address that is no bucket's, ``UnreachableError`` if it does not answer."""
        self.folder = Folder(uri)
        if "://" in uri and not uri.startswith("file://"):
            refuse_address(uri)
            refuse_unreachable(self.folder)

    @classmethod
    def open(cls, uri: str) -> "Workspace":
        """An existing workspace; ``UsageError`` where there is none, or one of another format."""
        workspace = cls(uri)
        if not workspace.folder.exists(RECORD):
            refuse_lineage(workspace.folder)
            raise UsageError(f"{uri}: no rewarm workspace there (no {RECORD}); make one with `rewarm init {uri} …`")
        workspace.check_format()
        return workspace

    def check_format(self) -> None:
        """``UsageError`` for a workspace that another version of rewarm made, with what to do."""
        found = self.record().get("format")
        if found == CONVERTED_FORMAT:
            raise UsageError(
                f"{self.folder}: the workspace has format {found}; `rewarm convert {self.folder}` gives its records "
                f"format {FORMAT_VERSION} (in seconds; data and weights stay as they are)"
            )
        if found not in (KEPT_FORMAT, FORMAT_VERSION):
            raise UsageError(f"{self.folder}: has format {found!r}, this rewarm reads format {FORMAT_VERSION}")

    def raise_format(self) -> None:
        """Say that this version writes here, before it does; an earlier one then refuses instead of misreading it."""
        if self.folder.exists(RECORD) and (record := self.record())["format"] == KEPT_FORMAT:
            self.folder.write_json(RECORD, {**record, "format": FORMAT_VERSION})

    def record(self) -> dict[str, Any]:
        """``workspace.json``."""
        return cast(dict[str, Any], read_as(self.folder, RECORD, RECORDS))

    def dataset(self, name: str) -> Folder:
        """The folder of a dataset."""
        return self.folder / "datasets" / name

    def train_tokens(self, name: str) -> Folder:
        """The training shards of a dataset's tokens."""
        return self.dataset(name) / "tokens" / "train"

    def dedup(self, name: str) -> Folder:
        """The folder of a dataset's part of the dedup index."""
        return self.folder / "dedup" / name

    def update(self, update: str) -> Folder:
        """The folder of an update."""
        return self.folder / "updates" / update

    @property
    def tokenizer(self) -> Folder:
        """The lineage's tokenizer."""
        return self.folder / "tokenizer"

    @contextmanager
    def lease(
        self, purpose: str | None = None, wait_s: float = 0.0, note: Callable[[str], None] | None = None
    ) -> Iterator[Lease]:
        """Hold the workspace: one command at a time writes to it; arguments and errors are those of ``lease.hold``.

        While the block lasts, what this process writes through ``folder`` and the folders made from it is refused with
        ``LeaseLostError`` once another process has taken over.
        """
        with hold(self.folder, purpose, wait_s, note=note) as lease:
            self.folder = self.folder.guarded(lease)
            try:
                self.sweep()
                yield lease
            finally:
                self.folder = self.folder.guarded(None)

    def sweep(self) -> None:
        """Remove what killed commands left of folders that they were deleting."""
        if not self.folder.is_local:  # a store deletes object by object, and what is left is deleted again
            return
        for level in ("", *LEVELS):
            for left in self.folder.path.glob(f"{level}.*{REMOVED}"):
                remove(left)


def refuse_lineage(folder: Folder) -> None:
    """``DamagedError`` for a folder that holds updates and lacks the record of its workspace."""
    if folder.exists("commits") or (folder / "updates").folders():
        raise DamagedError(
            f"{folder}/{RECORD}: missing, though the folder holds the updates of a lineage; restore it from a copy of "
            "the workspace"
        )


def refuse_address(uri: str) -> None:
    """``UsageError`` for an address that names no bucket, or that holds keys."""
    scheme, _, rest = uri.partition("://")
    place = rest.partition("?")[0].partition("/")[0]
    keys, _, bucket = place.rpartition("@")
    if scheme not in BUCKETS or not bucket:
        raise UsageError(f"{scheme}://{bucket}: a workspace is a folder, s3://BUCKET/PATH or gs://BUCKET/PATH")
    if keys not in ("", "anonymous"):
        raise UsageError(
            f"{scheme}://…@{bucket}: keys in an address end up in logs and records; give them in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), or as the machine's role"
        )


def refuse_unreachable(folder: Folder) -> None:
    """``UsageError`` if there is no such bucket or it refuses access, ``UnreachableError`` if it does not answer."""
    try:
        with limited(CONTACT_S):
            filesystem, path = folder.filesystem()
            bucket = path.partition("/")[0]
            there = filesystem.get_file_info(bucket).type != pafs.FileType.NotFound
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot access the bucket: {error}. Check the address, the network and the credentials"
        ) from error
    if not there:
        raise UsageError(f"{folder}: there is no bucket {bucket}; make it first")


def check_name(name: str) -> str:
    """A dataset's name, fit for folders and task names; ``UsageError`` says what is."""
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f"dataset name {name!r}: letters, digits, '.', '_' and '-' are expected, beginning with a letter or digit"
        )
    return name
