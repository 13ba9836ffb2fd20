"""Settings of the quality rules: the rules to apply, and their thresholds.

A threshold of null is disabled. Shares are from 0 to 1; a document exactly at a threshold passes.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from rewarm.stages.core.settings import Settings

RuleName = Literal["gopher-quality", "gopher-repetition", "c4", "fineweb"]
Share = Annotated[float, Field(ge=0, le=1)] | None
Ratio = Annotated[float, Field(ge=0)] | None
Count = Annotated[int, Field(ge=1)] | None

# Rae et al. 2021, appendix A1.1.
ENGLISH_STOP_WORDS = ["the", "be", "to", "of", "and", "that", "have", "with"]


class Thresholds(Settings):
    """Settings of one rule; a minimum must not exceed its maximum."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in type(self).model_fields:
            low, high = getattr(self, name), getattr(self, f"max_{name.removeprefix('min_')}", None)
            if name.startswith("min_") and low is not None and high is not None and low > high:
                raise ValueError(
                    f"{name} is {low}, max_{name.removeprefix('min_')} is {high}: no document can satisfy both"
                )
        return self


class GopherQualitySettings(Thresholds):
    """Rae et al. 2021 (arXiv 2112.11446), appendix A1.1, "Quality Filtering"."""

    min_words: Count = 50
    """Minimum number of words (tokens with a letter or digit)."""

    max_words: Count = 100_000
    """Maximum number of words."""

    min_mean_word_length: Ratio = 3
    """Minimum mean word length, in characters; a Korean or Vai syllable counts as two. Not measured if most letters are
    in a script without spaces (Chinese, Japanese, Thai, Lao, Burmese, Khmer, Javanese and others) or in Tibetan, which
    separates syllables."""

    max_mean_word_length: Ratio = 10
    """Maximum mean word length, in characters other than combining vowel signs and accents. Prose in some languages
    exceeds it, such as Greenlandic."""

    max_hash_ratio: Ratio = 0.1
    """Maximum number of ``#`` per token (word or run of marks)."""

    max_ellipsis_ratio: Ratio = 0.1
    """Maximum number of ellipses (``...`` or ``…``) per token."""

    max_bullet_lines: Share = 0.9
    """Maximum share of lines that begin with a bullet (``•`` or ``-``); blank lines do not count."""

    max_ellipsis_lines: Share = 0.3
    """Maximum share of lines that end with an ellipsis."""

    min_alphabetic_words: Share = 0.8
    """Minimum share of words that contain a letter; here, words are separated by blanks."""

    min_stop_words: Count = 2
    """Minimum number of different stop words, ignoring case."""

    stop_words: dict[str, list[str]] = Field(default={"en": ENGLISH_STOP_WORDS})
    """Stop words by language code (``en``; ``en-GB`` counts as ``en``). The check is skipped for a document in a
    language without a list; a document of unknown language is checked against all lists together."""


class GopherRepetitionSettings(Thresholds):
    """Rae et al. 2021 (arXiv 2112.11446), appendix A1.1, "Repetition Removal", table A1. Shares of characters refer
    to the whole text. Runs have 1.5 times as many words in Thai, Lao, Burmese and Khmer, whose dictionary words are
    shorter, 1.4 times as many in Japanese, 1.5 times as many syllables in Tibetan, and 2.5 times as many letters in
    scripts without spaces and without a dictionary (Javanese, Balinese, Tai Tham, Yi and others)."""

    southeast_asian_factor: float = Field(default=1.5, ge=1)
    """Factor of the thresholds of runs in Thai, Lao, Burmese and Khmer, whose formal prose repeats long titles and
    names of offices. FineWeb2's thresholds for these languages are 1.1 to 1.25 times the English ones (Penedo et al.
    2025, 2506.20920)."""

    max_duplicate_lines: Share = 0.3
    """Maximum share of lines that occurred before in the document."""

    max_duplicate_paragraphs: Share = 0.3
    """Maximum share of paragraphs (separated by blank lines) that occurred before."""

    max_duplicate_line_characters: Share = 0.2
    """Maximum share of characters in lines that occurred before."""

    max_duplicate_paragraph_characters: Share = 0.2
    """Maximum share of characters in paragraphs that occurred before."""

    max_top_2_gram: Share = 0.2
    """Maximum share of characters in the most frequent run of 2 words; a run that occurs only once does not count."""

    max_top_3_gram: Share = 0.18
    """The same for 3 words."""

    max_top_4_gram: Share = 0.16
    """The same for 4 words."""

    max_duplicate_5_gram: Share = 0.15
    """Maximum share of characters in runs of 5 words that occurred before, each character counted once."""

    max_duplicate_6_gram: Share = 0.14
    """The same for 6 words."""

    max_duplicate_7_gram: Share = 0.13
    """The same for 7 words."""

    max_duplicate_8_gram: Share = 0.12
    """The same for 8 words."""

    max_duplicate_9_gram: Share = 0.11
    """The same for 9 words."""

    max_duplicate_10_gram: Share = 0.1
    """The same for 10 words."""


