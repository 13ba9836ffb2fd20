"""Access to input files on disks, object stores and web servers, and detection of files changed since they were listed.

A failed read of a disk or network always raises an ``OSError`` with an ``errno``, which errors about a file's format
never have: this distinguishes a flaky network from a broken file.
"""

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.fs as pafs

from rewarm.stages.core.errors import StageError
from rewarm.stages.ingest.locations import InputFile, Location, locate

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

AHEAD = 8 * 2**20  # bytes per request to an object store: at 50 ms per response, 160 MB/s
BUFFER = 2**20
STATUS = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 410: errno.ENOENT}  # other failures may be temporary


def open_raw(file: InputFile, start: int = 0) -> BinaryIO:
    """Return a stream of a file's stored bytes from ``start``. Raises ``OSError``."""
    place = locate(file.path)
    if place.is_local:
        plain = cast(BinaryIO, Path(place.path).open("rb"))  # noqa: SIM115 - the caller closes it
        plain.seek(start)
        return plain
    with failures(file.path):
        if place.is_web:
            source: Any = web().open(str(place), block_size=0)
        else:
            source = place.filesystem().open_input_file(place.path)
            source.seek(start)
            source = pa.BufferedInputStream(source, AHEAD)
    stream = cast(BinaryIO, io.BufferedReader(Remote(source, file.path), BUFFER))
    if place.is_web:
        skip(stream, start)
    return stream


def open_random(file: InputFile) -> BinaryIO:
    """Return a seekable stream of a file, as Parquet and Arrow need it. Raises ``OSError``."""
    place = locate(file.path)
    if place.is_local:
        return Path(place.path).open("rb")
    with failures(file.path):
        if place.is_web:
            return open_web(file, place)
        return cast(BinaryIO, Remote(place.filesystem().open_input_file(place.path), file.path))


def open_web(file: InputFile, place: Location) -> BinaryIO:
    """Return a web server's file, read by ranges; if the server does not support ranges, a temporary copy."""
    try:
        source = web().open(str(place))
        source.seek(-1, os.SEEK_END)
        source.read(1)
        return cast(BinaryIO, Remote(source, file.path))
    except ValueError:
        copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
        with open_raw(file) as stream:
            shutil.copyfileobj(stream, copy, BUFFER)
        return copy


def skip(stream: BinaryIO, size: int) -> None:
    """Read and discard ``size`` bytes."""
    while size and (block := stream.read(min(size, BUFFER))):
        size -= len(block)


class Remote(io.RawIOBase):
    """Remote file whose failures are raised as ``OSError`` with an ``errno``."""

    def __init__(self, source: Any, path: str) -> None:
        super().__init__()
        self.source, self.path = source, path

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return whether the source supports seeking."""
        return bool(self.source.seekable())

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to ``size`` bytes, or all remaining bytes without a size."""
        with failures(self.path):
            return bytes(self.source.read() if size is None or size < 0 else self.source.read(size))

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill a buffer with a single read."""
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position."""
        self.source.seek(offset, whence)
        return int(self.source.tell())

    def tell(self) -> int:
        """Return the position of the next read."""
        return int(self.source.tell())

    def close(self) -> None:
        """Close the connection."""
        if not self.closed:
            self.source.close()
        super().close()


@contextmanager
def failures(path: str) -> Iterator[None]:
    """Raise network failures as ``OSError`` with an ``errno`` and the file's path."""
    try:
        yield
    except Exception as error:
        known = error.errno is not None if isinstance(error, OSError) else not is_from_client(error)
        if known:
            raise
        raise as_os_error(error, path) from error


def is_from_client(error: BaseException) -> bool:
    """Return whether an error is one of the HTTP client's."""
    import aiohttp

    return isinstance(error, aiohttp.ClientError)


def as_os_error(error: BaseException, path: str) -> OSError:
    """Return the failure with an ``errno``; fsspec reports every failed first request as a missing file."""
    import aiohttp

    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return as_os_error(error.__cause__, path)
    if isinstance(error, aiohttp.ClientResponseError):
        number = STATUS.get(error.status, errno.EIO)
        return OSError(number, f"the server responded with {error.status} {error.message}", path)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such file", path)
    return OSError(errno.EIO, str(error) or type(error).__name__, path)


@cache
def web() -> Any:
    """Return the process's connection to web servers; it returns bytes as stored and has no total timeout."""
    import aiohttp
    import fsspec  # type: ignore[import-untyped]

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    client = {"auto_decompress": False, "trust_env": True, "timeout": timeout}
    return fsspec.filesystem("http", headers={"Accept-Encoding": "identity"}, client_kwargs=client)


# -- state of a file ---------------------------------------------------------------------------------------------


def state_of(place: Location) -> tuple[int, str]:
    """Return the size in bytes, and the modification time (or a web server's equivalent). Raises ``OSError``."""
    if place.is_local:
        found = Path(place.path).stat()
        return found.st_size, str(found.st_mtime_ns)
    with failures(str(place)):
        if place.is_web:
            page = web().info(str(place))
            return page.get("size") or 0, page.get("Last-Modified") or page.get("ETag") or ""
        info = place.filesystem().get_file_info(place.path)
    if info.type != pafs.FileType.File:
        raise FileNotFoundError(errno.ENOENT, "no such file", str(place))
    return info.size, str(info.mtime_ns)


def require_unchanged(file: InputFile) -> None:
    """Raise ``StageError`` if a file has changed since it was listed; ``OSError`` if it no longer exists."""
    size, version = state_of(locate(file.path))
    if size != file.size or (version and file.version and version != file.version):
        change = f"it had {file.size} bytes, now {size}" if size != file.size else "it was rewritten"
        raise StageError(
            f"{file.path}: changed after the data was listed ({change}); "
            "the data read from it is not used. Run the command again once nothing writes to the file"
        )
