"""The document of an HTML page: its main text, with its title, date and language; the page is parsed once."""

import re
from datetime import datetime
from typing import NamedTuple

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree
from selectolax.lexbor import LexborHTMLParser

from rewarm.stages.ingest.html.charset import decode_page
from rewarm.stages.ingest.html.guarded import CPU_SECONDS, extract_guarded, why_complex
from rewarm.stages.ingest.html.main_text import main_text, tidy
from rewarm.stages.ingest.language_codes import normalise_language
from rewarm.stages.ingest.records import EXCERPT, Document, Refusal, make_document, parse_timestamp
from rewarm.stages.ingest.settings import IngestSettings

INVALID_CHARSET = "invalid charset"
NO_MAIN_TEXT = "no main text"
TOO_COMPLEX = "page too complex"
# A template that browsers show at once, as the content of the element around it; its end tag then closes nothing.
SHADOW_ROOT = re.compile(r"<template(?=[^>]{0,500}?\sshadowroot(?:mode)?\s*=)", re.IGNORECASE)
DATES = (
    ("meta[property='article:published_time']", "content"),
    ("meta[itemprop='datePublished']", "content"),
    ("time[datetime]", "datetime"),
)


class Page(NamedTuple):
    """What a page says."""

    text: str
    title: str | None
    date: str | None  # as the page writes it
    language: str | None  # ISO 639-1


def extract_page(
    html: bytes, declared_charset: str | None, url: str | None, timestamp: datetime | None, settings: IngestSettings
) -> Document | Refusal:
    """A document of a page's bytes; ``declared_charset`` is what the transport said of them.

    Without a ``timestamp`` the page's own date counts. Its language is what ``<html lang>`` says, a hint: detection
    comes later. What is refused has an empty location, for the caller to fill.
    """
    source = decode_page(html, declared_charset)
    if source is None:
        detail = f"text in a known encoding expected, declared {declared_charset or 'none'}; no encoding reads it"
        return Refusal("", INVALID_CHARSET, detail, html[:EXCERPT])
    complexity = why_complex(source)
    found = extract_guarded(source) if complexity else read_page(source)
    if found is None:
        detail = f"a page that is read in {CPU_SECONDS} s of CPU time expected, found {complexity}"
        return Refusal("", TOO_COMPLEX, detail, html[:EXCERPT])
    page = Page(*found)
    if not page.text:
        return Refusal("", NO_MAIN_TEXT, "main text expected, found markup or navigation only", html[:EXCERPT])
    fields = {
        settings.url: url,
        settings.timestamp: timestamp or parse_timestamp(page.date),
        settings.language: page.language,
        settings.title: page.title,
    }
    return make_document("", page.text, fields, settings, html)


def read_page(source: str) -> Page:
    """Parse a page and read it."""
    if "shadowroot" in source:
        source = SHADOW_ROOT.sub("<div", source)
    tree = LexborHTMLParser(source.encode("utf-8", "replace"))
    return Page(main_text(tree), page_title(tree), page_date(tree), page_language(tree))


def read_complex_page(source: str) -> Page:
    """All text of a page, by a parser that reads deep nesting in less time, without telling main text from the rest."""
    tree = HTMLTree.parse(source)
    text = extract_plain_text(tree, preserve_formatting=True, main_content=False, alt_texts=False)
    root = tree.document.document_element if tree.document else None
    language = normalise_language(root.get_attribute("lang")) if root else None
    return Page(tidy(text), " ".join((tree.title or "").split()) or None, None, language)


def page_title(tree: LexborHTMLParser) -> str | None:
    """``<title>``, else what the page calls itself for link previews."""
    element = tree.css_first("head > title") or tree.css_first("title")
    title = " ".join(element.text().split()) if element else ""
    return title or attribute(tree, "meta[property='og:title']", "content")


def page_date(tree: LexborHTMLParser) -> str | None:
    """When the page says that it was published: the first of ``DATES`` that is a date."""
    dates = (attribute(tree, selector, name) for selector, name in DATES)
    return next((date for date in dates if date and parse_timestamp(date)), None)


def page_language(tree: LexborHTMLParser) -> str | None:
    """The language that the page declares, as ISO 639-1."""
    root = tree.css_first("html")
    return normalise_language(root.attributes.get("lang")) if root else None


def attribute(tree: LexborHTMLParser, selector: str, name: str) -> str | None:
    """An attribute of the first element that the selector finds, or None where it is missing or blank."""
    found = tree.css_first(selector)
    value = found.attributes.get(name) if found else None
    return value.strip() or None if value else None
