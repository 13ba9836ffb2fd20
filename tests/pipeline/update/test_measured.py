"""The datasets that an update measures: all, or a sample that its id decides."""

from collections import Counter

import pytest

from rewarm.pipeline.update.measured import measured_datasets, measured_note
from rewarm.stages.evaluate import EvaluateSettings

EARLIER = [f"crawl-{number}" for number in range(40)]
BUDGET = EvaluateSettings(earlier_datasets=8, all_datasets_every=10)


def update(number: int) -> str:
    return f"{number:04d}-news"


def test_all_are_measured_without_a_budget() -> None:
    assert measured_datasets(EARLIER, EvaluateSettings(earlier_datasets=None), update(7)) == EARLIER
    assert measured_note(EARLIER, EvaluateSettings(earlier_datasets=None), update(7)) is None
    assert measured_datasets(EARLIER[:8], BUDGET, update(7)) == EARLIER[:8]


def test_a_sample_is_of_the_budget_in_order_and_repeats() -> None:
    found = measured_datasets(EARLIER, BUDGET, update(7))
    assert len(found) == 8 and found == sorted(found, key=EARLIER.index)
    assert found == measured_datasets(EARLIER, BUDGET, update(7))
    assert found != measured_datasets(EARLIER, BUDGET, update(8))
    assert measured_note(EARLIER, BUDGET, update(7)) == (
        "measured on 8 of 40 earlier datasets, drawn by the update's id (evaluate.earlier_datasets=8); forgetting on "
        "the others shows at update 0010 at the latest, which measures all (evaluate.all_datasets_every=10)"
    )


@pytest.mark.parametrize("number", [10, 20, 10_000])
def test_all_are_measured_at_every_tenth(number: int) -> None:
    assert measured_datasets(EARLIER, BUDGET, update(number)) == EARLIER
    assert measured_note(EARLIER, BUDGET, update(number)) is None


def test_every_dataset_is_drawn_as_often_as_any_other() -> None:
    drawn = Counter(
        name for number in range(1, 2001) if number % 10 for name in measured_datasets(EARLIER, BUDGET, update(number))
    )
    expected = 1800 * 8 / 40
    deviation = (expected * (1 - 8 / 40)) ** 0.5
    assert all(abs(drawn[name] - expected) < 4.5 * deviation for name in EARLIER), drawn


def test_a_new_dataset_changes_no_draw_among_the_others() -> None:
    before, after = (set(measured_datasets(names, BUDGET, update(7))) for names in (EARLIER, [*EARLIER, "more"]))
    assert len(before - after) <= 1
