"""What a place for a lease's record does: read, compare and swap, and guard a commit."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import orjson

from pipeline.lease.protocol import Record
from stages.errors import UsageError

RECORD = ".lease"  # its name in the folder that is held
Version = TypeVar("Version")


@dataclass(frozen=True)
class Seen(Generic[Version]):
    """A record as it stood in the store, and the store's own mark of that state."""

    record: Record | None
    version: Version


class Store(Protocol):
    """The record of one folder. What fails in between (disk, network) is an ``OSError`` or a ``StageError``."""

    def read(self) -> Seen[Any]:
        """What stands there now."""

    def swap(self, before: Any, record: Record) -> Seen[Any] | None:
        """Put ``record`` there if the state is still the one marked ``before``; None where it is not."""

    def committing(self) -> AbstractContextManager[Record | None]:
        """The record, kept from changing while the block lasts as far as the store can do that."""


def parse(data: bytes, place: str) -> Record | None:
    """A record from its bytes; none from an empty file. Raises ``UsageError`` for anything else."""
    if not data:
        return None
    try:
        return Record.from_json(orjson.loads(data))
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{place}: expected the record of a lease, found something else ({error}); make sure that no rewarm "
            "command runs on this workspace, then remove the file"
        ) from error
