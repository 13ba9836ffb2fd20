"""The order task: four orders of the same words, of which one is the document's own."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.evaluate.orders import EXCERPT_CHARS, NUM_ORDERS, cut, opening, order_question

TEXT = "Return the sum of the array elements over\n    the given axis, which may be negative. Raises an error else."
WORDS = [f"word{number}" for number in range(40)]


def test_a_question_has_the_documents_own_order_and_shuffles_of_it() -> None:
    question = order_question("id", TEXT, 1000, 0)
    assert question is not None
    choices = question["choices"]
    assert choices[question["label"]] == TEXT
    assert len(set(choices)) == NUM_ORDERS
    for choice in choices:
        assert Counter(choice.split()) == Counter(TEXT.split())
        assert cut(choice)[1::2] == cut(TEXT)[1::2], "white space stays where it is"
    assert question == order_question("id", TEXT, 1000, 0)
    assert question != order_question("id", TEXT, 1000, 1)
    assert question != order_question("other", TEXT, 1000, 0)


def test_the_right_answer_stands_anywhere() -> None:
    questions = [order_question(str(number), TEXT, 1000, 0) for number in range(100)]
    assert {question["label"] for question in questions if question} == set(range(NUM_ORDERS))


@given(st.text(max_size=900), st.integers(8, 600))
def test_an_excerpt_is_how_a_text_begins(text: str, longest: int) -> None:
    own = opening(text, longest)
    assert text.strip().startswith(own)
    assert len(own) <= EXCERPT_CHARS and len(own.encode()) <= longest
    question = order_question("id", text, longest, 0)
    if question is not None:
        assert all(len(choice.encode()) == len(own.encode()) for choice in question["choices"])


def test_an_excerpt_ends_with_a_word() -> None:
    assert opening("one two three four", 12) == "one two"
    assert opening("one two three four", 13) == "one two three"
    assert opening("a " + "b" * 500, 100) == "a " + "b" * 98, "no space near its end"


def test_text_without_spaces_is_shuffled_by_characters() -> None:
    question = order_question("id", "模型学习语言的顺序和意义，每个月都有新的数据到来。", 1000, 0)
    assert question is not None
    assert all(Counter(choice) == Counter(question["choices"][0]) for choice in question["choices"])


@pytest.mark.parametrize("text", ["", "three short words", "same " * 50, "one two three four five"])
def test_a_text_of_too_few_orders_asks_nothing(text: str) -> None:
    assert order_question("id", text, 1000, 0) is None


def test_of_shuffled_text_no_position_is_likelier_to_be_right_than_another() -> None:
    """A judge that knows nothing of the order, here the alphabet, is right in a quarter of the questions."""
    rng = random.Random(0)
    right = 0
    for number in range(2000):
        question = order_question(str(number), " ".join(rng.sample(WORDS, 30)), 1000, 0)
        assert question is not None
        right += question["choices"].index(min(question["choices"])) == question["label"]
    assert right / 2000 == pytest.approx(1 / NUM_ORDERS, abs=0.04)
