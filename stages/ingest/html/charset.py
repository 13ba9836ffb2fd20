"""Detection of a page's character encoding, robust against wrong declarations.

The order is that of the WHATWG encoding standard (byte order mark, the transport's declaration, ``<meta>``, detection),
with two changes for wrong declarations. Text that is valid UTF-8 beyond chance is UTF-8. And a declared single-byte
encoding, which accepts any bytes, is compared with the page's own declaration and with detection by the plausibility of
the decoded text: servers send ``ISO-8859-1`` with pages of every encoding.

A wrong single-byte encoding gives letters of two alphabets in one word (``Bьcherei``), capitals within words
(``зПТПДУЛПК``), signs within words (``chcia³a``) and runs of accented letters (``Ãîðîäñêîé``); a wrong East Asian
encoding gives ideographs that hardly any text uses. Such signs are counted character by character.
"""

import codecs
import re
from functools import cache
from typing import NamedTuple

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from resiliparse.parse.lang import detect_fast

SAMPLE = 4000  # characters of words with non-ASCII letters that are examined
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
EXTENDED = "".join(letter for letter in map(chr, range(0x100, 0x180)) if letter.isupper())
CAPITAL = f"\u00c0-\u00d6\u00d8-\u00de{EXTENDED}\u0391-\u03a9\u0400-\u042f"
# Signs that never touch letters in real text, unlike quotation marks, dashes, middle dots and soft hyphens.
SIGN = (
    "\x80-\xa8\xac\xaf\xb1-\xb3\xb5\xb6\xb8\xb9\xbc-\xbf\u00d7\u00f7\u02c6\u02c7\u02d8-\u02dd"
    "\u2020\u2021\u2030\u20ac\u2122\u2190-\u2bff"
)
OTHERS = "[^\\x00-\\x7f\\s\u2010-\u201f\u2026\u3000-\u303f\uff00-\uff60]"
ODD = [
    *(f"[{one}](?=[{other}])" for one in ALPHABETS for other in ALPHABETS if one != other),
    f"(?<=[{SMALL}])[{CAPITAL}]+",
    f"[{LATIN}]{{4,}}",
    "(?<=[a-z])[\u201a\u201e](?=[a-z])",  # low quotation marks within a word: letters of MS-DOS
    f"(?:(?<=[^\\W\\d_])|(?<=[{SIGN}]))[{SIGN}](?=[^\\W\\d_]|[{SIGN}])",
    f"[{SIGN}](?={OTHERS})",
    "[A-Za-z][\u3400-\u9fff\uac00-\ud7a3](?=[A-Za-z])",
    "[\ufffd\ue000-\uf8ff\uff61-\uff9f\x80-\x9f]",
]
ODD_CHARACTERS = re.compile("|".join(ODD))
IDEOGRAPH = re.compile("[\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]")


def odd_share(text: str) -> float:
    """Return the share of a text's non-ASCII characters, from 0, that are implausible in their context."""
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
    """Return ideographs and syllables in everyday use: the first levels of the Chinese, Japanese, Korean standards."""
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


MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like the next one; not in the standard
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
META = re.compile(rb"""<meta[^>]{0,256}?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
META_BYTES = 4096  # bytes of a page that are searched for its declaration; the standard requires 1,024
# Under these names browsers decode supersets of the standards (WHATWG): Python's names of the supersets. KOI8-U has
# letters in place of some box-drawing characters of KOI8-R, and is otherwise the same.
WIDER = {"shift_jis": "cp932", "euc_kr": "cp949", "gbk": "gb18030", "big5": "big5hkscs", "koi8-r": "koi8-u"}
# Encodings that pages may declare although browsers do not know them.
LEGACY = re.compile(
    r"cp(?:437|7[0-9]{2}|8[0-9]{2}|1125|1006)|mac-?\w+|kz1048|ptcp154|johab|iso8859-1[0-9]|koi8-t|hp-roman8"
)
# In these, two bytes are a character and occasionally also valid UTF-8: a few such pairs prove nothing.
EAST_ASIAN = {*WIDER.values(), "euc_jp"} - {"koi8-u"}
PROOF = 8  # non-ASCII characters that prove that a text declared in one of these is UTF-8
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")  # results of a wrong single-byte encoding
MOST_CONTROLS = 0.01  # maximum share of such characters
MOST_INVALID = 0.05  # maximum share of broken non-ASCII characters: a truncated page, one wrong quote
# 7-bit encodings by their escape bytes. Browsers have no label for HZ and ISO-2022-KR.
SWITCHED = (
    (re.compile(rb"\x1b\$\)C"), "iso2022_kr"),
    (re.compile(rb"\x1b\$[@B]"), "iso2022_jp_2"),
    (re.compile(rb"~\{[!-~]{2,}~\}"), "hz"),
)
DEFAULT = "cp1252"  # the default declaration of servers (ISO-8859-1 in browsers)
# By a page's language: encodings of its unlabelled pages (browsers' defaults by locale).
LANG = re.compile(rb"""<html\b[^>]{0,512}?\blang\s*=\s*["']?\s*([a-z]{2,3})\b""", re.IGNORECASE)
LOCAL = {
    language: encodings
    for languages, encodings in {
        "ru uk bg sr mk be": ("cp1251", "koi8-u"),
        "cs sk pl hu sl hr ro sq bs": ("cp1250", "iso8859-2"),
        "el": ("cp1253", "iso8859-7"),
        "tr az ku": ("cp1254",),
        "he yi": ("cp1255",),
        "ar fa ur": ("cp1256",),
        "lt lv et": ("cp1257",),
        "th": ("cp874",),
        "ja": ("cp932", "euc_jp"),
        "zh": ("gb18030", "big5hkscs"),
        "ko": ("cp949",),
    }.items()
    for language in languages.split()
}
OWN = {
    "cs": "áčďéěíňóřšťúůýž",
    "sk": "áäčďéíĺľňóôŕšťúýž",
    "pl": "ąćęłńóśźż",
    "hu": "áéíóöőúüű",
    "sl": "čćđšž",
    "hr": "čćđšž",
    "bs": "čćđšž",
    "ro": "ăâîşţșț",
    "sq": "çë",
}
WESTERN = ("cp1254", "iso8859-9")  # detected for texts of the default
# Tried if nothing else is plausible: rare ones, and those of MS-DOS and the older Mac.
UNDETECTED = (
    *("mac-roman", "cp1258", "mac-cyrillic", "iso8859-14", "cp866", "cp850"),
    *("cp737", "cp857", "cp862", "mac-latin2"),
)
MOST_ODD = 0.1  # maximum share of odd non-ASCII characters in a plausible reading
REFUSED_ODD = 0.4  # share above which a reading is not text …
ODD_PROOF = 20  # … if at least so many characters are odd
NOISE = 20  # insignificant difference in ranks of the language detector
SURER = 50  # difference in ranks of the language detector by which a reading overrules a declaration
LANGUAGE_LETTERS = 4000


class Reading(NamedTuple):
    """Text of a page in one encoding."""

    encoding: str
    text: str
    odd: float  # share of its non-ASCII characters that are implausible in their context


def decode_page(data: bytes, declared: str | None) -> str | None:
    """Return the text of a page, or None if no encoding is plausible.

    ``declared`` is the transport's declaration (HTTP's ``charset``). A single byte that is invalid in an otherwise
    matching encoding becomes U+FFFD, as in a browser.
    """
    for mark, marked in MARKS:
        if data.startswith(mark):
            return tolerant(data[len(mark) :], marked)
    found = META.search(data, 0, META_BYTES)
    labels = [declared, found[1].decode("ascii", "replace") if found else None]
    named = list(dict.fromkeys(encoding for label in labels if label and (encoding := known(label))))
    text = strict(data, "utf-8")
    if text is not None and text.isascii() and (switched := read_switched(data)):
        return switched
    if text is not None and is_utf8(text, data, named[0] if named else "utf-8"):
        return text
    if text is None and (text := nearly_utf8(data)):
        return text
    if wide(data) or any(encoding.startswith("utf-16") for encoding in named):
        for encoding in dict.fromkeys([*wide(data), *named]):
            text = strict(data, encoding)
            if text is not None and sound(text):
                return text
    best = choose(data, named)
    if best and best.encoding in (DEFAULT, *WESTERN, *UNDETECTED) and set(named) <= {DEFAULT, "utf-8"}:
        best = local(data, best) or best
    return best.text if best else None


def choose(data: bytes, named: list[str]) -> Reading | None:
    """Return the best reading: the declared encoding, unless the bytes contradict it."""
    guess = detect(data)
    if guess and named and guess == named[0] and (guess != DEFAULT or len(named) == 1):
        reading = read(data, guess)
        if reading and reading.odd <= MOST_ODD:
            return reading
    # A server's default has the lowest priority; without a declaration it is also the browsers' default.
    declared = [
        reading for encoding in sorted({*named, DEFAULT}, key=DEFAULT.__eq__) if (reading := read(data, encoding))
    ]
    detected = read(data, guess) if guess else None
    best: Reading | None = None
    for reading in declared:
        # The default is detected for many alphabets that only differ in rare letters: no vote against a declaration.
        if best is None or overrules(reading, best, vote=reading.encoding == guess != DEFAULT):
            best = reading
    if detected and (best is None or overrules(detected, best, vote=best.encoding == DEFAULT)):
        best = detected
    if best is None or best.odd > MOST_ODD:
        others = [reading for encoding in UNDETECTED if (reading := read(data, encoding))]
        readings = [*([best] if best else []), *others]
        best = min(readings, key=lambda reading: (reading.odd, rank(reading.text)), default=None)
    return best if best and (best.odd <= REFUSED_ODD or beyond_ascii(best.text) < ODD_PROOF) else None


def local(data: bytes, default: Reading) -> Reading | None:
    """Return the reading in an encoding of the language that the page declares, if it is as plausible as the default.

    Short texts in it are often plausible in the default as well (Greek: ``Ôï äçìïôéêü``), and detection needs more.
    """
    found = LANG.search(data, 0, META_BYTES)
    language = found[1].decode().lower() if found else ""
    readings = [reading for encoding in LOCAL.get(language, ()) if (reading := read(data, encoding))]
    best = min(readings, key=lambda reading: (reading.odd, foreign(reading.text, language)), default=None)
    return best if best and best.odd <= min(MOST_ODD, default.odd + MOST_ODD / 2) else None


def foreign(text: str, language: str) -> int:
    """Return the number of letters that a language written in windows-1250 and ISO-8859-2 does not have."""
    own = OWN.get(language)
    return sum(letter > "\x7f" and letter.isalpha() and letter not in own for letter in text.lower()) if own else 0


def overrules(reading: Reading, other: Reading, vote: bool) -> bool:
    """Return whether a reading is better than another that was declared with higher priority.

    It is if only this reading looks like text, or if its language is recognised much more reliably. If detection also
    chose it (``vote``), the latter is not required, provided that there are enough characters to judge.
    """
    if reading.text == other.text:
        return False
    if (reading.odd <= MOST_ODD) != (other.odd <= MOST_ODD):
        return reading.odd < other.odd
    if reading.odd > other.odd + MOST_ODD / 2:
        return False
    if vote and beyond_ascii(reading.text) >= PROOF:
        return rank(reading.text) <= rank(other.text) + NOISE
    return rank(reading.text) + SURER < rank(other.text)


def read(data: bytes, encoding: str) -> Reading | None:
    """Return the reading of a page in an encoding, or None if too many bytes are invalid."""
    text = tolerant(data, encoding)
    return None if text is None else Reading(encoding, text, odd_share(text))


def rank(text: str) -> int:
    """Return the distance of a text's words from the nearest language; lower is more certain."""
    words = " ".join(WORDS.findall(TAGS.sub(" ", text))[:LANGUAGE_LETTERS])
    return int(detect_fast(words[:LANGUAGE_LETTERS], cutoff=10**6)[1])


TAGS = re.compile(r"<[^>]*>")
WORDS = re.compile(r"\S+")


def read_switched(data: bytes) -> str | None:
    """Return the text of a 7-bit encoding that is recognised by its escape bytes, or None."""
    for switch, encoding in SWITCHED:
        if switch.search(data):
            text = strict(data, encoding)
            if text is not None and not text.isascii():
                return text
    return None


def nearly_utf8(data: bytes) -> str | None:
    """Return the text of UTF-8 in which a few bytes are broken, or None."""
    text = tolerant(data, "utf-8")
    return text if text is not None and beyond_ascii(text) - 2 * text.count("\ufffd") >= PROOF else None


def beyond_ascii(text: str) -> int:
    """Return the number of non-ASCII characters."""
    return len(text) - len(text.encode("ascii", "ignore"))


def is_utf8(text: str, data: bytes, named: str) -> bool:
    """Return whether to read a text that decodes as UTF-8 as such, contrary to the declared encoding."""
    if "\0" in text or (named.startswith("utf-16") and not text.isascii()):
        return not wide(data)
    return named not in EAST_ASIAN or text.isascii() or len(data) - len(text) >= PROOF


@cache
def known(label: str) -> str | None:
    """Return Python's name of the encoding that browsers use for a label, or of one that they do not know; or None."""
    encoding = map_encoding_to_html5(label.strip(), fallback_utf8=False)
    if encoding is None:
        return unknown_to_browsers(label)
    try:
        name = codecs.lookup(encoding).name
    except LookupError:  # "replacement", "x-user-defined"
        return None
    return WIDER.get(name, name)


def unknown_to_browsers(label: str) -> str | None:
    """Return Python's name of an encoding of MS-DOS, the Mac or a national standard, or None."""
    try:
        name = codecs.lookup(label.strip()).name
    except (LookupError, ValueError):  # the latter for a NUL character
        return None
    return name if LEGACY.fullmatch(name) else None


def detect(data: bytes) -> str | None:
    """Return the encoding detected from the bytes, or None."""
    encoding = detect_encoding(data, html5_compatible=False)
    found = known(encoding) or encoding if encoding else None
    return DEFAULT if found in ("iso8859-1", "iso8859-15") else found  # nearly the same letters


def wide(data: bytes) -> list[str]:
    """Detect UTF-16 without a byte order mark: every second byte of its ASCII characters is zero."""
    sample = data[:1024]
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if max(even, odd) * 4 < len(sample) // 2 or min(even, odd) * 8 > max(even, odd):
        return []
    return ["utf-16-be" if even > odd else "utf-16-le"]


def strict(data: bytes, encoding: str) -> str | None:
    """Return the text, or None if a byte is invalid in the encoding, or Python does not support it."""
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None


def sound(text: str) -> bool:
    """Return whether a text has hardly any control characters: single-byte encodings decode any bytes."""
    return len(CONTROLS.findall(text)) <= MOST_CONTROLS * len(text)


def tolerant(data: bytes, encoding: str) -> str | None:
    """Return the text with invalid bytes as U+FFFD, or None if there are too many."""
    try:
        text = data.decode(encoding, "replace")
    except LookupError:
        return None
    return text if text.count("\ufffd") <= max(1, MOST_INVALID * beyond_ascii(text)) and sound(text) else None
