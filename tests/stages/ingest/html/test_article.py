"""An article's own text: what belongs to the page around it goes, and pages of other kinds stay as they are."""

import pytest

from rewarm.stages.ingest.html.chrome import is_caption, is_meta, kind_of
from rewarm.stages.ingest.html.extract import read_page

SENTENCE = "The harbour was rebuilt after the storm, and the fishing boats returned in spring with the good weather. "
OTHER = "Its wall was moved outwards by some thirty metres, so that two ships can lie beside each other at low tide. "
TEXT = f"<div class=text><p>{SENTENCE * 3}</p><p>{OTHER * 2}</p><p>The council paid for it. {SENTENCE}</p></div>"


def text_of(body: str) -> str:
    return read_page(f"<html><head><title>T</title></head><body>{body}</body></html>").text


@pytest.mark.parametrize(
    ("before", "after", "missing"),
    [
        ("<div class=story__author>By Ann Writer, London</div>", "", "Ann Writer"),
        ("<div><a rel=author>Ann Writer</a>, our correspondent</div>", "", "correspondent"),
        ("<p><time datetime=2019-11-20>Wednesday, in the morning</time></p>", "", "Wednesday"),
        ("<div class=x>Wed, 20 Nov 2019 11:42 UK</div>", "", "2019"),
        ("<div class=x>4553</div><div class=y>Text size</div>", "", "Text size"),
        ("<ul class=x><li itemprop=author>Ann Writer</li></ul>", "", "Ann Writer"),
        (
            "",
            "<div class=z><h3>More of this</h3><ul><li><a href=/1>A story on a road</a></li></ul></div>",
            "More of this",
        ),
        ("", "<div class=z><h3>Share it</h3><div>by post</div></div>", "Share it"),
        ("", "<div class=z><h2>You may like</h2></div>", "You may like"),
        ("", "<div class=article-footer__pub-date>Published yesterday</div>", "Published"),
        ("", f"<div class=c-newsletter-box><p>{SENTENCE}Write your address here.</p></div>", "your address"),
        ("", f"<div class=about__author-bio><p>Ann has been with us for ten years. {SENTENCE}</p></div>", "ten years"),
        ("", f"<aside class=sidebar><h1>Today</h1><p>{OTHER}Vote now.</p></aside>", "Vote now"),
        (
            "",
            f"<div class=caption><p>{OTHER}In a view.</p></div>" * 2,
            "In a view",
        ),
    ],
)
@pytest.mark.parametrize("wrapper", ["article", "div class=content"])
def test_what_is_around_an_article_is_left_out(before: str, after: str, missing: str, wrapper: str) -> None:
    tag = wrapper.split(maxsplit=1)[0]
    text = text_of(f"<{wrapper}><h1>The harbour</h1>{before}{TEXT}{after}</{tag}>")
    assert text.startswith("The harbour\n")
    assert SENTENCE.strip() in text and OTHER.strip() in text and "The council paid for it." in text
    assert text.count(missing) <= (1 if missing == "In a view" else 0)


def test_what_is_between_paragraphs_and_about_the_page_is_left_out() -> None:
    parts = [
        "<p><a href=/other>Read also: a story on a road by the sea</a></p>",
        "<div class=photo-credit>Ann Writer</div>",
        "<h3>More of this</h3><ul><li><a href=/1>A story on a road</a></li><li><a href=/2>One more</a></li></ul>"
        "<h3>Back to it</h3>",
        f"<div class=signup-newsletter><p>{OTHER}Write your address here.</p></div><h3>Next</h3>",
    ]
    text = text_of(
        f"<article><h1>The harbour</h1>{TEXT}{f'<p>{SENTENCE}</p>'.join(parts)}<p>{OTHER}At last.</p></article>"
    )
    assert [word for word in ("Read also", "Ann", "A story", "More of", "address") if word in text] == []
    assert "Next" in text and text.endswith("At last.")


