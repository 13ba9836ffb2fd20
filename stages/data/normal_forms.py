"""Normal forms of texts: the forms in which equal texts have the same words, or the same id.

Shared by the stages that write document shards: the index of a dataset also holds the ids of folded texts, so that a
later arrival finds a document whatever normal form it comes in.
"""

import html
import re
import unicodedata
from collections.abc import Sequence

from rewarm.stages.data.documents import document_id
from rewarm.stages.data.split import Hashes

ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
ENTITY_DEPTH = 3  # for ``&amp;amp;lt;`` in a text that was escaped repeatedly
# Characters that do not separate words (UAX 29, rule WB4): soft hyphens, joiners, directions, selectors; and the Arabic
# tatweel, which only makes a word longer.
UNSEEN = re.compile("[\u00ad\u0640\u200c-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]+")
# A zero-width space within a script without spaces only shows where a line may end; not all texts have it.
UNSPACED = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f"
LINE_BREAK = re.compile(f"(?<=[{UNSPACED}])\u200b+(?=[{UNSPACED}])")
# Spellings of the same word: Romanian with cedillas for commas below, Persian with Arabic letters for its own, Russian
# with and without the dots of yo, and the vowel points of Hebrew and Arabic, which most texts leave out.
SPELLINGS = str.maketrans(
    "\u015e\u015f\u0162\u0163\u0643\u064a\u0401\u0451", "\u0218\u0219\u021a\u021b\u06a9\u06cc\u0415\u0435"
)
POINTS = "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u0652\u0670"
POINT = re.compile(f"[{POINTS}]+")
SPELLED_OTHERWISE = re.compile(f"[{POINTS}{''.join(map(chr, SPELLINGS))}]")


def fold(text: str) -> str:
    """Return the form in which texts are compared: without HTML entities and invisible characters, in Unicode NFKC, in
    one spelling."""
    text = decode_entities(text)
    return text if text.isascii() else joined(fold_letters(text))


def fold_letters(text: str) -> str:
    """Return a text without invisible characters, in Unicode NFKC, in one spelling."""
    text = unicodedata.normalize("NFKC", UNSEEN.sub("", text))
    return POINT.sub("", text).translate(SPELLINGS) if SPELLED_OTHERWISE.search(text) else text


def fold_exact(text: str) -> str:
    """Return the form in which equal texts are exact duplicates: as ``fold``, but with points, as spelled, and in NFC,
    in which ``x²`` is not ``x2``."""
    text = decode_entities(text)
    return text if text.isascii() else joined(unicodedata.normalize("NFC", UNSEEN.sub("", text)))


def joined(text: str) -> str:
    """Return a text without optional line breaks in scripts without spaces."""
    return LINE_BREAK.sub("", text) if "\u200b" in text else text


def decode_entities(text: str) -> str:
    """Return a text with HTML entities decoded."""
    if "&" in text:
        for _ in range(ENTITY_DEPTH):
            text, count = ENTITY.subn(lambda entity: html.unescape(entity[0]), text)
            if not count:
                break
    return text


def folded_ids(ids: Hashes, texts: Sequence[str]) -> Hashes:
    """Return the ids of the texts after ``fold_exact``: equal for texts in different normal forms."""
    found = ids.copy()
    for place, text in enumerate(texts):
        folded = fold_exact(text)
        if folded != text:
            found[place] = bytes.fromhex(document_id(folded))
    return found
