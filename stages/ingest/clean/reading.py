"""Signs that a text was decoded in the wrong encoding, counted character by character.

Bytes read in a wrong single-byte encoding give letters of two alphabets in one word (``Bьcherei``), capitals within
words (``зПТПДУЛПК``), signs within words (``chcia³a``) and runs of accented letters (``Ãîðîäñêîé``); bytes read in a
wrong East Asian one give ideographs that hardly any text uses.
"""

import re
from functools import cache

SAMPLE = 4000  # characters of words with letters beyond ASCII that are looked at
WORD = re.compile(r"[^\s<>]*[^\x00-\x7f\s][^\s<>]*")
LATIN = "\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
GREEK, CYRILLIC, HEBREW, ARABIC, THAI = (
    "\u0370-\u03ff",
    "\u0400-\u04ff",
    "\u05d0-\u05ea",
    "\u0621-\u06d3",
    "\u0e01-\u0e4e",
)
ALPHABETS = (LATIN + "A-Za-z", GREEK, CYRILLIC, HEBREW, ARABIC, THAI)
SMALL = "a-z\u00df-\u00f6\u00f8-\u00ff\u03ac-\u03ce\u0430-\u045f"
CAPITAL = "\u00c0-\u00d6\u00d8-\u00de\u0391-\u03a9\u0400-\u042f"
# Signs that no text has beside letters without a blank, as it has quotation marks, dashes, middle dots, soft hyphens.
SIGN = (
    "\x80-\xa8\xac\xaf\xb1-\xb3\xb5\xb6\xb8\xb9\xbc-\xbf\u00d7\u00f7\u02c6\u02c7\u02d8-\u02dd"
    "\u2020\u2021\u2030\u20ac\u2122\u2190-\u2bff"
)
OTHERS = "[^\\x00-\\x7f\\s\u2010-\u201f\u2026\u3000-\u303f\uff00-\uff60]"
ODD = [
    *(f"[{one}](?=[{other}])" for one in ALPHABETS for other in ALPHABETS if one != other),
    f"(?<=[{SMALL}])[{CAPITAL}]+",
    f"[{LATIN}]{{4,}}",
    f"(?:(?<=[^\\W\\d_])|(?<=[{SIGN}]))[{SIGN}](?=[^\\W\\d_]|[{SIGN}])",
    f"[{SIGN}](?={OTHERS})",
    "[A-Za-z][\u3400-\u9fff\uac00-\ud7a3](?=[A-Za-z])",
    "[\ufffd\ue000-\uf8ff\uff61-\uff9f\x80-\x9f]",
]
ODD_CHARACTERS = re.compile("|".join(ODD))
IDEOGRAPH = re.compile("[\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]")


def odd_share(text: str) -> float:
    """Share of a text's characters beyond ASCII, from 0, that do not fit where they are."""
    words, size = [], 0
    for found in WORD.finditer(text):
        words.append(found[0][:SAMPLE])
        size += len(words[-1])
        if size >= SAMPLE:
            break
    sample = "\n".join(words)
    number = sum(character > "\x7f" for character in sample)
    if not number:
        return 0.0
    odd = sum(len(found) for found in ODD_CHARACTERS.findall(sample))
    odd += sum(character not in common() for character in IDEOGRAPH.findall(sample))
    return odd / number


@cache
def common() -> frozenset[str]:
    """Ideographs and syllables of everyday use: the first levels of the Chinese, Japanese and Korean standards."""
    tails = range(0xA1, 0xFF)
    rows = {
        "gb2312": (range(0xB0, 0xD8), tails),
        "euc_jp": (range(0xB0, 0xD0), tails),
        "euc_kr": (range(0xB0, 0xC9), tails),
        "big5": (range(0xA4, 0xC7), [*range(0x40, 0x7F), *tails]),
    }
    return frozenset(
        "".join(
            bytes((head, tail)).decode(encoding, "ignore")
            for encoding, (heads, ends) in rows.items()
            for head in heads
            for tail in ends
        )
    )
