"""The main text of an HTML page, with its title, date and language; the page is parsed once."""

import re
from datetime import datetime

import numpy as np
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from stages.ingest.clean.charset import decode_page
from stages.ingest.clean.codes import normalise_language
from stages.ingest.records import EXCERPT, Document, Refusal, make_document
from stages.ingest.settings import IngestSettings
from stages.ingest.timestamps import parse_timestamp

INVALID_CHARSET = "invalid charset"
NO_MAIN_TEXT = "no main text"
DATES = (
    ("meta[property='article:published_time']", "content"),
    ("meta[itemprop='datePublished']", "content"),
    ("time[datetime]", "datetime"),
)
# The layout's blanks: at a line's end, and more than one empty line (a page's nested blocks leave dozens).
LINE_END = re.compile(r"[^\S\n]+\n")
EMPTY_LINES = re.compile(r"\n{3,}")
# Telling main content from the rest looks at every element's ancestors, about 0.1 µs each: a page of unclosed tags
# could take hours. Above this many pairs of element and ancestor (some seconds) a page gives all of its text.
MAX_PAIRS = 5 * 10**7
# First two letters of tags that end where the next begins, or hold nothing: they open without closing.
FLAT = [
    int.from_bytes(pair, "big")
    for pair in (b"br", b"hr", b"im", b"li", b"me", b"in", b"td", b"th", b"tr", b"dt", b"dd")
]
FLAT += [int.from_bytes(b"p" + end, "big") for end in (b">", b" ", b"\n", b"a")]


def extract_page(
    html: bytes, declared_charset: str | None, url: str | None, timestamp: datetime | None, settings: IngestSettings
) -> Document | Refusal:
    """A document of a page's bytes; ``declared_charset`` is what the transport said of them.

    Without a ``timestamp`` the page's own date counts. Its language is what ``<html lang>`` says, a hint: detection
    comes later. What is refused has an empty location, for the caller to fill.
    """
    page = decode_page(html, declared_charset)
    if page is None:
        detail = f"text in a known encoding expected, declared {declared_charset or 'none'}; no encoding reads it"
        return Refusal("", INVALID_CHARSET, detail, html[:EXCERPT])
    tree = HTMLTree.parse(page)
    text = main_text(tree, main_content=ancestor_pairs(page) <= MAX_PAIRS)
    if not text:
        return Refusal("", NO_MAIN_TEXT, "main text expected, found markup or navigation only", html[:EXCERPT])
    fields = {
        settings.url: url,
        settings.timestamp: timestamp or page_date(tree),
        settings.language: page_language(tree),
        settings.title: page_title(tree),
    }
    return make_document("", text, fields, settings, html)


def main_text(tree: HTMLTree, main_content: bool = True) -> str:
    """The page's text without navigation, forms, comments and what only a script would show.

    Paragraphs, list marks and the line breaks of preformatted text stay; a no-break space, which is layout in HTML,
    becomes a space.
    """
    text = extract_plain_text(
        tree,
        preserve_formatting=True,
        main_content=main_content,
        list_bullets=True,
        alt_texts=False,
        links=False,
        form_fields=False,
        noscript=False,
        comments=False,
        post_meta=False,
    )
    text = LINE_END.sub("\n", text.replace("\xa0", " "))
    return EMPTY_LINES.sub("\n\n", text).strip()


def ancestor_pairs(page: str) -> int:
    """At most how many pairs of an element and its ancestor a page has: its tags times their greatest depth."""
    tags = page.count("<")
    if tags * tags <= MAX_PAIRS:
        return tags * tags
    letters = np.frombuffer(page.lower().encode("ascii", "replace") + b"    ", np.uint8).astype(np.uint16)
    opening = np.flatnonzero(letters[:-4] == ord("<"))
    closing = letters[opening + 1] == ord("/")
    first = opening + 1 + closing
    name = letters[first] << 8 | letters[first + 1]
    tag = (letters[first] >= ord("a")) & (letters[first] <= ord("z")) & ~np.isin(name, FLAT)
    depth = np.cumsum(np.where(closing, -1, 1)[tag])
    return int(depth.max(initial=0)) * len(depth)


def page_title(tree: HTMLTree) -> str | None:
    """``<title>``, else what the page calls itself for link previews."""
    title = " ".join((tree.title or "").split())
    return title or attribute(tree, "meta[property='og:title']", "content")


def page_date(tree: HTMLTree) -> datetime | None:
    """When the page says that it was published: the first date of ``DATES`` that is one."""
    dates = (parse_timestamp(attribute(tree, selector, name)) for selector, name in DATES)
    return next((date for date in dates if date), None)


def page_language(tree: HTMLTree) -> str | None:
    """The language that the page declares, as ISO 639-1."""
    root = tree.document.document_element if tree.document else None
    return normalise_language(root.get_attribute("lang")) if root else None


def attribute(tree: HTMLTree, selector: str, name: str) -> str | None:
    """An attribute of the first element that the selector finds, or None where it is missing or blank."""
    found = tree.document.query_selector(selector) if tree.document else None
    value = found.get_attribute(name) if found else None
    return value.strip() or None if value else None
