"""The stability gap: its depth, where it lies, and when it is made good."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.pipeline.record.gap import Gap, gap, gaps


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([3.0, 3.5, 3.2, 2.9, 2.8], Gap(0.5, 10, 30, 3.0, 2.8)),
        ([3.0, 3.5, 3.75, 3.0, 3.1], Gap(0.75, 20, 30, 3.0, 3.1)),  # at the start's loss it is made good
        ([3.0, 2.9, 3.5, 2.5, 2.6], Gap(0.5, 20, 30, 3.0, 2.6)),  # it may fall before it rises
        ([3.0, 3.5, 3.4, 3.3], Gap(0.5, 10, None, 3.0, 3.3)),
        ([3.0, 3.25, 3.25, 3.0], Gap(0.25, 10, 30, 3.0, 3.0)),  # of equal rises the first
        ([3.0, 2.9, 2.8], Gap(0.0, 0, 0, 3.0, 2.8)),
        ([3.0, 3.0], Gap(0.0, 0, 0, 3.0, 3.0)),
        ([3.0], Gap(0.0, 0, 0, 3.0, 3.0)),
    ],
)
def test_the_gap_of_a_line(losses: list[float], expected: Gap) -> None:
    assert gap([(10 * place, loss) for place, loss in enumerate(losses)]) == expected


@given(st.lists(st.floats(0, 20), min_size=1, max_size=30))
def test_what_a_gap_says_holds_of_its_line(losses: list[float]) -> None:
    line = [(7 * place, loss) for place, loss in enumerate(losses)]
    found = gap(line)
    at = dict(line)
    assert found.depth >= 0
    assert all(loss <= at[found.at_tokens] for loss in losses)
    assert at[found.at_tokens] - found.start == found.depth
    if found.recovered_tokens is None:
        assert all(loss > found.start for tokens, loss in line if tokens >= found.at_tokens)
        assert found.depth > 0
    else:
        assert found.recovered_tokens >= found.at_tokens
        assert at[found.recovered_tokens] <= found.start
        between = [loss for tokens, loss in line if found.at_tokens <= tokens < found.recovered_tokens]
        assert all(loss > found.start for loss in between)


def look(step: int, **losses: float | None) -> dict[str, Any]:
    return {"step": step, "tokens": 1000 + 10 * step, "losses": losses}


def test_every_dataset_has_its_own_and_tokens_count_from_the_updates_start() -> None:
    looks = [look(0, old=3.0, new=5.0), look(1, old=3.5, new=4.5), look(4, old=2.75, new=4.0)]
    assert gaps(looks) == {"old": Gap(0.5, 10, 40, 3.0, 2.75), "new": Gap(0.0, 0, 0, 5.0, 4.0)}


def test_a_loss_that_is_no_number_is_left_out() -> None:
    looks = [look(0, old=3.0, lost=None), look(1, old=None, lost=2.0), look(2, old=3.25, lost=1.0)]
    found = gaps(looks)
    assert set(found) == {"old"}
    assert (found["old"].at_tokens, found["old"].recovered_tokens) == (20, None)
    assert gaps([]) == {}
