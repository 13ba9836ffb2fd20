"""URL filters: the host of a document, and block-lists of hosts and paths.

A block-list is a text file with one entry per line. ``#`` at the start of a line or after a blank begins a comment. The
scheme, a leading ``www.`` and the case of a host are ignored.

| entry | blocks |
|---|---|
| ``spam.example`` | this host and every subdomain: ``spam.example/x``, ``a.spam.example`` |
| ``example.org/ads`` | on this host only, the path and all below: ``/ads``, ``/ads/1``, ``/ads?x``; not ``/adsorb`` |
| ``example.org/a?b=c`` | the URL ``/a?b=c`` and its continuations after ``/``, ``?`` or ``&`` |
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
    """Return the host of a URL in lower case without ``www.``; None if it has none."""
    try:
        host = urlsplit(url or "").hostname
    except ValueError:  # a bracket that is not an IPv6 address
        return None
    return (host.rstrip(".").removeprefix("www.") or None) if host else None


def plain_address(url: str) -> str | None:
    """Return host and path of a URL (``example.org/a/b?c``), in the form that block-lists use."""
    host = host_of(url)
    if host is None:
        return None
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{host}{parts.path}{query}".rstrip("/")


@dataclass(frozen=True)
class BlockList:
    """Blocked hosts, and blocked URLs with everything below them."""

    hosts: frozenset[str]
    paths: frozenset[str]

    def find(self, url: str) -> str | None:
        """Return the entry that blocks a URL, or None. The cost depends on the parts of the URL, not on the list."""
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
    """Return the entries of all files. Raises ``UsageError`` if a file cannot be read or an entry is invalid."""
    return cached_block_lists(tuple((path, Path(path).stat().st_mtime_ns) for path in paths))


@lru_cache(maxsize=1)  # lists have millions of entries, and a process reads many shards
def cached_block_lists(versions: tuple[tuple[str, int], ...]) -> BlockList:
    """Return the entries of files in a given version."""
    hosts, paths = set[str](), set[str]()
    for path, _ in versions:
        for number, entry in entries(path):
            address = plain_address(entry if "://" in entry else f"//{entry}")
            if address is None:
                raise UsageError(f"{path}, line {number}: expected a host or a URL, found {entry!r}")
            (paths if BOUNDARY.search(address) else hosts).add(address)
    return BlockList(frozenset(hosts), frozenset(paths))


def entries(path: str) -> Iterator[tuple[int, str]]:
    """Yield the entries of a list with their line numbers from 1."""
    opened = gzip.open if path.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if entry := COMMENT.sub("", line).strip():
                    yield number, entry
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a text file of hosts and URLs ({error})") from error


@dataclass(frozen=True)
class BlockListStep:
    """Step that refuses documents from blocked URLs; a document without a URL passes."""

    blocked: BlockList
    name: str = "url-block-list"
    version: int = 1

    def __call__(self, document: Document) -> Document | Refusal:
        """Return the document, or a refusal."""
        entry = self.blocked.find(document.url) if document.url else None
        if entry is None:
            return document
        detail = f"{document.url} is blocked by the entry {entry}"
        return Refusal("", "blocked URL", detail, document.text[:EXCERPT].encode()[:EXCERPT], self.name)
