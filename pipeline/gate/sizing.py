"""How many validation documents the gate needs to see its limits: what an arrival's split is sized by.

The least m whose minimum detectable effect, ``(t₁₋α + t_power) · SPREAD / √m`` with m − 1 degrees of freedom, is within
the limit on forgetting, at the level that Holm's correction leaves for so many guards.
"""

from pipeline.gate.settings import GateSettings

SPREAD = 0.3  # nats per token: standard deviation of a document's change, as the demo's updates had it
MOST = 1000  # documents of equal length: a limit that needs more is not sized for; its checks say what they see


def documents_needed(settings: GateSettings, datasets: int) -> int:
    """Documents of equal length that a split should be worth beside so many datasets; 0 if no limit asks for any."""
    from scipy import stats

    limits = [limit for limit in (settings.max_forgetting, *settings.max_forgetting_by_dataset.values()) if limit]
    if not settings.enabled or not limits:
        return 0
    guards = max(1, datasets) * (1 if settings.max_forgetting_since_best is None else 2)
    level = settings.alpha / guards if settings.correction == "holm" else settings.alpha
    for documents in range(2, MOST):
        both = stats.t.isf(level, documents - 1) + stats.t.ppf(settings.power, documents - 1)
        if both * SPREAD / documents**0.5 <= min(limits):
            return documents
    return MOST
