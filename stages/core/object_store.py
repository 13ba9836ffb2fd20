"""Conditional writes to object stores: S3 (``If-None-Match``, ``If-Match``) and Google
(``x-goog-if-generation-match``).

They use obstore, because Arrow's filesystems do not support conditions. Credentials come from the environment:
``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` or the machine's role; ``GOOGLE_APPLICATION_CREDENTIALS`` or the
machine's account. The URI's query is that of Arrow:
``s3://bucket/path?endpoint_override=host:port&scheme=http&region=…``.
"""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import obstore
import orjson
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import GCSStore, S3Store

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.faults import may_pass
from rewarm.stages.core.patience import patiently, reason
from rewarm.stages.core.storage import Folder

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ClientConfig, RetryConfig

REQUEST = timedelta(seconds=5)  # small requests take milliseconds; a lost response must not use up a lease
RETRIES: "RetryConfig" = {"max_retries": 0, "retry_timeout": timedelta(seconds=10)}  # ``patiently`` retries
FINAL = (PermissionDeniedError, UnauthenticatedError, NotSupportedError, InvalidPathError, UnknownConfigurationKeyError)
T = TypeVar("T")
NOBODY = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}


class Objects:
    """Small objects in a folder of a bucket; requests without a response are retried patiently."""

    def __init__(self, folder: Folder) -> None:
        self.uri = folder.uri
        self.store, self.path = connect(folder.uri)

    def get(self, name: str) -> "tuple[bytes | None, UpdateVersion | None]":
        """Return an object and the store's version of it; None and None if it does not exist."""

        def get() -> "tuple[bytes | None, UpdateVersion | None]":
            try:
                found = obstore.get(self.store, self._key(name))
                data = bytes(found.bytes())
            except FileNotFoundError:
                return None, None
            return data, version(found.meta["e_tag"], found.meta["version"])

        return self._ask(get, name)

    def get_from(self, name: str, offset: int) -> bytes:
        """Return an object's bytes from ``offset`` on; empty if it does not exist. The offset must be inside it."""

        def get() -> bytes:
            try:
                found = obstore.get(self.store, self._key(name), options={"range": {"offset": offset}})
                return bytes(found.bytes())
            except FileNotFoundError:
                return b""

        return self._ask(get, name)

    def put(self, name: str, data: bytes, before: "UpdateVersion | None") -> "UpdateVersion | None":
        """Write an object if its version is still ``before`` (None: absent); return the new version, or None if not.

        A put whose response was lost is sent again and may find its own result, which does not count as a change.
        """

        def put() -> "UpdateVersion | None":
            try:
                done = obstore.put(self.store, self._key(name), data, mode=before or "create")
            except (AlreadyExistsError, PreconditionError):
                return None
            except FileNotFoundError:
                if before is None:  # no such bucket
                    raise
                return None
            return version(done["e_tag"], done["version"])

        done = self._ask(put, name)
        if done is not None:
            return done
        found, mark = self.get(name)
        return mark if found == data else None

    def size(self, name: str) -> int:
        """Return the bytes of an object; 0 if it does not exist."""

        def size() -> int:
            try:
                return int(obstore.head(self.store, self._key(name))["size"])
            except FileNotFoundError:
                return 0

        return self._ask(size, name)

    def _ask(self, work: Callable[[], T], name: str) -> T:
        try:
            return patiently(work, f"{self.uri}: {name}", (BaseError, OSError), passes)
        except (BaseError, OSError) as error:
            raise StageError(f"{self.uri}: cannot read or write {name}: {reason(error)}") from error

    def _key(self, name: str) -> str:
        return f"{self.path}/{name}".lstrip("/")


def passes(error: BaseException) -> bool:
    """Return whether an error of a store may be temporary."""
    return not isinstance(error, FINAL) and may_pass(error)


def create(folder: Folder, name: str, data: bytes) -> None:
    """Write a small file exactly once: the disk or bucket refuses to replace a file of the same name.

    A folder's guard refuses a late writer first. Raises ``StageError`` if the file has different contents; the same
    contents come from an attempt whose response was lost, or that was killed immediately afterwards.
    """
    if folder.is_local:
        done = folder.create(name, data) or folder.read(name) == data
    else:
        with folder.guard.committing() if folder.guard else nullcontext():
            done = Objects(folder).put(name, data, None) is not None
    if not done:
        raise StageError(f"{folder}/{name}: another command has written this file; nothing was recorded by this one")


def connect(uri: str) -> tuple[S3Store | GCSStore, str]:
    """Return the bucket of a URI and the path in it. Raises ``UsageError`` for a store without conditional puts."""
    scheme, _, rest = uri.partition("://")
    place, _, query = rest.partition("?")
    bucket, _, path = place.partition("/")
    options = dict(parse_qsl(query))
    plain = options.get("scheme") == "http"
    client: ClientConfig = {"timeout": REQUEST, "connect_timeout": REQUEST, "allow_http": plain}
    endpoint = (
        f"{options.get('scheme', 'https')}://{options['endpoint_override']}" if "endpoint_override" in options else ""
    )
    config: Any
    if scheme == "s3":
        config = {name: options[name] for name in ("region",) if name in options}
        config |= {"endpoint": endpoint} if endpoint else {}
        return S3Store(bucket, config=config, client_options=client, retry_config=RETRIES), path
    if scheme in ("gs", "gcs"):
        config = {"base_url": endpoint} if endpoint else {}
        if options.get("anonymous") == "true":  # a private server without accounts
            config = {"service_account_key": orjson.dumps({**NOBODY, "gcs_base_url": endpoint}).decode()}
        return GCSStore(bucket, config=config, client_options=client, retry_config=RETRIES), path
    raise UsageError(f"{uri}: a lease needs a disk, s3:// or gs://")


def version(e_tag: str | None, generation: str | None) -> "UpdateVersion":
    """Return the condition for a put, from the version marks that the store provides."""
    marks: UpdateVersion = {}
    if e_tag is not None:
        marks["e_tag"] = e_tag
    if generation is not None:
        marks["version"] = generation
    return marks
