"""Unicode forms of a text: repair of wrong decoding, and an ASCII form of wide letters and of all scripts' digits."""

import re
import unicodedata
from dataclasses import dataclass, replace
from functools import cache

import ftfy

from rewarm.stages.ingest.records import EXCERPT, Document, Reason, Refusal

# Broken text is repaired; the author's choices (quotes, ligatures, full-width forms) and possible subjects of a text
# (HTML entities) are kept.
CONFIG = ftfy.TextFixerConfig(
    unescape_html=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    explain=False,
)
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def repair(text: str) -> str:
    """Return the repaired text; a text of printable ASCII, tabs and line feeds is returned unchanged."""
    if text.isascii() and not CONTROLS.search(text):
        return text
    return ftfy.fix_text(text, CONFIG)


WIDE = range(0xFF01, 0xFF5F)  # full-width forms of the printable ASCII characters, in their order


@cache
def ascii_forms() -> tuple[re.Pattern[str], dict[int, int]]:
    """Return a pattern of digits other than ASCII and of wide letters, and the ASCII form of each character."""
    digits = {code: ord("0") + unicodedata.decimal(chr(code)) for code in range(128, 0x20000) if chr(code).isdecimal()}
    wide = {code: code - WIDE[0] + ord("!") for code in WIDE}
    words = [code for code, plain in wide.items() if chr(plain).isalnum() or plain == ord("@")]
    pattern = re.compile(f"[{''.join(map(chr, sorted({*digits, *words})))}]")
    return pattern, {**digits, **wide}


def as_ascii(text: str) -> str:
    """Return a text of the same length with wide forms and all scripts' decimal digits in ASCII."""
    if text.isascii():
        return text
    pattern, forms = ascii_forms()
    return text.translate(forms) if pattern.search(text) else text


@dataclass(frozen=True)
class RepairStep:
    """Step that repairs a document's text and title."""

    name: str = "repair-unicode"
    version: int = 1

    def __call__(self, document: Document) -> Document | Refusal:
        """Return the repaired document, or a refusal if it contained only control characters."""
        text = repair(document.text)
        title = repair(document.title) if document.title else document.title
        if not text.strip():
            excerpt = document.text[:EXCERPT].encode()[:EXCERPT]
            return Refusal("", Reason.EMPTY_TEXT, "expected text, found only control characters", excerpt, self.name)
        if text == document.text and title == document.title:
            return document
        return replace(document, text=text, title=title)
