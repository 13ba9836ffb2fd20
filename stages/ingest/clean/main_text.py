"""The main text of a parsed page: its blocks in order, without what surrounds them.

One walk over the tree turns it into blocks of text (paragraphs, list items, rows, code). An element that its tag, role
or name proposes as chrome is set aside with its blocks when the walk leaves it, if what it holds agrees: links, short
lines, no prose. At the end the page as a whole decides what comes back: a page whose comments are all it has is a
discussion, and a "sidebar" with most of the prose is the article. Every step is linear in the page's size.

Compared with resiliparse's and trafilatura's extraction in benchmarks/main_text.py.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from selectolax.lexbor import LexborHTMLParser, LexborNode

from stages.ingest.clean import chrome
from stages.ingest.clean.formulas import ALT_CLASSES, clean, delimited, formula_of

SKIPPED_TAGS = frozenset(
    [
        "script",
        "style",
        "template",
        "noscript",
        "iframe",
        "frame",
        "object",
        "embed",
        "video",
        "audio",
        "canvas",
        "svg",
        "map",
        "datalist",
        "select",
        "option",
        "textarea",
        "input",
        "head",
        "title",
        "meta",
        "link",
        "param",
        "source",
        "track",
        "progress",
        "meter",
        "base",
        "area",
        "-comment",
        "-doctype",
    ]
)
# Elements that begin a line, and the line ends before and after them.
BLOCKS = {
    **dict.fromkeys(
        [
            "p",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "pre",
            "ul",
            "ol",
            "dl",
            "table",
            "blockquote",
            "figure",
            "hr",
            "article",
            "section",
            "details",
            "fieldset",
            "main",
            "header",
            "footer",
            "aside",
            "nav",
            "form",
            "menu",
            "dialog",
        ],
        2,
    ),
    **dict.fromkeys(
        [
            "div",
            "li",
            "dt",
            "dd",
            "tr",
            "caption",
            "figcaption",
            "address",
            "summary",
            "legend",
            "center",
            "body",
            "tbody",
            "thead",
            "tfoot",
            "td",
            "th",
            "optgroup",
            "frameset",
            "hgroup",
            "search",
        ],
        1,
    ),
}
HEADINGS = frozenset(["h1", "h2", "h3", "h4", "h5", "h6"])
CONTROLS = frozenset({"button", "label"})
CELLS = frozenset({"td", "th"})
LISTS = frozenset({"ul", "ol", "menu"})
CONTAINERS = frozenset({"ul", "ol", "dl", "div", "table", "tr", "td", "section", "p", "center", "menu"})
BLANKS = re.compile(r"[ \t\n\r\f\xa0]+")
LINE_END = re.compile(r"[^\S\n]+\n")
EMPTY_LINES = re.compile(r"\n{3,}")
HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
PREFORMATTED = re.compile(r"white-space\s*:\s*(?:pre|break-spaces)\b", re.IGNORECASE)
COPYRIGHT = re.compile(r"(?:copyright\b|©|\(c\)\s|all rights reserved)", re.IGNORECASE)
MAX_INDENT = 8
PROSE = 80  # bytes of a block from which it is prose, if few of them are links
ENOUGH = 200  # bytes of prose that make a main text
SHORT = 2000  # bytes up to which an element named like an extra is one, whatever it holds


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


@dataclass(slots=True)
class Reader:
    """The walk's state."""

    items: "list[Block | Aside]" = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    linked: int = 0
    control: int = 0
    in_link: int = 0
    in_control: int = 0
    in_main: int = 0
    in_article: int = 0
    in_pre: int = 0
    in_form: int = 0
    heading: int = 0
    gap: int = 0
    prefix: str = ""
    lists: int = 0
    prose_seen: bool = False
    mains: int = 0  # elements seen that call themselves the content, and first headings
    discussion: bool = False
    formula: str = ""

    # -- text --

    def text(self, text: str) -> None:
        """A text node."""
        self.pieces.append(text)
        if self.in_link or self.in_control:
            size = len(text.strip().encode("utf-8", "surrogatepass"))
            if self.in_link:
                self.linked += size
            if self.in_control:
                self.control += size

    def flush(self, gap: int = 0) -> None:
        """End a line; ``gap`` line ends before what follows."""
        if self.pieces:
            text = "".join(self.pieces)
            self.pieces.clear()
            text = text.replace("\xa0", " ").strip("\n").rstrip() if self.in_pre else BLANKS.sub(" ", text).strip(" ")
            if text.strip():
                self.add(text)
            self.linked = self.control = 0
        self.gap = max(self.gap, gap)

    def add(self, text: str) -> None:
        """A line."""
        weight = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if self.control * 10 >= weight * 8 and (weight < 60 or self.in_form):
            return  # buttons and labels by themselves
        gap, row = self.gap, self.frames[-1] if self.frames else None
        if row is not None and row.tag in CELLS and len(self.frames) > 1:
            row = self.frames[-2]
            if row.cells > 1 and not row.layout and gap <= 1 and not self.prefix and weight < 1000:
                gap, text = 0, "\t\t" * row.closing.count("x") + text
                row.closing = ""
        block = Block(
            self.prefix + text,
            gap,
            weight,
            min(self.linked, weight),
            2 if self.in_article else min(self.in_main, 1),
            self.heading,
        )
        self.items.append(block)
        self.gap, self.prefix = 1, ""
        if block.prose:
            self.prose_seen = True

    # -- elements --

    def enter(self, node: LexborNode, tag: str) -> bool:  # noqa: C901, PLR0912 - one case a kind of element
        """Begin an element; False where its content is passed over."""
        if tag in SKIPPED_TAGS:
            if tag == "script":
                self.tex_script(node)
            elif tag in ("input", "select", "textarea") and self.in_form:
                for frame in self.frames:
                    frame.controls = frame.controls or frame.tag == "form"
            return False
        if tag == "br":
            self.br()
            return False
        attributes = node.attributes
        names = names_of(attributes) if attributes else ()
        if tag == "math":
            self.write_formula(formula_of(node))
            return False
        if tag == "img":
            if not ALT_CLASSES.isdisjoint(names) and (tex := clean(attributes.get("alt"))):
                self.write_formula(delimited(tex))
            return False
        if attributes and self.hidden(node, attributes, names):
            return False
        frame = Frame(tag, 0, BLOCKS.get(tag, 0))
        if tag == "rt" and (node.prev is None or node.prev.tag != "rp"):
            self.pieces.append("(")
            frame.closing = ")"
        if tag in LISTS and (self.lists or (self.frames and self.frames[-1].tag in CELLS)):
            frame.gap = 1
        if names and not chrome.CODE_LINES.isdisjoint(names):
            frame.pre, frame.gap = True, 1
        elif tag == "pre" or (attributes and PREFORMATTED.search(attributes.get("style") or "")):
            frame.pre, frame.gap = True, frame.gap or 1
        if frame.gap:
            self.flush(frame.gap)
            self.begin(frame, tag, attributes, names)
        elif tag == "a":
            self.in_link += 1
        elif tag in CONTROLS:
            self.in_control += 1
        frame.start = len(self.items)
        self.frames.append(frame)
        return True

    def begin(self, frame: Frame, tag: str, attributes: dict[str, str | None], names: tuple[str, ...]) -> None:
        """Begin a block element."""
        role = (attributes.get("role") or "").lower() if attributes else ""
        frame.article = tag in ("main", "article") or role in ("main", "article")
        frame.main = frame.article or not chrome.MAIN.isdisjoint(names)
        if tag != "body":
            frame.kind = chrome.TAGS.get(tag) or chrome.ROLES.get(role)
            named = chrome.kind_of(names) if names else None
            if named and not frame.main and (frame.kind is None or frame.kind in (chrome.ASIDE, chrome.HEAD)):
                frame.kind, frame.named = named, True
        if names and not chrome.DISCUSSION.isdisjoint(names):
            self.discussion = True
        if frame.main:
            self.in_main += 1
        if frame.article:
            self.in_article += 1
            self.mains += 1
        if frame.pre:
            self.in_pre += 1
        if tag == "form":
            self.in_form += 1
        if tag in HEADINGS:
            self.heading = int(tag[1])
            self.mains += tag == "h1"
        self.begin_item(frame, tag, attributes)

    def begin_item(self, frame: Frame, tag: str, attributes: dict[str, str | None]) -> None:
        """Begin a list or its item, a table, its row or cell."""
        if tag in LISTS:
            self.lists += 1
            frame.number = whole(attributes.get("start"), 1) if tag == "ol" else None
        elif tag == "li":
            parent = next((frame for frame in reversed(self.frames) if frame.tag in LISTS), None)
            mark = "•"
            if parent and parent.number is not None:
                parent.number = whole(attributes.get("value"), parent.number)
                mark, parent.number = f"{parent.number}.", parent.number + 1
            self.prefix = "  " * min(max(self.lists, 1), MAX_INDENT) + mark + " "
        elif tag == "table":
            if attributes.get("role") in ("presentation", "none"):
                frame.layout = True
            for outer in self.frames:
                outer.layout = outer.layout or outer.tag in ("table", "tr")
        elif tag == "tr":
            frame.layout = next((outer.layout for outer in reversed(self.frames) if outer.tag == "table"), False)
        elif tag in CELLS and self.frames and self.frames[-1].tag == "tr":
            self.frames[-1].cells += 1
            self.frames[-1].closing += "x" if self.frames[-1].cells > 1 else ""

    def leave(self) -> None:
        """End the innermost element."""
        frame = self.frames[-1]
        tag = frame.tag
        if not frame.gap:
            self.frames.pop()
            if tag == "a":
                self.in_link -= 1
            elif tag in CONTROLS:
                self.in_control -= 1
            if frame.closing:
                self.pieces.append(frame.closing)
            return
        self.flush()
        self.frames.pop()
        self.gap = max(self.gap, frame.gap)
        self.in_main -= frame.main
        self.in_article -= frame.article
        self.in_pre -= frame.pre
        self.in_form -= tag == "form"
        if tag in LISTS:
            self.lists -= 1
            self.prefix = ""
        elif tag in HEADINGS:
            self.heading = 0
        elif tag == "li":
            self.prefix = ""
        if frame.kind or (tag in CONTAINERS and not (self.in_main or frame.main)):
            self.judge(frame)

    def br(self) -> None:
        """A line's end; two of them end a paragraph."""
        if self.in_pre:
            self.pieces.append("\n")
        elif self.pieces:
            self.flush(1)
        else:
            self.gap = 2 if self.items else self.gap

    def tex_script(self, node: LexborNode) -> None:
        """A formula that MathJax keeps in a script."""
        kind = node.attributes.get("type") or ""
        if kind.startswith("math/tex"):
            self.write_formula(delimited(clean(node.text_content or node.text()), "mode=display" in kind))

    def write_formula(self, formula: str) -> None:
        """A formula, unless it is the image of the one before."""
        if formula and formula.strip("$") != self.formula:
            self.text(formula)
        self.formula = formula.strip("$")

    def hidden(self, node: LexborNode, attributes: dict[str, str | None], names: tuple[str, ...]) -> bool:
        """Whether an element is not shown; formulas within it are written."""
        if not chrome.SKIPPED.isdisjoint(names):
            return True
        unseen = "hidden" in attributes or attributes.get("aria-hidden") == "true"
        if not unseen and not HIDDEN.search(attributes.get("style") or ""):
            return False
        if any("math" in name for name in names):
            for math in node.css("math"):
                self.write_formula(formula_of(math))
        return True

    # -- chrome --

    def judge(self, frame: Frame) -> None:
        """Set aside what an element holds, if it is chrome."""
        held = self.items[frame.start :]
        blocks = [item for item in held if isinstance(item, Block)]
        if not blocks:
            return
        weight = sum(block.weight for block in blocks)
        linked = sum(block.linked for block in blocks)
        prose = sum(block.prose for block in blocks)
        within = chrome.NAVIGATION if any(outer.kind == chrome.NAVIGATION for outer in self.frames) else "links"
        kind = frame.kind or within
        if self.is_chrome(frame, blocks, weight, linked / weight if weight else 0.0, prose):
            sure = not frame.named and kind in (chrome.NAVIGATION, chrome.FOOT, chrome.FORM, "links")
            self.items[frame.start :] = [Aside(kind, held, sure)]

    def is_chrome(  # noqa: PLR0911 - one case a kind
        self, frame: Frame, blocks: list[Block], weight: int, links: float, prose: int
    ) -> bool:
        """Whether what an element holds agrees with the kind that it is proposed as."""
        kind, tag = frame.kind, frame.tag
        if kind is None:  # a group of links before everything else
            seen = self.prose_seen or self.mains or any(block.heading for block in blocks)
            return links >= 0.7 and not seen
        if tag in ("main", "article", "body") or any(block.main for block in blocks if not self.in_main):
            return False
        outer = {frame.tag for frame in self.frames}
        if kind == chrome.NAVIGATION:
            return links >= 0.3 or (not prose if frame.named else prose < ENOUGH)
        if kind == chrome.FOOT:
            return not (tag == "footer" and outer & {"blockquote", "figure"})
        if kind == chrome.HEAD:
            return not self.in_main and not any(block.heading == 1 for block in blocks)
        if kind in (chrome.ASIDE, chrome.SIDE):
            return not (self.in_main and prose and links < 0.3)
        if kind == chrome.META:
            return weight < ENOUGH or not prose
        if kind == chrome.FORM:
            return (not prose and (frame.controls or links >= 0.3 or weight < PROSE)) or (
                frame.controls and weight < ENOUGH
            )
        if kind == chrome.EXTRA:
            return not prose or links >= 0.2 or (weight < SHORT and not self.in_main)
        return kind == chrome.COMMENTS or weight < SHORT


