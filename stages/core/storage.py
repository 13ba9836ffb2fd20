"""Folders on local disks and in object stores (``s3://``, ``gs://``), through ``pyarrow.fs``.

Invariant: a file appears under its name completely or not at all. On a local disk it is written to a temporary name and
renamed; on an object store a put is atomic. Names that begin with a dot are never listed.

A folder may have a guard, which is checked before every write and again at the moment of the commit.

Operations are retried if the storage temporarily does not respond (``stages.core.patience``): all operations of a
store, and idempotent ones on a disk. ``writing`` runs its block only once: the caller handles disk errors inside it.
"""

import posixpath
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import orjson
import pyarrow.fs as pafs
import xxhash

from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.local_files import (
    FLAT,
    REMOVED,
    STALLS,
    claim,
    download,
    entries,
    files_below,
    kept_copy,
    open_store,
    put,
    remove,
    set_aside,
    share,
    store_of,
    sync,
)
from rewarm.stages.core.patience import patiently
from rewarm.stages.core.patient_store import patient
from rewarm.stages.core.temporary import temporary

MANIFEST = "manifest.json"  # the commit marker: written last, so a folder that has one is complete


class Guard(Protocol):
    """Permission of this process to write; both methods raise a ``StageError`` if it has been lost."""

    def check(self) -> None:
        """Check quickly, before starting work that would be in vain."""

    def committing(self) -> AbstractContextManager[None]:
        """Check at the commit. If the storage has locks, no other process becomes the writer during the block."""


