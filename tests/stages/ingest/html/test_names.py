"""Ids that generators of documentation make from titles, and names that themes give to headings and code: no chrome."""

import pytest

from rewarm.stages.ingest.html.extract import read_page

PROSE = (
    "The ferry leaves the island at seven in the morning and comes back after the market closes, and the harbour "
    "master writes down every trip. When the wind turns to the west the boats stay in the harbour behind the church."
)
BOATS = ("ferry", "skiff", "tug", "barge", "dinghy", "trawler", "ketch", "yawl")
OWN = f"<p>First. {PROSE}</p><p>Call it so:</p><p>Second. {PROSE}</p>"
SECTIONS = {
    "sphinx": '<div role="main"><section id="g"><h1>Guide</h1><p>{prose}</p><section id="{slug}"><h2>{title}'
    '<a class="headerlink" href="#{slug}">¶</a></h2>{own}</section></section></div>',
    "pandoc": '<p>{prose}</p><section id="{slug}" class="level2"><h2>{title}</h2>{own}</section>',
    "docutils": '<div class="document"><h1>Guide</h1><p>{prose}</p><div class="section" id="{slug}"><h1>{title}</h1>'
    "{own}</div></div>",
    "mkdocs": '<main><article><h1>Guide</h1><p>{prose}</p><h2 id="{slug}">{title}</h2>{own}</article></main>',
    "plain": '<h1>Guide</h1><p>{prose}</p><h2 id="{slug}">{title}</h2>{own}',
    "docusaurus": '<main><article><h1>Guide</h1><p>{prose}</p><h2 class="anchor anchorWithStickyNavbar_LWe7" '
    'id="{slug}">{title}<a href="#{slug}" class="hash-link">\u200b</a></h2>{own}</article></main>',
    "vitepress": '<main><div class="vp-doc"><h1>Guide</h1><p>{prose}</p><h2 id="{slug}" tabindex="-1">{title} '
    '<a class="header-anchor" href="#{slug}">\u200b</a></h2>{own}</div></main>',
    "mdbook": '<main><h1>Guide</h1><p>{prose}</p><h2 id="{slug}"><a class="header" href="#{slug}">{title}</a></h2>{own}'
    "</main>",
}


@pytest.mark.parametrize(
    "title", ["Comments", "Cookies", "Search", "Tags", "Ads", "About the author", "Setting a date"]
)
@pytest.mark.parametrize("generator", SECTIONS)
def test_a_chapter_about_something_is_no_chrome(generator: str, title: str) -> None:
    slug = title.lower().replace(" ", "-")
    text = read_page(SECTIONS[generator].format(prose=PROSE, slug=slug, title=title, own=OWN)).text
    assert f"{title}\n\nFirst. {PROSE}\n\nCall it so:\n\nSecond." in text


def test_what_readers_wrote_below_a_post_stays_away() -> None:
    comments = f'<section id="comments"><h2>Comments</h2><p>I disagree. {PROSE}</p></section>'
    assert "disagree" not in read_page(f"<main><h1>Guide</h1>{OWN}{comments}</main>").text


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ('<pre class="line-numbers language-css"><code>p { x: y }</code></pre>', "p { x: y }"),
        ('<pre><code class="line-numbers">p { x: y }</code></pre>', "p { x: y }"),
        (f'<div class="row gutter"><div class="col"><p>Third. {PROSE}</p></div></div>', "Third."),
        (f'<div class="content mathjax"><p>Third. {PROSE}</p></div>', "Third."),
        ('<dl><dt id="cmdoption-share"><code>--share</code></dt><dd>Third.</dd></dl>', "--share\n"),
        ('<table class="highlight"><tr><td class="gutter"><pre>17</pre></td><td><pre>go</pre></td></tr></table>', "go"),
    ],
)
def test_names_of_small_parts_that_themes_give_to_others(element: str, expected: str) -> None:
    text = read_page(f"<main><h1>Guide</h1>{OWN}{element}<p>{PROSE}</p></main>").text
    assert expected in text
    assert "17" not in text


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("10<sup>6</sup> times", "10⁶ times"),
        ("3 m<sup>2</sup> or (x + 1)<sup>-1</sup>", "3 m² or (x + 1)⁻¹"),
        ("<i>x</i><sup>12</sup>", "x¹²"),
        ("the 1<sup>st</sup> of 2<sup>n</sup>", "the 1st of 2n"),
        ('so it is<sup><a href="#n1">1</a></sup>', "so it is1"),
        ("1 <sup>3</sup>/<sub>4</sub> cups of CO<sub>2</sub>", "1 3/4 cups of CO2"),
    ],
)
def test_powers_of_numbers_are_not_their_last_digits(sentence: str, expected: str) -> None:
    assert (
        f"It is {expected}.\n"
        in read_page(f"<main><h1>G</h1><p>{PROSE}</p><p>It is {sentence}.</p><p>{PROSE}</p></main>").text
    )


VERSES = "<br>".join(f"The {name} goes out at {hour},<br>and comes at night." for hour, name in enumerate(BOATS, 4))
BLOG = f"""<div class="main-outer"><div class="section" id="header"><div class="widget Header" id="Header1"><h1>
<a href="/">Songs</a></h1><p>Songs of the harbour.</p></div></div><div class="columns"><div class="section" id="main">
<div class="{{0}}" id="{{1}}"><div class="post"><h3>The boats</h3><div>{VERSES}</div></div></div></div>
<div class="sidebar"><div class="widget BlogArchive">
<h2>Archive</h2><ul><li><a href="/1">May</a></li></ul></div></div></div></div>"""


@pytest.mark.parametrize(
    ("names", "identity"), [("widget Blog", "Blog1"), ("right-column", "x"), ("flexible", "anchor-link")]
)
def test_verses_that_names_take_for_chrome_are_the_text(names: str, identity: str) -> None:
    text = read_page(BLOG.format(names, identity)).text
    assert all(f"The {name} goes out" in text for name in BOATS)
    assert "May" not in text
