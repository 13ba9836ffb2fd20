"""Unicode repair of text that was decoded incorrectly before it reached rewarm."""

import re
from dataclasses import dataclass, replace

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
