"""The verdict on a shift: two measures must agree, and what a few documents show is uncertain."""

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from rewarm.pipeline.plan.survey import Measured, loss_measure
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.shift.judgement import Measure, interval, judge, measure, share_interval, spread_of, worth_of
from rewarm.pipeline.shift.shift import Reference

STRONG, WEAK, OPEN = (
    measure("one", 0.2, 0.15, 0.25, 0.1),
    measure("two", 0.05, 0.01, 0.08, 0.1, "nats"),
    measure("three", 0.12, 0.01, 0.3, 0.1),
)


@pytest.mark.parametrize(
    ("measures", "strength", "said"),
    [
        ([STRONG, STRONG, WEAK], "strong", "one 0.2 (0.15 to 0.25), at or above 0.1"),
        ([STRONG, STRONG, OPEN], "strong", "at or above"),
        ([STRONG, WEAK, WEAK], "weak", "only one measure indicates a strong shift, and two must agree"),
        ([WEAK, WEAK], "weak", "two 0.05 nats (0.01 to 0.08), below 0.1"),
        ([WEAK, WEAK, OPEN], "weak", "three 0.12 (0.01 to 0.3), indistinguishable from 0.1"),
        ([STRONG, WEAK], "unclear", "3 documents, worth 2.5 of equal length, are too few"),
        ([STRONG, WEAK, OPEN], "unclear", "are too few to tell"),
        ([STRONG, OPEN, OPEN], "unclear", "are too few to tell"),
        ([WEAK, OPEN, OPEN], "unclear", "are too few to tell"),
        ([OPEN, OPEN, OPEN], "unclear", "are too few to tell"),
        ([STRONG], "unclear", "are too few to tell"),
        ([WEAK], "weak", "below"),
        ([], "unclear", "no earlier data"),
    ],
)
def test_the_rule(measures: list[Measure], strength: str, said: str) -> None:
    found, because = judge(measures, 3, 2.5)
    assert found == strength
    assert any(said in reason for reason in because), because


def test_a_share_has_the_exact_interval() -> None:
    low, high = share_interval(0.25, 40)
    assert (low, high) == (pytest.approx(stats.binomtest(10, 40).proportion_ci().low), pytest.approx(0.4120, abs=1e-3))
    assert share_interval(0.0, 3) == (0.0, pytest.approx(1 - 0.025 ** (1 / 3)))
    assert share_interval(1.0, 3) == (pytest.approx(0.025 ** (1 / 3)), 1.0)


def test_one_document_of_a_new_language_is_not_enough_for_a_share_and_three_are() -> None:
    limit = load_recipe("tiny").plan.new_languages
    assert measure("x", 1.0, *share_interval(1.0, 1), limit).says == "open"
    assert measure("x", 1.0, *share_interval(1.0, 3), limit).says == "strong"


def test_spread_and_worth_by_hand() -> None:
    assert spread_of(np.array([1.0, 3.0]), np.array([1.0, 1.0])) == 1
    assert spread_of(np.array([1.0, 5.0]), np.array([3.0, 1.0])) == pytest.approx(math.sqrt(3))
    assert worth_of(np.array([3.0, 1.0])) == pytest.approx(1.6)
    assert interval(1.0, 0.1) == (pytest.approx(0.804), pytest.approx(1.196))
    assert interval(0.01, 0.1)[0] == 0


def losses(bits: list[float], size: int = 1000) -> pa.Table:
    nats = [one * size * math.log(2) for one in bits]
    return pa.table({"nats": nats, "num_tokens": [size // 3] * len(bits), "num_bytes": [size] * len(bits)})


def test_the_loss_of_one_document_is_as_uncertain_as_that_of_one_earlier_document() -> None:
    recipe, near = load_recipe("tiny"), Reference("docs", 0.0, 3.0, 1.0, ("docs",))
    earlier = losses([0.7, 1.3] * 20)  # a standard deviation of 0.3
    one = Measured.of(losses([1.5]), 1.5)
    assert (one.margin, one.bits_error, one.worth) == (None, 0.0, 1.0)
    found = loss_measure(one, near, [earlier], recipe)
    assert found.says == "open"
    assert found.high - found.value == pytest.approx(1.96 * 1.5 * math.hypot(0.3 / 1.5, 0.3 / math.sqrt(40)), rel=1e-6)
    many = loss_measure(Measured.of(losses([1.9, 1.8] * 50), 1.85), near, [earlier], recipe)
    assert many.says == "strong"
    unknown = loss_measure(one, near, [None], recipe)
    assert unknown.says == "open", "no losses by document are there to tell"
