"""Extraction of documents from HTML pages: main text, title, date and language, from a single parse."""

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
# A template that browsers display immediately as content of the enclosing element; its end tag then closes nothing.
SHADOW_ROOT = re.compile(r"<template(?=[^>]{0,500}?\sshadowroot(?:mode)?\s*=)", re.IGNORECASE)
# Frames, whose alternative text HTML's parser does not parse, and elements that XHTML closes at once but HTML does not.
FRAMES = re.compile(r"</?(?:frameset|frame|noframes)\b[^<>]*>", re.IGNORECASE)
XHTML = re.compile(
    r"\s*(?:<\?xml\b|<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML|(?:<!DOCTYPE html>\s*)?"
    r"<html\b[^>]*\sxmlns=[\"']http://www\.w3\.org/1999/xhtml)",
    re.IGNORECASE,
)
EMPTY_ELEMENT = re.compile(
    r"<(?!(?:area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr)\b)([a-z][\w:-]*)"
    r"""((?:\s+[\w:.-]+(?:\s*=\s*(?:"[^"]*"|'[^']*'))?)*)\s*/>""",
    re.IGNORECASE,
)
DATES = (
    ("meta[property='article:published_time']", "content"),
    ("meta[itemprop='datePublished']", "content"),
    ("time[datetime]", "datetime"),
)


class Page(NamedTuple):
    """Contents of a page."""

    text: str
    title: str | None
    date: str | None  # as written in the page
    language: str | None  # ISO 639-1


def extract_page(
    html: bytes, declared_charset: str | None, url: str | None, timestamp: datetime | None, settings: IngestSettings
) -> Document | Refusal:
    """Return the document of a page's bytes, or a refusal; ``declared_charset`` is the transport's declaration.

    Without a ``timestamp``, the page's own date is used. The language is that of ``<html lang>`` and only a hint:
    detection comes later. A refusal has an empty location, which the caller fills in.
    """
    source = decode_page(html, declared_charset)
    if source is None:
        detail = f"expected text in a known encoding (declared: {declared_charset or 'none'}); no encoding matches"
        return Refusal("", INVALID_CHARSET, detail, html[:EXCERPT])
    complexity = why_complex(source)
    found = extract_guarded(source) if complexity else read_page(source)
    if found is None:
        detail = f"expected a page that can be parsed in {CPU_SECONDS} s of CPU time, found {complexity}"
        return Refusal("", TOO_COMPLEX, detail, html[:EXCERPT])
    page = Page(*found)
    if not page.text:
        return Refusal("", NO_MAIN_TEXT, "expected main text, found only markup or navigation", html[:EXCERPT])
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
    if "noframes" in source or "NOFRAMES" in source:
        source = FRAMES.sub("", source)
    if XHTML.match(source):
        source = EMPTY_ELEMENT.sub(r"<\1\2></\1>", source)
    tree = LexborHTMLParser(source.encode("utf-8", "replace"))
    return Page(main_text(tree), page_title(tree), page_date(tree), page_language(tree))


def read_complex_page(source: str) -> Page:
    """Return all text of a page, without selecting the main text, using a parser that handles deep nesting faster."""
    tree = HTMLTree.parse(source)
    text = extract_plain_text(tree, preserve_formatting=True, main_content=False, alt_texts=False)
    root = tree.document.document_element if tree.document else None
    language = normalise_language(root.get_attribute("lang")) if root else None
    return Page(tidy(text), " ".join((tree.title or "").split()) or None, None, language)


def page_title(tree: LexborHTMLParser) -> str | None:
    """Return ``<title>``, else the title that the page declares for link previews."""
    element = tree.css_first("head > title") or tree.css_first("title")
    title = " ".join(element.text().split()) if element else ""
    return title or attribute(tree, "meta[property='og:title']", "content")


def page_date(tree: LexborHTMLParser) -> str | None:
    """Return the publication date that the page declares: the first of ``DATES`` that is a date."""
    dates = (attribute(tree, selector, name) for selector, name in DATES)
    return next((date for date in dates if date and parse_timestamp(date)), None)


def page_language(tree: LexborHTMLParser) -> str | None:
    """Return the language that the page declares, as ISO 639-1."""
    root = tree.css_first("html")
    return normalise_language(root.attributes.get("lang")) if root else None


def attribute(tree: LexborHTMLParser, selector: str, name: str) -> str | None:
    """Return an attribute of the first element that matches the selector, or None if it is missing or blank."""
    found = tree.css_first(selector)
    value = found.attributes.get(name) if found else None
    return value.strip() or None if value else None
