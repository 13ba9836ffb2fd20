"""The shapes of the way down, and the settings that make no anneal."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rewarm.stages.anneal import AnnealSettings, anneal_from, snapshot_steps
from rewarm.stages.anneal.run import averaged_states
from rewarm.stages.train import Schedule, ScheduleSettings, schedule_for

PEAK, MINIMUM, CONSTANT = 3e-4, 3e-5, 1.65e-4  # Ibrahim et al. 2024, section 7
TOKENS, LENGTH = 1_000_000, 150_000
TRUNK = schedule_for(ScheduleSettings(peak=PEAK), 0, TOKENS, None)


def settings(**changes: object) -> AnnealSettings:
    return AnnealSettings.model_validate(changes)


@pytest.mark.parametrize(
    ("shape", "final_ratio", "quarter", "half", "end"),
    [
        ("exponential", None, CONSTANT**0.75 * MINIMUM**0.25, math.sqrt(CONSTANT * MINIMUM), MINIMUM),
        ("exponential", 0.01, CONSTANT * 0.01**0.25, CONSTANT * 0.1, CONSTANT * 0.01),
        ("linear", None, CONSTANT - (CONSTANT - MINIMUM) / 4, (CONSTANT + MINIMUM) / 2, MINIMUM),
        ("linear", 0.0, CONSTANT * 0.75, CONSTANT / 2, 0.0),
        ("1-sqrt", None, (CONSTANT + MINIMUM) / 2, CONSTANT - (CONSTANT - MINIMUM) * math.sqrt(0.5), MINIMUM),
        ("1-sqrt", 0.0, CONSTANT / 2, CONSTANT * (1 - math.sqrt(0.5)), 0.0),
    ],
)
def test_shapes_are_the_papers(shape: str, final_ratio: float | None, quarter: float, half: float, end: float) -> None:
    made = anneal_from(TRUNK, TOKENS, LENGTH, MINIMUM, settings(shape=shape, final_ratio=final_ratio))
    assert made.rate(TOKENS) == pytest.approx(CONSTANT, rel=1e-12)
    assert made.rate(TOKENS + LENGTH / 4) == pytest.approx(quarter, rel=1e-12)
    assert made.rate(TOKENS + LENGTH / 2) == pytest.approx(half, rel=1e-12)
    assert made.rate(TOKENS + LENGTH) == pytest.approx(end, rel=1e-15, abs=0)


@given(
    shape=st.sampled_from(["exponential", "linear", "1-sqrt"]),
    final_ratio=st.none() | st.floats(1e-6, 1),
    position=st.integers(1, 10**13),
    tokens=st.integers(1, 10**12),
    minimum=st.floats(1e-9, 1e-3),
)
def test_begins_at_the_trunks_rate_ends_exactly_and_never_rises(
    shape: str, final_ratio: float | None, position: int, tokens: int, minimum: float
) -> None:
    chosen = settings(shape=shape, final_ratio=final_ratio)
    made = anneal_from(TRUNK, position, tokens, minimum, chosen)
    initial = TRUNK.rate(position)
    assert made.rate(position) == pytest.approx(initial, rel=1e-12)
    assert made.rate(position + tokens) == made.rate(position + 2 * tokens) == chosen.final_rate(initial, minimum)
    rates = [made.rate(position + tokens * part / 20) for part in range(21)]
    assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(rates))
    assert Schedule.from_json(made.to_json()) == made


def test_a_minimum_above_the_trunks_rate_does_not_warm_up() -> None:
    made = anneal_from(TRUNK, TOKENS, LENGTH, 2 * CONSTANT, settings())
    assert made.rate(TOKENS + LENGTH) == pytest.approx(CONSTANT)


def test_an_average_has_no_schedule() -> None:
    with pytest.raises(ValueError, match="average trains nothing"):
        anneal_from(TRUNK, TOKENS, LENGTH, MINIMUM, settings(shape="average"))


@pytest.mark.parametrize(
    ("share", "last", "steps", "expected"),
    [
        (0.2, 4, 100, (85, 90, 95, 100)),
        (0.1, 3, 100, (94, 97, 100)),  # 10 / 3 steps apart
        (0.04, 10, 100, (97, 98, 99, 100)),  # no more than there are
        (1.0, 2, 7, (4, 7)),
        (0.01, 10, 20, ()),
    ],
)
def test_snapshots_are_spread_over_the_tail(share: float, last: int, steps: int, expected: tuple[int, ...]) -> None:
    chosen = settings(shape="average", share=share, average_last=last)
    assert snapshot_steps(chosen, TRUNK, steps) == expected


@pytest.mark.parametrize(
    ("share", "expected", "said"),
    [
        (0.0, (), ""),
        (0.2, (35, 38, 40), ""),
        (0.01, (), ", and anneal.average_share 0.01 of 40 steps is none, so that no states are averaged"),
    ],
)
def test_a_share_of_the_branch_that_rounds_to_no_state_is_said(
    share: float, expected: tuple[int, ...], said: str
) -> None:
    assert averaged_states(settings(average_share=share, average_last=3), 40) == (expected, said)


def test_only_an_average_pays_for_snapshots() -> None:
    decayed = schedule_for(ScheduleSettings(kind="cosine"), 0, TOKENS, None)
    assert snapshot_steps(settings(shape="linear"), TRUNK, 100) == ()
    assert snapshot_steps(settings(shape="average"), decayed, 100) == ()


@given(share=st.floats(0.001, 1), last=st.integers(2, 40), steps=st.integers(1, 2_000))
def test_snapshots_are_distinct_steps_of_the_share_and_end_with_the_trunk(share: float, last: int, steps: int) -> None:
    chosen = settings(shape="average", share=share, average_last=last)
    found = snapshot_steps(chosen, TRUNK, steps)
    assert len(found) == min(last, chosen.steps(steps))
    assert list(found) == sorted(set(found))
    assert all(steps - chosen.steps(steps) < step <= steps for step in found)
    assert not found or found[-1] == steps


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"shape": "average", "data": "best"}, "cannot use data best"),
        ({"shape": "average", "data": "replay"}, "cannot use data replay"),
        ({"shape": "average", "final_ratio": 0.1}, "no learning rate for final_ratio 0.1"),
        ({"shape": "average", "share": 0}, "share is 0"),
        ({"shape": "exponential", "final_ratio": 0}, "never reaches"),
        ({"shape": "cosine"}, "exponential"),
        ({"replay_share": 1}, "less than or equal to 0.999999"),
        ({"replay_share": 0.9999999}, "less than or equal to 0.999999"),  # would become 1 in the mixture
        ({"replay_share": 1e-7}, "greater than or equal to 0.000001"),
        ({"average_last": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_make_no_anneal_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        settings(**wrong)
