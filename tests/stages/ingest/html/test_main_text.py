"""The main text of pages: nothing missing in it, and hardly anything around it."""

import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from main_text_pages import WORDS, pages

from rewarm.stages.ingest.html import guarded
from rewarm.stages.ingest.html.extract import extract_page, read_page
from rewarm.stages.ingest.html.guarded import extract_guarded, why_complex
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import IngestSettings

P = "The harbour was rebuilt after the storm, and the fishing boats returned in spring with the first good weather."
NAV = "<nav><ul><li><a href=/>Home</a></li><li><a href=/a>About</a></li></ul></nav>"
FOOTER = "<footer>Copyright 2026</footer>"
SETTINGS = IngestSettings()


def text_of(body: str) -> str:
    return read_page(f"<!DOCTYPE html><html><head><title>T</title></head><body>{body}</body></html>").text


def in_entry(inner: str) -> str:
    return text_of(
        f"{NAV}<div id=w><div><main class=c><div class=entry>{inner}<p>{P}</p></div></main></div></div>{FOOTER}"
    )


def test_the_marked_pages_keep_their_text_and_lose_the_rest() -> None:
    kept = marked = found = 0
    for name, page, words in pages():
        have = Counter(WORDS.findall(read_page(page).text))
        both = (have & Counter(words)).total()
        assert both >= 0.9 * len(words), name
        kept, marked, found = kept + both, marked + len(words), found + have.total()
    assert kept / marked >= 0.97
    assert kept / found >= 0.95


