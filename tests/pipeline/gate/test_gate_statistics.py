"""The gate's tests keep their level, find what is there, and give the figures that are worked out by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rewarm.pipeline.gate.mean_change import MeanChange, compare_losses, p_imagined, weigh
from rewarm.pipeline.gate.sites import group, site_of
from rewarm.pipeline.gate.statistics import (
    AboveChance,
    AccuracyChange,
    above_chance,
    compare_scores,
    holm,
    paired_p,
)

ALPHA, TRIALS = 0.05, 2000
MARGIN = 3 * math.sqrt(ALPHA * (1 - ALPHA) / TRIALS)  # of a rejection rate, at three standard errors
LIMIT = 0.2


def world(rng: np.random.Generator, documents: int, change: float, site_noise: float = 0.0, sites: int = 10):
    """Losses of two models on documents of very different lengths; what one document costs is not even in its text."""
    tokens = np.maximum(1, rng.lognormal(5, 1, documents)).astype(np.int64)
    groups = rng.integers(0, sites, documents)
    current = tokens * rng.normal(3, 0.5, documents)
    of_site = rng.normal(0, site_noise, sites)[groups]
    noise = rng.normal(0, 0.1, documents) + of_site
    differences = tokens * (change + noise) + np.sqrt(tokens) * rng.normal(0, 1, documents)
    return current + differences, current, tokens, groups


def above(bound: float, *columns: np.ndarray, cautious: bool = False) -> bool:
    p = compare_losses(*columns).p_above(bound, cautious)
    return p is not None and p <= ALPHA


@pytest.mark.parametrize("documents", [10, 40, 300])
def test_a_loss_at_the_limit_is_called_above_it_as_rarely_as_said(documents: int) -> None:
    rng = np.random.default_rng(documents)
    draws = [world(rng, documents, LIMIT)[:3] for _ in range(TRIALS)]
    rate, cautious = (np.mean([above(LIMIT, *one, cautious=how) for one in draws]) for how in (False, True))
    assert ALPHA / 3 < rate <= ALPHA + MARGIN, "a test that never rejects would pass anything"
    assert 0 < cautious < rate


def test_documents_of_ten_sites_are_counted_by_site() -> None:
    """Type I error by site is the level; by document it is many times that."""
    rng = np.random.default_rng(10)
    draws = [world(rng, 200, LIMIT, site_noise=0.1) for _ in range(TRIALS)]
    by_site = np.mean([above(LIMIT, *one) for one in draws])
    by_document = np.mean([above(LIMIT, *one[:3]) for one in draws])
    assert by_site <= ALPHA + MARGIN
    assert by_document > 3 * ALPHA


@pytest.mark.parametrize("cautious", [False, True])
def test_what_is_said_to_be_detectable_is_detected_with_the_power_that_is_said(cautious: bool) -> None:
    rng = np.random.default_rng(1)
    draws = [compare_losses(*world(rng, 60, 0.0)[:3]) for _ in range(500)]
    effect = float(np.median([one.detectable(ALPHA, 0.8, cautious=cautious) or np.inf for one in draws]))
    found = np.mean([above(LIMIT, *world(rng, 60, LIMIT + effect)[:3], cautious=cautious) for _ in range(TRIALS)])
    assert found == pytest.approx(0.8, abs=0.08)


def test_losses_by_hand() -> None:
    """Three documents of equal length: the ratio's jackknife is the mean's own variance, and t the paired t-test."""
    candidate, current = np.array([30.0, 44.0, 52.0]), np.array([20.0, 40.0, 50.0])
    found = compare_losses(candidate, current, np.array([10, 10, 10]))
    expected = stats.ttest_rel(candidate / 10, current / 10, alternative="greater")
    assert (found.candidate, found.current, found.n) == (pytest.approx(4.2), pytest.approx(11 / 3), 3)
    assert (found.units, found.worth) == (3, pytest.approx(3))
    assert found.change == pytest.approx(16 / 30)
    rests = np.array([14 / 3, -4 / 3, -10 / 3])
    assert found.rests == pytest.approx(rests)
    imagined = exactly(np.array([10.0, 4.0, 2.0, 16 / 3 - 10 / 3]))
    assert found.p_above(0) == pytest.approx(max(imagined, float(expected.pvalue)))
    assert (found.p_below(0) or 0) >= 1 - float(expected.pvalue)
    assert (found.p_above(0, cautious=True) or 0) > (found.p_above(0) or 1)


def exactly(values: np.ndarray) -> float:
    """P(Σ Eᵢ valueᵢ ≤ 0) of exponential variables, by partial fractions; the values must differ."""
    terms = [np.prod([one / (one - other) for other in values if other != one]) for one in values if one > 0]
    return 1 - float(np.sum(terms)) if terms else 1.0


@pytest.mark.parametrize(
    "values",
    [
        (1.0, -1.0),
        (5.0, 1.0, -3.0),
        (10.0, 4.0, 2.0, -9.0),
        (1.0, 0.9, 0.8, 0.7, -3.5),
        (-4.0, -1.0, 0.0, 0.3, 2.0, 9.0),
    ],
)
def test_random_weights_against_the_exact_distribution(values: tuple[float, ...]) -> None:
    assert weigh(np.array(values)) == pytest.approx(exactly(np.array(values)), rel=0.06)
    assert weigh(np.array(values)) + weigh(-np.array(values)) == pytest.approx(1)


def test_random_weights_against_drawn_ones() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 1, 40) - 1.2
    drawn = (rng.exponential(size=(100_000, 40)) @ values <= 0).mean()
    assert weigh(values) == pytest.approx(drawn, abs=3 * math.sqrt(drawn / 100_000))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_random_weights_of_any_values_give_a_probability(values: list[float]) -> None:
    p = weigh(np.array(values))
    assert 0 <= p <= 1
    if min(values) > 0 or max(values) <= 0:
        assert p == float(max(values) <= 0)


ROWS = st.lists(st.tuples(st.floats(-1e4, 1e4), st.integers(1, 10**5)), min_size=2, max_size=30)


@given(ROWS, st.floats(1e-3, 1e3))
def test_p_falls_with_the_distance_and_does_not_depend_on_the_unit(rows: list[tuple[float, int]], scale: float) -> None:
    nats, sizes = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    rests = nats - nats.sum() / sizes.sum() * sizes
    for cautious in (False, True):
        by_distance = [p_imagined(distance, rests, sizes, cautious) for distance in (0.0, 0.01, 0.1, 1.0, 10.0)]
        assert all(after <= before + 1e-9 for before, after in pairwise(by_distance))
        assert p_imagined(0.1 * scale, rests * scale, sizes, cautious) == pytest.approx(by_distance[2], abs=1e-6)
    assert p_imagined(0.1, rests, sizes, True) >= p_imagined(0.1, rests, sizes, False) - 1e-9


def test_the_least_significant_distance_is_just_significant() -> None:
    rng = np.random.default_rng(5)
    for cautious in (False, True):
        found = compare_losses(*world(rng, 30, 0.0)[:3])
        error = found.error or 0
        needed = (found.detectable(ALPHA, 0.8, cautious=cautious) or 0) - stats.t.ppf(0.8, found.freedom) * error
        both = [found.p_above(found.change - needed, cautious), found.p_below(found.change + needed, cautious)]
        assert max(one or 0 for one in both) == pytest.approx(ALPHA, rel=1e-3)


def skewed(rng: np.random.Generator, documents: int, sign: int, draws: int) -> list[MeanChange]:
    """Draws at the limit: most documents change alike and a few by far more, on one side; lengths differ, too."""
    found = []
    for _ in range(draws):
        tokens = np.maximum(8, rng.lognormal(5.5, 0.5, documents)).astype(np.int64)
        changes = LIMIT + sign * 0.3 * (rng.lognormal(0, 1, documents) - math.exp(0.5))
        found.append(compare_losses(tokens * changes, np.zeros(documents), tokens))
    return found


@pytest.mark.parametrize("documents", [12, 24, 46])
def test_a_release_at_its_limit_is_refused_as_rarely_as_said_though_few_changes_are_skewed(documents: int) -> None:
    """σ = 1: skewness 6.2. The side on which t errs; on the other one nothing is refused too often."""
    found = skewed(np.random.default_rng(documents), documents, -1, TRIALS)
    by_t = np.mean([stats.t.sf((one.change - LIMIT) / (one.error or 1), one.freedom) <= ALPHA for one in found])
    rate = np.mean([(one.p_above(LIMIT, cautious=True) or 0) <= ALPHA for one in found])
    assert by_t > 2.5 * ALPHA
    assert rate <= 0.06 + MARGIN
    other = skewed(np.random.default_rng(documents), documents, 1, TRIALS)
    assert np.mean([(one.p_above(LIMIT, cautious=True) or 0) <= ALPHA for one in other]) <= ALPHA


def test_the_tail_that_a_correction_leaves_is_kept_too() -> None:
    level = 0.05 / 10
    found = skewed(np.random.default_rng(0), 100, -1, 2 * TRIALS)
    by_t = np.mean([stats.t.sf((one.change - LIMIT) / (one.error or 1), one.freedom) <= level for one in found])
    assert by_t > 5 * level
    assert np.mean([(one.p_above(LIMIT, cautious=True) or 0) <= level for one in found]) <= 2 * level


def test_sites_by_hand() -> None:
    """Four documents of two sites are two units: the same as two documents that hold each site's sums."""
    candidate, current, tokens = np.array([30.0, 44.0, 52.0, 9.0]), np.array([20.0, 40.0, 50.0, 8.0]), np.full(4, 10)
    found = compare_losses(candidate, current, tokens, np.array([5, 5, 7, 7]))
    sums = compare_losses(np.array([74.0, 61.0]), np.array([60.0, 58.0]), np.array([20, 20]))
    assert (found.n, found.units, found.worth) == (4, 2, 2)
    assert (found.change, found.error, found.freedom) == pytest.approx((sums.change, sums.error, sums.freedom))


