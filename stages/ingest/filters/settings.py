"""Which quality rules an arrival goes through, and their thresholds.

Every threshold may be null, which switches it off. A share is of one; text exactly at a threshold passes.
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
    """Settings of one rule; a lowest value never lies above its highest."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in type(self).model_fields:
            low, high = getattr(self, name), getattr(self, f"max_{name.removeprefix('min_')}", None)
            if name.startswith("min_") and low is not None and high is not None and low > high:
                raise ValueError(
                    f"{name} is {low}, max_{name.removeprefix('min_')} is {high}: no document lies between"
                )
        return self


class GopherQualitySettings(Thresholds):
    """Rae et al. 2021 (arXiv 2112.11446), appendix A1.1, "Quality Filtering"."""

    min_words: Count = 50
    """Fewest words (tokens with a letter or digit)."""

    max_words: Count = 100_000
    """Most words."""

    min_mean_word_length: Ratio = 3
    """Shortest mean length of a word, in characters; not measured where most letters are of a script without
    spaces (Chinese, Japanese, Thai, Lao, Burmese, Khmer)."""

    max_mean_word_length: Ratio = 10
    """Longest mean length of a word, in characters."""

    max_hash_ratio: Ratio = 0.1
    """Most ``#`` per token (word or run of marks)."""

    max_ellipsis_ratio: Ratio = 0.1
    """Most ellipses (``...`` or ``…``) per token."""

    max_bullet_lines: Share = 0.9
    """Largest share of lines that begin with a bullet (``•`` or ``-``); blank lines do not count."""

    max_ellipsis_lines: Share = 0.3
    """Largest share of lines that end with an ellipsis."""

    min_alphabetic_words: Share = 0.8
    """Smallest share of words with a letter in them; here a word is what is between blanks."""

    min_stop_words: Count = 2
    """Fewest different stop words; capitals do not matter."""

    stop_words: dict[str, list[str]] = Field(default={"en": ENGLISH_STOP_WORDS})
    """Stop words by language code (``en``; ``en-GB`` is ``en``). A document in a language without a list is not
    measured by its stop words; one whose language is not known is measured by all lists together."""


class GopherRepetitionSettings(Thresholds):
    """Rae et al. 2021 (arXiv 2112.11446), appendix A1.1, "Repetition Removal", table A1. Shares of characters are of
    the whole text. In Thai, Lao, Burmese and Khmer, whose words in dictionaries are shorter, runs have 1.4 times as
    many words."""

    max_duplicate_lines: Share = 0.3
    """Largest share of lines that stood before in the document."""

    max_duplicate_paragraphs: Share = 0.3
    """Largest share of paragraphs (parted by blank lines) that stood before."""

    max_duplicate_line_characters: Share = 0.2
    """Largest share of characters in lines that stood before."""

    max_duplicate_paragraph_characters: Share = 0.2
    """Largest share of characters in paragraphs that stood before."""

    max_top_2_gram: Share = 0.2
    """Largest share of characters in the most frequent run of 2 words; a run that occurs once is no repetition."""

    max_top_3_gram: Share = 0.18
    """The same for 3 words."""

    max_top_4_gram: Share = 0.16
    """The same for 4 words."""

    max_duplicate_5_gram: Share = 0.15
    """Largest share of characters in runs of 5 words that stood before, none counted twice."""

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

    What refuses looks only at lines that were not taken away before it, as the paper's published code does. The paper's
    removal of repeated spans of three sentences is not part of this rule.
    """

    terminal_punctuation: bool = True
    """Take away lines that do not end with a sentence's last mark or a closing quote, or end with ``...``. Does not
    apply to documents whose letters are mostly Thai, Lao or Tibetan: these scripts have no such mark."""

    min_words_in_line: Count = 3
    """Take away lines of fewer words (between blanks; in scripts without spaces characters, of Thai, Lao, Burmese and
    Khmer three letters)."""

    max_word_length: Count = 1000
    """Take away lines with a longer word, in characters (from the paper's published code)."""

    javascript: bool = True
    """Take away lines that hold "javascript"."""

    policy: bool = True
    """Take away lines about terms of use, privacy policy or cookies (from the paper's published code)."""

    citations: bool = True
    """Take marks of citations out of lines: ``[1]``, ``[edit]``, ``[citation needed]``."""

    lorem_ipsum: bool = True
    """Refuse a document with "lorem ipsum"."""

    curly_bracket: bool = True
    """Refuse a document with ``{``: code, in most cases."""

    min_sentences: Count = 5
    """Fewest sentences in the lines that are left; not asked of Thai, Lao and Tibetan (see terminal_punctuation)."""

    bad_words: list[str] = Field(default=[])
    """Refuse a document with one of these words or phrases. Empty: off; the paper's list is not shipped."""


class FinewebSettings(Thresholds):
    """Penedo et al. 2024 (arXiv 2406.17557), section 3.6, and its published code. Blank lines do not count."""

    min_punctuated_lines: Share = 0.12
    """Smallest share of lines that end with a sentence's last mark; not measured in Thai, Lao and Tibetan, which have
    none."""

    max_short_lines: Share = 0.67
    """Largest share of short lines."""

    short_line: int = Field(default=30, ge=1)
    """Longest short line, in characters."""

    max_duplicate_line_characters: Share = 0.01
    """Largest share of characters in lines that stood before, of all characters in lines."""

    max_line_breaks: Ratio = 0.3
    """Most line breaks per token: lists (from the published code, not in the paper)."""


class RulesSettings(Settings):
    """Quality rules, applied in the order in which ``apply`` names them."""

    apply: list[RuleName] = Field(default=[])
    """Rules to apply. None by default: text that was chosen by hand needs none, a crawl wants all four."""

    gopher_quality: GopherQualitySettings = GopherQualitySettings()
    """Length, words and marks."""

    gopher_repetition: GopherRepetitionSettings = GopherRepetitionSettings()
    """Lines, paragraphs and runs of words that repeat."""

    c4: C4Settings = C4Settings()
    """Lines that are no sentences; pages that are no prose."""

    fineweb: FinewebSettings = FinewebSettings()
    """Lists, menus and repeated lines."""

    @field_validator("apply")
    @classmethod
    def _once_each(cls, apply: list[RuleName]) -> list[RuleName]:
        twice = sorted({name for name in apply if apply.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice; a rule is applied once")
        return apply
