"""One ``Folder`` over local disks and object stores (``s3://``, ``gs://``), through ``pyarrow.fs``.

Invariant: a file appears under its name whole or not at all. On a local disk it is written beside its place and
renamed; on an object store a put is atomic by itself. Names that begin with a dot are never listed.

A folder may carry a guard, which is asked before every write and again at the moment at which the write would count.

What does not answer for a moment is asked again (``stages.core.patience``): every operation of a store, and those on a
disk that can be done twice. ``writing`` runs its caller's block once: an error of the disk inside it is the caller's.
"""

import posixpath
import tempfile
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

MANIFEST = "manifest.json"  # the commit marker: written last, so a folder that has one is whole


class Guard(Protocol):
    """Says whether this process may still write; both methods raise a ``StageError`` where it may not."""

    def check(self) -> None:
        """A quick answer, before work begins that would be in vain."""

    def committing(self) -> AbstractContextManager[None]:
        """The answer that counts. Nobody else becomes the writer while the block lasts, where the storage has locks."""


class Folder:
    """A folder by URI or local path. Cheap to make and to send to a Ray task; nothing is created until written.

    A guard stays in its process: a Ray worker gets the folder without it. What workers write lies in folders that are
    not committed; it counts only by the marker that the driver writes afterwards, and that write is guarded.
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
        """The folder at a path relative to this one, which may lead up (``../other``)."""
        head, mark, query = self.uri.partition("?")
        scheme, separator, path = head.rpartition("://")
        return Folder(f"{scheme}{separator}{posixpath.normpath(f'{path}/{relative}')}{mark}{query}", self.guard)

    def relative_to(self, start: "Folder") -> str:
        """The path from ``start`` to this folder; ``start.at`` leads back."""
        here, there = (one.uri.partition("?")[0].rpartition("://")[2] for one in (self, start))
        return posixpath.relpath(here, there)

    def guarded(self, guard: Guard | None) -> "Folder":
        """The same folder, whose writes (and its children's) ``guard`` is asked about; None: nobody is."""
        return Folder(self.uri, guard)

    @property
    def is_local(self) -> bool:
        """Whether the folder lies on a disk of this machine (or one mounted on it)."""
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
        """The Arrow filesystem, which waits for a store that does not answer, and the path in it."""
        if self.is_local:
            return pafs.LocalFileSystem(), self.uri
        store, path = patiently(lambda: open_store(self.uri), self.uri)
        return patient(partial(store_of, self.uri), self.uri, store), path

    # -- looking ---------------------------------------------------------------------------------------------

    def exists(self, name: str = "") -> bool:
        """Whether the folder (or a file or folder in it) is there."""
        if self.is_local:
            return patiently((self.path / name).exists, f"{self}/{name}")
        filesystem, path = self.filesystem()
        target = f"{path}/{name}".rstrip("/")
        if self.uri.startswith(FLAT):
            return bool(files_below(filesystem, target))
        return bool(filesystem.get_file_info(target).type != pafs.FileType.NotFound)

    def committed(self) -> bool:
        """Whether the folder is whole: its manifest, written last, is there."""
        return self.exists(MANIFEST)

    def size(self, name: str = "") -> int:
        """Bytes of a file in the folder, or of all files in a folder or below; links are not followed, and count 0."""
        if self.is_local:
            target = self.path / name
            files = [target] if target.is_file() else [one for one in target.rglob("*") if one.is_file()]
            return sum(file.stat().st_size for file in files if not file.is_symlink())
        filesystem, path = self.filesystem()
        return sum(info.size for info in files_below(filesystem, f"{path}/{name}".rstrip("/")))

    def files(self, suffix: str = "") -> list[str]:
        """Names of the files directly in the folder that end in ``suffix``, sorted; none where there is no folder."""
        return [name for name, kind in self._children() if kind == pafs.FileType.File and name.endswith(suffix)]

    def folders(self) -> list[str]:
        """Names of the folders directly in the folder, sorted."""
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
        """All bytes of a file."""
        if self.is_local:
            return patiently((self.path / name).read_bytes, f"{self}/{name}")
        filesystem, path = self.filesystem()
        with filesystem.open_input_stream(f"{path}/{name}") as stream:
            return bytes(stream.read())

    def read_json(self, name: str) -> Any:
        """A JSON file's value; ``DamagedError`` where it is no JSON, ``OSError`` where it cannot be read."""
        data = self.read(name)
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            found = "an empty file" if not data else f"something else ({error})"
            raise DamagedError(
                f"{self}/{name}: expected JSON, found {found}; restore the file from a copy of the workspace"
            ) from error

    def manifest(self) -> dict[str, Any]:
        """The folder's commit marker."""
        value: dict[str, Any] = self.read_json(MANIFEST)
        return value

    def local(self, name: str = "") -> Path:
        """A local path to a file or folder: itself on a local disk, else a copy kept in this machine's cache.

        A copy is known by the sizes and times of what it was made of, so what is written anew is copied anew; one that
        is not used goes after some days. Raises ``FileNotFoundError`` where there is nothing.
        """
        if self.is_local:
            return self.path / name
        filesystem, path = self.filesystem()
        source = f"{path}/{name}".rstrip("/")
        found = files_below(filesystem, source)
        if not found:
            raise FileNotFoundError(f"{self.uri}: {name or 'the folder'} is not there")
        versions = [f"{info.path}\0{info.size}\0{info.mtime_ns}" for info in found]
        name_of_copy = xxhash.xxh3_128_hexdigest("\n".join([self.uri, name, *versions]).encode())
        return kept_copy(name_of_copy, lambda to: download(filesystem, source, found, to))

    @contextmanager
    def fetched(self, name: str = "") -> Iterator[Path]:
        """The same without the cache: what lies in the store now, for as long as the block lasts."""
        if self.is_local:
            yield self.path / name
            return
        filesystem, path = self.filesystem()
        source = f"{path}/{name}".rstrip("/")
        with tempfile.TemporaryDirectory(prefix="rewarm-") as scratch:
            copy = Path(scratch) / source.rpartition("/")[2]
            download(filesystem, source, files_below(filesystem, source), copy)
            yield copy

    # -- writing ---------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A local scratch path for a file (or folder) that takes its place in one step when the block succeeds."""
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
            with tempfile.TemporaryDirectory(prefix="rewarm-") as folder:
                scratch = Path(folder) / Path(name).name
                yield scratch
                self.upload(scratch, name)

    def _place(self, scratch: Path, target: Path) -> Path | None:
        """Give what was written its name; where a folder lies now that had it. Done twice, it does nothing."""
        with self._committing():
            before = set_aside(target) if scratch.is_dir() and target.exists() else None
            if scratch.exists() or not target.exists():  # else a first try did it, and its answer was lost
                scratch.replace(target)
            sync(target.parent)
        return before

    def upload(self, source: Path, name: str) -> None:
        """Copy a local file or folder here; a file whose copy fails is copied again, the others are not."""
        if self.is_local:
            with self._committing():
                pafs.copy_files(str(source), f"{self.uri}/{name}", destination_filesystem=pafs.LocalFileSystem())
            return
        store, path = patiently(lambda: open_store(self.uri, STALLS), self.uri)
        with self._committing():
            put(store, source, f"{path}/{name}", self.uri)

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically; done again from the start where a disk fails or is full."""

        def write() -> None:
            with self.writing(name) as scratch:
                scratch.write_bytes(data)

        patiently(write, f"{self}/{name}")

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file atomically; keys stay in their order."""
        self.write(
            name,
            orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE),
        )

    def create(self, name: str, data: bytes) -> bool:
        """Write a file of a local folder atomically if there is none of its name; whether it was written."""
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
        """Move a folder of the same storage to ``name`` in here, in the place of what is there."""
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
        """Remove what killed writers left beside their places; only while nobody writes here."""
        self._check()
        if self.is_local and self.exists():
            for left in [*self.path.glob(".*.tmp"), *self.path.glob(f".*{REMOVED}")]:
                remove(left)

    def delete(self, name: str = "") -> None:
        """Remove a file, or a folder with all in it; nothing where there is none.

        A guarded local folder goes in one step, so that a process that is suspended in the middle and wakes up late
        deletes nothing of what another has made there meanwhile. ``sweep`` removes what a kill then leaves.
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
