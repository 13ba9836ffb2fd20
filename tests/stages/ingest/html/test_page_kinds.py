"""Main text of pages as field users meet them: wikis, manuals, blogs, forums, news in four scripts, odd HTML."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from rewarm.stages.ingest.html.extract import read_page

PAGES: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("page_kinds.toml").read_text("utf-8"))


@pytest.mark.parametrize("name", PAGES)
def test_the_text_is_whole_and_what_surrounds_it_is_not_there(name: str) -> None:
    text = read_page(PAGES[name]["page"]).text
    assert [part for part in PAGES[name]["kept"] if part.strip() not in text] == []
    assert [part for part in PAGES[name]["left_out"] if part in text] == []


def test_a_plea_to_switch_scripts_on_is_no_text() -> None:
    assert read_page("<body><div id=app></div><noscript>You need to enable JavaScript.</noscript></body>").text == ""


def test_what_a_page_shows_without_scripts_does_not_come_twice() -> None:
    prose = "<p>The ferry leaves at seven in the morning and comes back after the market closes at noon.</p>" * 3
    text = read_page(f"<body><main>{prose}</main><noscript>{prose}</noscript></body>").text
    assert text.count("The ferry leaves") == 3


def test_comments_without_prose_stay_out_of_a_short_page() -> None:
    page = (
        "<body><main><p>The ferry leaves at seven in the morning and comes back after the market closes.</p></main>"
        "<div class=comments><div class=comment><p>Nice.</p></div><div class=comment><p>Thanks!</p></div></div></body>"
    )
    assert read_page(page).text == "The ferry leaves at seven in the morning and comes back after the market closes."
