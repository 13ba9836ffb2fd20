"""Conversion of a page's tree into blocks of text, in one walk.

Handles line starts, list marks, cells, preformatted text, formulas and hidden parts. Possible chrome is judged when the
walk leaves the element (``asides.py``). The walk is not recursive, and linear in the size of the page.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from selectolax.lexbor import LexborNode

from rewarm.stages.ingest.html import chrome
from rewarm.stages.ingest.html.asides import set_aside
from rewarm.stages.ingest.html.blocks import (
    BLOCKS,
    CAPTIONS,
    CELLS,
    CONTAINERS,
    CONTROLS,
    HEADINGS,
    ITEMS,
    LISTS,
    PREFORMATTED_TAGS,
    SKIPPED_TAGS,
    Aside,
    Block,
    Frame,
)
from rewarm.stages.ingest.html.core import CARDS, MOST_LINES, SCOPES, Containers, mark_card
from rewarm.stages.ingest.html.elements import (
    is_behind,
    is_mark,
    is_meta,
    is_target,
    is_text,
    leads_away,
    names_of,
    whole,
)
from rewarm.stages.ingest.html.formulas import ALT_CLASSES, clean, delimited, formula_of

BLANKS = re.compile(r"[ \t\n\r\f\xa0]+")
HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
PREFORMATTED = re.compile(r"white-space\s*:\s*(?:pre|break-spaces)\b", re.IGNORECASE)
QUOTED = re.compile(r"\s*[\"'«‹„“”‘’「『]")
MAX_INDENT = 8
POWER = re.compile(r"[-+\u2212]?[0-9]{1,3}")
SUPERSCRIPTS = str.maketrans("0123456789-+\u2212", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺⁻")
CLOSING = frozenset(")]")


@dataclass(slots=True)
class Reader:
    """State of the walk."""

    items: list[Block | Aside] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    linked: int = 0
    away: int = 0
    control: int = 0
    meta: int = 0
    in_link: int = 0
    in_meta: int = 0
    in_caption: int = 0
    in_item: int = 0
    in_away: int = 0
    cards: int = 0
    containers: Containers = field(default_factory=Containers)
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
    mains: int = 0  # elements seen that are marked as the content, and first headings
    discussion: bool = False
    formula: str = ""
    no_scripts: bool = False  # whether <noscript> content is part of the text

    # -- text --

    def text(self, text: str) -> None:
        """Add a text node."""
        self.pieces.append(text)
        if self.in_link or self.in_control or self.in_meta:
            size = len(text.strip().encode("utf-8", "surrogatepass"))
            if self.in_link:
                self.linked += size
            if self.in_away:
                self.away += size
            if self.in_control:
                self.control += size
            if self.in_meta:
                self.meta += size

    def flush(self, gap: int = 0) -> None:
        """End a line; ``gap`` is the number of line ends before the next one."""
        if self.pieces:
            text = "".join(self.pieces)
            self.pieces.clear()
            text = text.replace("\xa0", " ").strip("\n").rstrip() if self.in_pre else BLANKS.sub(" ", text).strip(" ")
            if text.strip():
                self.add(text)
            self.linked = self.away = self.control = self.meta = 0
        self.gap = max(self.gap, gap)

    def add(self, text: str) -> None:
        """Add a line."""
        weight = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        gap, row = self.gap, self.frames[-1] if self.frames else None
        titles = self.heading or (row is not None and row.tag in ("dt", "summary"))  # of what a button unfolds
        if self.control * 10 >= weight * 8 and (weight < 60 or self.in_form) and not titles:
            return  # isolated buttons and labels
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
            min(self.away, weight),
            container=self.containers.current,
            pre=bool(self.in_pre),
            meta=min(self.meta, weight),
            item=bool(self.in_item),
            caption=bool(self.in_caption),
            cell=row is not None and row.tag in ("tr", "td", "th") and not row.layout,
        )
        self.items.append(block)
        self.gap, self.prefix = 1, ""
        if block.prose:
            self.prose_seen = True

    # -- elements --

    def enter(self, node: LexborNode, tag: str) -> bool:  # noqa: C901, PLR0912 - one case per kind of element
        """Begin an element; return False if its content is skipped."""
        if tag in SKIPPED_TAGS and not (tag == "noscript" and self.no_scripts):
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
        names = names_of(node, tag, attributes) if attributes else ()
        if tag in ("math", "sup") and self.in_line(node, tag):
            return False
        if tag == "img":
            if not ALT_CLASSES.isdisjoint(names) and (tex := clean(attributes.get("alt"))):
                self.write_formula(delimited(tex))
            return False
        is_sign = tag == "a" and bool(self.heading) and is_mark(node, attributes)
        if is_sign or (attributes and self.hidden(node, attributes, names)):
            return False
        frame = Frame(tag, 0, BLOCKS.get(tag, 0))
        if tag == "rt" and (node.prev is None or node.prev.tag != "rp"):
            self.pieces.append("(")
            frame.closing = ")"
        elif tag == "q" and not QUOTED.match(node.text()):  # browsers add the marks
            self.pieces.append("“")
            frame.closing = "”"
        if tag in LISTS and (self.lists or (self.frames and self.frames[-1].tag in CELLS)):
            frame.gap = 1
        if names and not chrome.CODE_LINES.isdisjoint(names):
            frame.pre, frame.gap = True, 1
        elif tag in PREFORMATTED_TAGS or (attributes and PREFORMATTED.search(attributes.get("style") or "")):
            frame.pre, frame.gap = True, frame.gap or 1
        if tag == "time" or (attributes and is_meta(attributes, names)):
            frame.meta = True
        if frame.gap:
            self.flush(frame.gap)
            self.begin(frame, tag, attributes, names)
        elif tag == "a":
            frame.link = not is_target(attributes)
            self.in_link += frame.link
            frame.away = bool(attributes) and leads_away(attributes.get("href"))
            self.in_away += frame.away
        elif tag in CONTROLS:
            self.in_control += 1
        self.in_meta += frame.meta
        frame.start = len(self.items)
        self.frames.append(frame)
        return True

    def in_line(self, node: LexborNode, tag: str) -> bool:
        """Add a formula, or the power of a number or unit: ``10<sup>6</sup>`` is not 106; return whether it was one."""
        if tag == "math":
            self.write_formula(formula_of(node))
            return True
        base = self.pieces[-1][-1:] if self.pieces else ""
        power = (
            (node.text() or "").strip() if (base.isalnum() or base in CLOSING) and node.css_first("a") is None else ""
        )
        if not POWER.fullmatch(power):
            return False
        self.text(power.translate(SUPERSCRIPTS))
        return True

    def begin(  # noqa: C901 - one case per kind of element
        self, frame: Frame, tag: str, attributes: dict[str, str | None], names: tuple[str, ...]
    ) -> None:
        """Begin a block element."""
        role = (attributes.get("role") or "").lower() if attributes else ""
        frame.article = tag in ("main", "article") or role in ("main", "article")
        frame.main = frame.article or not chrome.MAIN.isdisjoint(names)
        if tag != "body":
            frame.kind = chrome.TAGS.get(tag) or chrome.ROLES.get(role)
            named = chrome.kind_of(names) if names else None
            if attributes and chrome.is_panel(attributes, names):
                self.keep_tabs()
                named = None if named == chrome.NAVIGATION else named
            if frame.kind == chrome.ASIDE and not chrome.KEPT_ASIDES.isdisjoint(names):
                frame.kind = None
            elif named and not frame.main and (frame.kind is None or frame.kind in (chrome.ASIDE, chrome.HEAD)):
                frame.kind, frame.named = named, True
        if names and not chrome.DISCUSSION.isdisjoint(names):
            self.discussion = True
        if tag in SCOPES:
            frame.container = self.containers.enter(f"{tag} {' '.join(names)}" if names else "")
        if frame.main:
            self.in_main += 1
        if frame.article:
            self.in_article += 1
            self.mains += 1
        if frame.pre:
            self.in_pre += 1
        if tag in CAPTIONS or (names and chrome.is_caption(names)):
            frame.caption = True
            self.in_caption += 1
        self.in_item += tag in ITEMS
        if tag == "form":
            self.in_form += 1
        if tag in HEADINGS:
            self.heading = int(tag[1])
            self.mains += tag == "h1"
        self.begin_item(frame, tag, attributes)

    def keep_tabs(self) -> None:
        """Keep the elements around a panel: those named ``tabs`` are navigation only if they hold nothing else."""
        for frame in self.frames:
            if frame.named and frame.kind == chrome.NAVIGATION:
                frame.kind, frame.named = None, False

    def begin_item(self, frame: Frame, tag: str, attributes: dict[str, str | None]) -> None:
        """Begin a list or list item, or a table, row or cell."""
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

    def leave(self) -> None:  # noqa: C901 - one case per kind of element
        """End the innermost element."""
        frame = self.frames[-1]
        tag = frame.tag
        if not frame.gap:
            self.frames.pop()
            self.in_meta -= frame.meta
            if tag == "a":
                self.in_link -= frame.link
                self.in_away -= frame.away
            elif tag in CONTROLS:
                self.in_control -= 1
            if frame.closing:
                self.pieces.append(frame.closing)
            return
        self.flush()
        self.frames.pop()
        self.in_meta -= frame.meta
        self.gap = max(self.gap, frame.gap)
        if frame.container:
            self.containers.leave(frame.container)
        self.in_main -= frame.main
        self.in_article -= frame.article
        self.in_pre -= frame.pre
        self.in_caption -= frame.caption
        self.in_item -= tag in ITEMS
        self.in_form -= tag == "form"
        if tag in LISTS:
            self.lists -= 1
            self.prefix = ""
        elif tag in HEADINGS:
            self.heading = 0
        elif tag == "li":
            self.prefix = ""
        if tag in CARDS and len(self.items) - frame.start <= MOST_LINES and not self.numbered():
            self.cards += mark_card(self.items[frame.start :], self.cards + 1)
        if frame.kind or (tag in CONTAINERS and not (self.in_main or frame.main)):
            set_aside(self.items, frame, self.frames, bool(self.in_main), self.prose_seen or bool(self.mains))

    def numbered(self) -> bool:
        """Return whether the innermost list is an ordered one, such as references."""
        return next((frame.number is not None for frame in reversed(self.frames) if frame.tag in LISTS), False)

    def br(self) -> None:
        """End a line; two consecutive calls end a paragraph."""
        if self.in_pre:
            self.pieces.append("\n")
        elif self.pieces:
            self.flush(1)
        else:
            self.gap = 2 if self.items else self.gap

    def tex_script(self, node: LexborNode) -> None:
        """Add a formula that MathJax keeps in a script."""
        kind = node.attributes.get("type") or ""
        if kind.startswith("math/tex"):
            self.write_formula(delimited(clean(node.text_content or node.text()), "mode=display" in kind))

    def write_formula(self, formula: str) -> None:
        """Add a formula, unless it is the image of the previous one."""
        if formula and formula.strip("$") != self.formula:
            self.text(formula)
        self.formula = formula.strip("$")

    def hidden(self, node: LexborNode, attributes: dict[str, str | None], names: tuple[str, ...]) -> bool:
        """Return whether an element is not displayed; formulas within it are added."""
        if not chrome.SKIPPED.isdisjoint(names) and not is_text(node, names):
            if node.tag == "mjx-container":  # MathJax 3, which has no other source of a formula
                self.write_formula(next((formula_of(math) for math in node.css("math")), ""))
            return True
        unseen = "hidden" in attributes or (attributes.get("aria-hidden") == "true" and not is_behind(node))
        if not unseen and not HIDDEN.search(attributes.get("style") or ""):
            return False
        if chrome.is_panel(attributes, names) or ("katex-html" in names and node.prev is None):
            return False  # KaTeX hides its letters from readers aloud, who have the formula that precedes them
        if any("math" in name for name in names):
            for math in node.css("math"):
                self.write_formula(formula_of(math))
        return True


def walk(root: LexborNode | None, reader: Reader) -> None:
    """Walk a tree in document order and pass its nodes to the reader."""
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
