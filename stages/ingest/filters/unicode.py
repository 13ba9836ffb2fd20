"""Unicode repair: text that was decoded wrongly somewhere on its way here."""

import re
from dataclasses import dataclass, replace

import ftfy

from rewarm.stages.ingest.records import EXCERPT, Document, Reason, Refusal

# What is broken is mended; what is a choice of the author's (quotes, ligatures, full-width forms) or may be the
# subject of a text (HTML entities) stays.
CONFIG = ftfy.TextFixerConfig(
    unescape_html=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    explain=False,
)
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def repair(text: str) -> str:
    """The text mended; a text of printable ASCII, tabs and line feeds is given back as it is."""
    if text.isascii() and not CONTROLS.search(text):
        return text
    return ftfy.fix_text(text, CONFIG)


@dataclass(frozen=True)
class RepairStep:
    """Mends a document's text and title."""

    name: str = "repair-unicode"
    version: int = 1

    def __call__(self, document: Document) -> Document | Refusal:
        """The document mended; refused where nothing but control characters was there."""
        text = repair(document.text)
        title = repair(document.title) if document.title else document.title
        if not text.strip():
            excerpt = document.text[:EXCERPT].encode()[:EXCERPT]
            return Refusal("", Reason.EMPTY_TEXT, "text expected, found control characters only", excerpt, self.name)
        if text == document.text and title == document.title:
            return document
        return replace(document, text=text, title=title)