LINES = [
    # lists near <body>
    ("<ul><li>Two eggs</li><li>Salt</li></ul>", "  • Two eggs\n  • Salt"),
    ("<ul><li>Dough<ul><li>Eggs</li></ul></li><li>Filling</li></ul>", "  • Dough\n    • Eggs\n  • Filling"),
    ("<ol start=5><li>Five</li><li value=9>Nine</li><li>Ten</li></ol>", "  5. Five\n  9. Nine\n  10. Ten"),
    ("<ul><li><a href=x>Related subject</a></li><li><a href=y>Other</a></li></ul>", "  • Related subject\n  • Other"),
    ("<ul><li><a href=x>Version 1</a> fixes a crash</li></ul>", "  • Version 1 fixes a crash"),
    ("<ul><li><p>One</p><p>More of it</p></li></ul>", "  • One\n\nMore of it"),
    ("<dl><dt>Keel</dt><dd>The bottom</dd></dl>", "Keel\nThe bottom"),
    # figures
    ("<figure class=highlight><pre><code><span>def</span> area(r)\n  3.14 * r\nend</code></pre></figure>",
     "def area(r)\n  3.14 * r\nend"),
    ("<figure><table><tr><th>Year</th><th>Count</th></tr><tr><td>1801</td><td>8,893</td></tr></table>"
     "<figcaption>Census</figcaption></figure>", "Year\t\tCount\n1801\t\t8,893\n\nCensus"),
    ("<figure><img src=a alt=gone><figcaption>The wall</figcaption></figure>", "The wall"),
    ("<figure><blockquote><p>Be brief.</p></blockquote><figcaption>A poet</figcaption></figure>", "Be brief.\n\nA poet"),
    ("<figure class=highlight><table><tr><td class=gutter><pre>1\n2</pre></td><td class=code><pre>a = 1\nb = 2</pre></td></tr>"
     "</table></figure>", "a = 1\nb = 2"),
    # sentences
    ("<p>On <time datetime=1821-05-05>5 May 1821</time> he died, and they left on <time>27 May</time> by ship.</p>",
     "On 5 May 1821 he died, and they left on 27 May by ship."),
    ("<p>Press <button>Save</button> and then choose <label>Export as PDF</label> in the menu.</p>",
     "Press Save and then choose Export as PDF in the menu."),
    ("<p>See <output>42</output> and <abbr title=x>HTML</abbr>, <kbd>Ctrl</kbd>+<kbd>C</kbd>, <a href=#x>a note</a>.</p>",
     "See 42 and HTML, Ctrl+C, a note."),
    ("<p>From<br>here<br><br>on</p>", "From\nhere\n\non"),
    ("<p>Soft&shy;ware&nbsp;is <wbr>it.</p>", "Soft\xadware is it."),
    # formulas
    ("<p>So <span class=mwe-math-element><span class=mwe-math-mathml-inline style='display: none'><math alttext='{\\displaystyle "
     "E=mc^2}'><mi>E</mi></math></span><img class=mwe-math-fallback-image-inline alt='{\\displaystyle E=mc^2}'></span> holds.</p>",
     "So $E=mc^2$ holds."),
    ("<p>Area <span class=katex><span class=katex-mathml><math><semantics><mi>x</mi><annotation encoding='application/x-tex'>\\pi "
     "r^2</annotation></semantics></math></span><span class=katex-html aria-hidden=true>πr2</span></span>.</p>",
     "Area $\\pi r^2$."),
    ("<p>Say <math><msup><mi>x</mi><mn>2</mn></msup><mo>+</mo><mfrac><mn>1</mn><mi>y</mi></mfrac></math>.</p>", "Say $x^2 + 1/y$."),
    ("<p>Then <img class=latex alt='a \\le b' src=x>.</p>", "Then $a \\le b$."),
    ("<p>Say <span class=katex><span class=katex-html aria-hidden=true><span>x</span> = <span>y</span></span></span>.</p>", "Say x = y."),
    ("<p>And <script type='math/tex'>a^2</script> too.</p>", "And $a^2$ too."),
    # panels that a reader unfolds
    ("<div class=tabs-container><ul role=tablist class=tabs><li role=tab>npm</li><li role=tab>Yarn</li></ul><div>"
     "<div role=tabpanel><pre>npm install</pre></div><div role=tabpanel hidden><pre>yarn add</pre></div></div></div>",
     "npm install\n\nyarn add"),
    ("<div id=tabs><div class=tab-pane><p>Fill it.</p></div><div class=tab-pane style='display: none'><p>Close it.</p></div></div>",
     "Fill it.\n\nClose it."),
    ("<h3><button>Is it safe?</button></h3><div class=accordion-panel aria-hidden=true><p>Yes.</p></div>", "Is it safe?\n\nYes."),
    ("<div hidden=until-found>It can be searched.</div>", "It can be searched."),
    # others
    ("<p>He said <q>be brief</q>, not <q>«so»</q>.</p>", "He said “be brief”, not «so»."),
    ("<xmp>a <b> c\n  d</xmp><listing>x\n y</listing>", "a <b> c\n  d\n\nx\n y"),
    ("<details><summary>Why?</summary><p>Because.</p></details>", "Why?\n\nBecause."),
    ("<p><ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>と<ruby>字<rt>じ</rt></ruby></p>", "漢(かん)と字(じ)"),
    ("<pre>a\n  b<br>c</pre>", "a\n  b\nc"),
    ("<pre><div class=line>def f(x):</div><div class=line>    return x</div></pre>", "def f(x):\n    return x"),
    ("<table><tr><td class=blob-num data-line-number=1></td><td class=blob-code>def f(x):</td></tr><tr><td class=blob-num></td>"
     "<td class=blob-code>    return x</td></tr></table>", "def f(x):\n    return x"),
    ("<aside class=note><p>" + P + "</p></aside>", P),
    ("<div class=menu><h3>Starters</h3><p>" + P + "</p></div>", "Starters\n\n" + P),
    ("<div class=social-note>Kept</div><div class=follow-up>It</div><div class=email-body>Is</div>", "Kept\nIt\nIs"),
    ("<p class=has-sidebar>With</p><p class='comments-open no-comments'>Words</p>", "With\n\nWords"),
]  # fmt: skip


@pytest.mark.parametrize(("inner", "expected"), LINES)
def test_nothing_is_missing_in_the_main_text(inner: str, expected: str) -> None:
    assert in_entry(f"<h1>Head</h1><p>{P}</p>{inner}") == f"Head\n\n{P}\n\n{expected}\n\n{P}"


