"""Blocks of a page's text (lines and paragraphs), groups of them set aside as chrome, and HTML's elements by role.

The roles of elements: not displayed, starting a line, containing rows and cells.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PROSE = 80  # minimum bytes of a block of prose, if few of them are links
ENOUGH = 200  # minimum bytes of prose in a main text


@dataclass(slots=True)
class Block:
    """A line or a paragraph of the page."""

    text: str
    gap: int  # line ends before it; 0: a cell of the same row
    weight: int  # bytes
    linked: int  # bytes in links
    main: int  # 2 in a <main> or <article>, 1 in an element that only has such a name
    heading: int = 0  # 1 to 6
    away: int = 0  # bytes in links to other pages
    card: int = 0  # number of the card that it belongs to, from 1; 0: none
    container: int = 0  # number of the innermost container, in document order
    pre: bool = False  # whether it is preformatted
    meta: int = 0  # bytes in elements named as an author, a date, a credit or a button for sharing
    item: bool = False  # whether it is in an item of a list
    cell: bool = False  # of a table
    aside: bool = False  # in an <aside> or a sidebar that was kept
    caption: bool = False  # of a picture or a table

    @property
    def prose(self) -> int:
        """Bytes of the block if it is prose, else 0."""
        return self.weight if self.weight >= PROSE and self.linked * 2 < self.weight else 0


@dataclass(slots=True)
class Aside:
    """Group of blocks set aside."""

    kind: str
    items: "list[Block | Aside]"
    sure: bool  # by tag or contents: restored only if there is nothing else


def asides(items: "list[Block | Aside]") -> Iterator[Aside]:
    """Yield all groups set aside, including nested ones, which can be thousands of levels deep."""
    left = [item for item in items if isinstance(item, Aside)]
    while left:
        group = left.pop()
        yield group
        left.extend(item for item in group.items if isinstance(item, Aside))


def weight_of(group: Aside) -> int:
    """Return the bytes of a group's own blocks."""
    return sum(item.weight for item in group.items if isinstance(item, Block))


def prose_of(items: Sequence[Block | Aside]) -> int:
    """Return the bytes of prose, excluding groups set aside."""
    return sum(item.prose for item in items if isinstance(item, Block))


def brought(items: "list[Block | Aside]", back: set[int]) -> Iterator[Block]:
    """Yield the kept blocks in order; ``back`` are the groups to restore."""
    left = [(iter(items), True)]  # and whether their blocks are kept
    while left:
        rest, stays = left[-1]
        item = next(rest, None)
        if item is None:
            left.pop()
        elif isinstance(item, Aside):
            left.append((iter(item.items), id(item) in back))
        elif stays:
            yield item


# Elements whose content is not the page's text, and nodes of the tree that are not elements.
NOT_SHOWN = """
    script style template noscript iframe frame object embed video audio canvas svg map datalist select option textarea
    input head title meta link param source track progress meter base area -comment -doctype
    amp-ad amp-embed amp-sidebar amp-analytics amp-pixel amp-consent amp-social-share amp-user-notification amp-auto-ads
"""
# Elements that start a line, by the number of line ends before and after them.
BEGIN_A_LINE = {
    2: """
        p h1 h2 h3 h4 h5 h6 pre ul ol dl table blockquote figure hr article section details fieldset main header footer
        aside nav form menu dialog xmp listing plaintext
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
PREFORMATTED_TAGS = frozenset({"pre", "xmp", "listing", "plaintext"})
CAPTIONS = frozenset({"figcaption", "caption"})
ITEMS = frozenset({"li", "dt", "dd"})
LISTS = frozenset({"ul", "ol", "menu"})
CONTAINERS = frozenset({"ul", "ol", "dl", "div", "table", "tr", "td", "section", "p", "center", "menu"})


@dataclass(slots=True)
class Frame:
    """An open element."""

    tag: str
    start: int
    gap: int = 0
    kind: str | None = None
    named: bool = False  # suggested by a name, not by tag or role
    main: bool = False
    article: bool = False
    pre: bool = False
    number: int | None = None  # of the next item of an ordered list
    cells: int = 0  # in a row so far
    layout: bool = False
    controls: bool = False  # a form with fields
    link: bool = False
    away: bool = False  # a link to another page
    meta: bool = False  # named as an author, a date, a credit or a button for sharing
    caption: bool = False
    container: int = 0  # its number, if it is a container
    closing: str = ""
