"""Copies of remote files on this machine's disk, kept from command to command."""

import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stages.disk import remove

UNUSED_DAYS = 14.0  # days after which a copy that nobody asked for is removed


def cache_root() -> Path:
    """Where copies lie: in ``REWARM_CACHE``, else ``~/.cache/rewarm``."""
    return Path(os.environ.get("REWARM_CACHE", "~/.cache/rewarm")).expanduser() / "files"


def kept_copy(name: str, fetch: Callable[[Path], None]) -> Path:
    """The copy called ``name``, made by ``fetch`` (into the path it is given) where it is not there.

    Making one removes those that nobody has asked for in ``UNUSED_DAYS``, and what killed commands left. A file that
    is mapped or open stays readable for who has it.
    """
    root = cache_root()
    target = root / name
    with suppress(FileNotFoundError):
        os.utime(target)
        return target
    sweep(root)
    scratch = root / f".{name}.{uuid.uuid4().hex}"
    fetch(scratch)
    try:
        scratch.replace(target)
    except OSError:
        if not target.exists():  # else another process was faster
            raise
    finally:
        remove(scratch)
    return target


def sweep(root: Path) -> None:
    """Remove the copies that are older than ``UNUSED_DAYS``; several processes may."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for path in root.iterdir() if root.exists() else ():
        with suppress(OSError):  # another process was faster
            if path.stat().st_mtime < oldest:
                remove(path)
