"""Paths that lead out of a folder: links on a disk, ``..`` in manifests and in the keys of a store.

A folder that others put data into must not decide what else of this machine is read: a link to a home folder would have
it trained on. Hard links cannot be told from files; who can make one can read the file.
"""

import os
from pathlib import Path, PurePosixPath

from stages.ingest.files.locations import Location


def leads_out(path: str | Path, root: str | Path) -> bool:
    """Whether what a path stands for, all links followed, is not in ``root``."""
    real, home = os.path.realpath(path), os.path.realpath(root)
    return os.path.commonpath([real, home]) != home


def place_leads_out(place: Location, root: Location) -> bool:
    """The same of any place; another disk, bucket or host is never in ``root``."""
    if place.scheme != root.scheme:
        return True
    if place.is_local:
        return leads_out(place.path, root.path)
    return ".." in place.path.split("/") or not PurePosixPath(place.path).is_relative_to(root.path)


def is_odd(key: str) -> bool:
    """Whether a store's key would lead elsewhere if it were a path: it has ``.`` or ``..`` among its parts."""
    return any(part in (".", "..") for part in key.split("/"))
