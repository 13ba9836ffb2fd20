"""Arrow filesystem for object stores that waits for an unresponsive store.

Arrow's own client retries only for some seconds. Here, interrupted reads resume at the same byte; a file that is being
written is buffered on this machine and uploaded when it is closed, with as many attempts as necessary.
"""

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pyarrow as pa
import pyarrow.fs as pafs

from rewarm.stages.core.patience import patiently

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

IN_MEMORY = 64 * 2**20  # bytes of a file being written that are buffered in memory before a temporary file is used
BLOCK = 8 * 2**20
CUT_OFF = "the store's answer was cut off"
T = TypeVar("T")


def patient(
    connect: Callable[[], pafs.FileSystem], address: str, inner: pafs.FileSystem | None = None
) -> pafs.FileSystem:
    """Return a patient filesystem over that of ``connect`` (picklable), or over its earlier result ``inner``."""
    return pafs.PyFileSystem(PatientStore(connect, address, inner))


class PatientStore(pafs.FileSystemHandler):  # type: ignore[misc]  # which has no stubs
    """Operations of a store's filesystem, each retried while the store does not respond."""

    def __init__(
        self, connect: Callable[[], pafs.FileSystem], address: str, inner: pafs.FileSystem | None = None
    ) -> None:
        self.connect, self.address = connect, address
        self._inner = inner

    def __reduce__(self) -> tuple[Any, ...]:
        return PatientStore, (self.connect, self.address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatientStore) and other.address == self.address

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.address)

    @property
    def inner(self) -> pafs.FileSystem:
        """The store's own filesystem; connecting may request its region."""
        if self._inner is None:
            self._inner = self.connect()
        return self._inner

    def _ask(self, work: Callable[[pafs.FileSystem], T]) -> T:
        return patiently(lambda: work(self.inner), self.address)

    # -- listing ---------------------------------------------------------------------------------------------

    def get_type_name(self) -> str:
        """Return a name for people."""
        return "patient"

    def normalize_path(self, path: str) -> str:
        """Return the path unchanged: keys have no other form."""
        return path

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        """Return kinds, sizes and times."""
        return self._ask(lambda inner: whole(inner, inner.get_file_info(paths)))

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        """Return the files and folders below a folder."""
        return self._ask(lambda inner: inner.get_file_info(selector))

    # -- changing --------------------------------------------------------------------------------------------

    def create_dir(self, path: str, recursive: bool) -> None:
        """Create a folder."""
        self._ask(lambda inner: inner.create_dir(path, recursive=recursive))

    def delete_dir(self, path: str) -> None:
        """Delete a folder."""
        self._remove(lambda inner: inner.delete_dir(path))

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        """Delete the contents of a folder."""
        self._ask(lambda inner: inner.delete_dir_contents(path, missing_dir_ok=missing_dir_ok))

    def delete_root_dir_contents(self) -> None:
        """Refuse to delete the whole store."""
        raise NotImplementedError("deleting all contents of a store is not supported")

    def delete_file(self, path: str) -> None:
        """Delete a file."""
        self._remove(lambda inner: inner.delete_file(path))

    def _remove(self, work: Callable[[pafs.FileSystem], None]) -> None:
        """Remove a file or folder that an earlier attempt, whose response was lost, may have removed."""
        tries = 0

        def remove(inner: pafs.FileSystem) -> None:
            nonlocal tries
            tries += 1
            try:
                work(inner)
            except FileNotFoundError:
                if tries == 1:
                    raise

        self._ask(remove)

    def move(self, src: str, dest: str) -> None:
        """Copy, then delete: stores cannot rename."""
        self.copy_file(src, dest)
        self.delete_file(src)

    def copy_file(self, src: str, dest: str) -> None:
        """Copy a file in the store."""
        self._ask(lambda inner: inner.copy_file(src, dest))

    # -- files -----------------------------------------------------------------------------------------------

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open a file for sequential reading."""
        return pa.PythonFile(PatientReader(self, path), mode="r")

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file for random access."""
        return pa.PythonFile(PatientReader(self, path), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        """Open a file for writing; it appears when it is closed."""
        return pa.PythonFile(PatientWriter(self, path, metadata), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        """Refuse to append, which stores do not support."""
        raise NotImplementedError("appending to files of a store is not supported")


def whole(store: pafs.FileSystem, found: list[pafs.FileInfo]) -> list[pafs.FileInfo]:
    """Return what a store said about files; raises ``OSError`` for an answer that was cut off.

    Amazon's client takes an answer whose header fields were cut off for that of an empty file without a time.
    """
    for info in found if isinstance(store, pafs.S3FileSystem) else ():
        if info.type == pafs.FileType.File and not info.size and not info.mtime_ns:
            raise OSError(errno.ECONNRESET, CUT_OFF, info.path)
    return found


class PatientReader(io.RawIOBase):
    """File of a store that is reopened at the same position after an interruption."""

    def __init__(self, store: PatientStore, path: str) -> None:
        super().__init__()
        self.store, self.path = store, path
        self._source: Any = None
        self._size: int | None = None
        self._place = 0
        patiently(self._open, store.address)

    def _open(self) -> None:
        source = self.store.inner.open_input_file(self.path)
        size = source.size()
        if not size and any(info.size for info in whole(self.store.inner, self.store.inner.get_file_info([self.path]))):
            raise OSError(errno.ECONNRESET, CUT_OFF, self.path)
        if self._size is not None and size != self._size:
            raise OSError(errno.EBUSY, f"changed while it was read: it had {self._size} bytes, now {size}", self.path)
        self._source, self._size = source, size

    def _read(self, size: int) -> bytes:
        try:
            if self._source is None:
                self._open()
            self._source.seek(self._place)
            return bytes(self._source.read(size))
        except OSError:
            self._source = None
            raise

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to ``size`` bytes, or all remaining bytes without a size."""
        left = max(0, (self._size or 0) - self._place)
        wanted = left if size is None or size < 0 else min(size, left)
        data = patiently(lambda: self._read(wanted), self.store.address) if wanted else b""
        self._place += len(data)
        return data

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill a buffer with a single read."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size or 0}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._place

    def size(self) -> int:
        """Bytes of the file."""
        return self._size or 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True


class PatientWriter(io.RawIOBase):
    """File that is uploaded to a store when it is closed."""

    def __init__(self, store: PatientStore, path: str, metadata: Any) -> None:
        super().__init__()
        self.store, self.path, self.metadata = store, path, metadata
        self._kept = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed in ``close``

    def write(self, data: Any, /) -> int:
        """Buffer bytes."""
        return self._kept.write(data)

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._kept.tell()

    def writable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Upload the file, completely or not at all."""
        if self.closed:
            return
        try:
            patiently(self._put, self.store.address)
        finally:
            self._kept.close()
            super().close()

    def _put(self) -> None:
        self._kept.seek(0)
        with self.store.inner.open_output_stream(self.path, metadata=self.metadata, compression=None) as target:
            shutil.copyfileobj(cast(Any, self._kept), cast(Any, target), BLOCK)
