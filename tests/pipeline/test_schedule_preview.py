"""``rewarm schedule``: the phases and points it shows are those that training gets."""

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rewarm.pipeline.recipe.recipe import Recipe, load_recipe, presets
from rewarm.pipeline.schedule_preview import (
    ARRIVALS,
    ASSUMED_STEPS,
    BLANK,
    Curve,
    Preview,
    below,
    chart,
    dots,
    page,
    parse_tokens,
    phases_table,
    preview_schedule,
    terminal_chart,
)
from rewarm.stages.core.errors import UsageError
from rewarm.stages.train import ScheduleSettings, schedule_for

KINDS = tuple(
    kind for kind in get_args(ScheduleSettings.model_fields["kind"].annotation) if kind != "auto"
)  # the plan resolves it
STEP = 16 * 256  # tokens of a step of the recipe tiny


def tiny(*sets: str) -> Recipe:
    return load_recipe("tiny", sets)


def shown(*sets: str, arrivals: int | None = None, tokens: str | None = None, imported: bool = False) -> Preview:
    return preview_schedule("tiny", tiny(*sets), arrivals, tokens, imported)


@given(
    st.sampled_from(KINDS),
    st.lists(st.integers(STEP, 10**9), min_size=2, max_size=5),
    st.sampled_from([0.0, 0.15, 1.0]),
    st.booleans(),
)
def test_phases_and_points_are_those_of_the_training(
    kind: str, counts: list[int], share: float, imported: bool
) -> None:
    recipe = tiny(f"schedule.kind={kind}", f"anneal.share={share}")
    arrivals = len(counts) - (0 if imported else 1)
    found = preview_schedule("tiny", recipe, arrivals, ",".join(map(str, counts)), imported)
    before, position = None, 0
    assert len(found.legs) == len(counts)
    for leg, count in zip(found.legs, counts, strict=True):
        tokens = count // STEP * STEP  # whole steps
        before = schedule_for(recipe.schedule, position, tokens, before, imported)
        assert (leg.start, leg.end, leg.steps) == (position, position + tokens, tokens // STEP)
        pieces = [piece for piece in leg.pieces() if not piece.branch]
        assert (pieces[0].start, pieces[-1].end) == (leg.start, leg.end)
        assert all(one.end == other.start for one, other in itertools.pairwise(pieces))
        assert all(one.final == pytest.approx(other.initial) for one, other in itertools.pairwise(pieces))
        for place, rate in leg.points(branch=False)[1:]:
            assert rate == pytest.approx(before.rate(place), rel=1e-6, abs=1e-12)
        position += tokens
        branch = leg.points(branch=True)
        assert bool(branch) == (not before.decayed and round(share * leg.steps) > 0)
        if branch:
            assert branch[0] == (position, pytest.approx(before.rate(position)))
            assert branch[-1] == (
                pytest.approx(position + round(share * leg.steps) * STEP),
                pytest.approx(recipe.schedule.minimum),
            )


def test_a_branch_inside_the_budget_shortens_the_trunk() -> None:
    preview = shown("anneal.counted=inside", "anneal.share=0.25", "anneal.data=next", arrivals=1, tokens="409600")
    assert [(leg.start, leg.steps) for leg in preview.legs] == [(0, 75), (75 * STEP, 75)]
    branch = preview.legs[1].branch
    assert branch is not None
    assert branch.phases[-1].end - branch.phases[0].start == 25 * STEP


def test_a_warm_in_is_shown_as_it_is_trained() -> None:
    preview = shown("schedule.warm_in_share=0.1", arrivals=2, tokens="409600")
    first, *updates = preview.legs
    assert "warm-in" not in [piece.phase for piece in first.pieces()]
    for leg in updates:
        assert [piece.phase for piece in leg.pieces() if not piece.branch] == ["warm-in", "constant"]
        points = dict(leg.points(branch=False))
        assert (points[leg.start], points[leg.end]) == (0.0, leg.schedule.rate(leg.end))
        assert leg.schedule.rate(leg.start + 5 * STEP) == pytest.approx(points[leg.end] / 2)


def test_tokens_come_from_the_budget_the_list_or_an_assumption() -> None:
    steps = [leg.steps for leg in shown().legs]
    assert steps == [1_200_000 // STEP, *[600_000 // STEP] * ARRIVALS]
    assert not shown().assumed
    assert [leg.steps for leg in shown(tokens="10 k,1e6,8_192").legs] == [2, 244, 2]
    assert [leg.steps for leg in shown(tokens="1M,8192", arrivals=3).legs] == [244, 2, 2, 2]
    assert [leg.steps for leg in shown("budget.base_tokens=null").legs] == [600_000 // STEP] * 4
    assumed = shown("budget.base_tokens=null", "budget.update_tokens=null")
    assert assumed.assumed
    assert {leg.steps for leg in assumed.legs} == {ASSUMED_STEPS}


def test_an_imported_base_is_not_trained() -> None:
    found = shown("schedule.kind=cosine", "schedule.peak_multiplier=0.5", arrivals=2, imported=True)
    assert [leg.name for leg in found.legs] == ["update 1", "update 2"]
    assert [leg.steps for leg in found.legs] == [600_000 // STEP] * 2
    assert found.legs[0].pieces()[0].final == pytest.approx(1e-3)
    assert shown("model.path=/models/one", arrivals=1).imported


@pytest.mark.parametrize(
    "text", ["", "x", "1.2X", "-5", "1e6,,2", "0", "1..2", "1_", "nan"], ids=lambda text: text or "empty"
)
def test_tokens_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="number of tokens"):
        parse_tokens(text)


def test_tokens_that_make_no_lineage_are_refused() -> None:
    with pytest.raises(UsageError, match=r"less than one step .* 4,096"):
        shown(tokens="1M,4095")
    with pytest.raises(UsageError, match="3 numbers for 2 trainings"):
        shown(tokens="1M,1M,1M", arrivals=1)
    with pytest.raises(UsageError, match="without an update"):
        shown(arrivals=0, imported=True)


def test_every_preset_has_a_schedule_to_show() -> None:
    for name in presets():
        found = preview_schedule(name, load_recipe(name), imported=name.startswith("open-weights"))
        assert len(found.legs) == ARRIVALS + (not found.imported)
        assert terminal_chart(found, 80).plain.count("update") == ARRIVALS
        assert phases_table(found).row_count == sum(len(leg.pieces()) for leg in found.legs)


def test_reuse_starts_every_arrival_at_the_minimum_and_ends_at_a_hundredth() -> None:
    found = preview_schedule("reuse", load_recipe("open-weights-reuse"), imported=True)
    rates = [(piece.phase, piece.initial, piece.final) for leg in found.legs for piece in leg.pieces()]
    assert rates == [("decay", pytest.approx(1e-5), pytest.approx(1e-7))] * ARRIVALS


def test_the_page_needs_no_network_and_names_what_it_shows() -> None:
    html = page(shown("schedule.kind=autoregressive"))
    assert "<script src" not in html
    assert "tiny: autoregressive schedule, a base and 3 updates" in html


def test_the_chart_is_as_wide_as_asked_and_highest_at_the_peak() -> None:
    console = Console(width=80)
    drawn = terminal_chart(shown("schedule.kind=linear"), console.width)
    rows = drawn.plain.splitlines()
    assert max(map(len, rows)) <= 80
    assert rows[0].strip().startswith("0.002")
    assert all(any(ord(character) > BLANK for character in row) for row in rows[:14])


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), min_size=1, max_size=8))
def test_a_line_has_no_gaps(points: list[tuple[float, float]]) -> None:
    found = dots(points)
    seen, left = {next(iter(found))}, [next(iter(found))]
    while left:
        column, row = left.pop()
        near = {(column + x, row + y) for x in (-1, 0, 1) for y in (-1, 0, 1)} & found - seen
        seen |= near
        left += near
    assert seen == found


def test_a_flat_line_at_zero_is_drawn_at_the_bottom() -> None:
    rows = chart([Curve([(0, 0), (10, 0)], "red")], 10, 4, [(0.0, "start")], ".1f").plain.splitlines()
    assert [any(ord(character) > BLANK for character in row) for row in rows[:4]] == [False, False, False, True]


def test_a_label_without_room_is_never_cut_within_a_number() -> None:
    labels = ["base, 1.25 M", "update 1, 598 k", "update 2, 598 k"]
    assert below([0, 13, 29], labels, 50) == "base, 1.25 M update 1, 598 k update 2, 598 k"
    assert below([0, 8, 17], labels, 26) == "base    update 1 update 2"
    assert below([0, 3, 6], labels, 30) == "      update 2, 598 k"
