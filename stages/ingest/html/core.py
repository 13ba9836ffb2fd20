"""Core of a page: the innermost container with nearly all of its own text, without cards that announce other pages.

Lists of other articles, offers and staff beside and below an article are neither named nor marked as such. What tells
them apart is where the text is: an article's paragraphs share a container that the rest of the page is not in, and a
card is a small element with a linked title.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rewarm.stages.ingest.html.blocks import ENOUGH, PROSE, Aside, Block

SCOPES = frozenset({"div", "section", "article", "main", "td", "center", "form", "details"})
CARDS = frozenset({"li", "div", "article", "section", "td", "figure"})
SHARE = 0.9  # of the page's own text, in the core
COOKIES = re.compile(
    r"\bcookies?\b.{0,200}\b(?:accept|agree|consent|policy|settings|browser)", re.IGNORECASE | re.DOTALL
)
LINE = 30  # minimum bytes of a line of own text
MOST_BEFORE = 0.03  # share of the own text that may precede the title
MOST_LINES = 7  # of a card
MOST_TEASED = 1200  # bytes of a card
TITLE = 15  # minimum bytes of a card's title
REPLIES = frozenset({"answer", "reply", "answers", "replies"})  # names of containers that belong to the core
FEWEST_CARDS = 3  # cards of a page that are cards
FEWEST_ITEMS = 3  # items and cells of a list beside the core, such as the ingredients of a recipe


@dataclass(slots=True)
class Containers:
    """The containers of a page, numbered in document order; 0 is the page."""

    parents: list[int] = field(default_factory=lambda: [0])
    ends: list[int] = field(default_factory=lambda: [0])  # the last container within each
    kinds: list[str] = field(default_factory=lambda: [""])  # tag and names; empty without a name
    current: int = 0

    def enter(self, kind: str) -> int:
        """Begin a container and return its number."""
        self.parents.append(self.current)
        self.ends.append(0)
        self.kinds.append(kind)
        self.current = len(self.parents) - 1
        return self.current

    def leave(self, number: int) -> None:
        """End a container."""
        self.ends[number] = len(self.parents) - 1
        self.current = self.parents[number]


def is_card(items: Sequence[Block | Aside]) -> bool:
    """Return whether an element announces another page: its linked title, a date, a few lines of its text."""
    if not 2 <= len(items) <= MOST_LINES:
        return False
    blocks = [item for item in items if isinstance(item, Block)]
    if len(blocks) < len(items) or sum(block.weight for block in blocks) > MOST_TEASED:
        return False
    headings = [block for block in blocks if block.heading]
    told = any(block.prose for block in blocks)
    if headings and told and not any(block.away * 2 >= block.weight for block in headings):
        return False  # a feature of its own page, with a link to more about it
    titled = any(block.away * 10 >= block.weight * 8 and block.weight >= TITLE for block in blocks)
    return titled and sum(block.prose > 0 for block in blocks) <= 2


def mark_card(items: Sequence[Block | Aside], number: int) -> bool:
    """Give the blocks of an element this number if it is a card; return whether it is."""
    if not is_card(items):
        return False
    for item in items:
        if isinstance(item, Block):
            item.card = number
    return True


def own_weight(block: Block) -> int:
    """Return the bytes of a block if it is the page's own text: long enough, not a card, few links."""
    if block.card or block.weight < LINE or block.linked * 2 >= block.weight:
        return 0
    return 0 if "ookie" in block.text and COOKIES.search(block.text) else block.weight


def without_cards(blocks: list[Block]) -> list[Block]:
    """Return the blocks without cards, if there are several and other prose is at least half as long."""
    own = sum(block.prose for block in blocks if not block.card)
    teased = sum(block.prose for block in blocks if block.card)
    if own < ENOUGH or 2 * own < teased or len({block.card for block in blocks} - {0}) < FEWEST_CARDS:
        return blocks
    return [block for block in blocks if not block.card]


