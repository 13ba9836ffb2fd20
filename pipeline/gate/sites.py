"""The sites of a validation split's documents, which are its independent units.

Pages of one site resemble each other, so a hundred of them are worth less than one page each from a hundred sites. A
site is the registered domain of a document's address by the Public Suffix List (``bbc.co.uk``, ``someone.github.io``),
else its ``source``.
"""

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import read_shards

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList


def site_of(url: str | None, source: str | None) -> str | None:
    """Return the site of a document; None if it has neither a valid address nor a source."""
    try:
        host = (urlsplit(url or "").hostname or "").rstrip(".")
    except ValueError:  # a bracket without an IPv6 address
        host = ""
    if not host:
        return source or None
    try:
        return str(ip_address(host))
    except ValueError:
        return suffixes().privatesuffix(host) or host


@lru_cache(1)
def suffixes() -> "PublicSuffixList":
    """Return the list as shipped in the package; nothing is downloaded."""
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


def read_sites(validation: Folder) -> dict[str, str]:
    """Return ``doc_id`` → site for the documents of a validation split that have a site."""
    sites: dict[str, str] = {}
    for batch in read_shards(validation, ["doc_id", "url", "source"]):
        for row in batch.to_pylist():
            if (site := site_of(row["url"], row["source"])) is not None:
                sites[row["doc_id"]] = site
    return sites


def group(doc_ids: list[str], sites: dict[str, str]) -> npt.NDArray[np.int64] | None:
    """Return the number of each document's site; a document without a site is its own. None: only one site."""
    names = [(True, sites[doc_id]) if doc_id in sites else (False, doc_id) for doc_id in doc_ids]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64) if len(numbers) > 1 else None
