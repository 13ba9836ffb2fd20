"""Files of an object store, through Arrow."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pyarrow.fs as pafs

from stages.errors import UsageError
from stages.faults import may_pass
from stages.patience import patiently, shown

AT_ONCE = 8  # files that are put at the same time
# Arrow's client waits 100 s for a server that says nothing; within those nothing can be told, nor ended.
STALLS: Mapping[str, Any] = {"connect_timeout": 5, "request_timeout": 10}
FLAT = ("gs://", "gcs://")  # Arrow shows no folders of a Google bucket (apache/arrow#35993), and deletes none


def open_store(uri: str) -> tuple[pafs.FileSystem, str]:
    """The Arrow filesystem of a URI, without patience, and the path in it. ``OSError`` if its store does not answer."""
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except OSError as error:
        if may_pass(error):
            raise
        raise not_a_folder(uri, error) from error
    except ValueError as error:
        raise not_a_folder(uri, error) from error
    if isinstance(filesystem, pafs.S3FileSystem):
        filesystem = impatient(uri, filesystem)
    return filesystem, path


def impatient(uri: str, made: pafs.S3FileSystem) -> pafs.S3FileSystem:
    """The same store with the time-outs of ``STALLS``, which a URI cannot name; ``made`` if it names anything else."""
    head, _, query = uri.partition("?")
    options = dict(parse_qsl(query))
    if not options.keys() <= {"region", "scheme", "endpoint_override"}:
        return made
    user, _, _ = head.partition("://")[2].partition("/")[0].rpartition("@")
    key, _, secret = user.partition(":")
    keys = {"access_key": unquote(key), "secret_key": unquote(secret)} if secret else {}
    return pafs.S3FileSystem(**{**options, "region": made.region, **keys, **STALLS})


def store_of(uri: str) -> pafs.FileSystem:
    """The same without the path."""
    return open_store(uri)[0]


def not_a_folder(uri: str, error: Exception) -> UsageError:
    """The error for a URI that names no folder."""
    return UsageError(f"{shown(uri)}: not a folder rewarm can open (a local path, s3:// or gs://): {error}")


def entries(filesystem: pafs.FileSystem, path: str) -> list[tuple[str, pafs.FileType]]:
    """Names and kinds of what is directly in a folder, sorted."""
    found = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted((info.base_name, info.type) for info in found if not info.base_name.startswith("."))


def files_below(filesystem: pafs.FileSystem, path: str) -> list[pafs.FileInfo]:
    """A file, or all files below a folder, in the order of their paths; none where there is nothing."""
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.File:
        return [info]
    found = filesystem.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    return sorted((one for one in found if one.type == pafs.FileType.File), key=lambda one: str(one.path))


def download(filesystem: pafs.FileSystem, source: str, files: list[pafs.FileInfo], to: Path) -> None:
    """Copy ``files`` (``source`` itself, or all below it) to the disk."""
    for info in files:
        copy = to / info.path.removeprefix(source).lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        pafs.copy_files(
            info.path, str(copy), source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem()
        )


def put(store: pafs.FileSystem, source: Path, target: str, address: str) -> None:
    """Copy a file, or all files below a folder, from the disk to ``target``; each until it is there."""
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]

    def copy(file: Path) -> None:
        place = f"{target}/{file.relative_to(source).as_posix()}" if source.is_dir() else target
        patiently(
            lambda: pafs.copy_files(
                str(file), place, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=store
            ),
            address,
        )

    if len(files) == 1:
        copy(files[0])
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(copy_context().run, copy, file) for file in files]:
            done.result()
