"""Schedules: the papers' formulas at their boundaries, and continuity everywhere."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rewarm.stages.train.schedule import Schedule, ScheduleSettings, inverse_sqrt, schedule_for

PEAK, MINIMUM, CONSTANT = 3e-4, 3e-5, 1.65e-4  # Ibrahim et al. 2024, section 7
TOKENS = 1_000_000


def settings(**changes: object) -> ScheduleSettings:
    return ScheduleSettings.model_validate({"peak": PEAK, **changes})


@pytest.mark.parametrize(
    ("tokens", "rate"),
    [
        (0, 0.0),
        (5_000, PEAK / 2),  # half of T_w = 1 %
        (10_000, PEAK),
        (505_000, (PEAK + MINIMUM) / 2),  # the cosine's middle
        (1_000_000, MINIMUM),
        (2_000_000, MINIMUM),
    ],
)
def test_cosine_re_warms_and_re_decays(tokens: int, rate: float) -> None:
    schedule = schedule_for(settings(kind="cosine"), 0, TOKENS, None)
    assert schedule.rate(tokens) == pytest.approx(rate, rel=1e-12, abs=1e-18)


def test_cosine_of_a_later_update_counts_from_its_own_start() -> None:
    first = schedule_for(settings(kind="cosine"), 0, TOKENS, None)
    later = schedule_for(settings(kind="cosine"), 7 * TOKENS, TOKENS, None)
    for tokens in (0, 3_000, 10_000, 400_000, TOKENS):
        assert later.rate(7 * TOKENS + tokens) == pytest.approx(first.rate(tokens), rel=1e-9)


@pytest.mark.parametrize("cooldown", ["cosine", "inverse-sqrt"])
@pytest.mark.parametrize(
    ("tokens", "rate"), [(0, 0.0), (10_000, PEAK), (600_000, CONSTANT), (600_001, CONSTANT), (TOKENS, CONSTANT)]
)
def test_infinite_warms_and_cools_down(cooldown: str, tokens: int, rate: float) -> None:
    schedule = schedule_for(settings(cooldown=cooldown), 0, TOKENS, None)
    assert schedule.rate(tokens) == pytest.approx(rate, rel=1e-12, abs=1e-18)


def test_infinite_cosine_cooldown_in_the_middle() -> None:
    schedule = schedule_for(settings(), 0, TOKENS, None)
    assert schedule.rate(305_000) == pytest.approx((PEAK + CONSTANT) / 2, rel=1e-12)


def test_infinite_inverse_sqrt_cooldown_by_the_formula() -> None:
    schedule = schedule_for(settings(cooldown="inverse-sqrt", alpha=10.0), 0, TOKENS, None)
    x = 0.25
    h = (1 / math.sqrt(1 + 10 * x) - 1) / (1 / math.sqrt(11) - 1)
    assert schedule.rate(10_000 + x * 590_000) == pytest.approx(PEAK + (CONSTANT - PEAK) * h, rel=1e-12)
    assert inverse_sqrt(0, 10) == 0


def test_infinite_warms_up_once_in_the_lineage() -> None:
    first = schedule_for(settings(), 0, TOKENS, None)
    second = schedule_for(settings(), TOKENS, TOKENS, first)
    assert second == first
    assert [second.rate(TOKENS + tokens) for tokens in (1, 10_000, TOKENS)] == [pytest.approx(CONSTANT)] * 3


def test_infinite_begins_anew_on_request() -> None:
    first = schedule_for(settings(), 0, TOKENS, None)
    again = schedule_for(settings(restart=True), TOKENS, TOKENS, first)
    assert again.rate(TOKENS) == 0
    assert again.rate(TOKENS + 10_000) == pytest.approx(PEAK)


def test_constant_stays_at_the_peak() -> None:
    schedule = schedule_for(settings(kind="constant"), 0, TOKENS, None)
    assert schedule.rate(5_000) == pytest.approx(PEAK / 2)
    assert schedule.rate(10_000) == schedule.rate(TOKENS) == PEAK


def test_only_what_decays_needs_no_anneal() -> None:
    decayed = {
        kind: schedule_for(settings(kind=kind), 0, TOKENS, None).decayed for kind in ("cosine", "infinite", "constant")
    }
    assert decayed == {"cosine": True, "infinite": False, "constant": False}


@given(
    kind=st.sampled_from(["cosine", "infinite", "constant"]),
    cooldown=st.sampled_from(["cosine", "inverse-sqrt"]),
    warmup=st.floats(0.001, 0.3),
    cool=st.floats(0.31, 1.0),
    alpha=st.floats(0.1, 100),
    position=st.integers(0, 10**12),
    tokens=st.integers(10_000, 10**12),
)
def test_continuous_at_every_boundary_and_within_bounds(
    kind: str, cooldown: str, warmup: float, cool: float, alpha: float, position: int, tokens: int
) -> None:
    made = settings(kind=kind, cooldown=cooldown, warmup_share=warmup, cooldown_share=cool, alpha=alpha)
    schedule = schedule_for(made, position, tokens, None)
    for before, after in zip(schedule.phases, schedule.phases[1:], strict=False):
        assert before.end == after.start
        assert before.rate(before.end) == pytest.approx(after.rate(after.start), rel=1e-9)
    for part in range(21):
        assert 0 <= schedule.rate(position + tokens * part / 20) <= PEAK * (1 + 1e-12)


@given(warmup=st.sampled_from([0.0, 0.01]), part=st.floats(0, 1))
def test_rate_is_a_function_of_tokens_not_of_steps(warmup: float, part: float) -> None:
    schedule = schedule_for(settings(kind="cosine", warmup_share=warmup), 0, TOKENS, None)
    assert schedule.rate(part * TOKENS) == Schedule.from_json(schedule.to_json()).rate(part * TOKENS)


@pytest.mark.parametrize(
    "wrong", [{"cooldown_share": 0.005}, {"constant_rate": 1.0}, {"constant_rate": 1e-6}, {"peak": 0}, {"kind": "step"}]
)
def test_settings_that_make_no_schedule_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)
