"""Unicode repair: what is mended, what stays."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.ingest.filters.unicode import RepairStep, repair
from rewarm.stages.ingest.records import Document, Refusal


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("schÃ¶n", "schön"),
        ("l\u00e2\u20ac\u2122\u00c3\u00a9t\u00c3\u00a9", "l’été"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("nul\0 and bell\x07", "nul and bell"),
        ("e\u0301", "é"),
        ("“quoted” ﬁne ＡＢＣ &amp; <b>", "“quoted” ﬁne ＡＢＣ &amp; <b>"),
        ("x &lt; y", "x &lt; y"),
    ],
)
def test_what_is_mended_and_what_stays(broken: str, mended: str) -> None:
    assert repair(broken) == mended


@given(st.text(string.printable.replace("\r", "").replace("\x0b", "").replace("\x0c", "")))
def test_clean_ascii_stays_as_it_is(text: str) -> None:
    assert repair(text) is text


@given(st.text(max_size=60))
def test_mending_twice_changes_nothing_more(text: str) -> None:
    assert repair(repair(text)) == repair(text)


def test_the_step() -> None:
    given = Document("schön", None, None, None, None, "Titel")
    assert RepairStep()(given) is given
    assert RepairStep()(Document("schÃ¶n", None, None, None, None, "grÃ¼n")) == Document(
        "schön", None, None, None, None, "grün"
    )
    refused = RepairStep()(Document("\0\0\x01", None, None, None, None))
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.step, refused.excerpt) == ("empty text", "repair-unicode", b"\0\0\x01")
