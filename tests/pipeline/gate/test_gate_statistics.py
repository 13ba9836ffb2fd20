"""The gate's tests keep their level, find what is there, and give the figures that are worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.gate.statistics import compare_losses, compare_scores, holm, mcnemar, sign_flip

ALPHA, TRIALS = 0.05, 2000
MARGIN = 3 * math.sqrt(ALPHA * (1 - ALPHA) / TRIALS)  # of a rejection rate, at three standard errors


def world(rng: np.random.Generator, documents: int, change: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses of two models on documents of very different lengths; what one document costs is not even in its text."""
    tokens = np.maximum(1, rng.lognormal(5, 1, documents)).astype(np.int64)
    current = tokens * rng.normal(3, 0.5, documents)
    differences = tokens * (change + rng.normal(0, 0.1, documents)) + np.sqrt(tokens) * rng.normal(0, 1, documents)
    return current + differences, current, tokens


@pytest.mark.parametrize("documents", [10, 40, 300])
def test_losses_without_a_difference_are_called_different_as_rarely_as_said(documents: int) -> None:
    rng = np.random.default_rng(documents)
    found = [compare_losses(*world(rng, documents, 0.0)).p for _ in range(TRIALS)]
    rate = np.mean([p is not None and p <= ALPHA for p in found])
    assert rate <= ALPHA + MARGIN
    assert rate > ALPHA / 3, "a test that never rejects would pass anything"


def test_a_difference_in_losses_is_found() -> None:
    rng = np.random.default_rng(1)
    found = [compare_losses(*world(rng, 100, 0.1)) for _ in range(200)]
    assert np.mean([one.p is not None and one.p <= ALPHA for one in found]) > 0.95
    assert np.mean([one.change for one in found]) == pytest.approx(0.1, abs=0.01)


def test_losses_by_hand() -> None:
    """Three documents of equal length: the ratio's jackknife is the mean's own variance, and t the paired t-test."""
    candidate, current = np.array([30.0, 44.0, 52.0]), np.array([20.0, 40.0, 50.0])
    found = compare_losses(candidate, current, np.array([10, 10, 10]))
    expected = stats.ttest_rel(candidate / 10, current / 10)
    assert (found.candidate, found.current, found.n) == (pytest.approx(4.2), pytest.approx(11 / 3), 3)
    assert found.change == pytest.approx(16 / 30)
    assert found.p == pytest.approx(float(expected.pvalue))


def test_losses_with_nothing_to_say() -> None:
    same = np.array([3.0, 4.0])
    assert compare_losses(same, same, np.array([2, 2])).p == 1.0
    assert compare_losses(same + 1, same, np.array([2, 0])).p is None, "one document shows nothing"
    assert compare_losses(same, same, np.array([2, 0])).n == 1
    with pytest.raises(ValueError, match="no document"):
        compare_losses(same, same, np.array([0, 0]))


@given(st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4), st.integers(1, 10**5)), min_size=2, max_size=30))
def test_losses_swapped_change_the_sign_alone(rows: list[tuple[float, float, int]]) -> None:
    first, second, tokens = (np.array(column) for column in zip(*rows, strict=True))
    there, back = compare_losses(first, second, tokens), compare_losses(second, first, tokens)
    assert there.change == pytest.approx(-back.change)
    assert there.p == pytest.approx(back.p)
    assert there.p is not None
    assert 0 <= there.p <= 1


def test_mcnemar_by_hand() -> None:
    """Nine questions that only one model got right, and one that only the other did: 2 · (1 + 10) / 2¹⁰."""
    differences = np.array([1.0] * 9 + [-1.0] + [0.0] * 50)
    assert mcnemar(differences) == pytest.approx(22 / 1024) == mcnemar(-differences)
    assert mcnemar(np.zeros(7)) == 1.0
    assert mcnemar(np.array([1.0, -1.0])) == 1.0


def test_sign_flips_by_hand() -> None:
    """Of the 16 flips of 1, 2, 3, 4 only two are as far from 0 as their sum; of 1, 2, 3, −1 four are as 5."""
    assert sign_flip(np.array([1.0, 2.0, 3.0, 4.0, 0.0])) == pytest.approx(2 / 16)
    assert sign_flip(np.array([1.0, 2.0, 3.0, -1.0])) == pytest.approx(6 / 16)
    assert sign_flip(np.zeros(5)) == 1.0


def test_drawn_flips_repeat_and_are_symmetric() -> None:
    differences = np.random.default_rng(5).normal(0.3, 1, 60)
    assert sign_flip(differences) == sign_flip(differences)
    assert sign_flip(differences) == pytest.approx(sign_flip(-differences), abs=0.01)
    assert sign_flip(differences) == pytest.approx(float(stats.ttest_1samp(differences, 0).pvalue), abs=0.02)
    assert 0 < sign_flip(differences + 50) <= 0.001


@pytest.mark.parametrize("binary", [True, False])
def test_scores_without_a_difference_are_called_different_as_rarely_as_said(binary: bool) -> None:
    rng, trials = np.random.default_rng(binary), 300
    rejected = 0
    for _ in range(trials):
        scores = rng.random((2, 12))
        mine, theirs = (scores < 0.5).astype(float) if binary else scores
        rejected += compare_scores(mine, theirs).p <= ALPHA  # type: ignore[operator]
    assert rejected / trials <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / trials)


def test_scores_that_fell_are_found_by_either_test() -> None:
    rng = np.random.default_rng(3)
    right = (rng.random(200) < 0.7).astype(float)
    worse = right * (rng.random(200) < 0.7)
    found = compare_scores(worse, right)
    assert found.change == pytest.approx(worse.mean() - right.mean())
    assert found.p == mcnemar(worse - right)
    assert found.p < 1e-6
    assert compare_scores(worse * 0.9, right).p <= 0.001  # type: ignore[operator]
    with pytest.raises(ValueError, match="no questions"):
        compare_scores(np.array([]), np.array([]))


@pytest.mark.parametrize(
    ("values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # Holm 1979's form of a table: 4·5, 3·10, 2·30, 1·40
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
    ],
)
def test_holm_by_hand(values: list[float], adjusted: list[float]) -> None:
    assert holm(values) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_never_helps(values: list[float]) -> None:
    found = holm(values)
    assert all(value <= corrected <= 1 for value, corrected in zip(values, found, strict=True))
    order = sorted(range(len(values)), key=lambda place: values[place])
    assert [found[place] for place in order] == sorted(found)
    assert min(found) == pytest.approx(min(1.0, len(values) * min(values)))


def test_holm_keeps_the_level_of_a_whole_verdict() -> None:
    rng = np.random.default_rng(11)
    rejected = [min(holm(rng.random(7).tolist())) <= ALPHA for _ in range(TRIALS)]
    assert np.mean(rejected) <= ALPHA + MARGIN
