"""A lease's record as an object that is put on condition."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from pipeline.lease.protocol import Record
from pipeline.lease.store import RECORD, Seen, parse
from pipeline.objects import Objects
from stages.storage import Folder

if TYPE_CHECKING:
    from obstore import UpdateVersion


class BucketStore:
    """The record of one folder in a bucket."""

    def __init__(self, folder: Folder) -> None:
        self.objects = Objects(folder)

    def read(self) -> Seen[Any]:
        """What stands there now."""
        data, version = self.objects.get(RECORD)
        return Seen(parse(data or b"", f"{self.objects.uri}: {RECORD}"), version)

    def swap(self, before: "UpdateVersion | None", record: Record) -> Seen[Any] | None:
        """Put ``record`` there if the object is still the one marked ``before``; None where it is not."""
        version = self.objects.put(RECORD, orjson.dumps(record.to_json()), before)
        return None if version is None else Seen(record, version)

    @contextmanager
    def committing(self) -> Iterator[Record | None]:
        """The record as it is now. A store has no locks: a take-over can still come before the put that follows."""
        yield self.read().record
