"""The order task: four orders of the same words, of which one is the document's own."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.evaluate.order_task import (
    ENOUGH_QUESTIONS,
    EXCERPT_CHARS,
    LONGEST_SPACE,
    NUM_ORDERS,
    REACH,
    Passage,
    cut,
    neighbours,
    opening,
    order_question,
    order_questions,
    passages,
)

TEXT = "Return the sum of the array elements over\n    the given axis, which may be negative. Raises an error else."
WORDS = [f"word{number}" for number in range(40)]


def asked(question_id: str, text: str, seed: int) -> dict[str, Any] | None:
    return order_question(question_id, Passage("", "", text), seed)


def test_a_question_has_the_documents_own_order_and_shuffles_of_it() -> None:
    question = asked("id", TEXT, 0)
    assert question is not None
    choices = question["choices"]
    assert choices[question["label"]] == TEXT
    assert len(set(choices)) == NUM_ORDERS
    for choice in choices:
        assert Counter(choice.split()) == Counter(TEXT.split())
        assert cut(choice)[1::2] == cut(TEXT)[1::2], "white space stays where it is"
        for line, own in zip(choice.split("\n"), TEXT.split("\n"), strict=True):
            assert sorted(line.split()) == sorted(own.split()), "and so does every word's line"
    assert question == asked("id", TEXT, 0)
    assert question != asked("id", TEXT, 1)
    assert question != asked("other", TEXT, 0)


def test_the_right_answer_stands_anywhere() -> None:
    questions = [asked(str(number), TEXT, 0) for number in range(100)]
    assert {question["label"] for question in questions if question} == set(range(NUM_ORDERS))


@given(st.text(max_size=900), st.integers(8, 600))
def test_an_excerpt_is_how_a_text_begins(text: str, longest: int) -> None:
    own = opening(text, longest)
    assert text.strip().startswith(own)
    assert len(own) <= EXCERPT_CHARS and len(own.encode()) <= longest
    question = asked("id", own, 0)
    if question is not None:
        assert all(len(choice.encode()) == len(own.encode()) for choice in question["choices"])


def test_an_excerpt_ends_with_a_word() -> None:
    assert opening("one two three four", 12) == "one two"
    assert opening("one two three four", 13) == "one two three"
    assert opening("a " + "b" * 500, 100) == "a " + "b" * 98, "no space near its end"


@given(st.text("ab\n é", max_size=300), st.integers(8, 60), st.integers(1, 9))
def test_excerpts_follow_each_other(text: str, longest: int, count: int) -> None:
    found = list(passages(text, longest, count))
    text, at = text.strip(), 0
    for before, space, own in found:
        assert before == text[:at][-EXCERPT_CHARS:]
        begin = len(text) - len(text[at:].lstrip())
        assert text[at:begin].endswith(space) and text[begin:].startswith(own) and own
        assert len((space + own).encode()) <= longest and len(space) <= LONGEST_SPACE
        at = begin + len(own)
    assert len(found) == count or at == len(text)


def test_few_documents_give_several_excerpts_each() -> None:
    """Of many, every document asks once."""
    long = " ".join(f"word{number}" for number in range(600))
    for documents, each in ((1, ENOUGH_QUESTIONS), (8, ENOUGH_QUESTIONS // 8), (5, 10), (48, 1), (60, 1)):
        questions = order_questions([(str(number), long) for number in range(documents)], 63, 0)
        ids = [question["doc_id"] for question in questions]
        assert len(set(ids)) == len(ids) == documents * each
        assert Counter(found.partition("+")[0] for found in ids) == {str(one): each for one in range(documents)}
        for question in questions:
            assert all(len(choice) <= 63 for choice in question["choices"])
            assert question["context"] + question["choices"][question["label"]] in long
    assert len(order_questions([("id", TEXT)], 1000, 0)) == 1
    assert order_questions([], 1000, 0) == []


def test_text_without_spaces_is_shuffled_by_characters() -> None:
    question = asked("id", "模型学习语言的顺序和意义，每个月都有新的数据到来。", 0)
    assert question is not None
    assert all(Counter(choice) == Counter(question["choices"][0]) for choice in question["choices"])


@pytest.mark.parametrize("text", ["", "three short words", "same " * 50, "one two three four five"])
def test_a_text_of_too_few_orders_asks_nothing(text: str) -> None:
    assert asked("id", text, 0) is None


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("a b c d e f g h i j k", [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10]]),
        ("a b c d e f g h i", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("a b c d.) e f g h", [[0, 1, 2], [4, 5, 6, 7]]),
        ("a b\nc d\n  e f", [[0, 1], [2, 3], [4, 5]]),
        ("- a:\n- b:\n- c:\n- d:", [[0, 2, 4, 6]]),
        ("a\nb\nc\nd\ne\nf. g", [[0, 1, 2, 3, 4, 6]]),
        ("a b c d e", []),
    ],
)
def test_words_change_places_with_their_neighbours(text: str, groups: list[list[int]]) -> None:
    assert REACH == 8
    assert neighbours(cut(text)) == groups


@given(st.text("ab .\n", max_size=80), st.randoms())
def test_who_changes_places_does_not_depend_on_the_order(text: str, dice: random.Random) -> None:
    """Otherwise a text of no order could be told from its shuffles."""
    units = cut(text.strip())
    other = units.copy()
    for group in neighbours(units):
        drawn = dice.sample(group, len(group))
        for place, new in zip(group, drawn, strict=True):
            other[2 * place] = units[2 * new]
    assert neighbours(cut("".join(other))) == neighbours(units)


@pytest.mark.parametrize("within", ["text", "sentences"])
def test_of_shuffled_text_no_position_is_likelier_to_be_right_than_another(within: str) -> None:
    """A judge that knows nothing of the order, here the alphabet, is right in a quarter of the questions."""
    rng = random.Random(0)
    right = 0
    for number in range(2000):
        if within == "text":
            text = " ".join(rng.sample(WORDS, 30))
        else:
            text = " ".join(" ".join(rng.sample(WORDS[at : at + 10], 10)) + "." for at in range(0, 30, 10))
        question = asked(str(number), text, 0)
        assert question is not None
        right += question["choices"].index(min(question["choices"])) == question["label"]
    assert right / 2000 == pytest.approx(1 / NUM_ORDERS, abs=0.04)
