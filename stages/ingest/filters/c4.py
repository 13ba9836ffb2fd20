"""C4's rule (Raffel et al. 2020, arXiv 1910.10683, section 2.2): removes lines that are not sentences, then judges
pages.

If the paper and its published code differ, this follows the code (``clean_page`` of TensorFlow Datasets' c4_utils):
citation marks are removed first, lines about policies are removed, and pages are judged by the remaining lines only.
"""

import re
from dataclasses import replace

from rewarm.stages.ingest.filters.rule import figure, refusal, setting_path
from rewarm.stages.ingest.filters.settings import C4Settings
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.words import (
    LETTERS_A_WORD,
    SENTENCE_TERMINAL,
    WORD_SEPARATORS,
    has_final_mark,
    marks_sentences,
    num_spelled,
    num_unspaced,
    strip_line,
    without_emoji,
)

CLOSING_QUOTES = "\"'”’»」』"
LINE_ENDS = SENTENCE_TERMINAL.union(CLOSING_QUOTES)
# Characters that may follow a sentence-final mark, including German and Danish quotes.
CLOSING = CLOSING_QUOTES + "“‘«‹›)]）］】〕》〉"
CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")

_INITIALS = "0-9A-Za-z\u00aa-\u02af\u0370-\u058f"  # of alphabets in which a letter and a full stop are an abbreviation
# Inside a line a sentence ends with its final marks, and closing quotes or a bracket, before a blank; a single letter
# before them is an initial or "e.g.". Wide marks need no blank. Marks beyond the first plane are omitted for speed.
_MARKS = "".join(map(re.escape, sorted(mark for mark in SENTENCE_TERMINAL if mark < "\U00010000")))
SENTENCE_END = re.compile(
    rf"(?<!\b[{_INITIALS}])[{_MARKS}]+[{re.escape(CLOSING)}]*\s|[。！？｡]+(?=[^。！？｡{re.escape(CLOSING)}])|\u1361{{2,}}"
)
AS_BLANKS = dict.fromkeys(map(ord, WORD_SEPARATORS), " ")


class C4:
    """The rule ``c4``: returns the document with its remaining lines, or refuses it."""

    name: str = "c4"
    version: int = 4

    def __init__(self, settings: C4Settings) -> None:
        self._settings = settings
        words = "|".join(map(re.escape, settings.bad_words))
        self._bad_words = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) if words else None

    def __call__(self, document: Document) -> Document | Refusal:
        """Return the document with its remaining lines, or a refusal."""
        settings = self._settings
        marked = marks_sentences(document.text)
        lines = []
        for raw in document.text.splitlines():
            line = self._sentences(raw, marked)
            if not line:
                continue
            lowered = line.lower()
            if settings.lorem_ipsum and "lorem ipsum" in lowered:
                return self._found(document, "lorem ipsum", "lorem_ipsum", line)
            if settings.javascript and "javascript" in lowered:
                continue
            if settings.curly_bracket and "{" in line:
                return self._found(document, "curly bracket", "curly_bracket", line)
            if settings.policy and any(policy in lowered for policy in POLICIES):
                continue
            lines.append(line)
        return self._left(document, lines, marked)

    def not_applied(self, document: Document) -> list[str]:
        """Return the parts of the rule that require sentence-final marks, for scripts that have none."""
        settings = self._settings
        asked = settings.terminal_punctuation or settings.min_sentences is not None
        return ["sentence ends: not defined for the script"] if asked and not marks_sentences(document.text) else []

    def _sentences(self, raw: str, marked: bool) -> str:
        """Return a line without citation marks; empty if it is too short, has too long a word or is not a sentence.

        ``marked``: whether the document's script marks the end of a sentence.
        """
        settings = self._settings
        line = (CITATION.sub("", raw) if settings.citations and "[" in raw else raw).strip()
        seen = strip_line(line)
        if not seen:
            return ""
        if marked and settings.terminal_punctuation and not ends_sentence(seen):
            return ""
        longest = settings.max_word_length
        if longest is not None and len(line) > longest and longest_word(line) > longest:
            return ""
        fewest = settings.min_words_in_line
        too_few = fewest is not None and num_words(line) < fewest
        return "" if too_few else line

    def _left(self, document: Document, lines: list[str], marked: bool) -> Document | Refusal:
        """Return the document with the remaining lines if they are enough and none has a bad word, else a refusal."""
        fewest = self._settings.min_sentences if marked else None
        fewest = fewest or 1  # a document has at least one line
        found = num_sentences(lines, fewest)
        if found < fewest:
            detail = f"expected at least {figure(fewest)} in the remaining lines, found {figure(found)}"
            where = setting_path(self.name, "min_sentences")
            return refusal(self.name, "sentences", f"{detail} ({where})", document, found)
        text = "\n".join(lines)
        if self._bad_words and (match := self._bad_words.search(text)):
            return self._found(document, "bad words", "bad_words", match[0])
        return document if text == document.text else replace(document, text=text)

    def _found(self, document: Document, label: str, setting: str, where: str) -> Refusal:
        detail = f"expected none, found in {where[:80]!r} ({setting_path(self.name, setting)})"
        return refusal(self.name, label, detail, document)


def ends_sentence(line: str) -> bool:
    """Return whether a line ends with a sentence-final mark, also within quotes or brackets, or a closing quote."""
    line = without_emoji(line)
    if not line or line.endswith("..."):
        return False
    return line[-1] in LINE_ENDS or has_final_mark(line.rstrip(CLOSING))


def num_words(line: str) -> int:
    """Count words between blanks; in scripts without spaces, characters, or three letters each in Thai and the like."""
    words = len(line.split() if line.isascii() else line.translate(AS_BLANKS).split())
    if not (unspaced := num_unspaced(line)):
        return words
    spelled = num_spelled(line)
    return words + max(0, unspaced - spelled + -(-spelled // LETTERS_A_WORD) - 1)


def longest_word(line: str) -> int:
    """Return the length of the longest word in characters; each character of a script without spaces is a word."""
    return max(map(len, line.translate(AS_BLANKS).split())) - num_unspaced(line)


def num_sentences(lines: list[str], enough: int) -> int:
    """Count sentences in lines that each end a sentence; stop counting at ``enough``."""
    found = 0
    for line in lines:
        if found >= enough:
            break
        found += 1 + sum(1 for _ in SENTENCE_END.finditer(line))
    return found
