"""Detection of chrome: an element that its tag, role or name suggests is set aside if its contents confirm it."""

from collections.abc import Sequence

from rewarm.stages.ingest.html import chrome
from rewarm.stages.ingest.html.blocks import ENOUGH, PROSE, Aside, Block, Frame

SHORT = 2000  # bytes up to which an element named like an extra is one, regardless of its contents
MOST_PROMOTED = 2  # paragraphs of a box that asks for something
LINKS = "links"  # a group of links without a telling name


def set_aside(items: list[Block | Aside], frame: Frame, outer: Sequence[Frame], in_main: bool, seen: bool) -> None:
    """Move an element's items into a group of their own if the element is chrome.

    ``outer``: the enclosing elements. ``in_main``: whether one of them is marked as the content. ``seen``: whether
    prose or the start of the content came before.
    """
    held = items[frame.start :]
    blocks = [item for item in held if isinstance(item, Block)]
    if not blocks or not is_chrome(frame, blocks, {frame.tag for frame in outer}, in_main, seen):
        if frame.kind in (chrome.ASIDE, chrome.SIDE) and not any(block.main > 1 for block in blocks if not in_main):
            for block in blocks:
                block.aside = True
        return
    within = chrome.NAVIGATION if any(other.kind == chrome.NAVIGATION for other in outer) else LINKS
    kind = frame.kind or within
    sure = not frame.named and kind in (chrome.NAVIGATION, chrome.FOOT, chrome.FORM, LINKS)
    items[frame.start :] = [Aside(kind, held, sure)]


def is_chrome(  # noqa: C901, PLR0911 - one case per kind
    frame: Frame, blocks: list[Block], outer: set[str], in_main: bool, seen: bool
) -> bool:
    """Return whether an element's contents confirm the suggested kind; ``outer`` are the enclosing tags."""
    kind, tag = frame.kind, frame.tag
    weight, prose = sum(block.weight for block in blocks), sum(block.prose for block in blocks)
    links = sum(block.linked for block in blocks) / weight if weight else 0.0
    if kind is None:  # a group of links before everything else
        return links >= 0.7 and not seen and not any(block.heading for block in blocks)
    if tag in ("main", "article", "body") or any(block.main for block in blocks if not in_main):
        return False
    if kind == chrome.NAVIGATION:
        return links >= 0.3 or (not prose if frame.named else prose < ENOUGH)
    if kind == chrome.FOOT:
        return not (tag == "footer" and outer & {"blockquote", "figure"})
    if kind == chrome.HEAD:
        return not in_main and not any(block.heading == 1 for block in blocks)
    if kind in (chrome.ASIDE, chrome.SIDE):
        return not (in_main and prose and links < 0.3)
    if kind in (chrome.COMMENTS, chrome.BANNER):
        return True
    if kind == chrome.FORM:
        return (not prose and (frame.controls or links >= 0.3 or weight < PROSE)) or (
            frame.controls and weight < ENOUGH
        )
    if kind == chrome.PROMO:
        return tag != "figure" and weight < SHORT and sum(block.prose > 0 for block in blocks) <= MOST_PROMOTED
    if kind == chrome.META:
        return weight < ENOUGH or not prose
    return not prose or links >= 0.2 or (weight < SHORT and not in_main)