def names_of(attributes: dict[str, str | None]) -> tuple[str, ...]:
    """An element's classes and id, in lower case."""
    value = f"{attributes.get('class') or ''} {attributes.get('id') or ''}".strip()
    return tuple(value.lower().split()) if value else ()


def whole(value: str | None, default: int) -> int:
    """A number of an attribute."""
    stripped = (value or "").strip()
    return int(stripped[:9]) if stripped.lstrip("-").isascii() and stripped.lstrip("-").isdigit() else default


def main_text(tree: LexborHTMLParser) -> str:
    """The page's text without navigation, forms and what only a script would show.

    Paragraphs, list marks, cells (two tabs between them) and the line breaks of preformatted text stay; a no-break
    space, which is layout in HTML, becomes a space. At most one empty line stays.
    """
    body = tree.body or tree.root
    reader = Reader()
    walk(body, reader)
    return tidy("".join(written(choose(reader))))


def tidy(text: str) -> str:
    """The text without blanks at its lines' ends, and with one empty line in a row at most."""
    return EMPTY_LINES.sub("\n\n", LINE_END.sub("\n", text.replace("\xa0", " "))).strip()


def walk(root: LexborNode | None, reader: Reader) -> None:
    """Lead the reader through a tree, in its order."""
    node: Any = root.child if root else None
    while node is not None:
        tag = node.tag
        descend = None
        if tag == "-text":
            reader.text(node.text_content or "")
        elif tag is not None and reader.enter(node, tag):
            descend = node.child
            if descend is None:
                reader.leave()
        if descend is not None:
            node = descend
            continue
        following = node.next
        while following is None:
            if not reader.frames:
                reader.flush()
                return
            node = node.parent
            reader.leave()
            following = node.next
        node = following
    reader.flush()


