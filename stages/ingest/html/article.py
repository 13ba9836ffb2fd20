"""An article's own text: without the lines around and between its paragraphs that belong to the page.

A page is an article if most of its text is paragraphs, with hardly any code and tables. Only on such a page are
bylines, dates, counts of shares and buttons above the first paragraph removed, links, teasers and empty headings below
the last one, and credits, single links and copies of captions between them. Lists, tables, code, captions and whole
sentences stay, and pages of other kinds (manuals, forums, indexes) are returned as they are.
"""

import re
import unicodedata
from collections import Counter

from rewarm.stages.ingest.html.blocks import ENOUGH, PROSE, Block
from rewarm.stages.ingest.html.core import own_weight

PARAGRAPHS = 2  # minimum of an article
MOST_CODE = 0.1  # share of preformatted text and cells in an article
LABEL = 45  # bytes of the longest line that can be a label: 'By A. Writer', 'Print', '12 comments'
LONGEST_META = 160  # bytes of a byline or dateline
MOST_AFTER = 0.25  # share of the article's bytes that can be removed after its end
LETTERS_OF_DATE = 22  # most letters of a line that is a date: 'Wednesday, 20 September 2019, 11:42 a.m. EST'
DATED = re.compile(r"\b(?:19|20)\d\d\b|\b\d{1,2}:\d\d\b|\d年")
SENTENCE_END = frozenset(".!?…。！？।॥።؟۔:;,：；，»”’\"')]）」』")


def is_paragraph(block: Block) -> bool:
    """Return whether a block is a paragraph of the page's own text."""
    return bool(block.prose and own_weight(block) and not block.heading and not block.aside)


def is_article(blocks: list[Block]) -> bool:
    """Return whether most of the text is paragraphs, with hardly any code or tables."""
    paragraphs = [block.prose for block in blocks if is_paragraph(block) and not (block.item or block.pre)]
    weight = sum(block.weight for block in blocks)
    other = sum(block.weight for block in blocks if block.pre or block.cell)
    return (
        len(paragraphs) >= PARAGRAPHS
        and sum(paragraphs) >= 2 * ENOUGH
        and 2 * sum(paragraphs) >= weight
        and other <= MOST_CODE * weight
    )


def is_meta(block: Block) -> bool:
    """Return whether a line only says who wrote the text, when, in which section, or how often it was shared."""
    if block.heading or block.weight > LONGEST_META or block.pre or block.cell:
        return False
    if 2 * block.meta >= block.weight:
        return True
    if block.item or block.caption:
        return False
    letters = sum(unicodedata.category(sign).startswith("L") for sign in block.text[:LONGEST_META])
    return letters == 0 or (letters <= LETTERS_OF_DATE and bool(DATED.search(block.text)))


def is_interruption(block: Block) -> bool:
    """Return whether a line between paragraphs is a credit, a date, or nothing but a link to another page."""
    if block.item or block.pre:  # generators link the names in code
        return False
    if 10 * block.away >= 8 * block.weight and block.weight <= LONGEST_META and not (block.heading or block.cell):
        return True
    return 2 * block.meta >= block.weight and is_meta(block)


def is_label(block: Block, home: int) -> bool:
    """Return whether a line outside the paragraphs' container is a label: short, and not the end of a sentence."""
    if block.container == home or block.caption or block.heading or block.item or block.pre or block.cell:
        return False
    return block.weight <= LABEL and block.text[-1] not in SENTENCE_END


def is_solid(block: Block, home: int) -> bool:
    """Return whether a block below the last paragraph is text: an item, code, a cell or a sentence, with few links.

    So is any line of the paragraphs' own container.
    """
    linked = 2 * block.linked >= block.weight and not block.pre
    if block.heading or block.card or block.aside or linked or is_meta(block):
        return False
    if block.item or block.pre or block.cell or block.caption or block.container == home:
        return True
    return block.text[-1] in SENTENCE_END and not block.meta


def article_only(blocks: list[Block]) -> list[Block]:
    """Return the blocks of an article without what surrounds it; those of any other page as they are."""
    if not is_article(blocks):
        return blocks
    home = home_of(blocks)
    blocks = from_only_title(blocks, home)
    places = [number for number, block in enumerate(blocks) if is_paragraph(block)]
    first, last = places[0], places[-1] + 1
    weight = sum(block.weight for block in blocks)
    boxes = sum(block.weight for block in blocks if block.aside) <= MOST_AFTER * weight
    titled = any(block.heading == 1 for block in blocks[:first])
    head = [
        block for block in blocks[:first] if not (block.aside or is_meta(block) or (titled and is_label(block, home)))
    ]
    body = [block for block in blocks[first:last] if not ((block.aside and boxes) or is_interruption(block))]
    below = blocks[last:]
    tail = tail_of(below, home)
    if sum(block.weight for block in below) - sum(block.weight for block in tail) > MOST_AFTER * weight:
        tail = below
    return without_copies(head + without_link_sections(body, home) + tail)


def from_only_title(blocks: list[Block], home: int) -> list[Block]:
    """Return the blocks without those above the page's only title, if the paragraphs' container begins below it."""
    titles = [number for number, block in enumerate(blocks) if block.heading == 1]
    start = next(number for number, block in enumerate(blocks) if block.container == home)
    if len(titles) != 1 or titles[0] > start:
        return blocks
    above = sum(block.weight for block in blocks[: titles[0]])
    return blocks[titles[0] :] if 2 * above <= sum(block.weight for block in blocks) else blocks


def home_of(blocks: list[Block]) -> int:
    """Return the container with most of the paragraphs."""
    sums = Counter[int]()
    for block in blocks:
        sums[block.container] += block.prose
    return max(sums, key=lambda number: sums[number])


def without_link_sections(blocks: list[Block], home: int) -> list[Block]:
    """Return the blocks without headings that only links follow, and these links."""
    kept: list[Block] = []
    start, links, text = 0, 0, True  # of the section: its place in ``kept``, its links, whether it has text
    for block in [*blocks, None]:
        if block is None or block.heading > 1:
            level = block.heading if block else 0
            empty = len(kept) == start + 1 and level <= kept[start].heading and kept[start].container != home
            if not text and (links or empty):
                del kept[start:]
            start, links, text = len(kept), 0, False
        elif 2 * block.away < block.weight or block.pre or block.cell:
            text = True
        else:
            links += 1
        if block:
            kept.append(block)
    return kept


def tail_of(blocks: list[Block], home: int) -> list[Block]:
    """Return what of the blocks below the last paragraph is text, section by section."""
    sections: list[list[Block]] = [[]]
    for block in blocks:
        if block.heading:
            sections.append([])
        sections[-1].append(block)
    kept: list[Block] = []
    for section in sections:
        solid = [block for block in section if is_solid(block, home)]
        if not solid:
            continue
        if 2 * sum(block.weight for block in solid) < sum(block.weight for block in section if not block.heading):
            continue
        kept += [block for block in section if not (is_meta(block) or block.card)]
    return kept


def without_copies(blocks: list[Block]) -> list[Block]:
    """Return the blocks without repeated captions and titles."""
    seen, kept = set[str](), []
    for block in blocks:
        if block.caption or block.heading:
            if block.text in seen:
                continue
            if block.weight >= PROSE or block.heading == 1:
                seen.add(block.text)
        kept.append(block)
    return kept