@pytest.mark.parametrize(
    "kept",
    [
        "<h2>Ingredients</h2><ul><li>Two eggs</li><li>Three spoons of sugar</li></ul>",
        "<h2>Results</h2><table><tr><td>Harbour</td><td>12</td></tr></table>",
        "<h2>Code</h2><pre>make harbour</pre>",
        "<div class=end>Yours, the harbour master.</div>",
        "<figure><img src=a.png><figcaption>The wall of 1953</figcaption></figure>",
        "<h2>Sources</h2><ol><li>Smith, Ports, 1999.</li><li><a href=/b>Brown, Walls</a>, 2003, page 12.</li></ol>",
    ],
)
def test_the_end_of_a_text_stays(kept: str) -> None:
    text = text_of(f"<article><h1>The harbour</h1>{TEXT.replace('</div>', kept)}</div></article>")
    words = [part for part in kept.replace("<", ">").split(">")[2::2] if part.strip()]
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    "page",
    [
        "<h1>Class Ferry</h1><div>public class Ferry</div><div>Since: 1.4</div><dl>"
        + "".join(f"<dt>int m{n}(int hour)</dt><dd>{OTHER}</dd>" for n in range(6))
        + "</dl>",
        f"<h1>Sums</h1><div>Version 2.0</div><table><tr><td>area</td><td>{OTHER}</td></tr></table><p>{SENTENCE}</p>",
        "<h1>Stories</h1><ul>"
        + "".join(f"<li><a href=/{n}>Story number {n} of all</a></li>" for n in range(9))
        + "</ul>",
        f"<h1>Sonnet</h1><div>To the only begetter</div><p>{'From fairest creatures we desire increase<br>' * 14}</p>",
    ],
)
def test_pages_of_other_kinds_stay_whole(page: str) -> None:
    text = text_of(f"<main>{page}</main>")
    words = [part for part in page.replace("<", ">").split(">")[2::2] if part.strip()]
    assert [word for word in words if word.strip() not in text] == []


def test_a_page_about_people_and_an_accordion_keep_their_text() -> None:
    people = "".join(f"<div class=staff-bio><h3>Person {n}</h3><p>Number {n}. {OTHER}</p></div>" for n in range(6))
    text = text_of(f"<main><h1>Our people</h1><p>{SENTENCE * 2}</p>{people}</main>")
    assert [n for n in range(6) if f"Number {n}." not in text] == []
    panels = "".join(f"<h3>Question {n}</h3><div id=x-disclosure-panel-{n}><p>Answer {n}.</p></div>" for n in range(6))
    text = text_of(f"<main><h1>Questions</h1><p>{SENTENCE * 6}</p>{panels}</main>")
    assert [n for n in range(6) if f"Answer {n}." not in text] == []


def test_a_thread_keeps_its_posts_although_each_has_an_author() -> None:
    post = "<div class=post><div class=author>ann, 1 May 2019</div><p>{}</p></div>"
    text = text_of(f"<h1>Old pump</h1><div class=thread>{post.format(SENTENCE * 4)}{post.format(OTHER)}</div>")
    assert SENTENCE.strip() in text and OTHER.strip() in text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("caption___x3f9d", "caption"),
        ("article__image-caption", "caption"),
        ("story-header__pub-date", "meta"),
        ("date-1", "meta"),
        ("credits--large", "meta"),
        ("articlepage-authorinfo-bio", "promo"),
        ("newsletter-teaser", "promo"),
        ("comments-open", None),
        ("updates-list", None),
        ("biography", None),
        ("---", None),
    ],
)
def test_the_last_word_of_a_name_is_what_it_means(name: str, kind: str | None) -> None:
    assert is_caption((name,)) == (kind == "caption")
    assert is_meta((name,)) == (kind == "meta")
    assert (kind_of((name,)) == "promo") == (kind == "promo")


@pytest.mark.parametrize(
    "place", ["<p>{0}</p><pre>{1}</pre><p>{0}</p>", "<p>{0}</p><p>{0}</p><h2>Use</h2><pre>{1}</pre>"]
)
def test_code_whose_names_are_links_stays(place: str) -> None:
    prose = "The ferry leaves the island at seven in the morning and comes back after the market closes. " * 3
    code = '<a href="/api/open">open</a>(<a href="/api/path">path</a>)'
    page = f"<article><h1>Files</h1><p>{prose}</p>{place.format(prose, code)}</article>"
    assert "open(path)" in read_page(page).text
