"""Files of an object store, through Arrow."""

from pathlib import Path

import pyarrow.fs as pafs

FLAT = ("gs://", "gcs://")  # Arrow shows no folders of a Google bucket (apache/arrow#35993), and deletes none


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
