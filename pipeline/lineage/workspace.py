"""A workspace: its layout on any filesystem, its format, and the lease that allows one writer at a time."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import parse_qsl

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
    """The contents of ``workspace.json``."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    format: int
    recipe: dict[str, Any]


FORMAT_VERSION = 3
KEPT_FORMAT = 2  # commits without the facts of their updates: readable as it is, and upgraded by the next commit
CONVERTED_FORMAT = 1  # no log of commits: needs `rewarm convert`
BUCKETS = ("s3", "gs", "gcs")
CREDENTIALS = ("access_key", "secret_key", "session_token")  # options of Arrow's client that are secrets
RECORD = "workspace.json"
CARD = "README.md"
TRIAL = "trial.json"  # in the folder of a study's finished trial
LEVELS = ("datasets/", "datasets/*/", "dedup/", "updates/", "updates/*/", "updates/*/*/")  # with deleted folders
RECORDS = TypeAdapter(WorkspaceRecord)
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Workspace:
    """The folder of a lineage: datasets, dedup index, updates, releases.

    workspace.json                                recipe and format version
    tokenizer/                                    tokenizer of the lineage
    datasets/<name>/{documents,validation,quarantine,tokens}/ + manifest.json
    dedup/<name>/                                 index of the ingested documents, for later arrivals
    updates/<id>/{plan.json,scores,selection,mixture,initial,trunk,release,checkpoints,evaluation,…}/ + update.json
    commits/00000000.json …                       the log: an immutable file for each finished update
    releases.json                                 the current release, written from the log for other programs
    report/{index,<id>}.html                      a page for the workspace, and one for each update
    """

    def __init__(self, uri: str) -> None:
        """Raises ``UsageError`` if the address does not name a bucket, ``UnreachableError`` if it does not answer."""
        if not uri.strip():
            raise UsageError("WORKSPACE is empty, so there is no rewarm workspace; expected a path, s3:// or gs://")
        self.folder = Folder(uri)
        if "://" in uri and not uri.startswith("file://"):
            refuse_address(uri)
            refuse_unreachable(self.folder)

    @classmethod
    def open(cls, uri: str) -> "Workspace":
        """Open an existing workspace; raises ``UsageError`` if there is none, or if it has another format."""
        workspace = cls(uri)
        if not workspace.folder.exists(RECORD):
            refuse_lineage(workspace.folder)
            raise UsageError(f"{uri}: no rewarm workspace found (no {RECORD}); create one with `rewarm init {uri} …`")
        workspace.check_format()
        return workspace

    def check_format(self) -> None:
        """Raise ``UsageError`` if this version of rewarm cannot use the workspace, with what to do."""
        found = self.record().get("format")
        if found == CONVERTED_FORMAT:
            raise UsageError(
                f"{self.folder}: the workspace has format {found}; `rewarm convert {self.folder}` converts its records "
                f"to format {FORMAT_VERSION} (in seconds; data and weights do not change)"
            )
        if found not in (KEPT_FORMAT, FORMAT_VERSION):
            raise UsageError(f"{self.folder}: has format {found!r}, this rewarm reads format {FORMAT_VERSION}")

    def raise_format(self) -> None:
        """Record this version's format before its first write, so that older versions refuse instead of misreading."""
        if self.folder.exists(RECORD) and (record := self.record())["format"] == KEPT_FORMAT:
            self.folder.write_json(RECORD, {**record, "format": FORMAT_VERSION})

    def record(self) -> dict[str, Any]:
        """Read ``workspace.json``."""
        return cast(dict[str, Any], read_as(self.folder, RECORD, RECORDS))

    def dataset(self, name: str) -> Folder:
        """Return the folder of a dataset."""
        return self.folder / "datasets" / name

    def train_tokens(self, name: str) -> Folder:
        """Return the folder of a dataset's training shards."""
        return self.dataset(name) / "tokens" / "train"

    def dedup(self, name: str) -> Folder:
        """Return the folder of a dataset's part of the dedup index."""
        return self.folder / "dedup" / name

    def update(self, update: str) -> Folder:
        """Return the folder of an update."""
        return self.folder / "updates" / update

    @property
    def tokenizer(self) -> Folder:
        """The folder of the lineage's tokenizer."""
        return self.folder / "tokenizer"

    @contextmanager
    def lease(
        self, purpose: str | None = None, wait_s: float = 0.0, note: Callable[[str], None] | None = None
    ) -> Iterator[Lease]:
        """Hold the workspace's lease, which allows one writer at a time; arguments and errors as in ``lease.hold``.

        Inside the block, writes through ``folder`` and folders derived from it raise ``LeaseLostError`` once another
        process has taken over the lease.
        """
        with hold(self.folder, purpose, wait_s, note=note) as lease:
            self.folder = self.folder.guarded(lease)
            try:
                self.sweep()
                yield lease
            finally:
                self.folder = self.folder.guarded(None)

    def sweep(self) -> None:
        """Remove the remains of folders that killed commands were deleting."""
        if not self.folder.is_local:  # a store deletes object by object, and repeating the deletion removes the rest
            return
        for level in ("", *LEVELS):
            for left in self.folder.path.glob(f"{level}.*{REMOVED}"):
                remove(left)


def refuse_lineage(folder: Folder) -> None:
    """Raise ``DamagedError`` for a folder that holds updates but no ``workspace.json``, ``UsageError`` for a file."""
    if folder.is_local and folder.path.is_file():
        raise UsageError(f"{folder}: is a file; a workspace is a folder, an empty or a new one for `rewarm init`")
    if folder.exists("commits") or (folder / "updates").folders():
        raise DamagedError(
            f"{folder}/{RECORD}: missing, although the folder holds the updates of a lineage; restore the file from a "
            "copy of the workspace"
        )


def refuse_address(uri: str) -> None:
    """Raise ``UsageError`` for an address without a bucket, or with credentials in it."""
    scheme, _, rest = uri.partition("://")
    path, _, query = rest.partition("?")
    keys, _, bucket = path.partition("/")[0].rpartition("@")
    if scheme not in BUCKETS or not bucket:
        raise UsageError(f"{scheme}://{bucket}: a workspace is a folder, s3://BUCKET/PATH or gs://BUCKET/PATH")
    if keys not in ("", "anonymous") or any(name in CREDENTIALS for name, _ in parse_qsl(query)):
        raise UsageError(
            f"{scheme}://…@{bucket}: credentials in an address end up in logs and records; pass them in the environment"
            " (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), or through the machine's role"
        )


def refuse_unreachable(folder: Folder) -> None:
    """Raise ``UsageError`` for a missing bucket or denied access, ``UnreachableError`` if there is no answer."""
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
        raise UsageError(f"{folder}: bucket {bucket} does not exist; create it first")


def check_name(name: str, what: str = "dataset name") -> str:
    """Return a dataset's name if it is valid in paths and task names; raises ``UsageError`` otherwise."""
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f"{what} {name!r}: expected at most 64 letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    return name