@pytest.mark.parametrize(("inner", "expected"), LINES[:12])
def test_nor_where_the_page_has_no_main_element(inner: str, expected: str) -> None:
    assert text_of(f"<h1>Head</h1><p>{P}</p>{inner}<p>{P}</p>") == f"Head\n\n{P}\n\n{expected}\n\n{P}"


CHROME = [
    NAV,
    "<ul><li><a href=/>Home</a></li><li><a href=/b>Boats</a></li></ul>",
    "<div class=menu><a href=/>Home</a> | <a href=/b>Boats</a></div>",
    '<div role="navigation"><a href=/>Home</a></div>',
    "<header class=site-header><a href=/>My site</a></header>",
    "<form><input type=text><button>Send</button></form>",
    "<form role=search><label>Find</label><input></form>",
    '<div class="cookie-banner"><p>We use cookies on this site.</p><button>Accept</button></div>',
    "<div style='display:none'>Hidden</div><div hidden>Too</div><template><p>No</p></template><noscript>Scripts</noscript>",
    "<button>Copy</button>",
    "<select><option>English<option>Deutsch</select>",
    "<svg><title>Icon</title><text>x</text></svg>",
    "<img alt='A picture' src=x>",
]


@pytest.mark.parametrize("chrome", CHROME)
def test_chrome_before_and_after_the_text_stays_away(chrome: str) -> None:
    assert text_of(f"{chrome}<h1>Head</h1><p>{P}</p><p>{P}</p>{FOOTER}") == f"Head\n\n{P}\n\n{P}"
    if "<ul>" not in chrome or "<nav>" in chrome:
        assert text_of(f"<h1>Head</h1><p>{P}</p><p>{P}</p>{chrome}{FOOTER}") == f"Head\n\n{P}\n\n{P}"


COMMENTS = (
    f"<div id=comments class=comments-area><ol class=comment-list><li class=comment><p>Thanks! {P}</p></li></ol></div>"
)


def test_comments_are_left_out_unless_they_are_the_page() -> None:
    article = f"<article><h1>Head</h1><p>{P} {P}</p><p>{P} {P}</p></article>"
    assert "Thanks!" not in text_of(article + COMMENTS)
    assert "Thanks!" in text_of("<h1>Which pump?</h1>" + COMMENTS)
    assert (
        text_of(
            f"<div class=commentarea><div class='sitetable nestedlisting'><div class='thing comment'><p>{P}</p></div></div></div>"
        )
        == P
    )
    hn = f"<table id=hnmain><tr><td><table class=fatitem><tr><td>Ask</td></tr></table><table class=comment-tree><tr><td><div class=comment>{P}"
    assert text_of(hn) == f"Ask\n\n{P}"


@pytest.mark.parametrize(
    "name", ["sidebar", "aside", "widget", "comments", "related", "modal", "footer-widgets", "promo"]
)
def test_an_element_with_the_page_s_prose_is_its_text_whatever_its_name(name: str) -> None:
    assert text_of(f"{NAV}<div class={name}><h1>Head</h1><p>{P * 20}</p></div>").endswith(P)
    assert text_of(f"{NAV}<aside class={name}><h1>Head</h1><p>{P * 20}</p></aside>").endswith(P)


def test_a_form_around_the_page_is_no_chrome() -> None:
    page = f"<form id=aspnetForm><input type=hidden value=x><div id=main><h1>Notice</h1><p>{P * 3}</p></div></form>"
    assert text_of(page).startswith("Notice\n\n")


def test_nothing_but_links_is_no_main_text_unless_it_is_the_page() -> None:
    assert text_of(NAV + FOOTER) == ""
    assert text_of("<ul><li><a href=1>One</a></li><li><a href=2>Two</a></li></ul>") == "• One\n  • Two"


def test_chrome_nested_thousands_deep_is_read() -> None:
    assert text_of(f"<h1>Head</h1><p>{P}</p><p>{P}</p>" + "<aside class=sidebar><nav>x" * 1_500).startswith(
        f"Head\n\n{P}"
    )
    assert text_of("<aside>" * 1_500 + f"<p>{P}</p>") == P