def test_losses_with_nothing_to_say() -> None:
    same = np.array([3.0, 4.0])
    equal = compare_losses(same, same, np.array([2, 2]))
    assert (equal.p_above(0.0), equal.p_below(0.0), equal.detectable(ALPHA, 0.8)) == (1.0, 1.0, 0.0)
    assert (equal.p_above(-0.1), equal.p_below(0.1)) == (0.0, 0.0)
    one = compare_losses(same + 1, same, np.array([2, 0]))
    assert (one.n, one.p_above(0), one.detectable(ALPHA, 0.8)) == (1, None, None), "one document shows nothing"
    with pytest.raises(ValueError, match="no document"):
        compare_losses(same, same, np.array([0, 0]))


@pytest.mark.parametrize(("documents", "p"), [(2, 0.25), (3, 0.125), (6, 1 / 64)])
def test_few_documents_that_change_by_the_same_amount_decide_nothing(documents: int, p: float) -> None:
    current, tokens = np.full(documents, 100.0), np.full(documents, 100)
    fell = compare_losses(current - 10, current, tokens)
    assert (fell.p_below(0.0), fell.p_above(-0.01), fell.p_below(-0.2)) == (p, 1.0, 1.0)
    assert fell.detectable(ALPHA, 0.8) == (0.0 if p <= ALPHA else None)


