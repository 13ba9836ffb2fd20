"""When training looks at the validation losses, and what the last looks make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.train import TrainSettings
from rewarm.stages.train.looks import final_losses, is_final, look_note, looks_at, sequences_per_look


def settings(every: int, final_steps: int = 100, final_every: int = 10, first: bool = False) -> TrainSettings:
    return TrainSettings(validate_every=every, validate_first=first, final_steps=final_steps, final_every=final_every)


@pytest.mark.parametrize(
    ("steps", "given", "looks"),
    [
        (1000, settings(0, 0), [0, 1000]),
        (1000, settings(400, 0), [0, 400, 800, 1000]),
        (1000, settings(0), [0, 910, 920, 930, 940, 950, 960, 970, 980, 990, 1000]),
        (1003, settings(500, 20), [0, 500, 993, 1000, 1003]),
        (40, settings(0, 100, 4), [0, 32, 36, 40]),  # ten steps: a quarter of the run
        (40, settings(0, 100, 100), [0, 40]),
        (3, settings(0), [0, 3]),
        (1, settings(1), [0, 1]),
    ],
)
def test_looks_are_at_both_ends_at_their_interval_and_in_the_window(
    steps: int, given: TrainSettings, looks: list[int]
) -> None:
    assert [step for step in range(steps + 1) if looks_at(step, steps, given)] == looks


@pytest.mark.parametrize(
    ("every", "first", "steps"),
    [
        (10, True, [0, 1, 2, 4, 8, 10, 20, 30]),
        (8, True, [0, 1, 2, 4, 8, 16, 24, 32]),
        (20, False, [0, 20]),
        (1, True, list(range(40))),
        (0, True, [0]),
        (100, True, [0, 1, 2, 4, 8, 16, 32]),
    ],
)
def test_looks_are_dense_at_first_and_even_after(every: int, first: bool, steps: list[int]) -> None:
    given_settings = settings(every, 0, first=first)
    assert [step for step in range(40) if looks_at(step, 1000, given_settings)] == [step for step in steps if step < 40]


@given(st.integers(1, 600), st.integers(0, 200), st.integers(1, 40))
def test_the_window_ends_with_the_run_and_every_step_of_it_is_looked_at(steps: int, length: int, every: int) -> None:
    given_settings = settings(0, length, every)
    window = [step for step in range(steps + 1) if is_final(step, steps, given_settings)]
    assert window[-1:] == ([steps] if length else [])
    assert all(looks_at(step, steps, given_settings) for step in window)
    assert len(window) <= -(-length // every)
    assert all(step > steps - max(1, steps // 4) for step in window)


def test_the_final_loss_is_the_mean_of_the_windows_looks_only() -> None:
    rows = [{"step": step, "losses": {"a": float(step), "b": 1.0}} for step in (0, 500, 970, 985, 980, 990, 1000)]
    assert final_losses(rows, 1000, settings(0, 30)) == {"a": 990.0, "b": 1.0}  # 985 is no look of the window
    assert final_losses(rows, 1000, settings(0, 0)) == {}
    assert final_losses([], 1000, settings(0)) == {}


@pytest.mark.parametrize(
    ("steps", "datasets", "read"),
    [
        (100_000, 1, 48),
        (146, 3, 48),  # the demo's second update
        (50, 2, 40),
        (50, 3, 26),
        (50, 33, 4),
        (1, 1, 7),
        (1, 200, 4),
        (50, 0, 48),
    ],
)
def test_looks_stay_inside_their_share_of_the_compute(steps: int, datasets: int, read: int) -> None:
    given_settings = TrainSettings(
        global_batch=16, validate_every=50, validation_sequences=48, final_steps=50, validation_compute=0.3
    )
    assert sequences_per_look(steps, datasets, given_settings) == read


@given(st.integers(1, 3000), st.integers(1, 300), st.floats(0.01, 2))
def test_what_looks_read_never_costs_more_than_asked_or_the_fewest(steps: int, datasets: int, share: float) -> None:
    given_settings = TrainSettings(global_batch=32, validation_compute=share)
    read = sequences_per_look(steps, datasets, given_settings)
    looks = sum(looks_at(step, steps, given_settings) for step in range(steps + 1))
    assert 4 <= read <= given_settings.validation_sequences
    assert read == 4 or read * looks * datasets / 3 <= share * steps * 32 * (1 + 1e-9)


def test_a_note_says_what_is_read() -> None:
    assert look_note(26, 3, TrainSettings(validation_sequences=48)) == (
        "validations during training read 26 of 48 sequences of each of 3 datasets (train.validation_compute=0.3); the "
        "evaluation reads every split whole"
    )
