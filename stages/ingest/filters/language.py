"""Language filter: detects a document's language, or uses its record's label, and applies an allow-list.

A script used by a single language identifies it from a few letters. Otherwise resiliparse's profiles need one or two
sentences; py3langid distinguishes the languages in Devanagari, which the profiles confuse. Source code has no language.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped, unused-ignore]
from resiliparse.parse.lang import detect_fast

from rewarm.stages.ingest.language_codes import (
    CODE,
    DEVANAGARI,
    SCRIPTS,
    SHARED_SCRIPTS,
    SIBLINGS,
    UNDETERMINED,
    normalise_language,
)
from rewarm.stages.ingest.records import EXCERPT, Document, Refusal

SAMPLE = 10_000  # characters examined: more rarely changes the result, and a book costs no more than a page
LETTERS = re.compile(r"[^\W\d_]+")
# Runs of letters and marks of the scripts that identify a language, by language.
RUNS = re.compile("|".join(f"(?P<{name}>[{letters}]+)" for name, letters in SCRIPTS.items()))
SCRIPT = re.compile(f"[{''.join(SCRIPTS.values())}]")
# A letter of a script without a profile, such as Cherokee or Tifinagh; and full-width Latin letters of Japanese pages.
UNKNOWN = re.compile(rf"[^\W\d_{SHARED_SCRIPTS}{''.join(SCRIPTS.values())}\uff21-\uff5a\u1d00-\u1dbf\uff65-\uff9f]")
WIDE = re.compile("[\uff21-\uff3a\uff41-\uff5a]")
KANA = re.compile(r"[\u3041-\u30fa\u30fd-\u30ff]")  # only in Japanese; its Chinese characters also occur in Chinese
KANA_SHARE = 0.1  # of kana and Chinese characters together; in Japanese prose it is one half or more
# Letters of English that say as much as a sign of these scripts; and of the others, marks included.
LETTERS_OF_SIGN = {"zh": 3, "ko": 2}
OTHER_SIGN = 1.5
HEBREW_POINTS = re.compile("[\u05b0-\u05bc]")
POINTED_HEBREW = 0.3  # points by letters; 0.6 to 0.8 in pointed Hebrew, 0.1 to 0.2 in Yiddish
# Letters that only Vietnamese has among the languages of the Latin alphabet, composed.
VIETNAMESE = re.compile("[đơưảấầẩẫậắằẳẵặẻếềểễệỉỏốồổỗộớờởỡợủứừửữựỷỹ]", re.IGNORECASE)
VIETNAMESE_SHARE = 0.04  # of the letters; 10.6 % in the declaration of human rights, at most 2.4 % in 460 others
SIBLING_SHARE = 0.01  # share of the letters from which letters that only a sibling language has decide
# Marks that are frequent in code: brackets, operators, indented lines, words of SQL. Of 355 source files (Python, C,
# C++, CUDA, JavaScript, Cython, shell), 88 % have at least one per ten letters; of 81 text and Markdown files, none.
CODE_MARKS = (
    *"{}()[];=<>_$&",
    *("->", "::", "//", "\n  ", "\n\t"),
    *("SELECT ", "FROM ", "WHERE ", "JOIN ", "INSERT ", "VALUES ", "CREATE ", "TABLE ", "GROUP BY ", "ORDER BY "),
)
COMMON_MARKS = "();=_{}"  # all code has some of them
CODE_SHARE = 0.1


def detect_language(text: str, min_letters: int, max_rank: int, min_script_letters: int = 20) -> tuple[str, int | None]:
    """Return the language of a text and the distance from its profile.

    The language is "code" for source code, and "und" if the text is too short or resembles no language.
    ``min_script_letters`` are required if the script alone decides, otherwise ``min_letters``. The distance is None if
    no profile was compared.
    """
    sample = text[:SAMPLE]
    if not sample.isascii():
        sample = unicodedata.normalize("NFKC" if WIDE.search(sample) else "NFC", sample)
    if is_code(sample, min_script_letters):
        return CODE, None
    if not sample.isascii() and SCRIPT.search(sample):
        language = language_of_script(sample, min_script_letters)
        if language:
            return language, None
        sample = RUNS.sub(" ", sample)  # the profiles do not know these letters
    if is_vietnamese(sample, min_script_letters):
        return "vi", None
    begin = sample[: 4 * min_letters]  # almost always sufficient
    if count_letters(begin) < min_letters and count_letters(sample) < min_letters:
        return UNDETERMINED, None
    if not sample.isascii() and UNKNOWN.search(sample) and 2 * len(UNKNOWN.findall(sample)) > count_letters(sample):
        return UNDETERMINED, None
    language, rank = detect_fast(sample, cutoff=max_rank)
    return (UNDETERMINED, None) if language in ("unknown", "vi") else (language, rank)


def language_of_script(sample: str, min_letters: int) -> str | None:
    """Return the language identified by its script, if it has enough letters and most of the text is written in it.

    A text about software is full of English names, which have more letters than words of the same meaning in Chinese.
    """
    counts: Counter[str] = Counter()
    signs: Counter[str] = Counter()  # with marks, such as vowels of Thai and Hindi
    for run in RUNS.finditer(sample):
        counts[str(run.lastgroup)] += sum(map(str.isalpha, run[0]))
        signs[str(run.lastgroup)] += len(run[0])
    (script, letters), *_ = counts.most_common(1)
    weight = letters * LETTERS_OF_SIGN[script] if script in LETTERS_OF_SIGN else OTHER_SIGN * signs[script]
    if letters < min_letters or weight < count_letters(sample) - letters:
        return None
    if script == DEVANAGARI:
        return str(indic_languages().classify(sample)[0])
    if script == "zh":
        return "ja" if len(KANA.findall(sample)) >= KANA_SHARE * letters else "zh"
    if script == "he" and len(HEBREW_POINTS.findall(sample)) >= POINTED_HEBREW * letters:
        return script  # Yiddish has points on few letters
    if script in SIBLINGS:
        sibling, own = SIBLINGS[script]
        return sibling if len(re.findall(own, sample)) >= SIBLING_SHARE * letters else script
    return script


def is_vietnamese(sample: str, min_letters: int) -> bool:
    """Return whether a text has enough of the letters that only Vietnamese has, in any normal form."""
    if sample.isascii():
        return False
    composed = unicodedata.normalize("NFC", sample)
    return len(VIETNAMESE.findall(composed)) >= VIETNAMESE_SHARE * max(count_letters(composed), min_letters)


@cache
def indic_languages() -> LanguageIdentifier:
    """Return the identifier for Hindi, Marathi, Nepali and Sanskrit, loaded from its package on first use."""
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(["hi", "mr", "ne", "sa"])
    return identifier


def is_code(sample: str, min_letters: int) -> bool:
    """Return whether a text is source code: mostly ASCII letters, and many of ``CODE_MARKS``."""
    if sum(map(sample.count, COMMON_MARKS)) < CODE_SHARE / 10 * len(sample):  # nearly all prose
        return False
    marks = sum(map(sample.count, CODE_MARKS))
    if marks < CODE_SHARE / 2 * len(sample):  # half of a text's characters, or more, are letters
        return False
    letters = count_letters(sample)
    plain = sum(character.isascii() for run in LETTERS.findall(sample) for character in run)
    return letters >= min_letters and 2 * plain > letters and marks >= CODE_SHARE * letters


def count_letters(text: str) -> int:
    """Return the number of letters."""
    return sum(map(len, LETTERS.findall(text)))


@dataclass(frozen=True)
class LanguageStep:
    """Step that sets a document's language and, with an allow-list, refuses the others.

    A document whose language cannot be determined is allowed if "und" is, or if the label of its record or page is.
    Source code is allowed if "code" is, or if ``keep_code``.
    """

    languages: Collection[str]
    detect: bool
    trust: bool
    min_letters: int
    max_rank: int
    min_script_letters: int = 20
    keep_code: bool = True
    name: str = "language"
    version: int = 5

    def __call__(self, document: Document) -> Document | Refusal:
        """Return the document with its language, or a refusal."""
        stated = normalise_language(document.language)
        language, rank = stated or UNDETERMINED, None
        if self.detect and not (self.trust and stated):
            language, rank = detect_language(document.text, self.min_letters, self.max_rank, self.min_script_letters)
        allowed = {language, stated} if language == UNDETERMINED else {language}
        code_stays = language == CODE and self.keep_code
        if self.languages and not code_stays and allowed.isdisjoint(self.languages):
            detail = f"expected one of {', '.join(self.languages)}, found {language}"
            excerpt = document.text[:EXCERPT].encode()[:EXCERPT]
            return Refusal("", "language", detail, excerpt, self.name, rank)
        language = stated or language if language == UNDETERMINED else language
        return document if language == document.language else replace(document, language=language)
