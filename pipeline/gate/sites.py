"""The sites that a validation split's documents come from: what is independent in it.

Pages of one site resemble each other, so a hundred of them tell less than a hundred of a hundred sites. A site is the
registered domain of a document's address by the Public Suffix List (``bbc.co.uk``, ``someone.github.io``), else its
``source``.
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
    """The site of a document; None if neither address nor source says."""
    try:
        host = (urlsplit(url or "").hostname or "").rstrip(".")
    except ValueError:  # a bracket that is no IPv6 address
        host = ""
    if not host:
        return source or None
    try:
        return str(ip_address(host))
    except ValueError:
        return suffixes().privatesuffix(host) or host


@lru_cache(1)
def suffixes() -> "PublicSuffixList":
    """The list as the package ships it; nothing is fetched."""
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


def read_sites(validation: Folder) -> dict[str, str]:
    """By ``doc_id``, the sites of a validation split's documents that have one."""
    sites: dict[str, str] = {}
    for batch in read_shards(validation, ["doc_id", "url", "source"]):
        for row in batch.to_pylist():
            if (site := site_of(row["url"], row["source"])) is not None:
                sites[row["doc_id"]] = site
    return sites


def group(doc_ids: list[str], sites: dict[str, str]) -> npt.NDArray[np.int64] | None:
    """The number of each document's site; a document without one is by itself. None if all are of one site."""
    names = [(True, sites[doc_id]) if doc_id in sites else (False, doc_id) for doc_id in doc_ids]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64) if len(numbers) > 1 else None
