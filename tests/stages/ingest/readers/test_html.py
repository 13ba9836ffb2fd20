"""HTML files on disk: encodings, what is main text, and what a page says of itself."""

from datetime import UTC, datetime

import pytest

from rewarm.stages.ingest.readers.text import read_html
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import IngestSettings

SETTINGS = IngestSettings()
GERMAN = "Größere Züge dürfen über die Brücke fahren, die früher für schwere Züge gesperrt war. " * 3


def text_of(html: str | bytes) -> str:
    found = read_html(html.encode() if isinstance(html, str) else html, "a.html", SETTINGS)
    assert isinstance(found, Document), found
    return found.text


def test_the_main_text_keeps_its_form_and_loses_the_rest() -> None:
    html = """<html><head><style>p {}</style><script>var x = 1</script></head><body>
    <nav><ul><li><a href="/">Home</a></li><li><a href="/about">About</a></li></ul></nav>
    <main><h1>Heading</h1><p>The first   paragraph,
    of <b>two</b>&nbsp;lines.</p><p>The<br>second.</p>
    <pre>def f():
        return 1


    f()</pre>
    <ol><li>The first item of the list is here.</li><li>And so is the second one.</li></ol>
    <form><input value="typed"><button>Send</button></form><img alt="picture"><noscript>No script</noscript></main>
    <footer>Copyright</footer></body></html>"""
    text = text_of(html)
    assert "Heading\n\nThe first paragraph, of two lines.\n\nThe\nsecond." in text
    assert "def f():\n        return 1\n\n    f()" in text  # no more than one empty line
    assert "1. The first item of the list is here.\n" in text
    for gone in ("Home", "About", "var x", "typed", "Send", "picture", "No script", "Copyright", "p {}"):
        assert gone not in text


def test_an_end_of_text_marker_on_a_page_is_text() -> None:
    assert text_of("<p>GPT-2 ends a text with &lt;|endoftext|&gt;, as said.</p>").endswith("<|endoftext|>, as said.")
    assert "<|endoftext|>" in text_of("<p>GPT-2 ends a text with <|endoftext|>, as said.</p>")


def test_nul_bytes_do_not_end_a_page() -> None:
    assert "the end" in text_of(b"<p>The begin of it\0 and the end.</p>")


@pytest.mark.parametrize(
    ("encoding", "meta"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-8", "<meta charset=utf-8>"),
        ("utf-8", '<meta charset="iso-8859-1">'),
        ("windows-1252", '<meta http-equiv="Content-Type" content="text/html; charset=ISO-8859-1">'),
        ("windows-1252", "<meta charset='utf-8'>"),
        ("windows-1252", ""),
        ("utf-16", ""),
        ("utf-16", "<meta charset=utf-8>"),
        ("utf-16-be", ""),
    ],
)
def test_encodings_are_found(encoding: str, meta: str) -> None:
    assert text_of(f"<html><head>{meta}</head><body><p>{GERMAN}</p></body>".encode(encoding)) == GERMAN.strip()


def test_one_broken_byte_costs_one_character_only() -> None:
    data = f"<meta charset=utf-8><p>{GERMAN}</p>".encode()
    spoiled = data.replace("früher".encode(), b"fr\xfcher", 1)
    assert text_of(spoiled) == GERMAN.strip().replace("früher", "fr\ufffdher", 1)


PROSE = "<p>The river rose after three days of rain, and the mill stood in water.</p>"


@pytest.mark.parametrize(
    ("html", "title", "language", "date"),
    [
        (f"<title> A\n &amp; B </title>{PROSE}", "A & B", None, None),
        (f'<title></title><meta property="og:title" content="Shared">{PROSE}', "Shared", None, None),
        (f'<html lang="de-AT">{PROSE}', None, "de", None),
        (f'<html lang="xx">{PROSE}', None, None, None),
        (
            f'<meta property="article:published_time" content="2025-02-03T10:00:00+02:00">{PROSE}',
            None,
            None,
            datetime(2025, 2, 3, 8, tzinfo=UTC),
        ),
        (f"{PROSE}<time datetime='2024-05-06'>May</time>", None, None, datetime(2024, 5, 6, tzinfo=UTC)),
        (f"{PROSE}<time datetime='yesterday'>May</time>", None, None, None),
    ],
)
def test_what_a_page_says_of_itself(html: str, title: str | None, language: str | None, date: datetime | None) -> None:
    found = read_html(html.encode(), "sub dir/ä.html", SETTINGS)
    assert isinstance(found, Document)
    assert (found.title, found.language, found.timestamp) == (title, language, date)
    assert (found.url, found.source) == ("sub dir/ä.html", None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no main text"),
        (b"<html><body><nav><a href=/>Home</a></nav><script>x</script></body></html>", "no main text"),
        (bytes(range(256)) * 30, "invalid charset"),
        (b"<p>" + b"x" * 5000, "record too long"),
    ],
)
def test_files_that_are_no_documents(data: bytes, reason: str) -> None:
    found = read_html(data, "a.html", IngestSettings(max_record_bytes=5000 if reason == "record too long" else 10**6))
    assert isinstance(found, Refusal)
    assert (found.reason, found.location) == (reason, "file")


def test_deep_nesting_is_read() -> None:
    assert "deep" in text_of("<div>" * 20_000 + "<p>It lies deep down in here.</p>" + "</div>" * 20_000)