def test_a_split_that_one_document_fills_can_show_nothing_finite() -> None:
    tokens = np.array([10**9, 1, 1])
    found = compare_losses(np.array([2e9, 1.0, 2.0]), np.array([1e9, 1.0, 1.0]), tokens)
    assert found.worth == pytest.approx(1)
    assert found.detectable(ALPHA, 0.8) is None
    p = found.p_above(0.0)
    assert p is not None and p > 0.3


@given(st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4), st.integers(1, 10**5)), min_size=2, max_size=30))
def test_losses_swapped_change_sides(rows: list[tuple[float, float, int]]) -> None:
    first, second, tokens = (np.array(column) for column in zip(*rows, strict=True))
    there, back = compare_losses(first, second, tokens), compare_losses(second, first, tokens)
    assert there.change == pytest.approx(-back.change)
    for bound in (0.0, 0.3):
        assert there.p_above(bound) == pytest.approx(back.p_below(-bound))
        assert 0 <= (there.p_above(bound) or 0) <= 1


def test_answers_by_hand() -> None:
    """Nine questions that only one model got right, and one that only the other did: (1 + 10) / 2¹⁰, one-sided."""
    assert paired_p(9, 1, 60, 0) == pytest.approx(11 / 1024)
    assert paired_p(0, 0, 7, 0) == 1.0
    assert paired_p(1, 1, 7, 0) == pytest.approx(0.75)
    found = compare_scores(np.array([1.0] * 9 + [0.0] + [1.0] * 50), np.array([0.0] * 9 + [1.0] + [1.0] * 50))
    assert isinstance(found, AccuracyChange)
    assert (found.gained, found.lost, found.n) == (9, 1, 60)
    assert found.p_above(0) == pytest.approx(11 / 1024)


