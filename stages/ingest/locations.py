"""Locations of input files: local paths and URIs of object stores and web servers, with their Arrow filesystems.

Object keys are used verbatim, spaces, ``#`` and ``%`` included. A ``?`` starts a query only if all its parameters are
options listed below, so that ``part-?.jsonl`` remains a pattern.
"""

import os
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
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
SECRET = re.compile(r"[?&](?:access_key|secret_key|session_token)=")
PATIENCE = timedelta(seconds=60)  # of retries by Google's client before a read fails; the default is 15 minutes


@dataclass(frozen=True)
class Location:
    """Location of a file, folder or pattern."""

    scheme: str  # "" for a disk, "s3", "gs", "http" or "https"
    path: str  # absolute; for an object store, bucket/key; for a web server, everything after "//"
    options: tuple[tuple[str, str], ...] = ()  # of an object store, sorted

    @property
    def is_local(self) -> bool:
        """Whether the location is on a local or mounted disk."""
        return not self.scheme

    @property
    def is_web(self) -> bool:
        """Whether the location is on a web server."""
        return self.scheme in WEB

    @property
    def bucket(self) -> str:
        """The bucket of an object store, else an empty string."""
        return self.path.partition("/")[0] if self.scheme in OBJECT_STORES else ""

    @property
    def plain(self) -> str:
        """The path without the query of a web address."""
        return self.path.partition("?")[0] if self.is_web else self.path

    def __str__(self) -> str:
        if self.is_local:
            return self.path
        return f"{self.scheme}://{self.path}" + (f"?{urlencode(self.options)}" if self.options else "")

    def at(self, path: str) -> "Location":
        """Return another path on the same disk, bucket or server."""
        return replace(self, path=path)

    def filesystem(self) -> pafs.FileSystem:
        """Return the Arrow filesystem of an object store. Raises ``UsageError`` for invalid options."""
        try:
            return connect(self.scheme, self.bucket, self.options)
        except pa.ArrowException as error:
            raise UsageError(f"{self}: {error}") from error


def locate(text: str, storage: StorageSettings | None = None) -> Location:
    """Return the location of a path or URI; options that its query does not set are taken from ``storage``.

    Raises ``UsageError`` for a URI with an unsupported scheme or with a password.
    """
    scheme, mark, rest = text.partition("://")
    if not mark or scheme == "file":
        path = Path(rest if mark else text).expanduser()
        return Location("", os.path.abspath(path))  # noqa: PTH100 - and without '..'
    if scheme in WEB:
        return Location(scheme, rest)
    scheme = "gs" if scheme == "gcs" else scheme
    if scheme not in OBJECT_STORES:
        raise UsageError(f"{text}: unsupported scheme {scheme}://; inputs can be local files, s3://, gs:// or https://")
    options = defaults(storage) if storage else {}
    if query := QUERY.search(rest):
        options |= dict(parse_qsl(query[1]))
        rest = rest[: query.start()]
    user, at, bucket = rest.partition("/")[0].rpartition("@")
    if (at and user != "anonymous") or SECRET.search(rest):
        raise UsageError(
            f"{scheme}://{bucket.partition('?')[0]}/…: passwords in paths end up in logs and records; "
            "set them in the environment instead (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        )
    if at:
        options["anonymous"] = "true"
        rest = rest.removeprefix("anonymous@")
    if not rest.partition("/")[0]:
        raise UsageError(f"{text}: expected a bucket after {scheme}://")
    return Location(scheme, rest.rstrip("/"), tuple(sorted(options.items())))


def defaults(storage: StorageSettings) -> dict[str, str]:
    """Return the settings as URI options."""
    options = {"anonymous": "true"} if storage.anonymous else {}
    if storage.region:
        options["region"] = storage.region
    if storage.endpoint:
        scheme, mark, host = storage.endpoint.rstrip("/").rpartition("://")
        options |= {"endpoint_override": host, **({"scheme": scheme} if mark else {})}
    return options


@cache
def connect(scheme: str, bucket: str, options: tuple[tuple[str, str], ...]) -> pafs.FileSystem:
    """Return the process's connection to an object store; it waits for a store that does not respond."""
    made = partial(connect_once, scheme, bucket, options)
    address = f"{scheme}://{bucket}"
    return patient(made, address, patiently(made, address))


def connect_once(scheme: str, bucket: str, options: tuple[tuple[str, str], ...]) -> pafs.FileSystem:
    """Return the store's plain connection, with credentials from the environment."""
    given: dict[str, Any] = dict(options)
    anonymous = given.pop("anonymous", "false").lower() in ("true", "1", "yes")
    if scheme == "gs":
        given.pop("region", None)
        given.setdefault("scheme", "https")  # Arrow does not set it for other hosts
        return pafs.GcsFileSystem(anonymous=anonymous, retry_time_limit=PATIENCE, **given)
    if "region" not in given and "endpoint_override" not in given:
        given["region"] = pafs.resolve_s3_region(bucket)
    return pafs.S3FileSystem(anonymous=anonymous, **given, **FOREGROUND)


COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2"}


@dataclass(frozen=True)
class InputFile:
    """One file of an arrival, in the state in which it was listed."""

    path: str  # absolute, or a URI with everything needed to open the file except credentials
    name: str  # relative to the path that the user gave, independent of where the data is stored
    size: int  # bytes
    format: str  # name of a ``Format``
    compression: str  # "", "gzip", "zstd" or "bzip2"
    version: str = ""  # of the contents: modification time in ns, or a web server's equivalent
