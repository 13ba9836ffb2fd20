"""Main text of a parsed page: its blocks in order, without chrome.

One walk over the tree converts it into blocks of text (paragraphs, list items, rows, code; ``page_reader.py``). An
element that its tag, role or name suggests is chrome is set aside with its blocks when the walk leaves it, if its
contents confirm it: links, short lines, no prose (``asides.py``). At the end, groups are restored by looking at the
page as a whole: a page that consists only of comments is a discussion, and a "sidebar" with most of the prose is the
article. Every step is linear in the size of the page.

benchmarks/main_text.py compares it with resiliparse and trafilatura.
"""

import re
from collections.abc import Iterable, Iterator

from selectolax.lexbor import LexborHTMLParser

from rewarm.stages.ingest.html import chrome
from rewarm.stages.ingest.html.article import article_only
from rewarm.stages.ingest.html.asides import LINKS
from rewarm.stages.ingest.html.blocks import ENOUGH, PROSE, Aside, Block, asides, brought, prose_of, weight_of
from rewarm.stages.ingest.html.core import core_of, from_title, without_cards
from rewarm.stages.ingest.html.page_reader import Reader, walk

LINE_END = re.compile(r"[^\S\n]+\n")
EMPTY_LINES = re.compile(r"\n{3,}")
COPYRIGHT = re.compile(r"(?:copyright\b|©|\(c\)\s|all rights reserved)", re.IGNORECASE)


def main_text(tree: LexborHTMLParser) -> str:
    """Return the page's text without navigation, forms and content that only scripts display.

    Paragraphs, list marks, cells (separated by two tabs) and the line breaks of preformatted text are kept; a no-break
    space, which is layout in HTML, becomes a space. At most one empty line in a row is kept.
    """
    blocks = blocks_of(tree, Reader())
    if prose_of(blocks) < PROSE and tree.css_first("body noscript"):
        shown = blocks_of(tree, Reader(no_scripts=True))
        blocks = shown if prose_of(shown) >= ENOUGH else blocks  # less is only a request to enable scripts
    return tidy("".join(written(blocks)))


def blocks_of(tree: LexborHTMLParser, reader: Reader) -> list[Block]:
    """Return the blocks of the main text."""
    walk(tree.body or tree.root, reader)
    return choose(reader)


def tidy(text: str) -> str:
    """Return the text without blanks at line ends, and with at most one empty line in a row."""
    return EMPTY_LINES.sub("\n\n", LINE_END.sub("\n", text.replace("\xa0", " "))).strip()


def choose(reader: Reader) -> list[Block]:
    """Return the blocks of the main text: those that were kept, and groups restored by looking at the whole page."""
    groups = list(asides(reader.items))
    kept = prose_of(reader.items)
    back = set()
    comments = [group for group in groups if group.kind == chrome.COMMENTS]
    said = sum(prose_of(group.items) for group in comments)
    if reader.discussion or (kept < ENOUGH and (said > kept or not kept)) or (kept < 3 * ENOUGH and kept * 5 < said):
        back |= {id(group) for group in comments}
        kept += said
    for group in groups:
        prose = prose_of(group.items)
        if not group.sure and group.kind != chrome.COMMENTS and (prose > 2 * kept or (prose and kept < PROSE)):
            back.add(id(group))
    if kept < ENOUGH:
        back |= plain_text(reader.items, groups)
    promotions = [group for group in groups if group.kind == chrome.PROMO]
    if sum(prose_of(group.items) for group in promotions) > kept:  # a page about people, or of slides
        back |= {id(group) for group in promotions}
    if kept < ENOUGH:  # an index page, whose text is links
        rest = sum(item.weight for item in reader.items if isinstance(item, Block))
        links = [group for group in groups if group.kind == LINKS]
        if sum(weight_of(group) for group in links) > rest:
            back |= {id(group) for group in links}
    blocks = list(brought(reader.items, back))
    if not blocks:  # everything was set aside: restore prose, or the links of a link page
        back |= {id(group) for group in groups if prose_of(group.items) or group.kind == LINKS}
        blocks = list(brought(reader.items, back))
    blocks = without_ends(from_title(core_of(without_cards(blocks), reader.containers)))
    return blocks if reader.discussion else article_only(blocks)


def plain_text(items: list[Block | Aside], groups: list[Aside]) -> set[int]:
    """Return the group with nearly all text of a page that has hardly any prose outside of groups, such as verses."""

    def plain(group: Iterable[Block | Aside]) -> int:
        return sum(item.weight - item.linked for item in group if isinstance(item, Block))

    possible = [group for group in groups if not group.sure and group.kind != chrome.COMMENTS]
    most = max(possible, key=lambda group: plain(group.items), default=None)
    if most is None or plain(most.items) < max(ENOUGH, 2 * plain(items)):
        return set()
    return {id(most)}


def without_ends(blocks: list[Block]) -> list[Block]:
    """Return the blocks without links and notices before and after the main text's element."""
    main = sum(block.prose for block in blocks if block.main == 2)
    if main >= ENOUGH and main * 4 >= 3 * sum(block.prose for block in blocks):
        blocks = [block for block in blocks if block.main or block.prose or block.heading == 1]
    end, rest = len(blocks), sum(block.prose for block in blocks) // 4  # a page of links is not the end of a text
    while end and not blocks[end - 1].main and is_notice(blocks[end - 1]) and rest >= blocks[end - 1].weight:
        end -= 1
        rest -= blocks[end].weight
    return blocks[:end]


def is_notice(block: Block) -> bool:
    """Return whether a block at the end is a copyright notice or links."""
    return block.weight < 2 * PROSE and (bool(COPYRIGHT.match(block.text)) or block.linked * 10 >= block.weight * 8)


def written(blocks: list[Block]) -> Iterator[str]:
    """Yield the blocks' texts and the separators between them."""
    for number, block in enumerate(blocks):
        if number:
            yield "\n" * block.gap
        yield block.text