def test_the_score_test_is_mcnemar_at_a_limit_of_nearly_nothing() -> None:
    """Tango's statistic at Δ = 0 is (b − c) / √(b + c)."""
    assert paired_p(30, 12, 200, 1e-9) == pytest.approx(float(stats.norm.sf(18 / math.sqrt(42))), rel=1e-4)


@pytest.mark.parametrize("questions", [48, 500])
def test_scores_at_the_limit_are_called_below_it_as_rarely_as_said(questions: int) -> None:
    rng, drop = np.random.default_rng(questions), 0.05
    rejected = 0
    for _ in range(TRIALS):
        kind = rng.choice(3, questions, p=[0.1 + drop, 0.1, 0.8 - drop])  # lost, gained, alike
        current, candidate = (kind != 1).astype(float), (kind != 0).astype(float)
        rejected += (compare_scores(candidate, current).p_below(-drop) or 0) <= ALPHA
    assert rejected / TRIALS <= ALPHA + 0.015 + MARGIN
    assert rejected / TRIALS > ALPHA / 3


def test_few_questions_that_no_model_answers_otherwise_still_see_little() -> None:
    same = np.array([1.0, 0.0] * 4)
    few, many = compare_scores(same, same), compare_scores(np.tile(same, 500), np.tile(same, 500))
    assert (few.detectable(ALPHA, 0.8, -0.05) or 0) > 0.05 > (many.detectable(ALPHA, 0.8, -0.05) or 1)


def test_scores_between_right_and_wrong_are_means_with_an_error() -> None:
    rng = np.random.default_rng(3)
    current = rng.random(200)
    found = compare_scores(current - 0.1 + rng.normal(0, 0.05, 200), current)
    assert (found.p_below(-0.05) or 1) < 1e-6
    assert (found.p_below(-0.15) or 0) > 0.99


def test_word_order_against_chance() -> None:
    found = above_chance(np.array([1.0] * 20 + [0.0] * 10), 0.25)
    assert found.p_above(0) == pytest.approx(float(stats.binomtest(20, 30, 0.25, alternative="greater").pvalue))
    effect = AboveChance(0, 48, 0.25).detectable(ALPHA, 0.8)
    assert effect is not None
    least = next(k for k in range(49) if stats.binom.sf(k - 1, 48, 0.25) <= ALPHA)
    assert stats.binom.sf(least - 1, 48, 0.25 + effect) == pytest.approx(0.8)
    assert AboveChance(2, 2, 0.25).detectable(ALPHA, 0.8) is None, "two right answers of two are no proof"


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_textbook_procedure(values: list[float]) -> None:
    adjusted = holm(values)
    ordered = sorted(range(len(values)), key=lambda place: values[place])
    rejects = True
    for rank, place in enumerate(ordered):
        rejects = rejects and values[place] <= ALPHA / (len(values) - rank)
        assert (adjusted[place] <= ALPHA) == pytest.approx(rejects) or math.isclose(adjusted[place], ALPHA)
    assert all(after >= before for before, after in zip(values, adjusted, strict=True))


@pytest.mark.parametrize(
    ("url", "source", "site"),
    [
        ("https://www.bbc.co.uk/news/1", "crawl", "bbc.co.uk"),
        ("http://a.b.example.com/", None, "example.com"),
        ("https://someone.github.io/x", None, "someone.github.io"),
        ("http://192.168.0.1:80/x", None, "192.168.0.1"),
        ("http://[broken/x", "s", "s"),
        ("http://localhost/x", None, "localhost"),
        ("numpy.linalg.norm", "numpy", "numpy"),
        (None, None, None),
        ("", "", None),
    ],
)
def test_sites(url: str | None, source: str | None, site: str | None) -> None:
    assert site_of(url, source) == site


def test_documents_without_a_site_count_by_themselves() -> None:
    found = group(["a", "b", "c", "d"], {"a": "x.com", "c": "x.com"})
    assert found is not None
    assert found.tolist() == [0, 1, 0, 2]
    assert group(["a", "b"], {"a": "x.com", "b": "x.com"}) is None, "one site: its documents are what there is"
