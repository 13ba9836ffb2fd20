"""Where the commands of a watch put what they print: files that grow, which a bucket does not have."""

import tempfile
from pathlib import Path

from stages.storage import Folder


class Logs:
    """The folder ``watch/logs``; where it lies in a bucket, a file grows on this machine and is put there after."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._scratch = None if folder.is_local else tempfile.TemporaryDirectory(prefix="rewarm-watch-")

    def file(self, name: str) -> Path:
        """A log to write to; in a bucket it begins with what is there."""
        if self._scratch is None:
            return self.folder.path / name
        file = Path(self._scratch.name) / name
        if not file.exists() and self.folder.exists(name):
            file.write_bytes(self.folder.read(name))
        return file

    def keep(self, name: str) -> None:
        """Have a log stay when this process ends."""
        if self._scratch is not None:
            self.folder.upload(Path(self._scratch.name) / name, name)