class C4Settings(Thresholds):
    """Raffel et al. 2020 (arXiv 1910.10683), section 2.2. The first six change lines, the others refuse the document.

    Refusals consider only lines that were not removed before, as in the paper's published code. The paper's removal of
    repeated spans of three sentences is not part of this rule.
    """

    terminal_punctuation: bool = True
    """Remove lines that do not end with a sentence-final mark or a closing quote, or that end with ``...``. Does not
    apply to documents whose letters are mostly Thai, Lao, Tibetan or Tai Tham: these scripts have no such mark."""

    min_words_in_line: Count = 3
    """Remove lines with fewer words. Words are separated by blanks; in scripts without spaces a word is one character,
    in Thai, Lao, Burmese and Khmer three letters."""

    max_word_length: Count = 1000
    """Remove lines with a word longer than this number of characters (from the paper's published code)."""

    javascript: bool = True
    """Remove lines that contain "javascript"."""

    policy: bool = True
    """Remove lines about terms of use, privacy policy or cookies (from the paper's published code)."""

    citations: bool = True
    """Remove citation marks from lines: ``[1]``, ``[edit]``, ``[citation needed]``."""

    lorem_ipsum: bool = True
    """Refuse a document that contains "lorem ipsum"."""

    curly_bracket: bool = True
    """Refuse a document that contains ``{``, which usually means code."""

    min_sentences: Count = 5
    """Minimum number of sentences in the remaining lines; does not apply to Thai, Lao, Tibetan and Tai Tham (see
    terminal_punctuation)."""

    bad_words: list[str] = Field(default=[])
    """Refuse a document that contains one of these words or phrases. Empty by default: the paper's list is not
    included."""


class FinewebSettings(Thresholds):
    """Penedo et al. 2024 (arXiv 2406.17557), section 3.6, and its published code. Blank lines do not count."""

    min_punctuated_lines: Share = 0.12
    """Minimum share of lines that end with a sentence-final mark; not measured in Thai, Lao, Tibetan and Tai Tham,
    which have no such mark."""

    max_short_lines: Share = 0.67
    """Maximum share of short lines."""

    short_line: int = Field(default=30, ge=1)
    """Maximum length of a short line, in characters."""

    max_duplicate_line_characters: Share = 0.01
    """Maximum share of characters in lines that occurred before, of all characters in lines."""

    max_line_breaks: Ratio = 0.3
    """Maximum number of line breaks per token, against lists (from the published code, not in the paper)."""


class RulesSettings(Settings):
    """Quality rules, applied in the order of ``apply``."""

    apply: list[RuleName] = Field(default=[])
    """Rules to apply. Empty by default: curated text needs no rules; for a crawl, all four are recommended."""

    gopher_quality: GopherQualitySettings = GopherQualitySettings()
    """Rules on length, words and marks."""

    gopher_repetition: GopherRepetitionSettings = GopherRepetitionSettings()
    """Rules on repeated lines, paragraphs and runs of words."""

    c4: C4Settings = C4Settings()
    """Rules on lines that are not sentences, and pages that are not prose."""

    fineweb: FinewebSettings = FinewebSettings()
    """Rules on lists, menus and repeated lines."""

    @field_validator("apply")
    @classmethod
    def _once_each(cls, apply: list[RuleName]) -> list[RuleName]:
        twice = sorted({name for name in apply if apply.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is listed twice; a rule can be applied only once")
        return apply
