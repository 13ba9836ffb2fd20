"""The number of validation documents that the gate needs, by which an arrival's split is sized.

It is the least number with a minimum detectable effect within the limit on forgetting, at the level that Holm's
correction leaves for the number of guards, for documents of equal length with normally distributed changes.
"""

import numpy as np

from rewarm.pipeline.gate.mean_change import compare_losses
from rewarm.pipeline.recipe.settings import GateSettings

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
