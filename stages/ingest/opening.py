"""Opens input files wherever they lie, and tells whether they are still what they were when they were listed.

A failed read of a disk or network is always an ``OSError`` with an ``errno``, which what a file's own format makes a
library say never has: so a flaky network is not taken for a broken file.
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

import aiohttp
import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.fs as pafs

from rewarm.stages.core.errors import StageError
from rewarm.stages.ingest.locations import InputFile, Location, locate

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

AHEAD = 8 * 2**20  # bytes asked of an object store at a time: at 50 ms an answer, 160 MB/s
BUFFER = 2**20
STATUS = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 410: errno.ENOENT}  # others may pass


def open_raw(file: InputFile, start: int = 0) -> BinaryIO:
    """The bytes of a file as they are stored, in order, from ``start`` on. Raises ``OSError``."""
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
    """A file to be read at any place, as Parquet and Arrow need it. Raises ``OSError``."""
    place = locate(file.path)
    if place.is_local:
        return Path(place.path).open("rb")
    with failures(file.path):
        if place.is_web:
            return open_web(file, place)
        return cast(BinaryIO, Remote(place.filesystem().open_input_file(place.path), file.path))


def open_web(file: InputFile, place: Location) -> BinaryIO:
    """A web server's file by ranges; where the server gives none, a copy of it in a temporary file."""
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
    """Read and forget ``size`` bytes."""
    while size and (block := stream.read(min(size, BUFFER))):
        size -= len(block)


class Remote(io.RawIOBase):
    """A remote file whose failures are told as ``OSError`` with an ``errno``."""

    def __init__(self, source: Any, path: str) -> None:
        super().__init__()
        self.source, self.path = source, path

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether any place can be read."""
        return bool(self.source.seekable())

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to ``size`` bytes, all that are left without one."""
        with failures(self.path):
            return bytes(self.source.read() if size is None or size < 0 else self.source.read(size))

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill a buffer as far as one read does."""
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place."""
        self.source.seek(offset, whence)
        return int(self.source.tell())

    def tell(self) -> int:
        """The place of the next read."""
        return int(self.source.tell())

    def close(self) -> None:
        """Let the connection go."""
        if not self.closed:
            self.source.close()
        super().close()


@contextmanager
def failures(path: str) -> Iterator[None]:
    """Failures of a network as ``OSError`` with an ``errno`` and the file's path."""
    try:
        yield
    except (OSError, aiohttp.ClientError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise as_os_error(error, path) from error


def as_os_error(error: BaseException, path: str) -> OSError:
    """The same failure with an ``errno``; fsspec calls every failure of a first question a missing file."""
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return as_os_error(error.__cause__, path)
    if isinstance(error, aiohttp.ClientResponseError):
        number = STATUS.get(error.status, errno.EIO)
        return OSError(number, f"the server answers {error.status} {error.message}", path)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such file", path)
    return OSError(errno.EIO, str(error) or type(error).__name__, path)


@cache
def web() -> Any:
    """The connection to web servers, one a process; bytes come as they are stored, and no file is too long for it."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    client = {"auto_decompress": False, "trust_env": True, "timeout": timeout}
    return fsspec.filesystem("http", headers={"Accept-Encoding": "identity"}, client_kwargs=client)


# -- what a file is now ------------------------------------------------------------------------------------------


def state_of(place: Location) -> tuple[int, str]:
    """Size in bytes, and the time of the last change (or what a web server gives for it). Raises ``OSError``."""
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
    """``StageError`` if a file is no more what it was when it was listed; ``OSError`` if it is not there."""
    size, version = state_of(locate(file.path))
    if size != file.size or (version and file.version and version != file.version):
        change = f"it had {file.size} bytes and has {size}" if size != file.size else "it was written again"
        raise StageError(
            f"{file.path}: changed after the data was listed ({change}); "
            "what was read of it is not used. Run the command again once nothing writes to it"
        )
