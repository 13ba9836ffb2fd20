"""The order task: which of four texts has its words in their own order, a document's excerpt or three shuffles of it.

A model that has learned what follows what prefers the excerpt nearly always. Of a text whose words are in no order
(a broken export, a shuffled corpus) each of the four is as likely to be the one that arrived, so no model can be right
in more than a quarter of the questions but by chance. The shuffles move words by a few places only, within a line and a
sentence: so that is also true of a text whose words were shuffled within its sentences or lines. They leave all white
space, and the words that end sentences, where they are: words, bytes, lines and sentences are the same in all four.

Draws by hashing: the same for the same documents and seed, whatever the shards or workers.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import xxhash


def rank(*parts: object) -> str:
    """A hash to order by: an even draw that anybody can repeat."""
    return str(xxhash.xxh3_128_hexdigest("\0".join(map(str, parts)).encode()))


NUM_ORDERS = 4  # choices of a question; by chance one in so many is right
REACH = 8  # neighbouring words that change places with each other
ENOUGH_QUESTIONS = 48  # to tell a weak model from chance; fewer documents than that give several excerpts each
LONGEST_SPACE = 8  # characters of white space between an excerpt and its context; more of it tells nothing
EXCERPT_CHARS = 400
FEWEST_WORDS = 6  # of an excerpt; fewer have too few orders to tell
LONGEST_WORD = 20.0  # characters a word on average; above, the text has no spaces between its words

_SPACE = re.compile(r"(\s+)")
_SENTENCE_END = re.compile(r"[.!?:;…。！？：；]\W*$")
_TRIES = 8  # shuffles that may repeat others, as those of a text that repeats one word do


class Passage(NamedTuple):
    """An excerpt of a document, and what stands before it: the text, and the white space in between."""

    before: str
    space: str
    own: str


def order_questions(documents: Sequence[tuple[str, str]], longest: int, seed: int) -> list[dict[str, Any]]:
    """A question on how each document (id, text) begins; of fewer than ``ENOUGH_QUESTIONS``, on several excerpts of
    each, in their context.

    ``longest`` bounds an excerpt in UTF-8 bytes: a byte-level tokenizer makes no more tokens of it.
    """
    each = -(-ENOUGH_QUESTIONS // max(len(documents), 1))
    found = (
        order_question(f"{doc_id}+{part}" if part else doc_id, passage, seed)
        for doc_id, text in documents
        for part, passage in enumerate(passages(text, longest, each))
    )
    return [question for question in found if question is not None]


def order_question(question_id: str, passage: Passage, seed: int) -> dict[str, Any] | None:
    """The question on an excerpt: itself and shuffles of it, in an order drawn by hashing; None where its words have
    too few orders."""
    before, space, own = passage
    units = cut(own)
    groups = neighbours(units)
    choices = [own]
    for number in range(_TRIES):
        if groups and len(choices) < NUM_ORDERS:
            other = shuffled(units, groups, (seed, question_id, number))
            choices += [other] if other not in choices else []
    if len(choices) < NUM_ORDERS:
        return None
    choices.sort(key=lambda choice: rank("order", seed, question_id, choice))
    answers = [space + choice for choice in choices]
    return {"doc_id": question_id, "context": before, "choices": answers, "label": choices.index(own)}


def passages(text: str, longest: int, count: int) -> Iterator[Passage]:
    """Up to ``count`` excerpts of a text, one after another from its beginning."""
    text, at = text.strip(), 0
    for _ in range(count):
        begin = len(text) - len(text[at:].lstrip())
        space = text[at:begin][-LONGEST_SPACE:]
        own = opening(text[begin:], longest - len(space.encode()))
        if not own:
            return
        yield Passage(text[:at][-EXCERPT_CHARS:], space, own)
        at = begin + len(own)


def opening(text: str, longest: int) -> str:
    """How a text begins: ``EXCERPT_CHARS`` and ``longest`` bytes at most, up to a space where there is one near."""
    text = text.strip()
    head = text[:EXCERPT_CHARS].encode()[: max(longest, 0)].decode(errors="ignore")
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


def neighbours(units: list[str]) -> list[list[int]]:
    """Which of the words among the units of ``cut`` change places with each other: up to ``REACH`` in a row, of one
    line and sentence; those of all lines, where that leaves most alone; none, where there are too few words.

    A word that ends a sentence stays where it is, so that the groups are the same whatever the order of the others.
    """
    words, spaces = units[::2], units[1::2]
    if len(words) < FEWEST_WORDS:
        return []
    runs: list[list[int]] = [[]]
    for place, word in enumerate(words):
        ends = bool(_SENTENCE_END.search(word))
        if not ends:
            runs[-1].append(place)
        if ends or "\n" in "".join(spaces[place : place + 1]):
            runs.append([])
    groups = [run[first : first + REACH] for run in runs for first in range(0, len(run), REACH)]
    moved = [group for group in groups if len(group) > 1]
    return moved if 2 * sum(map(len, moved)) >= len(words) else [[place for run in runs for place in run]]


def shuffled(units: list[str], groups: list[list[int]], draw: tuple[object, ...]) -> str:
    """The units of ``cut`` with the words of each group in an order that is drawn by hashing."""
    result = units.copy()
    for group in groups:
        order = sorted(group, key=lambda place: rank(*draw, place))
        for place, other in zip(group, order, strict=True):
            result[2 * place] = units[2 * other]
    return "".join(result)
