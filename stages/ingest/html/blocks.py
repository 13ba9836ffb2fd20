"""Blocks of a page's text: lines and paragraphs, and the groups of them that are set aside as chrome.

HTML's elements by what they are to a reader: what is not shown, what begins a line, what holds rows and cells.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PROSE = 80  # bytes of a block from which it is prose, if few of them are links
ENOUGH = 200  # bytes of prose that make a main text


@dataclass(slots=True)
class Block:
    """A line or a paragraph of the page."""

    text: str
    gap: int  # line ends before it; 0: a cell of the same row
    weight: int  # bytes
    linked: int  # bytes in links
    main: int  # 2 in a <main> or <article>, 1 in an element that is only named like one
    heading: int = 0  # 1 to 6

    @property
    def prose(self) -> int:
        """Its bytes, if it is prose."""
        return self.weight if self.weight >= PROSE and self.linked * 2 < self.weight else 0


@dataclass(slots=True)
class Aside:
    """Blocks set aside."""

    kind: str
    items: "list[Block | Aside]"
    sure: bool  # by its tag, or for what it holds: comes back only where there is nothing else


def asides(items: "list[Block | Aside]") -> Iterator[Aside]:
    """All groups set aside, also those within others, which may be thousands deep."""
    left = [item for item in items if isinstance(item, Aside)]
    while left:
        group = left.pop()
        yield group
        left.extend(item for item in group.items if isinstance(item, Aside))


def weight_of(group: Aside) -> int:
    """Bytes of a group's own blocks."""
    return sum(item.weight for item in group.items if isinstance(item, Block))


def prose_of(items: Sequence[Block | Aside]) -> int:
    """Bytes of prose, without what is set aside."""
    return sum(item.prose for item in items if isinstance(item, Block))


def brought(items: "list[Block | Aside]", back: set[int]) -> Iterator[Block]:
    """The blocks that stay, in their order."""
    left = [(iter(items), True)]  # and whether the blocks among them stay
    while left:
        rest, stays = left[-1]
        item = next(rest, None)
        if item is None:
            left.pop()
        elif isinstance(item, Aside):
            left.append((iter(item.items), id(item) in back))
        elif stays:
            yield item


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
