"""A branch inside the budget, and one that reads on: what the trunk leaves to it, and what it reads."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rewarm.stages.anneal import AnnealSettings, reading
from rewarm.stages.anneal.branch_data import unread
from rewarm.stages.data.mixture import Mixture, Source


def settings(**changes: object) -> AnnealSettings:
    return AnnealSettings.model_validate(changes)


@given(total=st.integers(0, 10_000), share=st.sampled_from(["0.01", "0.15", "0.3", "0.4", "0.5"]))
def test_a_branch_inside_and_its_trunk_are_the_update(total: int, share: str) -> None:
    chosen = settings(counted="inside", share=float(share))
    trunk = chosen.trunk_steps(total)
    branch = chosen.steps(trunk)
    assert total - 1 <= trunk + branch <= total
    assert abs(branch - Fraction(share) * total) <= 1


def test_a_branch_on_top_leaves_the_trunk_as_it_is() -> None:
    chosen = settings(share=0.15)
    assert (chosen.trunk_steps(200), chosen.steps(200), chosen.inside) == (200, 30, 0)
    chosen = settings(share=0.15, counted="inside")
    assert (chosen.trunk_steps(200), chosen.steps(170)) == (170, 30)


def trunk(num_sequences: int, steps: int) -> Mixture:
    new, old = Source("news", num_sequences, 5), Source("web", 1000, 1, 70)
    return Mixture((new,), (old,), "1/4", 32, 8, steps)


def read(mixture: Mixture, first: int, steps: int) -> list[tuple[int, int]]:
    found = []
    for step in range(first, first + steps):
        found += [(int(number), int(start)) for number, start in zip(*mixture.batch(step), strict=True)]
    return found


def test_what_comes_next_is_what_a_longer_trunk_would_read() -> None:
    before = trunk(1000, 20)
    branch = reading(before, settings(data="next", share=0.3))
    assert (branch.first, branch.steps) == (20, 6)
    assert read(branch.mixture, 20, 6) == read(trunk(1000, 26), 20, 6)
    assert not set(read(before, 0, 20)) & set(read(branch.mixture, 20, 6)), "nothing is read twice"
    assert branch.what == "what the mixture reads next, 100% of its new text not read before"


@pytest.mark.parametrize(("num_sequences", "share"), [(156, 1.0), (138, 0.5), (120, 0.0), (60, 0.0)])
def test_the_part_that_was_not_read_is_counted(num_sequences: int, share: float) -> None:
    """20 steps of 8 with a quarter replayed read 120 new sequences, and the 6 that follow read 36."""
    assert unread(trunk(num_sequences, 26), 20) == pytest.approx(share)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"counted": "inside", "share": 0.6}, "longer than the trunk"),
        ({"counted": "inside", "share": 1, "data": "next"}, "leaves the trunk no step"),
        ({"counted": "inside", "shape": "average"}, "trains no branch"),
        ({"data": "next", "shape": "average"}, "cannot use data next"),
        ({"average_share": 0.5, "shape": "average"}, "trains no branch for average_share"),
    ],
)
def test_impossible_branches_are_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        settings(**changes)
    assert settings(counted="inside", share=0.6, data="next").trunk_steps(10) == 4
