"""The main text of a parsed page: its blocks in order, without what surrounds them.

One walk over the tree turns it into blocks of text (paragraphs, list items, rows, code; ``page_reader.py``). An element
that its tag, role or name proposes as chrome is set aside with its blocks when the walk leaves it, if what it holds
agrees: links, short lines, no prose (``asides.py``). At the end the page as a whole decides what comes back: a page
whose comments are all it has is a discussion, and a "sidebar" with most of the prose is the article. Every step is
linear in the page's size.

Compared with resiliparse's and trafilatura's extraction in benchmarks/main_text.py.
"""

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser

from rewarm.stages.ingest.html import chrome
from rewarm.stages.ingest.html.asides import LINKS
from rewarm.stages.ingest.html.blocks import ENOUGH, PROSE, Block, asides, brought, prose_of, weight_of
from rewarm.stages.ingest.html.page_reader import Reader, walk

LINE_END = re.compile(r"[^\S\n]+\n")
EMPTY_LINES = re.compile(r"\n{3,}")
COPYRIGHT = re.compile(r"(?:copyright\b|©|\(c\)\s|all rights reserved)", re.IGNORECASE)


def main_text(tree: LexborHTMLParser) -> str:
    """The page's text without navigation, forms and what only a script would show.

    Paragraphs, list marks, cells (two tabs between them) and the line breaks of preformatted text stay; a no-break
    space, which is layout in HTML, becomes a space. At most one empty line stays.
    """
    blocks = blocks_of(tree, Reader())
    if prose_of(blocks) < PROSE and tree.css_first("body noscript"):
        shown = blocks_of(tree, Reader(no_scripts=True))
        blocks = shown if prose_of(shown) >= ENOUGH else blocks  # less is only a plea to switch scripts on
    return tidy("".join(written(blocks)))


def blocks_of(tree: LexborHTMLParser, reader: Reader) -> list[Block]:
    """The blocks of the main text."""
    walk(tree.body or tree.root, reader)
    return choose(reader)


def tidy(text: str) -> str:
    """The text without blanks at its lines' ends, and with one empty line in a row at most."""
    return EMPTY_LINES.sub("\n\n", LINE_END.sub("\n", text.replace("\xa0", " "))).strip()


def choose(reader: Reader) -> list[Block]:
    """The blocks of the main text: what was kept, and what the page as a whole brings back."""
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
    if kept < ENOUGH:  # an index, whose links are its text
        rest = sum(item.weight for item in reader.items if isinstance(item, Block))
        links = [group for group in groups if group.kind == LINKS]
        if sum(weight_of(group) for group in links) > rest:
            back |= {id(group) for group in links}
    blocks = list(brought(reader.items, back))
    if not blocks:  # nothing but what was set aside: prose in it, or links that are the page
        back |= {id(group) for group in groups if prose_of(group.items) or group.kind == LINKS}
        blocks = list(brought(reader.items, back))
    return without_ends(blocks)


def without_ends(blocks: list[Block]) -> list[Block]:
    """The blocks without the links and notices that surround the main text outside of its element."""
    main = sum(block.prose for block in blocks if block.main == 2)
    if main >= ENOUGH and main * 4 >= 3 * sum(block.prose for block in blocks):
        blocks = [block for block in blocks if block.main or block.prose or block.heading == 1]
    end, rest = len(blocks), sum(block.prose for block in blocks) // 4  # a page of links is no end of a text
    while end and not blocks[end - 1].main and is_notice(blocks[end - 1]) and rest >= blocks[end - 1].weight:
        end -= 1
        rest -= blocks[end].weight
    return blocks[:end]


def is_notice(block: Block) -> bool:
    """Whether a last line is a copyright notice or links."""
    return block.weight < 2 * PROSE and (bool(COPYRIGHT.match(block.text)) or block.linked * 10 >= block.weight * 8)


def written(blocks: list[Block]) -> Iterator[str]:
    """The blocks' texts with what parts them."""
    for number, block in enumerate(blocks):
        if number:
            yield "\n" * block.gap
        yield block.text
