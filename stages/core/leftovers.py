"""Removal of what ended runs left on this machine: temporary folders, sessions of local Rays, sockets, buffers.

A command that ends by itself removes these; a killed one cannot. ``init`` and ``update`` remove them before they check
the disk, and training workers remove the temporary folders of their node. Nothing of a running process, of another
user or of another program is touched.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir

from rewarm.stages.core.shared_buffers import remove_buffers
from rewarm.stages.core.temporary import PREFIX, clear, is_own, owning, remove_ended

KEPT_S = 86_400.0  # how long the session of a command that failed or was killed is kept, for Ray's logs
STARTING_S = 600.0  # within this time a fork server has imported its libraries, or has ended


@contextmanager
def own_session(folder: Path) -> Iterator[None]:
    """Own the session folder of a local Ray during the block, which ends with Ray's shutdown, and remove it.

    After an error it is kept for ``KEPT_S``: its logs may contain the cause.
    """
    with owning(folder):
        yield
        clear(folder)


def remove_leftovers() -> list[str]:
    """Remove what ended runs of this user left on this machine; return a sentence with numbers for each kind."""
    found = (
        counted(remove_ended(sessions(), "session_*", KEPT_S), "folders of local Rays that ended over a day ago"),
        remove_folders(),
        counted(remove_servers(servers()), "files of fork servers that ended"),
        remove_buffers(),
    )
    return [line for line in found if line is not None]


def remove_folders() -> str | None:
    """Remove temporary folders that killed processes of this user left; return a sentence with the numbers, or None."""
    return counted(remove_ended(Path(gettempdir()), f"{PREFIX}*"), "temporary folders of killed processes")


def counted(removed: tuple[int, int], what: str) -> str | None:
    """Return a sentence about a number of files or folders and their bytes; None if there were none."""
    count, size = removed
    return f"removed {count} {what} ({size / 1e6:,.1f} MB)" if count else None


def sessions() -> Path:
    """Return the folder of local Rays' sessions, as Ray chooses it."""
    return Path(os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp"))) / "ray"


def servers() -> Path:
    """Return the folder of fork servers' sockets (``stages.core.warm.client``)."""
    return Path(os.environ.get("TMPDIR") or "/tmp") / f"{PREFIX}warm-{os.getuid()}"


def remove_servers(folder: Path) -> tuple[int, int]:
    """Remove sockets, markers and logs of fork servers that ended; return their number and bytes."""
    count = size = 0
    if folder.is_dir() and is_own(folder):
        for path in ended(folder):
            with suppress(OSError):
                held = path.lstat().st_blocks * 512
                path.unlink()
                count, size = count + 1, size + held
    return count, size


def ended(folder: Path) -> Iterator[Path]:
    """Yield the files of servers that do not listen and have had time to start; logs of failed ones after a day."""
    now = time.time()
    for path in sorted(folder.iterdir()):
        with suppress(OSError):
            server = path.with_suffix("")
            began = path.is_socket() or server.with_suffix(".starting").exists()
            if now - path.lstat().st_mtime > (STARTING_S if began else KEPT_S) and not listens(server):
                yield path


def listens(path: Path) -> bool:
    """Return whether a server listens at a socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