def core_of(blocks: list[Block], containers: Containers) -> list[Block]:
    """Return the blocks of the core, of containers of the same kind (posts of a thread) or with code, and around it.

    That is the text directly in the core's outer containers, the title, and the lead, lists and sections of text
    between the two; lists and sections in the element that is marked as the content also come after the core.
    """
    parents, ends, kinds = containers.parents, containers.ends, containers.kinds
    sums = [0] * len(parents)
    for block in blocks:
        sums[block.container] += own_weight(block)
    for number in range(len(parents) - 1, 0, -1):
        sums[parents[number]] += sums[number]
    if sums[0] < 2 * ENOUGH:
        return blocks
    core, around = 0, set[str]()
    for number in range(1, len(parents)):
        if parents[number] == core and sums[number] >= SHARE * sums[0]:
            core = number
            around |= {kinds[number]} - {""}
    if not core:
        return blocks
    coded = {block.container for block in blocks if block.pre}
    alike = [False] * len(parents)
    for number in range(1, len(parents)):
        above = number <= core <= ends[number]
        same = number in coded or kinds[number] in around or not REPLIES.isdisjoint(kinds[number].split())
        alike[number] = not above and (alike[parents[number]] or same)
    lists, texts = lists_beside(blocks, containers, core), texts_beside(blocks, containers, core)
    title, kept = False, list[Block]()
    for block in blocks:
        inside = core <= block.container <= ends[core]
        above = block.container <= core <= ends[block.container] or not block.container
        title = block.heading == 1 or (title and not inside and block.container < core)
        beside = (above and (block.heading or own_weight(block))) or (title and own_weight(block))
        beside = beside or ((lists[block.container] or texts[block.container]) and (title or block.main))
        # An item, code or a cell behind text that stays: 'There are three kinds:' and the names of the kinds.
        beside = beside or (above and is_part(block) and bool(kept) and kept[-1].container == block.container)
        if inside or alike[block.container] or block.heading == 1 or beside:
            kept.append(block)
    return kept


def lists_beside(blocks: list[Block], containers: Containers, core: int) -> list[bool]:
    """Return which containers outside the core are lists or tables of text, such as ingredients or technical data.

    Most of their text is items or cells, and hardly any of it is links, dates or names of authors.
    """
    parents, ends = containers.parents, containers.ends
    found = [False] * len(parents)
    weights, listed, others, items = ([0] * len(parents) for _ in range(4))
    for block in blocks:
        if core <= block.container <= ends[core]:
            continue
        weights[block.container] += block.weight
        others[block.container] += max(block.linked, block.meta) + (block.weight if block.card or block.aside else 0)
        if block.item or block.cell:
            listed[block.container] += block.weight
            items[block.container] += 1
    for number in range(len(parents) - 1, 0, -1):
        for sums in (weights, listed, others, items):
            sums[parents[number]] += sums[number]
    for number in range(1, len(parents)):
        if number <= core <= ends[number]:
            continue
        is_list = (
            items[number] >= FEWEST_ITEMS
            and 2 * listed[number] >= weights[number]
            and 10 * others[number] <= weights[number]
        )
        found[number] = is_list or found[parents[number]]
    return found


def is_part(block: Block) -> bool:
    """Return whether a block is an item, code or a cell without many links."""
    return (block.item or block.pre or block.cell) and not block.card and block.linked * 2 < block.weight


def texts_beside(blocks: list[Block], containers: Containers, core: int) -> list[bool]:
    """Return which containers outside the core hold mostly the page's own text, such as the short sections of a manual.

    Their short lines belong to the text: headings, items, commands.
    """
    parents, ends = containers.parents, containers.ends
    found = [False] * len(parents)
    weights, own, others = ([0] * len(parents) for _ in range(3))
    for block in blocks:
        weights[block.container] += block.weight
        own[block.container] += own_weight(block)
        others[block.container] += max(block.linked, block.meta) + (block.weight if block.card or block.aside else 0)
    for number in range(len(parents) - 1, 0, -1):
        for sums in (weights, own, others):
            sums[parents[number]] += sums[number]
    for number in range(1, len(parents)):
        if number <= core <= ends[number]:
            continue
        is_text = (
            own[number] >= PROSE and 3 * own[number] >= 2 * weights[number] and 10 * others[number] <= weights[number]
        )
        found[number] = is_text or found[parents[number]]
    return found


def from_title(blocks: list[Block]) -> list[Block]:
    """Return the blocks from the last first heading on that hardly any own text precedes."""
    weights = [own_weight(block) for block in blocks]
    most, before, place = MOST_BEFORE * sum(weights), 0, 0
    for number, block in enumerate(blocks):
        if before > most:
            break
        if block.heading == 1:
            place = number
        before += weights[number]
    return blocks[place:]