class Folder:
    """Folder by URI or local path. Cheap to create and to send to a Ray task; nothing is written until needed.

    A guard remains in its process: a Ray worker gets the folder without it. Workers write into uncommitted folders,
    which become valid only by the marker that the driver writes afterwards, and that write is guarded.
    """

    def __init__(self, uri: str | Path, guard: Guard | None = None) -> None:
        self.guard = guard
        text = str(uri)
        if "://" in text and not text.startswith("file://"):
            self.uri = text.rstrip("/")
        else:
            self.uri = str(Path(text.removeprefix("file://")).absolute())

    def __repr__(self) -> str:
        return f"Folder({self.uri!r})"

    def __str__(self) -> str:
        return self.uri

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and other.uri == self.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def __reduce__(self) -> tuple[type["Folder"], tuple[str]]:
        return Folder, (self.uri,)

    def __truediv__(self, child: str) -> "Folder":
        head, mark, query = self.uri.partition("?")
        return Folder(f"{head}/{child}{mark}{query}", self.guard)

    def at(self, relative: str) -> "Folder":
        """Return the folder at a path relative to this one; the path may contain ``..``."""
        head, mark, query = self.uri.partition("?")
        scheme, separator, path = head.rpartition("://")
        return Folder(f"{scheme}{separator}{posixpath.normpath(f'{path}/{relative}')}{mark}{query}", self.guard)

    def relative_to(self, start: "Folder") -> str:
        """Return the path from ``start`` to this folder, the inverse of ``start.at``."""
        here, there = (one.uri.partition("?")[0].rpartition("://")[2] for one in (self, start))
        return posixpath.relpath(here, there)

    def guarded(self, guard: Guard | None) -> "Folder":
        """Return the same folder with ``guard`` for its writes and its children's; None: no guard."""
        return Folder(self.uri, guard)

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a local or mounted disk."""
        return "://" not in self.uri

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.uri.partition("?")[0].rstrip("/").rpartition("/")[2]

    @property
    def path(self) -> Path:
        """The local path; only for a local folder."""
        assert self.is_local, self.uri
        return Path(self.uri)

    def filesystem(self) -> tuple[pafs.FileSystem, str]:
        """Return the Arrow filesystem, which waits for an unresponsive store, and the path in it."""
        if self.is_local:
            return pafs.LocalFileSystem(), self.uri
        store, path = patiently(lambda: open_store(self.uri), self.uri)
        return patient(partial(store_of, self.uri), self.uri, store), path

    # -- listing ---------------------------------------------------------------------------------------------

    def exists(self, name: str = "") -> bool:
        """Return whether the folder (or a file or folder in it) exists."""
        if self.is_local:
            return patiently((self.path / name).exists, f"{self}/{name}")
        filesystem, path = self.filesystem()
        target = f"{path}/{name}".rstrip("/")
        if self.uri.startswith(FLAT):
            return bool(files_below(filesystem, target))
        return bool(filesystem.get_file_info(target).type != pafs.FileType.NotFound)

    def committed(self) -> bool:
        """Return whether the folder is complete: its manifest, written last, exists."""
        return self.exists(MANIFEST)

    def size(self, name: str = "") -> int:
        """Return the bytes of a file in the folder, or of all files below a folder; links are not followed and count
        0."""
        if self.is_local:
            target = self.path / name
            files = [target] if target.is_file() else [one for one in target.rglob("*") if one.is_file()]
            return sum(file.stat().st_size for file in files if not file.is_symlink())
        filesystem, path = self.filesystem()
        return sum(info.size for info in files_below(filesystem, f"{path}/{name}".rstrip("/")))

    def files(self, suffix: str = "") -> list[str]:
        """Return the sorted names of files directly in the folder that end with ``suffix``; empty without a folder."""
        return [name for name, kind in self._children() if kind == pafs.FileType.File and name.endswith(suffix)]

    def folders(self) -> list[str]:
        """Return the sorted names of the folders directly in the folder."""
        return [name for name, kind in self._children() if kind == pafs.FileType.Directory]

    def _children(self) -> list[tuple[str, pafs.FileType]]:
        filesystem, path = self.filesystem()
        if self.is_local:
            return patiently(lambda: entries(filesystem, path), self.uri)
        if self.uri.startswith(FLAT):
            below = [info.path.removeprefix(path).lstrip("/") for info in files_below(filesystem, path)]
            folders = {name.partition("/")[0] for name in below if "/" in name}
            files = [(name, pafs.FileType.File) for name in below if "/" not in name]
            return sorted(files + [(name, pafs.FileType.Directory) for name in folders])
        return entries(filesystem, path)

    # -- reading ---------------------------------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        """Return all bytes of a file."""
        if self.is_local:
            return patiently((self.path / name).read_bytes, f"{self}/{name}")
        filesystem, path = self.filesystem()
        with filesystem.open_input_stream(f"{path}/{name}") as stream:
            return bytes(stream.read())

    def read_json(self, name: str) -> Any:
        """Return a JSON file's value; raises ``DamagedError`` if it is not JSON, ``OSError`` if it cannot be read."""
        data = self.read(name)
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            found = "an empty file" if not data else f"invalid JSON ({error})"
            raise DamagedError(
                f"{self}/{name}: expected JSON, found {found}; restore the file from a copy of the workspace"
            ) from error

    def manifest(self) -> dict[str, Any]:
        """Return the folder's commit marker."""
        value: dict[str, Any] = self.read_json(MANIFEST)
        return value

    def local(self, name: str = "") -> Path:
        """Return a local path to a file or folder: itself on a local disk, else a copy in this machine's cache.

        A copy is identified by the sizes and times of its sources, so rewritten files are copied again; unused copies
        are removed after some days. Raises ``FileNotFoundError`` if the path does not exist.
        """
        if self.is_local:
            return self.path / name
        filesystem, path = self.filesystem()
        source = f"{path}/{name}".rstrip("/")
        found = files_below(filesystem, source)
        if not found:
            raise FileNotFoundError(f"{self.uri}: {name or 'the folder'} does not exist")
        versions = [f"{info.path}\0{info.size}\0{info.mtime_ns}" for info in found]
        name_of_copy = xxhash.xxh3_128_hexdigest("\n".join([self.uri, name, *versions]).encode())
        return kept_copy(name_of_copy, lambda to: download(filesystem, source, found, to))

    @contextmanager
    def fetched(self, name: str = "") -> Iterator[Path]:
        """Provide a local path to the current contents for the duration of the block, without the cache."""
        if self.is_local:
            yield self.path / name
            return
        filesystem, path = self.filesystem()
        source = f"{path}/{name}".rstrip("/")
        with temporary("fetched") as scratch:
            copy = scratch / source.rpartition("/")[2]
            download(filesystem, source, files_below(filesystem, source), copy)
            yield copy

    # -- writing ---------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Provide a local scratch path for a file or folder, which gets its name atomically when the block succeeds."""
        self._check()
        if self.is_local:
            target = self.path / name
            patiently(partial(target.parent.mkdir, parents=True, exist_ok=True), str(target))
            scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
            try:
                yield scratch
                for entry in [*scratch.rglob("*"), scratch]:
                    share(entry)
                    sync(entry)
                before = patiently(partial(self._place, scratch, target), str(target))
                if before is not None:
                    remove(before)
            finally:
                remove(scratch)
        else:
            with temporary("upload") as folder:
                scratch = folder / Path(name).name
                yield scratch
                self.upload(scratch, name)

    def _place(self, scratch: Path, target: Path) -> Path | None:
        """Give a finished file or folder its name; return the new path of a folder that had it. Idempotent."""
        with self._committing():
            before = set_aside(target) if scratch.is_dir() and target.exists() else None
            if (
                scratch.exists() or not target.exists()
            ):  # otherwise an earlier attempt succeeded and its response was lost
                scratch.replace(target)
            sync(target.parent)
        return before

    def upload(self, source: Path, name: str) -> None:
        """Copy a local file or folder to this folder; only files whose copy fails are copied again."""
        if self.is_local:
            with self._committing():
                pafs.copy_files(str(source), f"{self.uri}/{name}", destination_filesystem=pafs.LocalFileSystem())
            return
        store, path = patiently(lambda: open_store(self.uri, STALLS), self.uri)
        with self._committing():
            put(store, source, f"{path}/{name}", self.uri)

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically; repeated from the start if a disk fails or is full."""

        def write() -> None:
            with self.writing(name) as scratch:
                scratch.write_bytes(data)

        patiently(write, f"{self}/{name}")

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file atomically; the order of keys is kept."""
        self.write(
            name,
            orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE),
        )

    def create(self, name: str, data: bytes) -> bool:
        """Write a file of a local folder atomically unless it exists; return whether it was written."""
        self._check()
        return patiently(partial(self._create, self.path / name, data), f"{self}/{name}")

    def _create(self, target: Path, data: bytes) -> bool:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            scratch.write_bytes(data)
            sync(scratch)
            with self._committing():
                return claim(scratch, target)
        finally:
            remove(scratch)

    def take(self, source: "Folder", name: str) -> None:
        """Move a folder of the same storage to ``name`` in this folder, replacing an existing one."""
        self.delete(name)
        filesystem, path = self.filesystem()
        if self.is_local:
            patiently(partial(self.path.mkdir, parents=True, exist_ok=True), self.uri)
            patiently(partial(self._place, source.path, self.path / name), f"{self}/{name}")
        else:
            with self._committing():
                pafs.copy_files(
                    source.filesystem()[1],
                    f"{path}/{name}",
                    source_filesystem=filesystem,
                    destination_filesystem=filesystem,
                )
            source.delete()

    def sweep(self) -> None:
        """Remove temporary files of killed writers; call it only while there are no writers."""
        self._check()
        if self.is_local and self.exists():
            for left in [*self.path.glob(".*.tmp"), *self.path.glob(f".*{REMOVED}")]:
                remove(left)

    def delete(self, name: str = "") -> None:
        """Remove a file, or a folder with its contents, if it exists.

        A guarded local folder is removed atomically, so that a process that is suspended midway and resumes late
        deletes nothing that another process has since created. ``sweep`` removes the remains after a kill.
        """
        self._check()
        if self.is_local:
            patiently(partial(self._delete_local, self.path / name), f"{self}/{name}")
            return
        filesystem, path = self.filesystem()
        target = f"{path}/{name}".rstrip("/")
        kind = filesystem.get_file_info(target).type
        with self._committing():
            if kind == pafs.FileType.Directory and self.uri.startswith(FLAT):
                for info in files_below(filesystem, target):
                    filesystem.delete_file(info.path)
            elif kind == pafs.FileType.Directory:
                filesystem.delete_dir(target)
            elif kind == pafs.FileType.File:
                filesystem.delete_file(target)

    def _delete_local(self, target: Path) -> None:
        if self.guard is None or not target.is_dir() or target.is_symlink():
            with self._committing():
                remove(target)
            return
        with self._committing():
            gone = set_aside(target)
        remove(gone)

    def _check(self) -> None:
        if self.guard is not None:
            self.guard.check()

    def _committing(self) -> AbstractContextManager[None]:
        return nullcontext() if self.guard is None else self.guard.committing()
