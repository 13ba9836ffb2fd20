"""Gopher's rules: quality and repetition (Rae et al. 2021, arXiv 2112.11446, appendix A1.1)."""

from collections.abc import Callable, Iterable

from rewarm.stages.ingest.filters.measures import Latest, Measures
from rewarm.stages.ingest.filters.rule import Quantity, ThresholdRule
from rewarm.stages.ingest.filters.settings import GopherQualitySettings, GopherRepetitionSettings
from rewarm.stages.ingest.words import is_unspaced


def gopher_quality(settings: GopherQualitySettings, latest: Latest) -> ThresholdRule:
    """Return the rule ``gopher-quality``: length, words, marks and stop words."""
    quantities = [
        Quantity("words", "words", Measures.num_words),
        Quantity(
            "mean_word_length",
            "mean word length",
            Measures.mean_word_length,
            defined=lambda measures: measures.has_spaced_words,
            measure_of_maximum=Measures.mean_word_letters,
        ),
        Quantity("hash_ratio", "hashes per word", Measures.hash_ratio),
        Quantity("ellipsis_ratio", "ellipses per word", Measures.ellipsis_ratio),
        Quantity("bullet_lines", "lines that begin with a bullet", Measures.bullet_lines),
        Quantity("ellipsis_lines", "lines that end with an ellipsis", Measures.ellipsis_lines),
        Quantity("alphabetic_words", "words with a letter", Measures.alphabetic_words),
        Quantity("stop_words", "stop words", StopWords(settings.stop_words)),
    ]
    return ThresholdRule("gopher-quality", 4, quantities, settings, latest)


def gopher_repetition(settings: GopherRepetitionSettings, latest: Latest) -> ThresholdRule:
    """Return the rule ``gopher-repetition``: repeated paragraphs, lines and runs of words (table A1)."""
    quantities = [
        Quantity("duplicate_paragraphs", "duplicate paragraphs", Measures.duplicate_paragraphs),
        Quantity(
            "duplicate_paragraph_characters",
            "characters in duplicate paragraphs",
            Measures.duplicate_paragraph_characters,
        ),
        Quantity("duplicate_lines", "duplicate lines", Measures.duplicate_lines),
        Quantity("duplicate_line_characters", "characters in duplicate lines", Measures.duplicate_line_characters),
        *(_gram("top", Measures.top_gram, n, settings) for n in (2, 3, 4)),
        *(_gram("duplicate", Measures.duplicate_gram, n, settings) for n in (5, 6, 7, 8, 9, 10)),
    ]
    return ThresholdRule("gopher-repetition", 4, quantities, settings, latest)


def _gram(
    which: str, measure: Callable[[Measures, int], float], n: int, settings: GopherRepetitionSettings
) -> Quantity:
    return Quantity(
        f"{which}_{n}_gram",
        f"characters in {which} {n}-grams",
        lambda measures: measure(measures, n),
        maximum_factor=lambda measures: settings.southeast_asian_factor if measures.is_spelled else 1.0,
    )


class StopWords:
    """Number of stop words of its language that a document contains."""

    def __init__(self, by_language: dict[str, list[str]]) -> None:
        self._forms = {language.lower(): spellings(words) for language, words in by_language.items()}
        self._all = spellings(word for words in by_language.values() for word in words)
        self._any_unspaced = any(map(is_unspaced, self._all))
        self._all_ascii = all(map(str.isascii, self._all))

    def __call__(self, measures: Measures) -> int | None:
        """Return the number of different stop words; None for a language or script without a list."""
        if measures.language is None:
            if not (self._any_unspaced or measures.has_spaced_words):
                return None
            if self._all_ascii and 2 * measures.num_ascii_letters < measures.num_letters:
                return None
            forms = self._all
        else:
            code = measures.language.lower()
            forms = self._forms.get(code, self._forms.get(code.replace("_", "-").partition("-")[0], {}))
            if not forms:
                return None
        return len({word for form, word in forms.items() if form in measures.distinct})


def spellings(words: Iterable[str]) -> dict[str, str]:
    """Return each word by its spellings: lower case, capitalised, upper case."""
    return {form: word for word in words for form in (word.lower(), word.capitalize(), word.upper())}
