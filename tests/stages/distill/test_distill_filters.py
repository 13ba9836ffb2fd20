"""What is kept of a model's text: each document by itself, and all of them together against a plain model."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.distill.filters import (
    DUPLICATE,
    KEEP,
    KNOWN,
    REFUSE,
    SURPLUS,
    UNLIKELY,
    Drafts,
    Reason,
    decide,
    judge,
    readable,
    repetition,
)
from rewarm.stages.distill.settings import DistillSettings

GOOD = list(range(40))


@pytest.mark.parametrize(
    ("tokens", "size", "share"),
    [
        ([], 3, 0.0),
        ([1, 1], 3, 0.0),
        ([1, 2, 3, 4, 5], 2, 0.0),
        ([1, 2, 3, 1, 2, 3], 3, 0.5),
        ([1, 2, 3, 9, 1, 2, 3], 3, 3 / 7),
        ([7] * 10, 1, 0.9),
        ([7] * 10, 4, 0.9),
        ([1, 2, 1, 2, 1, 2], 2, 4 / 6),
    ],
)
def test_repetition_is_what_stood_before(tokens: list[int], size: int, share: float) -> None:
    assert repetition(tokens, size) == pytest.approx(share)


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 5))
def test_repetition_is_a_share_and_grows_with_a_copy(tokens: list[int], size: int) -> None:
    once, twice = repetition(tokens, size), repetition([*tokens, *tokens], size)
    assert 0 <= once <= 1
    if len(tokens) >= size:
        assert twice >= max(once, 0.5) - 1e-9


@pytest.mark.parametrize(
    ("text", "tokens", "written", "perplexity", "settings", "reason"),
    [
        ("a text", GOOD, 40, 20.0, {}, None),
        ("a text", GOOD, 31, 20.0, {}, Reason.TOO_SHORT),
        (" \n ", GOOD, 40, 20.0, {}, Reason.TOO_SHORT),
        ("a \ufffd text", GOOD, 40, 20.0, {}, Reason.UNDECODABLE),
        ("a text", [1, 2] * 20, 40, 20.0, {}, Reason.REPETITIVE),
        ("a text", [1, 2] * 20, 40, 20.0, {"max_repetition": 1.0}, None),
        ("a text", GOOD, 40, 1.5, {"min_perplexity": 2}, Reason.TOO_LIKELY),
        ("a text", GOOD, 40, 21.0, {"max_perplexity": 20}, Reason.TOO_UNLIKELY),
        ("a text", GOOD, 40, 19.0, {"max_perplexity": 20, "min_perplexity": 2}, None),
    ],
)
def test_a_draft_is_judged_by_itself(
    text: str, tokens: list[int], written: int, perplexity: float, settings: dict, reason: Reason | None
) -> None:
    found = judge(text, tokens, written, math.log(perplexity), DistillSettings.model_validate(settings))
    assert (found and found[0]) == reason
    assert found is None or found[1]


def test_only_a_cut_takes_half_a_character_away() -> None:
    assert readable("gr\ufffd", ended=False) == "gr"
    assert readable("gr\ufffd", ended=True) == "gr\ufffd"


def test_limits_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match=r"30\.0 is not below max_perplexity 20\.0"):
        DistillSettings(min_perplexity=30, max_perplexity=20)


ROWS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 9), st.floats(0, 9), st.booleans()), min_size=1, max_size=40
)


def drafts(rows: list[tuple[int, int, float, bool]]) -> Drafts:
    names, tokens, nats, refused = zip(*rows, strict=True)
    folded = np.array([bytes([65 + name]) * 16 for name in names], "S16")
    return Drafts(
        np.array([bytes([65 + name] * 15 + [97 + row]) for row, name in enumerate(names)], "S16"),  # all differ
        folded,
        np.array(tokens),
        np.array(nats),
        np.zeros(len(rows), bool),
        np.array(tokens),
        np.array(refused),
    )


def plainly(rows: list[tuple[int, int, float, bool]], known: set[int], drop: float, wanted: int) -> list[int] | None:
    """The same rules, one draft at a time."""
    good = sorted(nats for _, _, nats, refused in rows if not refused)
    if not good:
        return None
    limit = good[max(math.ceil(round((1 - drop) * len(good), 9)) - 1, 0)]
    fates, seen, tokens = [], set(), 0
    for name, size, nats, refused in rows:
        if refused:
            fates.append(REFUSE)
        elif nats > limit:
            fates.append(UNLIKELY)
        elif name in seen:
            fates.append(DUPLICATE)
        elif name in known:
            fates.append(KNOWN)
        else:
            fates.append(KEEP if tokens < wanted else SURPLUS)
            tokens += size
        if fates[-1] in (KNOWN, KEEP, SURPLUS):
            seen.add(name)
    return fates if tokens >= wanted else None


@given(ROWS, st.sets(st.integers(0, 12), max_size=4), st.sampled_from([0.0, 0.1, 0.25, 0.5]), st.integers(1, 60))
def test_the_decision_is_that_of_plain_rules(
    rows: list[tuple[int, int, float, bool]], known: set[int], drop: float, wanted: int
) -> None:
    index = np.sort(np.array([bytes([65 + name]) * 16 for name in known], "S16"))
    found = decide(drafts(rows), [index], drop, wanted)
    expected = plainly(rows, known, drop, wanted)
    assert (None if found is None else found.fates.tolist()) == expected


def test_drafts_add_up_in_their_order() -> None:
    first, second = drafts([(1, 2, 3.0, False)]), drafts([(4, 5, 6.0, True)])
    together = Drafts.none() + first + second
    assert len(together) == 2
    assert together.tokens.tolist() == [2, 5]
    assert together.refused.tolist() == [False, True]
