"""The digest of an arrival's files, and their states when they were read, so that resuming reads only what changed.

A local file whose size, times (of its contents' and its inode's last change) and inode are those of its first reading
is taken to have the same contents. A file that was changed shortly before it was read is not remembered: a later change
could leave no trace in the times. Remote files are never read for this; their sizes and versions identify them.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import xxhash
from pydantic import ConfigDict

from rewarm.stages.core.progress import Progress, Silent
from rewarm.stages.core.sizes import size
from rewarm.stages.ingest.listing import refuse_unreadable
from rewarm.stages.ingest.locations import InputFile, locate
from rewarm.stages.ingest.opening import open_raw
from rewarm.stages.ingest.readers.tokens import companion

BLOCK = 2**20
SETTLED_S = 2.0  # times of files on a network disk may be whole seconds, and lag behind this machine's clock


@dataclass(frozen=True)
class Read:
    """A local file's digest, and the file's state when it was read."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    digest: str  # 32 hex digits of xxh3-128 over its bytes
    state: str  # of the file and of a file that is read with it: bytes, times in ns, inode


Known = Mapping[str, Read]  # by the file's relative name


def digest_inputs(files: list[InputFile], progress: Progress | None = None) -> str:
    """Return 32 hex digits of xxh3-128 over the files' relative names and contents, in order, regardless of location.

    The contents of remote files are not read: their size and version are used instead.
    """
    return identify(files, {}, progress or Silent())[0]


def identify(files: list[InputFile], known: Known, progress: Progress) -> tuple[str, dict[str, Read]]:
    """Return the digest of ``digest_inputs``, and the local files' digests and states for the next call.

    Files in the state of ``known`` are not read; a note says how many. Raises ``UsageError`` for an unreadable file.
    """
    local = [file for file in files if locate(file.path).is_local]
    states = {file.name: state(file) for file in local}
    same = {file.name for file in local if file.name in known and known[file.name].state == states[file.name]}
    progress.begin("identifying the data", sum(file.size for file in local if file.name not in same), "bytes")
    whole, read = xxhash.xxh3_128(), {name: known[name] for name in same}
    for file in files:
        if file.name in same:
            content = known[file.name].digest
        elif file.name in states:
            began = time.time_ns()
            content = content_digest(file, progress)
            if states[file.name] == state(file) and settled(states[file.name], began):
                read[file.name] = Read(content, states[file.name])
        else:
            content = f"{file.size} {file.version}"
        whole.update(f"{file.name}\0{content}\n".encode())
    if same:
        found = size(sum(file.size for file in local if file.name in same))
        progress.note(
            f"not read again: {len(same):,} of {len(local):,} files ({found}) have the size, times and "
            "inode with which they were identified before"
        )
    return str(whole.hexdigest()), read


def state(file: InputFile) -> str:
    """Return the state of a local file, and of the file that is read with it, if any."""
    paths = [Path(locate(file.path).path), *([beside] if (beside := companion(file)) is not None else [])]
    try:
        found = [path.stat() for path in paths]
    except OSError as error:
        refuse_unreadable(locate(file.path), error)
    return " ".join(f"{one.st_size} {one.st_mtime_ns} {one.st_ctime_ns} {one.st_ino}" for one in found)


def settled(state: str, at: int) -> bool:
    """Return whether the last change in a state was long enough before ``at``, in ns since the epoch."""
    numbers = [int(number) for number in state.split()]
    changed = max(number for place in range(0, len(numbers), 4) for number in numbers[place + 1 : place + 3])
    return changed + SETTLED_S * 1e9 <= at


def content_digest(file: InputFile, progress: Progress) -> str:
    """Return 32 hex digits of xxh3-128 over a local file's bytes."""
    content = xxhash.xxh3_128()
    try:
        with open_raw(file) as stream:
            while block := stream.read(BLOCK):
                content.update(block)
                progress.advance(len(block))
        if (beside := companion(file)) is not None:
            content.update(beside.read_bytes())
    except OSError as error:
        refuse_unreadable(locate(file.path), error)
    return str(content.hexdigest())
