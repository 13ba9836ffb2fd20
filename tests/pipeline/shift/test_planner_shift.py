"""Measures of a shift, and what of them is chance."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.pipeline.shift.judgement import interval, measure
from rewarm.pipeline.shift.shift import (
    UNKNOWN,
    contained,
    divergence,
    divergence_beyond_chance,
    frequencies,
    language,
    languages,
    merged,
    new_share,
    sampling_bias,
    shingles,
    token_classes,
)

WEIGHTS = st.lists(st.integers(0, 1000), min_size=2, max_size=40).filter(any)
GERMAN = "Der Bericht beschreibt, wie sich das Klima in den letzten hundert Jahren verändert hat, und nennt die Gründe."
ENGLISH = "The report describes how the climate has changed over the last hundred years, and names the reasons for it."
CODE = "def f(x, *, y=3):\n    return [g(z)[0] for z in x if z.a > y and z.b != x[-1]]\n\nself.q = {k: v + 1}\n" * 3


@settings(deadline=None, max_examples=50)
@given(WEIGHTS)
def test_a_distribution_does_not_diverge_from_itself(weights: list[int]) -> None:
    values = np.array(weights, float)
    assert divergence(values, 3 * values) == pytest.approx(0, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(WEIGHTS, WEIGHTS)
def test_disjoint_distributions_diverge_by_ln_2(first: list[int], second: list[int]) -> None:
    p = np.array(first + [0] * len(second), float)
    q = np.array([0] * len(first) + second, float)
    assert divergence(p, q) == pytest.approx(math.log(2))


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(2, 40))
def test_divergence_is_symmetric_and_bounded(data: st.DataObject, size: int) -> None:
    vector = st.lists(st.integers(0, 1000), min_size=size, max_size=size).filter(any)
    p, q = (np.array(data.draw(vector), float) for _ in range(2))
    assert divergence(p, q) == pytest.approx(divergence(q, p), abs=1e-12)
    assert 0 <= divergence(p, q) <= math.log(2)


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(2, 40))
def test_merging_types_never_adds_divergence(data: st.DataObject, size: int) -> None:
    vector = st.lists(st.integers(1, 1000), min_size=size, max_size=size)
    p, q = (np.array(data.draw(vector), float) for _ in range(2))
    merged = [np.append(values[2:], values[:2].sum()) for values in (p, q)]
    assert divergence(merged[0], merged[1]) <= divergence(p, q) + 1e-12


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(2, 40), st.integers(1, 45))
def test_only_the_commonest_tokens_are_told_apart(data: st.DataObject, size: int, types: int) -> None:
    vector = st.lists(st.integers(0, 1000), min_size=size, max_size=size).filter(any)
    p, q = (np.array(data.draw(vector), float) for _ in range(2))
    first, second = merged(p, q, types)
    assert len(first) == len(second) == min(types, size) + 1
    assert (first.sum(), second.sum()) == (pytest.approx(p.sum()), pytest.approx(q.sum()))
    assert divergence(first, second) <= divergence(p, q) + 1e-12
    assert divergence(first, second) == pytest.approx(divergence(p, q)) or types < size


def test_divergence_of_a_known_pair() -> None:
    # M = (0.75, 0.25): H(M) = 0.5623 nats, H(P) = 0, H(Q) = ln 2
    assert divergence(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(0.562335 - math.log(2) / 2, abs=1e-6)


def test_the_sampling_bias_is_what_samples_of_one_distribution_diverge_by() -> None:
    dice = np.random.default_rng(0)
    truth = dice.dirichlet(np.full(500, 5.0))
    found = [divergence(*(dice.multinomial(size, truth).astype(float) for size in (20_000, 40_000))) for _ in range(40)]
    assert np.mean(found) == pytest.approx(sampling_bias(500, 20_000, 40_000), rel=0.1)


def test_frequencies_count_tokens() -> None:
    assert frequencies([np.array([1, 1, 3]), np.array([0])], 5).tolist() == [1, 2, 0, 1, 0]


def test_shingles_are_runs_inside_one_document() -> None:
    first, second = np.arange(20), np.arange(100, 120)
    both = shingles([first, second])
    assert len(both) == 2 * (19 - 13 + 1)
    assert contained(shingles([first]), both) == 1
    assert contained(shingles([np.concatenate([first[:10], second])]), both) == pytest.approx(7 / 17)
    assert contained(shingles([first[::-1]]), both) == 0
    assert contained(shingles([np.arange(5)]), both) == 0


@pytest.mark.parametrize(("text", "found"), [(GERMAN, "de"), (ENGLISH, "en"), (CODE, UNKNOWN), ("x = 3", UNKNOWN)])
def test_language_of_a_text(text: str, found: str) -> None:
    assert language(text) == found


def test_languages_are_shares_of_characters() -> None:
    found = languages([GERMAN * 3, ENGLISH])
    assert list(found) == ["de", "en"]
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arrival", "earlier", "share"),
    [
        ({"de": 0.9, "en": 0.1}, {"en": 1.0}, 0.9),
        ({"de": 0.9, "en": 0.1}, {"en": 0.95, "de": 0.05}, 0.0),
        ({"de": 0.9, "en": 0.1}, {"en": 0.99, "de": 0.01}, 0.9),
        ({UNKNOWN: 1.0}, {"en": 1.0}, 0.0),
        ({"de": 0.2, "fr": 0.2, "en": 0.6}, {"en": 1.0}, 0.4),
    ],
)
def test_new_languages(arrival: dict[str, float], earlier: dict[str, float], share: float) -> None:
    assert new_share(arrival, earlier) == pytest.approx(share)


def zipf(rng: np.random.Generator, size: int, shift: int = 0) -> np.ndarray:
    """A document of ``size`` tokens: of a topic of its own, in a language that ``shift`` makes another."""
    common = 1 / np.arange(1, 301)
    topic = np.zeros(300)
    topic[rng.integers(0, 300, 8)] = 0.05
    weights = common / common.sum() + topic
    return (rng.choice(300, size, p=weights / weights.sum()) + shift) % 300


@pytest.mark.parametrize("number", [1, 2, 3, 50])
def test_few_documents_of_the_same_kind_diverge_by_no_more_than_chance(number: int) -> None:
    rng = np.random.default_rng(number)
    earlier = [zipf(rng, 200) for _ in range(400)]
    equal = np.full(400, 1 / 400)
    beyond = 0
    for _ in range(20):
        value, error = divergence_beyond_chance([zipf(rng, 200) for _ in range(number)], earlier, equal, 300)
        assert error > 0
        beyond += value - 1.96 * error > 0.02
    assert beyond <= 2
    plain = frequencies([zipf(rng, 200) for _ in range(number)], 300).astype(float)
    raw = divergence(*merged(plain, frequencies(earlier, 300).astype(float)))
    assert raw > 0.05 or number == 50, "the plain measure calls a few of them far"


def test_one_earlier_document_tells_nothing_of_chance() -> None:
    rng = np.random.default_rng(0)
    value, error = divergence_beyond_chance([zipf(rng, 200)], [zipf(rng, 200)], np.ones(1), 300)
    assert measure("divergence", value, *interval(value, error), 0.09).says == "open"


def test_another_kind_is_found_beyond_chance_and_more_documents_say_it_more_surely() -> None:
    rng = np.random.default_rng(0)
    earlier = [zipf(rng, 200) for _ in range(400)]
    errors = []
    for number in (3, 30, 300):
        arrival = [zipf(rng, 200, shift=40) for _ in range(number)]
        value, error = divergence_beyond_chance(arrival, earlier, np.full(400, 1 / 400), 300)
        assert value - 1.96 * error > 0.05
        errors.append(error)
    assert errors[0] > errors[1] > errors[2]


def test_the_commonest_tokens_have_classes_of_their_own() -> None:
    classes = token_classes(np.arange(3000))
    assert len(set(classes.tolist())) == 2001
    assert (classes[:1000] == 2000).all()
    assert classes[2999] == 0
