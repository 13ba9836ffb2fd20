"""A lease's record as an object: conditional puts of S3 (``If-None-Match``, ``If-Match``) and of Google's store
(``x-goog-if-generation-match``), through obstore, because Arrow's filesystems know no conditions.

Credentials are the environment's, as obstore reads them: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` or the
machine's role; ``GOOGLE_APPLICATION_CREDENTIALS`` or the machine's account. The URI's query is Arrow's:
``s3://bucket/path?endpoint_override=host:port&scheme=http&region=…``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import obstore
import orjson
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import GCSStore, S3Store

from pipeline.lease.protocol import Record
from pipeline.lease.store import RECORD, Seen, parse
from stages.errors import StageError, UsageError
from stages.storage import Folder

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ClientConfig, RetryConfig

REQUEST = timedelta(seconds=5)  # an answer to a few hundred bytes takes milliseconds; a lost one must not eat the ttl
RETRIES: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}  # the heartbeat tries again too
NOBODY = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}


class BucketStore:
    """The record of one folder in a bucket."""

    def __init__(self, folder: Folder) -> None:
        self.uri = folder.uri
        self.store, path = connect(folder.uri)
        self.key = f"{path}/{RECORD}".lstrip("/")

    def read(self) -> Seen[Any]:
        """What stands there now."""
        try:
            found = obstore.get(self.store, self.key)
            data = bytes(found.bytes())
        except FileNotFoundError:
            return Seen(None, None)
        except (BaseError, OSError) as error:
            raise self.unreachable(error) from error
        return Seen(parse(data, f"{self.uri}: {RECORD}"), version(found.meta["e_tag"], found.meta["version"]))

    def swap(self, before: "UpdateVersion | None", record: Record) -> Seen[Any] | None:
        """Put ``record`` there if the object is still the one marked ``before``; None where it is not."""
        try:
            done = obstore.put(self.store, self.key, orjson.dumps(record.to_json()), mode=before or "create")
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            # A put whose answer was lost is sent again and then meets itself.
            found = self.read()
            return found if found.record == record else None
        except (BaseError, OSError) as error:
            raise self.unreachable(error) from error
        return Seen(record, version(done["e_tag"], done["version"]))

    @contextmanager
    def committing(self) -> Iterator[Record | None]:
        """The record as it is now. A store has no locks: a take-over can still come before the put that follows."""
        yield self.read().record

    def unreachable(self, error: Exception) -> StageError:
        """What to say when the store does not answer, or refuses."""
        return StageError(f"{self.uri}: the lease cannot be read or written there: {str(error).splitlines()[0]}")


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
