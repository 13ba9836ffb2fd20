"""What is cut of a text: passages with their surroundings, counted in words, whatever script they are in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.stages.ingest.decontaminate.grams import word_spans, words_of
from rewarm.stages.ingest.decontaminate.passages import Cut, Runs, cut_text, cuts_of, find_passages, plan_cuts
from rewarm.stages.ingest.settings import DecontaminateSettings

SETTINGS = DecontaminateSettings()
ALPHABET = "aßİé e\u0301 ﬁ我们。ｶﾞ \u1112\u1161\u11ab กา\u0e33 \u09c7\u09be ½ Ⅷ.\n'-"


def planned(
    positions: list[int], num_words: int, common: list[int] | None = None, length: int = 13, **changes: int
) -> list[Cut] | None:
    """The cuts for runs of ``length`` words at these positions, those of ``common`` boilerplate."""
    places = np.array(sorted(positions + (common or [])), np.int64)
    boilerplate = np.isin(places, np.array(common or [], np.int64))
    return plan_cuts(runs_of([places], [~boilerplate], [num_words], length=length), SETTINGS.model_copy(update=changes))


def runs_of(
    places: list[np.ndarray], own: list[np.ndarray], words: list[int], needed: int = 13, length: int = 13
) -> Runs:
    """Runs of one length in some texts; what is not ``own`` is boilerplate."""
    kept = np.concatenate(own)
    return Runs(
        text=np.repeat(np.arange(len(places)), [len(one) for one in places]),
        position=np.concatenate(places).astype(np.int64),
        length=np.full(len(kept), length, np.int64),
        needed=np.where(kept, needed, 0),
        rare=kept,
        words=np.array(words, np.int64),
    )


@pytest.mark.parametrize(
    ("positions", "num_words", "expected"),
    [
        ([], 500, []),
        ([200], 500, [Cut(187, 200, 213, 226)]),  # a run of 13 goes with 13 words on each side
        (list(range(200, 240)), 500, [Cut(166, 200, 252, 286)]),  # a passage of 52 with 34
        ([200, 230], 500, [Cut(187, 200, 243, 256)]),  # surroundings that meet are one cut
        ([200, 300], 500, [Cut(187, 200, 213, 226), Cut(287, 300, 313, 326)]),
        ([200, 259], 500, [Cut(187, 200, 272, 285)]),  # 33 words between the two are too few to keep
        ([20], 500, [Cut(0, 20, 33, 46)]),  # and so are 7 before
        ([460], 500, [Cut(447, 460, 473, 500)]),
        ([20], 60, None),
        (list(range(100, 1200, 100)), 2000, None),  # eleven cuts
        (
            list(range(100, 1100, 100)),
            2000,
            [Cut(start - 13, start, start + 13, start + 26) for start in range(100, 1100, 100)],
        ),
    ],
)
def test_plans(positions: list[int], num_words: int, expected: list[Cut] | None) -> None:
    assert planned(positions, num_words) == expected


@pytest.mark.parametrize(
    ("common", "positions", "expected"),
    [
        (range(100, 150), [150], []),  # boilerplate to word 162, and one word more
        (range(100, 150), range(150, 161), []),  # eleven words more
        (range(100, 150), range(150, 163), [Cut(125, 150, 175, 200)]),  # thirteen words of its own
        (range(100, 150), [200], [Cut(187, 200, 213, 226)]),
        ([105], range(98, 122), [Cut(64, 98, 134, 168)]),  # a saying inside of a copied passage
    ],
)
def test_words_of_boilerplate_do_not_count(common: range, positions: range, expected: list[Cut]) -> None:
    assert planned([place for place in positions if place not in common], 500, list(common)) == expected


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 387), st.booleans()), min_size=1, max_size=30, unique_by=lambda run: run[0]),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([0, 3, 34]),
)
def test_many_texts_are_planned_as_each_alone(texts: list[list[tuple[int, bool]]], surroundings: int) -> None:
    chosen = SETTINGS.model_copy(update={"surroundings": surroundings, "max_cuts": 3})
    places = [np.array([place for place, _ in sorted(one)]) for one in texts]
    own = [np.array([mine for _, mine in sorted(one)], bool) for one in texts]
    runs = runs_of(places, own, [400] * len(texts))
    together = cuts_of(find_passages(runs), runs.words, chosen)
    taken = 0
    for number, (place, mine) in enumerate(zip(places, own, strict=True)):
        alone = plan_cuts(runs_of([place], [mine], [400]), chosen)
        assert together.whole[number] == (alone is None)
        for cut in alone or []:
            assert 0 <= cut.start <= cut.first < cut.last <= cut.stop <= 400
        taken += 400 if alone is None else sum(cut.stop - cut.start for cut in alone)
    assert together.num_words(runs.words) == taken


def test_a_passage_needs_its_words_and_something_rare() -> None:
    places, own = [np.arange(100, 110)], [np.ones(10, bool)]  # 22 words
    assert plan_cuts(runs_of(places, own, [500], needed=23), SETTINGS) == []
    assert plan_cuts(runs_of(places, own, [500], needed=22), SETTINGS) == [Cut(78, 100, 122, 144)]
    runs = runs_of([np.arange(100, 120)], [np.ones(20, bool)], [500], needed=30)
    for rare, cut in ((0, 0), (1, 0), (6, 0), (7, 1), (20, 1)):  # runs; the first words of so many are in no other
        runs.rare[:] = np.arange(20) < rare
        assert len(plan_cuts(runs, SETTINGS) or []) == cut, rare


def test_settings_decide() -> None:
    assert planned([200], 500, surroundings=0) == [Cut(200, 200, 213, 213)]
    assert planned([20], 60, min_piece=1) == [Cut(7, 20, 33, 46)]
    assert planned([100, 200], 500, max_cuts=1) is None


@settings(deadline=None, max_examples=300)
@given(st.text(ALPHABET, max_size=40))
def test_every_word_is_found_at_its_place(text: str) -> None:
    words = words_of(text)
    starts, ends = word_spans(text)
    assert len(words) == len(starts) == len(ends)
    assert starts == sorted(starts)
    for word, start, end in zip(words, starts, ends, strict=True):
        assert 0 <= start < end <= len(text)
        assert word in " ".join(words_of(text[start:end]))


def test_places_in_scripts_that_folding_changes() -> None:
    text = "Die STRASSE ﬁnal: cafe\u0301, 我们。한국"
    starts, ends = word_spans(text)
    assert [text[start:end] for start, end in zip(starts, ends, strict=True)] == [
        "Die",
        "STRASSE",
        "ﬁnal",
        "cafe\u0301",
        "我",
        "们",
        "한국",
    ]


@settings(deadline=None)
@given(st.integers(70, 120), st.integers(13, 60), st.sampled_from(["the cat  ", "Слово, ", "我", "कि ताब "]))
def test_what_is_planted_is_gone_and_the_rest_stays(before: int, run: int, unit: str) -> None:
    per_unit = len(words_of(unit))
    first, planted, last = unit * before, "".join(f"planted{k} " for k in range(run)), unit * 90
    text = f"{first}{planted}{last}"
    start = before * per_unit
    plan = planned(list(range(start, start + run - 12)), len(words_of(text)))
    assert plan is not None
    left, passage = cut_text(text, plan)
    assert "planted" not in left
    assert passage == planted.strip()
    around = min(run, SETTINGS.surroundings)
    assert len(words_of(text)) - len(words_of(left)) == run + 2 * around
    assert first.startswith(left.split("\n\n")[0])


def test_cuts_end_at_lines_and_sentences_within_the_surroundings() -> None:
    lines = [f"value_{k} = compute(argument_{k}, option_{k})\n" for k in range(60)]
    text = "".join(lines)
    per_line = len(words_of(lines[10]))
    start = 30 * per_line
    plan = planned(list(range(start, start + 3)), len(words_of(text)))
    assert plan is not None
    left, _ = cut_text(text, plan)
    assert set(left.splitlines(True)) <= {*lines, "\n"}, "whole lines stay"
    assert len(lines) - len(left.splitlines()) <= 6
    sentences = "".join(f"第{k}句话说明了一件事情。" for k in range(60))
    start = len(words_of("".join(f"第{k}句话说明了一件事情。" for k in range(30))))
    plan = planned([start], len(words_of(sentences)))
    assert plan is not None
    left, _ = cut_text(sentences, plan)
    assert all(part.endswith("事情") for part in left.replace("\n", "").split("。")[:-1])
