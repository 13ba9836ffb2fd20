"""The size of a validation split: what the gate needs to see its limits."""

import numpy as np
import pytest

from rewarm.pipeline.gate.mean_change import compare_losses
from rewarm.pipeline.gate.sites import SPREAD, documents_needed
from rewarm.pipeline.recipe.settings import GateSettings


@pytest.mark.parametrize("limit", [0.5, 0.2])
def test_so_many_documents_see_the_limit(limit: float) -> None:
    settings = GateSettings(max_forgetting=limit, max_forgetting_since_best=None)
    needed = documents_needed(settings, 1)
    rng, tokens = np.random.default_rng(0), np.full(needed, 500)
    effects = []
    for _ in range(300):
        current = np.zeros(needed)
        found = compare_losses(tokens * rng.normal(0, SPREAD, needed), current, tokens)
        effects.append(found.detectable(settings.alpha, settings.power, cautious=True) or np.inf)
    assert 0.9 * limit < np.median(effects) <= 1.1 * limit


def test_a_stricter_limit_and_more_datasets_need_more_documents() -> None:
    assert documents_needed(GateSettings(max_forgetting=0.1), 1) > documents_needed(GateSettings(), 1)
    assert documents_needed(GateSettings(), 60) > documents_needed(GateSettings(), 1)
    one = GateSettings(max_forgetting_by_dataset={"docs": 0.1})
    assert documents_needed(one, 1) == documents_needed(GateSettings(max_forgetting=0.1), 1)


@pytest.mark.parametrize("settings", [{"enabled": False}, {"max_forgetting": None}, {"max_forgetting": 0}])
def test_without_a_limit_nothing_is_asked_for(settings: dict[str, object]) -> None:
    assert documents_needed(GateSettings.model_validate(settings), 3) == 0
