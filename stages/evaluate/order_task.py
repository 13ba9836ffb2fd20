"""The order task: choose a document's excerpt among three versions of it with shuffled words.

A model that has learned word order nearly always prefers the excerpt. If the words of a text are in no order (a broken
export, a shuffled corpus), each of the four is equally likely to be the one that arrived, so only by chance can a model
be right in more than a quarter of the questions. The shuffles move words by a few positions only, within a line and a
sentence, so this also holds for a text whose words were shuffled within sentences or lines. White space and the words
that end sentences keep their positions: words, bytes, lines and sentences are the same in all four.

Random choices are made by hashing: the same documents and seed give the same task, independently of shards and workers.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import xxhash


def rank(*parts: object) -> str:
    """Return a hash to sort by: a reproducible uniform draw."""
    return str(xxhash.xxh3_128_hexdigest("\0".join(map(str, parts)).encode()))


NUM_ORDERS = 4  # choices of a question; by chance one in this many is right
REACH = 8  # neighbouring words that are shuffled together
ENOUGH_QUESTIONS = 48  # to distinguish a weak model from chance; fewer documents give several excerpts each
LONGEST_SPACE = 8  # characters of white space between an excerpt and its context; more carries no information
EXCERPT_CHARS = 400
FEWEST_WORDS = 6  # of an excerpt; fewer have too few orders
LONGEST_WORD = 20.0  # mean characters per word; above it, the text has no spaces between words

_SPACE = re.compile(r"(\s+)")
_SENTENCE_END = re.compile(r"[.!?:;…。！？：；]\W*$")
_TRIES = 8  # shuffles that may repeat others, as in a text that repeats one word


class Passage(NamedTuple):
    """Excerpt of a document with its context: the text before it, and the white space in between."""

    before: str
    space: str
    own: str


def order_questions(documents: Sequence[tuple[str, str]], longest: int, seed: int) -> list[dict[str, Any]]:
    """Return a question on the beginning of each document (id, text).

    With fewer documents than ``ENOUGH_QUESTIONS``, on several excerpts of each, in their context. ``longest`` bounds an
    excerpt in UTF-8 bytes, and thus its tokens with a byte-level tokenizer.
    """
    each = -(-ENOUGH_QUESTIONS // max(len(documents), 1))
    found = (
        order_question(f"{doc_id}+{part}" if part else doc_id, passage, seed)
        for doc_id, text in documents
        for part, passage in enumerate(passages(text, longest, each))
    )
    return [question for question in found if question is not None]


def order_question(question_id: str, passage: Passage, seed: int) -> dict[str, Any] | None:
    """Return the question on an excerpt: itself and shuffles of it, in an order drawn by hashing.

    None if its words have too few orders.
    """
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
    """Yield up to ``count`` excerpts of a text, consecutive from its beginning."""
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
    """Return the beginning of a text: at most ``EXCERPT_CHARS`` and ``longest`` bytes, up to a space if one is near."""
    text = text.strip()
    head = text[:EXCERPT_CHARS].encode()[: max(longest, 0)].decode(errors="ignore")
    if len(head) < len(text) and not text[len(head)].isspace():
        spaces = [found.start() for found in _SPACE.finditer(head, len(head) // 2)]
        head = head[: spaces[-1]] if spaces else head
    return head.rstrip()


def cut(text: str) -> list[str]:
    """Split a text into units to shuffle, at even indices, and the white space between them, at odd ones.

    Units are words, or the characters of a text without spaces.
    """
    parts = _SPACE.split(text)
    words = parts[::2]
    if sum(map(len, words)) / len(words) > LONGEST_WORD:
        return [part for character in text for part in (character, "")][:-1]
    return parts


def neighbours(units: list[str]) -> list[list[int]]:
    """Group the words among the units of ``cut`` that are shuffled together.

    A group has up to ``REACH`` consecutive words of one line and sentence; across lines, if that leaves most words
    alone; there are no groups if there are too few words. A word that ends a sentence keeps its position, so that the
    groups do not depend on the order of the others.
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
    """Join the units of ``cut`` with the words of each group in an order drawn by hashing."""
    result = units.copy()
    for group in groups:
        order = sorted(group, key=lambda place: rank(*draw, place))
        for place, other in zip(group, order, strict=True):
            result[2 * place] = units[2 * other]
    return "".join(result)
