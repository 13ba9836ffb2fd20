"""A document's language: detected, or what its record says, as an ISO 639-1 code; and the allow-list over it."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from resiliparse.parse.lang import detect_fast

from stages.ingest.clean.codes import UNDETERMINED, normalise_language
from stages.ingest.records import EXCERPT, Document, Refusal

SAMPLE = 10_000  # characters that decide: more changes hardly a verdict, and a book costs no more than a page
LETTERS = re.compile(r"[^\W\d_]+")
# The detector takes Japanese for Chinese, whose characters it shares; the kana are in Japanese only.
KANA = re.compile(r"[\u3041-\u30fa\u30fd-\u30ff]")
HAN = re.compile(r"[\u4e00-\u9fff]")
KANA_SHARE = 0.1  # of kana and Chinese characters together; Japanese prose is at one half or more


def detect_language(text: str, min_letters: int, max_rank: int) -> tuple[str, int | None]:
    """The language of a text and the distance from its profile; "und" where it is too short, or like no language.

    The distance is None where the text is too short and where its script alone decides.
    """
    sample = text[:SAMPLE]
    begin = sample[: 4 * min_letters]  # nearly always enough
    if count_letters(begin) < min_letters and count_letters(sample) < min_letters:
        return UNDETERMINED, None
    if KANA.search(sample):
        kana, han = len(KANA.findall(sample)), len(HAN.findall(sample))
        if (kana + han) * 2 > len(sample) and kana >= KANA_SHARE * (kana + han):
            return "ja", None
    language, rank = detect_fast(sample, cutoff=max_rank)
    return (UNDETERMINED, None) if language == "unknown" else (language, rank)


def count_letters(text: str) -> int:
    """How many characters are letters."""
    return sum(map(len, LETTERS.findall(text)))


@dataclass(frozen=True)
class LanguageStep:
    """Sets a document's language; with an allow-list it refuses the others.

    A document whose language cannot be told is allowed if "und" is, or if what its record or page says is allowed.
    """

    languages: Collection[str]
    detect: bool
    trust: bool
    min_letters: int
    max_rank: int
    name: str = "language"
    version: int = 1

    def __call__(self, document: Document) -> Document | Refusal:
        """The document with its language, or why it is refused."""
        stated = normalise_language(document.language)
        language, rank = stated or UNDETERMINED, None
        if self.detect and not (self.trust and stated):
            language, rank = detect_language(document.text, self.min_letters, self.max_rank)
        allowed = {language, stated} if language == UNDETERMINED else {language}
        if self.languages and allowed.isdisjoint(self.languages):
            detail = f"one of {', '.join(self.languages)} expected, found {language}"
            excerpt = document.text[:EXCERPT].encode()[:EXCERPT]
            return Refusal("", "language", detail, excerpt, self.name, rank)
        language = stated or language if language == UNDETERMINED else language
        return document if language == document.language else replace(document, language=language)