# -- the page as a whole -----------------------------------------------------------------------------------------


def choose(reader: Reader) -> list[Block]:
    """The blocks of the main text: what was kept, and what the page as a whole brings back."""
    groups = list(asides(reader.items))
    kept = prose_of(reader.items)
    back = set()
    comments = [group for group in groups if group.kind == chrome.COMMENTS]
    said = sum(prose_of(group.items) for group in comments)
    if reader.discussion or kept < ENOUGH or (kept < 3 * ENOUGH and kept * 5 < said):
        back |= {id(group) for group in comments}
        kept += said
    for group in groups:
        prose = prose_of(group.items)
        if not group.sure and group.kind != chrome.COMMENTS and (prose > 2 * kept or (prose and kept < PROSE)):
            back.add(id(group))
    if kept < ENOUGH:  # an index, whose links are its text
        rest = sum(item.weight for item in reader.items if isinstance(item, Block))
        links = [group for group in groups if group.kind == "links"]
        if sum(weight_of(group) for group in links) > rest:
            back |= {id(group) for group in links}
    blocks = list(brought(reader.items, back))
    if not blocks:  # nothing but what was set aside: prose in it, or links that are the page
        back |= {id(group) for group in groups if prose_of(group.items) or group.kind == "links"}
        blocks = list(brought(reader.items, back))
    return without_ends(blocks)


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


def prose_of(items: "list[Block | Aside]") -> int:
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
