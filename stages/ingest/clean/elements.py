"""HTML's elements by what they are to a reader: what is not shown, what begins a line, what holds rows and cells."""

from dataclasses import dataclass

# Elements whose content is not the page's text, and what is in the tree that is no element.
NOT_SHOWN = """
    script style template noscript iframe frame object embed video audio canvas svg map datalist select option textarea
    input head title meta link param source track progress meter base area -comment -doctype
    amp-ad amp-embed amp-sidebar amp-analytics amp-pixel amp-consent amp-social-share amp-user-notification amp-auto-ads
"""
# Elements that begin a line, by the line ends before and after them.
BEGIN_A_LINE = {
    2: """
        p h1 h2 h3 h4 h5 h6 pre ul ol dl table blockquote figure hr article section details fieldset main header footer
        aside nav form menu dialog
    """,
    1: """
        div li dt dd tr caption figcaption address summary legend center body tbody thead tfoot td th optgroup frameset
        hgroup search
    """,
}
SKIPPED_TAGS = frozenset(NOT_SHOWN.split())
BLOCKS = {tag: gap for gap, tags in BEGIN_A_LINE.items() for tag in tags.split()}
HEADINGS = frozenset(["h1", "h2", "h3", "h4", "h5", "h6"])
CONTROLS = frozenset({"button", "label"})
CELLS = frozenset({"td", "th"})
LISTS = frozenset({"ul", "ol", "menu"})
CONTAINERS = frozenset({"ul", "ol", "dl", "div", "table", "tr", "td", "section", "p", "center", "menu"})


@dataclass(slots=True)
class Frame:
    """An open element."""

    tag: str
    start: int
    gap: int = 0
    kind: str | None = None
    named: bool = False  # proposed by a name, not by tag or role
    main: bool = False
    article: bool = False
    pre: bool = False
    number: int | None = None  # of the next item of an ordered list
    cells: int = 0  # of a row so far
    layout: bool = False
    controls: bool = False  # a form with fields
    closing: str = ""
