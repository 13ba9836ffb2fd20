"""Where files lie: a path on a disk, or a URI of an object store or web server, and the Arrow filesystem behind that.

A key is taken as it stands, spaces, ``#`` and ``%`` included: nothing is escaped. A query is one only where it names
nothing but the options below, so that ``part-?.jsonl`` stays a pattern.

One file of an arrival, and what its name says about it.
"""

import os
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pyarrow as pa
import pyarrow.fs as pafs

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.local_files import FOREGROUND
from rewarm.stages.core.patience import patiently
from rewarm.stages.core.patient_store import patient
from rewarm.stages.ingest.settings import StorageSettings

OBJECT_STORES = ("s3", "gs")
WEB = ("http", "https")
OPTION = r"(?:endpoint_override|scheme|region|anonymous)=[^&?/]*"
QUERY = re.compile(rf"\?({OPTION}(?:&{OPTION})*)$")
PATIENCE = timedelta(seconds=60)  # for Google's client to try again before a read fails; its default is 15 minutes


@dataclass(frozen=True)
class Location:
    """One file, folder or pattern."""

    scheme: str  # "" for a disk, "s3", "gs", "http" or "https"
    path: str  # absolute; of an object store bucket/key; of a web server all after "//"
    options: tuple[tuple[str, str], ...] = ()  # sorted; of an object store

    @property
    def is_local(self) -> bool:
        """Whether it lies on a disk of this machine, or one mounted on it."""
        return not self.scheme

    @property
    def is_web(self) -> bool:
        """Whether it is a web server's."""
        return self.scheme in WEB

    @property
    def bucket(self) -> str:
        """The bucket of an object store, else nothing."""
        return self.path.partition("/")[0] if self.scheme in OBJECT_STORES else ""

    @property
    def plain(self) -> str:
        """The path without a web address's query."""
        return self.path.partition("?")[0] if self.is_web else self.path

    def __str__(self) -> str:
        if self.is_local:
            return self.path
        return f"{self.scheme}://{self.path}" + (f"?{urlencode(self.options)}" if self.options else "")

    def at(self, path: str) -> "Location":
        """Another path of the same place."""
        return replace(self, path=path)

    def filesystem(self) -> pafs.FileSystem:
        """The Arrow filesystem of an object store. Raises ``UsageError`` for options that are none."""
        try:
            return connect(self.scheme, self.bucket, self.options)
        except pa.ArrowException as error:
            raise UsageError(f"{self}: {error}") from error


def locate(text: str, storage: StorageSettings | None = None) -> Location:
    """The place that a path or URI names; what its query leaves open is taken from ``storage``.

    Raises ``UsageError`` for a URI of another scheme, or one that holds a password.
    """
    scheme, mark, rest = text.partition("://")
    if not mark or scheme == "file":
        path = Path(rest if mark else text).expanduser()
        return Location("", os.path.abspath(path))  # noqa: PTH100 - and without '..'
    if scheme in WEB:
        return Location(scheme, rest)
    scheme = "gs" if scheme == "gcs" else scheme
    if scheme not in OBJECT_STORES:
        raise UsageError(f"{text}: files are read from disks, s3://, gs:// and https://, not from {scheme}://")
    options = defaults(storage) if storage else {}
    if query := QUERY.search(rest):
        options |= dict(parse_qsl(query[1]))
        rest = rest[: query.start()]
    user, at, bucket = rest.partition("/")[0].rpartition("@")
    if at:
        if user != "anonymous":
            raise UsageError(
                f"{scheme}://…@{bucket}: passwords in paths end up in logs and records; "
                "leave them to the environment (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
            )
        options["anonymous"] = "true"
        rest = rest.removeprefix("anonymous@")
    if not rest.partition("/")[0]:
        raise UsageError(f"{text}: a bucket is expected after {scheme}://")
    return Location(scheme, rest.rstrip("/"), tuple(sorted(options.items())))


def defaults(storage: StorageSettings) -> dict[str, str]:
    """The settings as options of a URI."""
    options = {"anonymous": "true"} if storage.anonymous else {}
    if storage.region:
        options["region"] = storage.region
    if storage.endpoint:
        scheme, mark, host = storage.endpoint.rstrip("/").rpartition("://")
        options |= {"endpoint_override": host, **({"scheme": scheme} if mark else {})}
    return options


@cache
def connect(scheme: str, bucket: str, options: tuple[tuple[str, str], ...]) -> pafs.FileSystem:
    """The connection to an object store, one a process, which waits for a store that does not answer."""
    made = partial(connect_once, scheme, bucket, options)
    address = f"{scheme}://{bucket}"
    return patient(made, address, patiently(made, address))


def connect_once(scheme: str, bucket: str, options: tuple[tuple[str, str], ...]) -> pafs.FileSystem:
    """The store's own connection; credentials are the environment's."""
    given: dict[str, Any] = dict(options)
    anonymous = given.pop("anonymous", "false").lower() in ("true", "1", "yes")
    if scheme == "gs":
        given.pop("region", None)
        given.setdefault("scheme", "https")  # which Arrow leaves out for strangers
        return pafs.GcsFileSystem(anonymous=anonymous, retry_time_limit=PATIENCE, **given)
    if "region" not in given and "endpoint_override" not in given:
        given["region"] = pafs.resolve_s3_region(bucket)
    return pafs.S3FileSystem(anonymous=anonymous, **given, **FOREGROUND)


FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".txt": "text",
    ".md": "text",
    ".warc": "warc",
    ".wet": "wet",
    ".html": "html",
    ".htm": "html",
    ".bin": "megatron",
    ".ds": "datatrove",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2"}
PACKED_INSIDE = ("parquet", "arrow", "megatron", "datatrove", "tokens")
SUPPORTED = (
    "JSON lines (.jsonl, .ndjson, .json), tables (.csv, .tsv), text (.txt, .md), pages (.html, .htm) and web archives "
    "(.warc, .wet), each also as .gz, .zst or .bz2, .parquet and Arrow (.arrow, .feather, .ipc), and tokens of "
    "Megatron (.bin beside .idx) and datatrove (.ds)"
)


@dataclass(frozen=True)
class InputFile:
    """One file of an arrival, as it was when it was listed."""

    path: str  # absolute, or a URI that holds all it takes to open it but the credentials
    name: str  # relative to what the user gave: the same wherever the data lies
    size: int  # bytes
    format: str  # a value of ``FORMATS``, or "tokens"
    compression: str  # "", "gzip", "zstd" or "bzip2"
    version: str = ""  # of the contents: time of the last change in ns, or what a web server gives for it


def recognise(name: str, kind: str = "auto") -> tuple[str, str] | None:
    """Format and compression by the suffixes of a file's path, or of the ``kind`` given; None where unknown.

    A ``.bin`` may hold anything: it is Megatron's where its ``.idx`` lies beside it.
    """
    path = PurePosixPath(name.lower())
    compression = COMPRESSIONS.get(path.suffix, "")
    found = FORMATS.get(PurePosixPath(path.stem).suffix if compression else path.suffix) if kind == "auto" else kind
    if found is None or (compression and found in PACKED_INSIDE):
        return None
    if found == "megatron" and not Path(name).with_suffix(".idx").is_file():
        return None
    return found, compression