def test_an_index_of_links_is_its_page_s_text() -> None:
    rows = "".join(f"<tr><td><a href={number}>symbol_{number}</a></td></tr>" for number in range(50))
    text = text_of(f"{NAV}<h1>Symbols</h1><p>All of them.</p><table>{rows}</table>")
    assert text.startswith("Symbols\n\nAll of them.\n\nsymbol_0\nsymbol_1\n")
    assert text.endswith("symbol_49")
    assert text_of(f"{NAV}<table>{rows}</table>").count("symbol_") == 50


@pytest.mark.parametrize(
    "name", ["section", "chapter", "book", "part", "titlepage", "list", "panel", "box", "col-2", "inner"]
)
def test_words_of_layout_are_no_chrome(name: str) -> None:
    assert text_of(f"<div class={name}><h2>Why</h2><p>{P}</p></div><div class={name}><h2>How</h2><p>{P}</p></div>") == (
        f"Why\n\n{P}\n\nHow\n\n{P}"
    )


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(["<ul>", "<li>x", "</ul>", "<table>", "<td>y", "<tr>", "<pre>", "</pre>", "<nav>", "<a href=x>", "</a>", "<p>",
                                 "<form>", "</form>", "<math>", "<rt>", "<br>", "<h1>z", "</h1>", "<main>", "</main>", "text ", "</div>"])))  # fmt: skip
def test_any_markup_is_read(parts: list[str]) -> None:
    text = text_of("".join(parts))
    assert "<" not in text
    assert text == text.strip()


# -- pages that could hold a parser up ----------------------------------------------------------------------------

COMPLEX = {
    "nested lists": "<ul><li>x" * 100_000,
    "attributes": f"<p {' '.join(f'a{number}=1' for number in range(20_000))}>x",
    "attributes without values": f"<p {' '.join(f'a{number}' for number in range(20_000))}>x",
    "bodies": "".join(f"<body a{number}=1>x" for number in range(20_000)),
    "formatting": "".join(f"<font color={number}><p>x" for number in range(2_000)),
    "links": "<a href=x><div>y" * 20_000,
    "after closing tags": "</div>" * 50_000 + "<ul><li>x" * 50_000,
}


@pytest.mark.parametrize("name", COMPLEX)
def test_pages_that_could_take_seconds_are_told_at_once(name: str) -> None:
    begin = time.process_time()
    assert why_complex(f"<html><body>{COMPLEX[name]}")
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    "page",
    [
        f"<p>{P}</p>" * 20_000,
        "<ul>" + "<li><a href=x>y</a>" * 20_000 + "</ul>",
        "<table>" + "<tr><td>x<td>y" * 20_000,
        f"<script>{'if (a < b) c = d; ' * 20_000}</script><p>{P}",
        f"<p>{'a=b ' * 20_000}</p>",
        f'<img src="data:image/png;base64,{"A b=" * 20_000}"><p>{P}',
        "<p>a<br>b<img src=x>" * 20_000,
        "<b>x</b><i>y</i><font size=1>z</font>" * 20_000,
    ],
)
def test_long_healthy_pages_are_read_where_they_are(page: str) -> None:
    assert why_complex(page) is None


def test_a_page_that_takes_too_long_is_refused_with_its_reason() -> None:
    page = "<ul><li>x" * 100_000
    found = extract_page(page.encode(), None, None, None, SETTINGS)
    assert isinstance(found, Refusal)
    assert found.reason == "page too complex"
    assert (
        found.detail
        == f"expected a page that can be parsed in {guarded.CPU_SECONDS} s of CPU time, found {why_complex(page)}"
    )


def test_a_deep_page_that_is_read_in_time_is_a_document() -> None:
    page = ("<div>" * 200_000 + "It lies deep down in here.").encode()
    found = extract_page(page, None, None, None, SETTINGS)
    assert isinstance(found, Document)
    assert found.text == "It lies deep down in here."
    assert extract_guarded(f"<html lang=de><title>T</title><p>{P}") == [P, "T", None, "de"]
