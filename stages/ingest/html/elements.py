"""Attributes of a page's elements: the names that tell what an element is, hidden parts, links.

Classes and ids name elements, but not every id is a name: generators of documentation make the ids of headings and
sections out of their titles, so that ``id="comments"`` is a chapter about comments in one page and what readers wrote
below the text in another.
"""

import re

from selectolax.lexbor import LexborNode

from rewarm.stages.ingest.html import chrome
from rewarm.stages.ingest.html.blocks import HEADINGS

TITLED = HEADINGS | {"dt", "summary"}  # elements that are titles; their ids are targets of links, made from their text
SECTIONS = frozenset({"section", "div"})
# Classes of the sections that docutils, Sphinx, Pandoc and AsciiDoctor make around a heading.
SECTION_CLASS = re.compile(r"section|level[1-6]|sect[1-6]|slide")
IN_A_LINE = frozenset({"a", "span", "button", "sup", "sub", "small", "i", "b", "em", "strong", "svg", "clipboard-copy"})
PARAGRAPHS = "p, li, h1, h2, h3, h4, h5, h6"


def names_of(node: LexborNode, tag: str, attributes: dict[str, str | None]) -> tuple[str, ...]:
    """Return an element's classes and id, in lower case; without an id that was made from a title."""
    classes = (attributes.get("class") or "").lower().split()
    identity = (attributes.get("id") or "").strip().lower()
    if identity and not (chrome.names_chrome(identity) and is_from_title(node, tag, identity, classes)):
        classes.append(identity)
    return tuple(classes)


def is_from_title(node: LexborNode, tag: str, identity: str, classes: list[str]) -> bool:
    """Return whether an element's id was made from a title: its own, or that of the section that it is."""
    if tag in TITLED:
        return True
    if tag not in SECTIONS:
        return False
    heading = first_heading(node)
    if heading is None:
        return False
    if any(SECTION_CLASS.fullmatch(name) for name in classes):
        return True
    return any((link.attributes.get("href") or "").lower() == f"#{identity}" for link in heading.css("a"))


def first_heading(node: LexborNode) -> LexborNode | None:
    """Return the heading that an element begins with, behind empty targets of links."""
    child = node.child
    while child is not None and child.tag not in HEADINGS:
        if (child.text() if child.tag != "-text" else child.text_content or "").strip():
            return None
        child = child.next
    return child


def is_text(node: LexborNode, names: tuple[str, ...]) -> bool:
    """Return whether an element with the name of a small part of a line is text after all.

    Docusaurus names headings ``anchor``, Prism code ``line-numbers``, and themes columns ``gutter``.
    """
    if node.tag in IN_A_LINE:
        return False
    if not chrome.LINE_NUMBERS.isdisjoint(names):
        return any(map(str.isalpha, node.text()))
    if chrome.ALSO_THEMES.isdisjoint(names):
        return False
    return node.tag in HEADINGS or node.css_first(PARAGRAPHS) is not None


def is_meta(attributes: dict[str, str | None], names: tuple[str, ...]) -> bool:
    """Return whether an element is marked or named as an author, a date, a credit or a button for sharing."""
    if not chrome.META_PROPERTIES.isdisjoint((attributes.get("itemprop") or "").split()):
        return True
    return (attributes.get("rel") or "") == "author" or (bool(names) and chrome.is_meta(names))


def is_target(attributes: dict[str, str | None]) -> bool:
    """Return whether an ``<a>`` is the target of links and not a link; HTML leaves ``<a name="x"/>`` open."""
    return bool(attributes) and "href" not in attributes and ("name" in attributes or "id" in attributes)


def leads_away(href: str | None) -> bool:
    """Return whether a link leads to another page."""
    return bool(href and not href.startswith(("#", "javascript:", "mailto:", "tel:")))


def is_behind(node: LexborNode) -> bool:
    """Return whether an element is the page behind an open dialog: displayed, but ``aria-hidden`` meanwhile."""
    if node.tag in ("main", "article", "body"):
        return True
    return node.parent is not None and node.parent.tag == "body" and node.css_first("main, article, h1") is not None


def whole(value: str | None, default: int) -> int:
    """Return the integer value of an attribute, or a default."""
    stripped = (value or "").strip()
    return int(stripped[:9]) if stripped.lstrip("-").isascii() and stripped.lstrip("-").isdigit() else default


def is_mark(node: LexborNode, attributes: dict[str, str | None]) -> bool:
    """Return whether an ``<a>`` in a heading is only a sign that links to it: ``#``, ``¶`` or nothing visible."""
    return (attributes.get("href") or "").startswith("#") and not any(map(str.isalnum, node.text()))
