"""Addresses: the host of a document, and block-lists of hosts and of what lies below a path.

A block-list is a text file, one entry a line. ``#`` at a line's begin or after a blank begins a comment. A scheme and a
leading ``www.`` count for nothing, letters of a host have no case.

| entry | blocks |
|---|---|
| ``spam.example`` | this host and every subdomain: ``spam.example/x``, ``a.spam.example`` |
| ``example.org/ads`` | on this host only, the path and all below: ``/ads``, ``/ads/1``, ``/ads?x``; not ``/adsorb`` |
| ``example.org/a?b=c`` | the address ``/a?b=c`` and what goes on from there at ``/``, ``?`` or ``&`` |
"""

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from rewarm.stages.core.errors import UsageError
from rewarm.stages.ingest.records import EXCERPT, Document, Refusal

COMMENT = re.compile(r"(^|\s)#.*")
BOUNDARY = re.compile(r"[/?&]")


def host_of(url: str | None) -> str | None:
    """The host of an address in lower case without ``www.``; None where it has none."""
    try:
        host = urlsplit(url or "").hostname
    except ValueError:  # a bracket that is no IPv6 address
        return None
    return (host.rstrip(".").removeprefix("www.") or None) if host else None


def plain_address(url: str) -> str | None:
    """Host and path of an address (``example.org/a/b?c``), in the form that block-lists compare."""
    host = host_of(url)
    if host is None:
        return None
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{host}{parts.path}{query}".rstrip("/")


@dataclass(frozen=True)
class BlockList:
    """Hosts, and addresses whose paths are blocked with all below."""

    hosts: frozenset[str]
    paths: frozenset[str]

    def find(self, url: str) -> str | None:
        """The entry that blocks an address, or None. Costs look-ups by the address's parts, not by the list."""
        address = plain_address(url)
        if address is None:
            return None
        host = address.split("/", 1)[0].split("?", 1)[0]
        labels = host.split(".")
        for first in range(len(labels)):
            if (suffix := ".".join(labels[first:])) in self.hosts:
                return suffix
        if self.paths:
            ends = [found.start() for found in BOUNDARY.finditer(address)]
            return next((address[:end] for end in [*ends, len(address)] if address[:end] in self.paths), None)
        return None


def read_block_lists(paths: list[str]) -> BlockList:
    """The entries of all files. Raises ``UsageError`` where one cannot be read or an entry is no address."""
    return cached_block_lists(tuple((path, Path(path).stat().st_mtime_ns) for path in paths))


@lru_cache(maxsize=1)  # lists have millions of entries, and a process reads many shards
def cached_block_lists(versions: tuple[tuple[str, int], ...]) -> BlockList:
    """The entries of files as they were at a time."""
    hosts, paths = set[str](), set[str]()
    for path, _ in versions:
        for number, entry in entries(path):
            address = plain_address(entry if "://" in entry else f"//{entry}")
            if address is None:
                raise UsageError(f"{path}, line {number}: a host or an address expected, found {entry!r}")
            (paths if BOUNDARY.search(address) else hosts).add(address)
    return BlockList(frozenset(hosts), frozenset(paths))


def entries(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a list that say something, with their numbers from 1."""
    opened = gzip.open if path.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if entry := COMMENT.sub("", line).strip():
                    yield number, entry
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: a text file of hosts and addresses expected ({error})") from error


@dataclass(frozen=True)
class BlockListStep:
    """Refuses documents from blocked addresses; one without an address passes."""

    blocked: BlockList
    name: str = "url-block-list"
    version: int = 1

    def __call__(self, document: Document) -> Document | Refusal:
        """The document, or why it is refused."""
        entry = self.blocked.find(document.url) if document.url else None
        if entry is None:
            return document
        detail = f"an address that is not blocked expected, {document.url} is by {entry}"
        return Refusal("", "blocked URL", detail, document.text[:EXCERPT].encode()[:EXCERPT], self.name)
