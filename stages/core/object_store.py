"""Objects that are written on condition: conditional puts of S3 (``If-None-Match``, ``If-Match``) and of Google's store
(``x-goog-if-generation-match``), through obstore, because Arrow's filesystems know no conditions.

Credentials are the environment's, as obstore reads them: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` or the
machine's role; ``GOOGLE_APPLICATION_CREDENTIALS`` or the machine's account. The URI's query is Arrow's:
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

REQUEST = timedelta(seconds=5)  # an answer to some kilobytes takes milliseconds; a lost one must not eat a lease
RETRIES: "RetryConfig" = {"max_retries": 0, "retry_timeout": timedelta(seconds=10)}  # ``patiently`` tries again
FINAL = (PermissionDeniedError, UnauthenticatedError, NotSupportedError, InvalidPathError, UnknownConfigurationKeyError)
T = TypeVar("T")
NOBODY = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}


class Objects:
    """The objects of one folder in a bucket; for small ones. What gets no answer is asked again, with patience."""

    def __init__(self, folder: Folder) -> None:
        self.uri = folder.uri
        self.store, self.path = connect(folder.uri)

    def get(self, name: str) -> "tuple[bytes | None, UpdateVersion | None]":
        """An object and the store's mark of its state; none where there is no such object."""

        def get() -> "tuple[bytes | None, UpdateVersion | None]":
            try:
                found = obstore.get(self.store, self._key(name))
                data = bytes(found.bytes())
            except FileNotFoundError:
                return None, None
            return data, version(found.meta["e_tag"], found.meta["version"])

        return self._ask(get, name)

    def put(self, name: str, data: bytes, before: "UpdateVersion | None") -> "UpdateVersion | None":
        """Write an object if it is still in the state ``before`` (none: not there); None where it is not.

        A put whose answer was lost is sent again, and then meets itself: that is no other state.
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
        """Bytes of an object; 0 where there is none."""

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
            raise StageError(f"{self.uri}: {name} cannot be read or written there: {reason(error)}") from error

    def _key(self, name: str) -> str:
        return f"{self.path}/{name}".lstrip("/")


def passes(error: BaseException) -> bool:
    """Whether what a store said may be something else later."""
    return not isinstance(error, FINAL) and may_pass(error)


def create(folder: Folder, name: str, data: bytes) -> None:
    """Write a small file that is never written again: a disk or a bucket refuses it where one of its name is there.

    A folder's guard refuses a late writer first. Raises ``StageError`` where the name holds other bytes; the same bytes
    are those of an attempt whose answer was lost, or that was killed just after.
    """
    if folder.is_local:
        done = folder.create(name, data) or folder.read(name) == data
    else:
        with folder.guard.committing() if folder.guard else nullcontext():
            done = Objects(folder).put(name, data, None) is not None
    if not done:
        raise StageError(f"{folder}/{name}: was written by another command meanwhile; nothing of this one was recorded")


def connect(uri: str) -> tuple[S3Store | GCSStore, str]:
    """The bucket that a URI names, and the path in it. Raises ``UsageError`` for what has no conditional put."""
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
        if options.get("anonymous") == "true":  # a server of one's own that asks for no account
            config = {"service_account_key": orjson.dumps({**NOBODY, "gcs_base_url": endpoint}).decode()}
        return GCSStore(bucket, config=config, client_options=client, retry_config=RETRIES), path
    raise UsageError(f"{uri}: a lease needs a disk, s3:// or gs://")


def version(e_tag: str | None, generation: str | None) -> "UpdateVersion":
    """What a put may be tied to: the store's marks that there are."""
    marks: UpdateVersion = {}
    if e_tag is not None:
        marks["e_tag"] = e_tag
    if generation is not None:
        marks["version"] = generation
    return marks
