"""Numbers as a person reads them."""

import math

import pytest

from rewarm.pipeline.report import formats


def plain(text: str) -> str:
    return text.replace(formats.NARROW_SPACE, " ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0 k"),
        (999_400, "999 k"),
        (999_600, "1.00 M"),
        (1_234_567, "1.23 M"),
        (300e9, "300 B"),
        (2e12, "2.00 T"),
        (5e15, "5,000 T"),
    ],
)
def test_counts(value: float | None, text: str) -> None:
    assert plain(formats.count(value)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.42, "0.42 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (192, "3 min 12 s"),
        (3599.7, "1 h 00 min"),
        (5 * 3600 + 7 * 60, "5 h 07 min"),
        (76 * 3600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert plain(formats.duration(seconds)) == text


@pytest.mark.parametrize(
    ("value", "text", "direction"),
    [
        (0.0213, "+0.021", "worse"),
        (-0.31, "−0.310", "better"),
        (0.0004, "±0.000", "same"),
        (-0.0004, "±0.000", "same"),
        (math.nan, "NaN", "worse"),
        (math.inf, "∞", "worse"),
        (None, "–", ""),
    ],
)
def test_a_change_reads_without_colour(value: float | None, text: str, direction: str) -> None:
    assert formats.change(value) == text
    assert formats.direction(value) == direction


def test_settings_read_as_in_a_recipe() -> None:
    values = [2e-3, 1.2e-5, 24_576, True, None, "cosine"]
    assert [formats.setting(value) for value in values] == ["0.002", "1.2e−05", "24,576", "yes", "none", "cosine"]


def test_large_perplexities_lose_decimals() -> None:
    assert [formats.score(value) for value in (0.3123, 4321.55, None)] == ["0.312", "4,321.6", "–"]


def test_small_probabilities_are_bounded() -> None:
    assert [plain(formats.probability(value)) for value in (0.034, 0.0004, 0.0, None)] == [
        "0.034",
        "< 0.001",
        "< 0.001",
        "–",
    ]
