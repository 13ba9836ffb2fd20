"""The mixture law: what form the runs can hold, and whether the fit finds a law that was planted."""

import json
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewarm.pipeline.study.mixture_law import FIXED_BETA, FIXED_GAMMA, Form, Law, Observation, fit, form_for
from rewarm.stages.core.errors import UsageError

SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5)
LENGTHS = (5e5, 1e6, 2e6, 4e6)
OLD = Law(False, 1e6, 2.0, -0.3, 1.2, 0.3, 0.3, 0.25, 0.01)  # more tokens, less of it left
NEW = Law(True, 1e6, 1.0, 0.3, 1.0, 0.4, 1.0, 0.6, 0.2)


def observe(law: Law, shares: tuple[float, ...], lengths: tuple[float, ...], noise: float = 0.0) -> list[Observation]:
    draw = np.random.default_rng(7)
    return [
        Observation(f"{share}/{tokens}", share, tokens, {"text": law.predict(share, tokens) + draw.normal(0, noise)})
        for share, tokens in product(shares, lengths)
    ]


def points(observations: list[Observation]) -> list[tuple[str, float, float]]:
    return [(one.run, one.share, one.tokens) for one in observations]


def fitted(law: Law, observations: list[Observation]) -> Law:
    return fit(observations, "text", law.arrives, form_for(points(observations)))


@pytest.mark.parametrize("law", [OLD, NEW], ids=["old", "new"])
@pytest.mark.parametrize(("noise", "within"), [(0.0, 0.004), (0.005, 0.02)])
def test_a_planted_law_is_recovered_between_and_beyond_the_runs(law: Law, noise: float, within: float) -> None:
    found = fitted(law, observe(law, SHARES, LENGTHS, noise))
    for share, tokens in product((0.0, 0.03, 0.18, 0.5), (7e5, 4e6, 8e6)):
        assert found.predict(share, tokens) == pytest.approx(law.predict(share, tokens), abs=within), (share, tokens)


def test_one_odd_run_does_not_bend_the_law() -> None:
    observations = observe(OLD, SHARES, (1e6,))
    odd = Observation("odd", 0.1, 1e6, {"text": OLD.predict(0.1, 1e6) + 1.0})
    assert fitted(OLD, [*observations, odd]).predict(0.1, 1e6) == pytest.approx(OLD.predict(0.1, 1e6), abs=0.06)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(1.0, 5.0), min_size=12, max_size=12),
    st.booleans(),
)
@example([1.0, 3.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 4.0, 1.0, 4.0], False)
def test_more_of_a_dataset_never_makes_its_loss_worse_whatever_the_runs_say(losses: list[float], arrives: bool) -> None:
    observations = [
        Observation(str(number), share, tokens, {"text": loss})
        for number, ((share, tokens), loss) in enumerate(zip(product(SHARES, (1e6, 3e6)), losses, strict=True))
    ]
    law = fit(observations, "text", arrives, form_for(points(observations)))
    shares = np.linspace(SHARES[0], SHARES[-1], 16)
    for tokens in (1e6, 3e6):
        change = np.diff(law.predict_all(shares, np.full(16, tokens)))
        assert np.all((change if arrives else -change) > -1e-3), change


def test_a_law_is_finite_without_replay_and_the_same_each_time() -> None:
    observations = observe(OLD, SHARES, LENGTHS, 0.01)
    law = fitted(OLD, observations)
    assert law == fitted(OLD, observations)
    assert math.isfinite(law.predict(0.0, 1e9))
    assert json.loads(json.dumps(law.to_json()))["floor"] == law.floor


@pytest.mark.parametrize(
    ("shares", "lengths", "form", "parameters"),
    [
        ((0, 0.05, 0.25, 0.5), (1e6,), Form(False, "one"), 3),
        ((0, 0.01, 0.05, 0.25, 0.5), (1e6,), Form(True, "one"), 4),
        ((0, 0.05, 0.25, 0.5), (1e6, 2e6), Form(False, "few"), 5),
        ((0, 0.01, 0.05, 0.25, 0.5), LENGTHS, Form(True, "many"), 7),
    ],
)
def test_the_form_is_what_the_runs_can_hold(
    shares: tuple[float, ...], lengths: tuple[float, ...], form: Form, parameters: int
) -> None:
    observations = observe(OLD, shares, lengths)
    assert form_for(points(observations)) == form
    assert form.parameters == parameters
    law = fitted(OLD, observations)
    assert (law.gamma == FIXED_GAMMA) is not form.free_gamma
    assert (law.beta == FIXED_BETA) is (form.lengths != "many")
    assert (law.length == 0) is (form.lengths == "one")
    assert bool(form.notes()) is (not form.free_gamma or form.lengths != "many")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "0 replay shares"),
        ([("a", 0.0, 1e6), ("b", 0.1, 1e6), ("c", 0.5, 1e6)], r"3 replay shares \(0, 0.1, 0.5\)"),
        ([(str(n), n / 10, 1e6 * (1 + n)) for n in range(6)], "cannot be told apart"),
        ([("a", share, tokens) for share, tokens in product(SHARES, LENGTHS)], "0 points are left without"),
    ],
)
def test_too_few_runs_are_refused_with_what_is_missing(found: list[tuple[str, float, float]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        form_for(found)


@pytest.mark.parametrize(("share", "tokens"), [(1.0, 1e6), (-0.1, 1e6), (0.1, 0.0), (math.nan, 1e6)])
def test_what_cannot_be_an_observation_is_refused(share: float, tokens: float) -> None:
    with pytest.raises(UsageError, match="must be"):
        Observation("run", share, tokens, {})
