"""The order task: which of four texts has its words in their own order, a document's excerpt or three shuffles of it.

A model that has learned what follows what prefers the excerpt nearly always. Of a text whose words are in no order
(a broken export, a shuffled corpus) each of the four is as likely to be the one that arrived, so no model can be right
in more than a quarter of the questions but by chance. The shuffle leaves all white space where it is, so that words,
bytes and lines are the same in all four.
"""

import re
from typing import Any

from stages.evaluate.ranks import rank

NUM_ORDERS = 4  # choices of a question; by chance one in so many is right
EXCERPT_CHARS = 400
FEWEST_WORDS = 6  # of an excerpt; fewer have too few orders to tell
LONGEST_WORD = 20.0  # characters a word on average; above, the text has no spaces between its words

_SPACE = re.compile(r"(\s+)")
_TRIES = 8  # shuffles that may repeat others, as those of a text that repeats one word do


def order_question(doc_id: str, text: str, longest: int, seed: int) -> dict[str, Any] | None:
    """A document's question: its excerpt and shuffles of it, in an order drawn by hashing; None where it has too few.

    ``longest`` bounds the excerpt in UTF-8 bytes: a byte-level tokenizer makes no more tokens of it.
    """
    own = opening(text, longest)
    units = cut(own)
    choices = [own]
    for number in range(_TRIES):
        if len(units) >= 2 * FEWEST_WORDS - 1 and len(choices) < NUM_ORDERS:
            other = shuffled(units, (seed, doc_id, number))
            choices += [other] if other not in choices else []
    if len(choices) < NUM_ORDERS:
        return None
    choices.sort(key=lambda choice: rank("order", seed, doc_id, choice))
    return {"doc_id": doc_id, "choices": choices, "label": choices.index(own)}


def opening(text: str, longest: int) -> str:
    """How a text begins: ``EXCERPT_CHARS`` and ``longest`` bytes at most, up to a space where there is one near."""
    text = text.strip()
    head = text[:EXCERPT_CHARS].encode()[:longest].decode(errors="ignore")
    if len(head) < len(text) and not text[len(head)].isspace():
        spaces = [found.start() for found in _SPACE.finditer(head, len(head) // 2)]
        head = head[: spaces[-1]] if spaces else head
    return head.rstrip()


def cut(text: str) -> list[str]:
    """Units that change places, at even places, and the white space that stays between them: words, or the characters
    of a text that is written without spaces."""
    parts = _SPACE.split(text)
    words = parts[::2]
    if sum(map(len, words)) / len(words) > LONGEST_WORD:
        return [part for character in text for part in (character, "")][:-1]
    return parts


def shuffled(units: list[str], draw: tuple[object, ...]) -> str:
    """The units of ``cut`` with those at even places in an order that is drawn by hashing."""
    words = units[::2]
    order = sorted(range(len(words)), key=lambda place: rank(*draw, place))
    return "".join(words[order[place // 2]] if place % 2 == 0 else unit for place, unit in enumerate(units))
