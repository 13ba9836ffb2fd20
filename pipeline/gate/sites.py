"""The validation split that the gate needs: the sites its documents come from, and how many documents it takes."""

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from rewarm.pipeline.gate.mean_change import compare_losses
from rewarm.pipeline.recipe.settings import GateSettings
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


SPREAD = 0.3  # nats per token: standard deviation of a document's change, measured in the demo's updates
LENGTH = 500  # tokens of a document; the result does not depend on it
MOST = 1000  # documents of equal length; a limit that needs more is not met, and its checks report what they detect


def documents_needed(settings: GateSettings, datasets: int) -> int:
    """Return how many documents of equal length a split should be worth; 0 if no limit requires any.

    ``datasets`` is the number of earlier datasets that the gate will guard.
    """
    limits = [limit for limit in (settings.max_forgetting, *settings.max_forgetting_by_dataset.values()) if limit]
    if not settings.enabled or not limits:
        return 0
    guards = max(1, datasets) * (1 if settings.max_forgetting_since_best is None else 2)
    level = settings.alpha / guards if settings.correction == "holm" else settings.alpha
    fewest, most = 2, MOST
    while fewest < most:
        documents = (fewest + most) // 2
        if detectable(documents, level, settings.power) <= min(limits):
            most = documents
        else:
            fewest = documents + 1
    return most


def detectable(documents: int, level: float, power: float) -> float:
    """Return the minimum detectable effect of so many documents, nats per token; infinite if there is none."""
    from scipy import stats

    scores = stats.norm.ppf((np.arange(documents) + 0.5) / documents)
    tokens = np.full(documents, LENGTH)
    found = compare_losses(tokens * scores * SPREAD / scores.std(ddof=1), np.zeros(documents), tokens)
    effect = found.detectable(level, power, cautious=True)
    return float("inf") if effect is None else effect
