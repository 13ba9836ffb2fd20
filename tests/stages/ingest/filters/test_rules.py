"""Every threshold of every rule: text just inside passes, text just outside is refused under the rule's name."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rewarm.stages.ingest.filters.settings import RulesSettings
from rewarm.stages.ingest.filters.steps import rule_steps
from rewarm.stages.ingest.records import Document, Refusal

PROSE = (
    "The harbour of Whitby lies at the mouth of the Esk, and ships have gone out from it to the whaling grounds.\n"
    "Captain Cook learned to sail there; his house, with its low attic, can be visited in summer.\n"
    "Above the town stand the ruins of an abbey that was founded in 657 and that storms have worn down ever since.\n"
    "Visitors climb 199 steps to reach it. Most of them stop half way, turn around and look at the sea."
)
FIELDS = {
    "gopher-quality": "gopher_quality",
    "gopher-repetition": "gopher_repetition",
    "c4": "c4",
    "fineweb": "fineweb",
}


def document(text: str, language: str | None = None) -> Document:
    return Document(text, None, None, language, None)


def judge(rule: str, text: str, language: str | None = None, **thresholds: Any) -> Document | Refusal:
    """One rule alone; the thresholds that are not named are off."""
    field = FIELDS[rule]
    off = {
        name: None for name in type(getattr(RulesSettings(), field)).model_fields if name.startswith(("min_", "max_"))
    }
    (step,) = rule_steps(RulesSettings.model_validate({"apply": [rule], field: {**off, **thresholds}}))
    return step(document(text, language))


def word_of(letters: int) -> str:
    return "w" * letters


CASES = [  # rule, setting, its value, a text that passes, one that does not, the value found in it, the reason
    ("gopher-quality", "min_words", 50, "word " * 50, "word, " * 49, 49, "words"),
    ("gopher-quality", "max_words", 50, "word. " * 50, "word " * 51, 51, "words"),
    ("gopher-quality", "min_mean_word_length", 3, "the cat sat.", "a cat sat.", 7 / 3, "mean word length"),
    ("gopher-quality", "max_mean_word_length", 10, word_of(10), word_of(11), 11, "mean word length"),
    ("gopher-quality", "max_hash_ratio", 0.1, "a " * 9 + "#", "a " * 8 + "#", 1 / 9, "hashes per word"),
    ("gopher-quality", "max_ellipsis_ratio", 0.1, "a " * 9 + "…", "a " * 8 + "...", 1 / 9, "ellipses per word"),
    (
        "gopher-quality",
        "max_bullet_lines",
        0.9,
        "\n\n".join(["- tea"] * 9 + ["Tea is drunk hot."]),
        "\n".join([" • tea"] * 19 + ["Tea is drunk hot."]),
        0.95,
        "lines that begin with a bullet",
    ),
    (
        "gopher-quality",
        "max_ellipsis_lines",
        0.3,
        "\n".join(["Read more..."] * 3 + ["It rained."] * 7),
        "\n".join(["Read more… "] * 4 + ["It rained."] * 6),
        0.4,
        "lines that end with an ellipsis",
    ),
    ("gopher-quality", "min_alphabetic_words", 0.8, "a b c d 5", "a b c 4 5", 0.6, "words with a letter"),
    ("gopher-quality", "min_stop_words", 2, "THE price of tea", "Of tea, of coffee", 1, "stop words"),
    (
        "gopher-repetition",
        "max_duplicate_lines",
        0.3,
        "\n".join(["menu", "one", "two", "three", "four", "five", "six", "menu", "menu", "menu"]),
        "\n\n".join(["menu", "one", "two", "menu", "menu"]),
        0.4,
        "duplicate lines",
    ),
    (
        "gopher-repetition",
        "max_duplicate_paragraphs",
        0.3,
        "one\ntwo\n\none\n\ntwo\n\none",
        "one\ntwo\n \none\ntwo\n\none",
        1 / 3,
        "duplicate paragraphs",
    ),
    (
        "gopher-repetition",
        "max_duplicate_line_characters",
        0.2,
        "aa\nbbbb\naa",
        "aaa\nbb\naaa",
        0.3,
        "characters in duplicate lines",
    ),
    (
        "gopher-repetition",
        "max_duplicate_paragraph_characters",
        0.2,
        "aa\n\nbbb\n\naa",
        "aaa\n\nb\n\naaa",
        3 / 11,
        "characters in duplicate paragraphs",
    ),
    *[
        (
            "gopher-repetition",
            f"max_top_{n}_gram",
            0.2,
            " ".join([word_of(20), *"abcd"[:n], word_of(19 + 20), *"abcd"[:n]]),
            " ".join([*"abcd"[:n], *"abcd"[:n], word_of(5)]),
            2 * (2 * n - 1) / (4 * n + 5),
            f"characters in top {n}-grams",
        )
        for n in (2, 3, 4)
    ],
    *[
        (
            "gopher-repetition",
            f"max_duplicate_{n}_gram",
            0.1,
            " ".join([*"abcdefghij"[:n], word_of(9 * n), *"abcdefghij"[:n]]),
            " ".join([*"abcdefghij"[:n], *"abcdefghij"[:n]]),
            n / (4 * n - 1),
            f"characters in duplicate {n}-grams",
        )
        for n in range(5, 11)
    ],
    ("c4", "min_sentences", 5, "It is so. " * 5 + "End.", "It is, e.g. so! “Why is it?” It is.", 3, "sentences"),
    (
        "fineweb",
        "min_punctuated_lines",
        0.12,
        "\n".join(["Home"] * 7 + ["It rained."]),
        "\n".join(["Home"] * 8 + ["It rained."]),
        1 / 9,
        "lines that end a sentence",
    ),
    (
        "fineweb",
        "max_short_lines",
        0.67,
        "\n".join(["s" * 30, "s" * 30, "l" * 31]),
        "\n".join(["s" * 30, "s" * 30, "s", "l" * 31]),
        0.75,
        "short lines",
    ),
    (
        "fineweb",
        "max_duplicate_line_characters",
        0.01,
        "\n".join(["x", "y" * 98, "x"]),
        "\n".join(["xx", "y" * 96, "xx"]),
        0.02,
        "characters in duplicate lines",
    ),
    ("fineweb", "max_line_breaks", 0.3, "a b c\n\nd e f g", "a b\n c\nd e f", 1 / 3, "line breaks per word"),
]


@pytest.mark.parametrize(("rule", "setting", "limit", "good", "bad", "value", "label"), CASES)
def test_a_threshold_decides(
    rule: str, setting: str, limit: float, good: str, bad: str, value: float, label: str
) -> None:
    passed = judge(rule, good, **{setting: limit})
    assert isinstance(passed, Document), passed
    refused = judge(rule, bad, **{setting: limit})
    assert isinstance(refused, Refusal)
    assert (refused.step, refused.reason, refused.location) == (rule, f"{rule}: {label}", "")
    assert refused.value == pytest.approx(value)
    assert f"ingest.rules.{FIELDS[rule]}.{setting}" in refused.detail
    assert refused.excerpt == bad.encode()[:256]
    assert isinstance(judge(rule, bad, **{setting: None}), Document)


def test_every_threshold_has_a_case() -> None:
    fields = {
        (rule, name)
        for rule, field in FIELDS.items()
        for name in type(getattr(RulesSettings(), field)).model_fields
        if name.startswith(("min_", "max_"))
    }
    of_lines = {("c4", "min_words_in_line"), ("c4", "max_word_length")}  # they take lines away: below
    assert fields - of_lines == {(rule, setting) for rule, setting, *_ in CASES}


def test_prose_passes_every_rule_as_it_stands() -> None:
    steps = rule_steps(RulesSettings(apply=["gopher-repetition", "gopher-quality", "c4", "fineweb"]))
    assert [(step.name, step.version) for step in steps] == [
        ("gopher-repetition", 4),
        ("gopher-quality", 4),
        ("c4", 4),
        ("fineweb", 3),
    ]
    kept = document(PROSE)
    for step in steps:
        assert step(kept) is kept


def test_a_refusal_says_what_was_found_and_expected() -> None:
    refused = judge("gopher-quality", "a b cd", min_mean_word_length=3, max_mean_word_length=10)
    assert isinstance(refused, Refusal)
    assert refused.detail == "expected 3 to 10, found 1.333 (ingest.rules.gopher_quality.min_mean_word_length)"


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("Buy it now", "terminal_punctuation"),
        ("We have more to say...", "terminal_punctuation"),
        ("Go home.", "min_words_in_line"),
        ("See " + "x" * 1001 + " there.", "max_word_length"),
        ("Please enable JavaScript to read this.", "javascript"),
        ("This site uses cookies to track you.", "policy"),
    ],
)
def test_c4_takes_lines_away(line: str, change: str) -> None:
    on = {"min_words_in_line": 3, "max_word_length": 1000}
    cleaned = judge("c4", f"{PROSE}\n{line}\nAnd so to bed.", **on)
    assert isinstance(cleaned, Document)
    assert cleaned.text == f"{PROSE}\nAnd so to bed."
    off = None if change in on else False
    kept = judge("c4", f"{PROSE}\n{line}\nAnd so to bed.", **{**on, change: off})
    assert isinstance(kept, Document)
    assert line in kept.text


def test_c4_takes_citations_out_and_keeps_the_other_fields() -> None:
    (step,) = rule_steps(RulesSettings(apply=["c4"]))
    before = replace(
        document(f"{PROSE} It burned.[12][citation needed] [1]\n\nMenu"), url="https://a.example", title="T"
    )
    after = step(before)
    assert after == replace(before, text=f"{PROSE} It burned.")


@pytest.mark.parametrize(
    ("text", "label", "setting"),
    [
        ("Lorem Ipsum dolor sit amet.", "lorem ipsum", "lorem_ipsum"),
        ("if (x) { return the value. }.", "curly bracket", "curly_bracket"),
        ("He said darn, and left.", "bad words", "bad_words"),
    ],
)
def test_c4_refuses_pages(text: str, label: str, setting: str) -> None:
    refused = judge("c4", f"{PROSE}\n{text}", bad_words=["darn"])
    assert isinstance(refused, Refusal)
    assert refused.reason == f"c4: {label}"
    assert f"ingest.rules.c4.{setting}" in refused.detail
    assert refused.value is None
    assert isinstance(judge("c4", f"{PROSE}\n{text}", **{setting: [] if setting == "bad_words" else False}), Document)


def test_c4_bad_words_are_whole_words() -> None:
    assert isinstance(judge("c4", "They were darning socks all day.", bad_words=["darn"]), Document)


def test_c4_refuses_where_no_line_is_left() -> None:
    refused = judge("c4", "Home\nAbout\nContact")
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.value) == ("c4: sentences", 0)


def test_text_without_spaces_is_measured_by_its_words() -> None:
    chinese = "我们今天去公园散步。" * 10
    assert isinstance(judge("gopher-quality", chinese, min_words=50, max_words=50), Document)
    assert isinstance(judge("gopher-quality", chinese, min_mean_word_length=3), Document)
    kept = judge("c4", chinese, min_words_in_line=3, max_word_length=20, min_sentences=5)
    assert isinstance(kept, Document)


def test_stop_words_are_those_of_the_language() -> None:
    lists = {"en": ["the", "of"], "de": ["der", "und"]}
    limit: dict[str, Any] = {"min_stop_words": 2, "stop_words": lists}
    german = "Der Hund und die Katze"
    assert isinstance(judge("gopher-quality", german, "de-AT", **limit), Document)
    assert isinstance(judge("gopher-quality", german, "en", **limit), Refusal)
    assert isinstance(judge("gopher-quality", german, None, **limit), Document)  # not known: any of the lists
    assert isinstance(judge("gopher-quality", "Le chat dort", "fr", **limit), Document)  # no list: not measured


@settings(deadline=None)
@given(st.text(min_size=1).filter(str.strip))
def test_no_text_breaks_a_rule(text: str) -> None:
    for step in rule_steps(RulesSettings(apply=["c4", "gopher-repetition", "fineweb", "gopher-quality"])):
        result = step(document(text))
        assert isinstance(result, Document) or re.match(rf"{step.name}: [a-z]", result.reason)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([PROSE, "Menu\nMenu\nMenu", "a b c " * 30, "我们。" * 60]), min_size=1, max_size=6))
def test_shared_measures_change_nothing(texts: list[str]) -> None:
    apply = ["gopher-repetition", "c4", "gopher-quality", "fineweb"]
    shared = rule_steps(RulesSettings.model_validate({"apply": apply}))
    for text in texts:
        for name, step in zip(apply, shared, strict=True):
            (alone,) = rule_steps(RulesSettings.model_validate({"apply": [name]}))
            assert step(document(text)) == alone(document(text))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"apply": ["c4", "c4"]}, "listed twice"),
        ({"apply": ["gopher"]}, "gopher-quality"),
        ({"gopher_quality": {"min_words": 10, "max_words": 9}}, "no document can satisfy both"),
        ({"fineweb": {"max_short_lines": 67}}, "less than or equal to 1"),
        ({"c4": {"min_sentence": 5}}, "min_sentence"),
    ],
)
def test_nonsense_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        RulesSettings.model_validate(values)
