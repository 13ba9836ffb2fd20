"""Bytes of a page to text: which character encoding it is in, whatever it says of itself.

The order is that of the WHATWG encoding standard (a byte order mark, then the transport's declaration, then ``<meta>``,
then detection), with one change for declarations that are wrong: text that is valid UTF-8 beyond chance is UTF-8.
"""

import codecs
import re

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
META = re.compile(rb"""<meta[^>]{0,256}?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
META_BYTES = 4096  # of a page that are searched for its declaration; the standard asks for 1,024
# What browsers read under these names is more than their standards hold (WHATWG): Python's names of that.
WIDER = {"shift_jis": "cp932", "euc_kr": "cp949", "gbk": "gb18030", "big5": "big5hkscs"}
# Two bytes of these are a character, and now and then valid UTF-8 as well: some such pairs prove nothing.
EAST_ASIAN = {*WIDER.values(), "euc_jp"}
PROOF = 8  # characters beyond ASCII that show that a text declared in one of these is UTF-8
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")  # what a wrong single-byte encoding leaves behind
MOST_CONTROLS = 0.01  # share of such characters
MOST_INVALID = 0.05  # share of characters beyond ASCII that may be broken: a page cut in a character, one wrong quote


def decode_page(data: bytes, declared: str | None) -> str | None:
    """The text of a page, or None where no encoding reads it well.

    ``declared`` is what the transport said (HTTP's ``charset``). A byte that breaks an encoding which reads all the
    rest becomes U+FFFD, as in a browser.
    """
    for mark, marked in MARKS:
        if data.startswith(mark):
            return tolerant(data[len(mark) :], marked)
    found = META.search(data, 0, META_BYTES)
    labels = [declared, found[1].decode("ascii", "replace") if found else None]
    named = [encoding for label in labels if label and (encoding := known(label))]
    text = strict(data, "utf-8")
    if text is not None and is_utf8(text, data, named[0] if named else "utf-8"):
        return text
    candidates = named + wide(data) + [detected for detected in [detect(data)] if detected]
    for encoding in dict.fromkeys(candidates):
        text = strict(data, encoding)
        if text is not None and sound(text):
            return text
    for encoding in dict.fromkeys(["utf-8", *candidates]):
        text = tolerant(data, encoding)
        if text is not None:
            return text
    return None


def is_utf8(text: str, data: bytes, named: str) -> bool:
    """Whether a text that decodes as UTF-8 is to be read so, against the encoding that the page names."""
    if "\0" in text or (named.startswith("utf-16") and not text.isascii()):
        return not wide(data)
    if text.isascii():
        return not ("\x1b" in text and named.startswith("iso2022"))
    return named not in EAST_ASIAN or len(data) - len(text) >= PROOF


def known(label: str) -> str | None:
    """Python's name of the encoding that browsers mean by a label, or None."""
    encoding = map_encoding_to_html5(label.strip(), fallback_utf8=False)
    if encoding is None:
        return None
    name = codecs.lookup(encoding).name
    return WIDER.get(name, name)


def detect(data: bytes) -> str | None:
    """What the bytes look like."""
    encoding = detect_encoding(data, html5_compatible=False)
    return known(encoding) or encoding if encoding else None


def wide(data: bytes) -> list[str]:
    """UTF-16 without a byte order mark: every other byte of its ASCII is zero."""
    sample = data[:1024]
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if max(even, odd) * 4 < len(sample) // 2 or min(even, odd) * 8 > max(even, odd):
        return []
    return ["utf-16-be" if even > odd else "utf-16-le"]


def strict(data: bytes, encoding: str) -> str | None:
    """The text, or None where a byte does not belong to the encoding, or Python does not have it."""
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None


def sound(text: str) -> bool:
    """Whether a text holds hardly any control characters: single-byte encodings read everything, also what is none."""
    return len(CONTROLS.findall(text)) <= MOST_CONTROLS * len(text)


def tolerant(data: bytes, encoding: str) -> str | None:
    """The text with what does not belong as U+FFFD, or None where that is too much of it."""
    try:
        text = data.decode(encoding, "replace")
    except LookupError:
        return None
    beyond = len(text) - len(text.encode("ascii", "ignore"))
    return text if text.count("\ufffd") <= max(1, MOST_INVALID * beyond) and sound(text) else None
