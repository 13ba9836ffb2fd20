"""The objective: the lowest mean within the arrival's cost."""

import pytest

from rewarm.pipeline.shift.objective import Standing, choose_best, within

CANDIDATES = {"none": Standing(4.0, 0.0), "some": Standing(3.8, 0.04), "much": Standing(3.6, 0.1)}


@pytest.mark.parametrize(("limit", "best"), [(None, "much"), (0.1, "much"), (0.05, "some"), (0.01, "none")])
def test_the_lowest_mean_within_the_limit(limit: float | None, best: str) -> None:
    assert choose_best(CANDIDATES, limit) == best


def test_an_unknown_cost_is_not_held_against_a_candidate() -> None:
    assert choose_best({**CANDIDATES, "unknown": Standing(3.5, None)}, 0.05) == "unknown"
    assert within(Standing(1.0, None), 0.0)


def test_if_none_is_within_the_limit_the_cheapest_is_taken() -> None:
    assert choose_best({"a": Standing(3.0, 0.3), "b": Standing(4.0, 0.2)}, 0.05) == "b"
    assert choose_best({}, 0.05) is None
