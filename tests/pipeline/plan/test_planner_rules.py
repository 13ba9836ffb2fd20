"""Choices, forecasts and prices: tables of what the rules say."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.pipeline.plan.amount import ratio
from rewarm.pipeline.plan.cost import History, Work, amounts, forecast, retraining, speed, storage
from rewarm.pipeline.plan.plan import kept, left_open, resolve
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.recipe.settings import CostSettings
from rewarm.pipeline.shift.choices import Choice, Situation, base_choices, choose
from rewarm.pipeline.shift.shift import Shift
from rewarm.stages.data.mixture import Mixture, Source

HISTORY = History(
    update="0000-base",
    tokens=100_000,
    steps=100,
    annealed=15_000,
    tokens_per_second=1000.0,
    world_size=2,
    seconds={"ingest": 10.0, "tokenize": 5.0, "replay": 0.5, "train": 130.0, "anneal": 25.0, "evaluate": 20.0},
    text_bytes=1_000_000,
    validation_tokens=10_000,
)
WORK = Work(
    tokens=50_001,
    text_bytes=500_000,
    validation_tokens=20_000,
    share=0.25,
    budget=None,
    anneal_share=0.15,
    seq_len=100,
    global_batch=10,
    workers=2,
    scales=True,
)
NOTHING = CostSettings()


def shift(strength: str) -> Shift:
    return Shift(strength, ["measured"], 3.0, 2.5, 1.2, 1.0, 0.1, 0.05, "d0")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("strength", "situation", "expected"),
    [
        ("weak", Situation(True, "infinite", None, 0.15), (0.05, "earlier", "infinite", 0.15, None)),
        ("strong", Situation(True, "cosine", 1000, 0.15), (0.25, "earlier", "cosine", 0.0, 1000)),
        ("strong", Situation(False, None, None, 0.15), (0.25, "distilled", "cosine", 0.0, None)),
        ("unclear", Situation(True, "infinite", None, 0.15), (0.25, "earlier", "infinite", 0.15, None)),
        (
            "weak",
            Situation(True, "warmup-stable-decay", None, 0.1),
            (0.05, "earlier", "warmup-stable-decay", 0.1, None),
        ),
        ("weak", Situation(True, "constant", None, 0.1), (0.05, "earlier", "cosine", 0.0, None)),
    ],
)
def test_choices(strength: str, situation: Situation, expected: tuple[Any, ...]) -> None:
    found = choose(shift(strength), situation)
    names = ("replay.share", "replay.source", "schedule.kind", "anneal.share", "budget.update_tokens")
    assert tuple(found[name].value for name in names) == expected
    assert all(len(choice.because) > 10 for choice in found.values())
    assert "Ibrahim et al. 2024, sections 6.2" in found["replay.share"].because


def test_a_branch_inside_the_budget_is_taken_from_the_trunk() -> None:
    steps, tokens = amounts(WORK)
    assert (steps, sum(tokens.values())) == (50, 58_000)
    steps, tokens = amounts(replace(WORK, inside=Fraction("0.15")))
    assert (steps, tokens["annealed"], sum(tokens.values())) == (42, 7000, 49_000)


def test_auto_is_resolved_and_nothing_else() -> None:
    recipe = load_recipe("tiny", ["replay.share=auto", "schedule.kind=auto", "train.seq_len=128"])
    assert left_open(recipe) == ["replay.share", "schedule.kind"]
    settled = resolve(recipe, choose(shift("strong"), Situation(True, "cosine", None, 0.15)))
    assert (settled.replay.share, settled.schedule.kind, settled.train.seq_len) == (0.25, "cosine", 128)
    assert left_open(settled) == []
    plain = load_recipe("tiny")
    assert resolve(plain, choose(shift("strong"), Situation(True, "cosine", None, 0.15))) == plain
    assert resolve(recipe, base_choices()).schedule.kind == "infinite"


def test_a_given_value_stays_and_says_what_the_plan_would_do() -> None:
    choice = Choice(0.25, "strong")
    assert kept("auto", choice) is kept(0.25, choice) is choice
    assert kept(0.1, choice) == Choice(0.1, "as given; the plan's own choice is 0.25: strong")


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 10_000),
    st.integers(1, 50),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.01, 0.05, 0.25, 0.5, 1 / 3]),
    st.none() | st.integers(1, 10_000),
)
def test_amounts_are_those_of_the_mixture(
    tokens: int, seq_len: int, batch: int, share: float, budget: int | None
) -> None:
    work = replace(
        WORK, tokens=tokens, seq_len=seq_len, global_batch=batch, share=share, budget=budget, anneal_share=0.0
    )
    steps, found = amounts(work)
    sequences = max(0, (tokens - 1) // seq_len)
    assert (steps == 0) == (sequences == 0 or min(sequences if budget is None else budget // seq_len, 10**9) < batch)
    if steps:
        from fractions import Fraction

        exact = str(Fraction(share).limit_denominator(1_000_000))
        mixture = Mixture((Source("new", sequences, 0),), (Source("old", 5, 0),), exact, seq_len, batch, steps)
        missing = (sequences if budget is None else budget // seq_len) - steps * batch
        assert 0 <= missing < batch if budget is not None else -batch < missing <= 0
        new, old = mixture.count(0, steps)
        assert found == {"new": new * seq_len, "replayed": old * seq_len, "annealed": 0}


def test_a_forecast_adds_up() -> None:
    found = forecast(WORK, HISTORY, CostSettings(per_worker_hour=3.0, currency="EUR"))
    assert found.steps == 50
    assert found.tokens == {"new": 37_500, "replayed": 12_500, "annealed": 8_000}
    # 50,000 tokens at 1,000/s and the 30 s that the last training took beside its steps; anneal 8 s and 10 s
    assert found.seconds == {
        "ingest": 5.0,
        "tokenize": 2.5,
        "replay": 0.5,
        "train": 80.0,
        "anneal": 18.0,
        "evaluate": 40.0,
    }
    assert found.hours == pytest.approx(146 / 3600)
    assert found.cost == pytest.approx(146 / 3600 * 2 * 3)
    assert "0000-base" in found.because


def test_what_grows_beyond_the_start_grows_with_the_tokens() -> None:
    slow = replace(HISTORY, seconds={**HISTORY.seconds, "train": 100 + 60 + 40.0})
    found = forecast(replace(WORK, tokens=200_001), slow, NOTHING)
    assert found.seconds["train"] == pytest.approx(200 + 60 + 80)


def test_without_history_or_figures_hours_are_unknown_and_it_says_how_to_know() -> None:
    found = forecast(WORK, None, CostSettings(per_worker_hour=3.0))
    assert (found.hours, found.cost, found.steps) == (None, None, 50)
    assert "cost.tokens_per_second" in found.because
    given_speed = forecast(WORK, None, CostSettings(tokens_per_second=500))
    assert given_speed.hours == pytest.approx((50_000 + 8_000) / 1000 / 3600)
    assert given_speed.cost is None
    assert "only training is counted" in given_speed.notes[0]


def test_too_little_data_is_said() -> None:
    found = forecast(replace(WORK, tokens=600), HISTORY, NOTHING)
    assert found.steps == 0
    assert "does not fill one step" in found.notes[0]


@pytest.mark.parametrize(
    ("workers", "scales", "settings", "expected"),
    [
        (2, True, NOTHING, 1000),
        (8, True, NOTHING, 4000),
        (8, False, NOTHING, 1000),
        (8, True, CostSettings(tokens_per_second=200), 1600),
    ],
)
def test_speed(workers: int, scales: bool, settings: CostSettings, expected: float) -> None:
    assert speed(HISTORY, workers, scales, settings).tokens_per_second == expected


def test_retraining_is_everything_trained_so_far_and_the_update() -> None:
    prices = CostSettings(per_worker_hour=2.0)
    found = retraining(3_600_000, False, 400_000, 1000.0, 4, prices)
    assert found["tokens"] == 4_000_000
    assert found["hours"] == pytest.approx(4_000_000 / 1000 / 3600)
    assert found["cost"] == pytest.approx(found["hours"] * 8)
    unknown = retraining(0, True, 400_000, 1000.0, 4, prices)
    assert (unknown["tokens"], unknown["hours"]) == (None, None)
    assert "cost.base_tokens" in unknown["because"]
    assert retraining(0, True, 400_000, 1000.0, 4, CostSettings(base_tokens=10**6))["tokens"] == 1_400_000
    assert retraining(5, False, 5, None, 4, prices)["hours"] is None


def test_storage_is_what_stays_and_what_passes() -> None:
    found = storage(10**9, 2, 5e8, 10**9, 250_000_000, 2, CostSettings(per_gb_month=0.1))
    assert found["lasting"] == 2e9 + 5e8 + 2e9
    assert found["per_month"] == pytest.approx(0.45)
    assert found["checkpoints"] == 16 * 250_000_000 * 2


def test_a_ratio_and_its_error() -> None:
    dice = np.random.default_rng(0)
    sizes = dice.uniform(50, 500, (2000, 400))
    tokens = sizes * dice.normal(0.3, 0.05, sizes.shape)
    found = [ratio(part, whole) for part, whole in zip(tokens, sizes, strict=True)]
    values = [value for value, _ in found]
    assert np.mean(values) == pytest.approx(0.3, rel=0.01)
    errors = [value * error for value, error in found if error is not None]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.1)
    assert ratio(np.array([3.0]), np.array([4.0])) == (0.75, None)
    assert ratio(np.zeros(2), np.ones(2)) == (0.0, None)
