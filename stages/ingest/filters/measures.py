"""Measures of a document for the quality rules, each computed once on first use.

Repeated runs of n words follow Rae et al. 2021 (arXiv 2112.11446, appendix A1.1, "Repetition Removal"). They are exact,
without hashing: a run of n words is identified by its first and its last n - 1 words, so the numbers of longer runs
follow from those of shorter ones. Only runs that occur at least twice are extended, because no longer run is more
frequent than its parts; in prose few remain after three or four words.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rewarm.stages.ingest.records import Document
from rewarm.stages.ingest.words import (
    has_final_mark,
    has_unspaced,
    is_unspaced,
    marks_sentences,
    num_kana,
    num_spelled,
    num_tibetan,
    num_undivided,
    patterns,
    strip_line,
    tokens,
)


@dataclass(frozen=True)
class Runs:
    """The runs of n words that occur at least twice."""

    places: np.ndarray  # int64 [k]: start of each run, ascending
    ids: np.ndarray  # int64 [k]: number shared only by equal runs, from 0 and below len(counts)
    counts: np.ndarray  # int64: occurrences of the run with each number


class Repeats:
    """Repeated runs of a document's words, given as numbers (int64 [N], from 0, below N) and lengths in characters."""

    def __init__(self, words: np.ndarray, lengths: np.ndarray) -> None:
        self._ends = np.concatenate(([0], np.cumsum(lengths)))
        counts = np.bincount(words, minlength=1)
        places = np.flatnonzero(counts[words] > 1)
        self._runs = [Runs(places, words[places], counts)]

    def runs(self, n: int) -> Runs:
        """Return the runs of ``n`` words, ``n >= 1``."""
        while len(self._runs) < n:
            self._runs.append(longer(self._runs[-1]))
        return self._runs[n - 1]

    def top_characters(self, n: int) -> int:
        """Return the characters of the most frequent run of ``n`` words, with single blanks, times its occurrences.

        Ties go to the run that begins first. 0 if no run occurs twice.
        """
        runs = self.runs(n)
        if not len(runs.places):
            return 0
        most = int(runs.counts.max())
        place = runs.places[np.argmax(runs.counts[runs.ids] == most)]
        return int(self._ends[place + n] - self._ends[place] + n - 1) * most

    def duplicate_characters(self, n: int) -> int:
        """Return the characters of words in runs of ``n`` words that occurred before, each counted once.

        The document is read from left to right. If the next run has been read before, it counts, and reading continues
        after it; otherwise the run is marked as read, and reading continues one word further.
        """
        runs = self.runs(n)
        read: set[int] = set()
        characters = behind = 0
        for place, run in zip(runs.places.tolist(), runs.ids.tolist(), strict=True):
            if place < behind:
                continue
            if run in read:
                behind = place + n
                characters += int(self._ends[behind] - self._ends[place])
            else:
                read.add(run)
        return characters


def longer(runs: Runs) -> Runs:
    """Return the repeated runs of n + 1 words from those of n words: both their first and last n words repeat."""
    follow = np.flatnonzero(np.diff(runs.places) == 1)
    pairs = runs.ids[follow] * len(runs.counts) + runs.ids[follow + 1]
    return repeated_only(runs.places[follow], pairs)


def repeated_only(places: np.ndarray, keys: np.ndarray) -> Runs:
    """Return the positions whose key occurs at least twice, with keys replaced by numbers from 0."""
    if not len(keys):
        nothing = np.empty(0, np.int64)
        return Runs(nothing, nothing, nothing)
    order = np.argsort(keys)
    ranked = keys[order]
    first = np.concatenate(([True], ranked[1:] != ranked[:-1]))
    counts = np.diff(np.append(np.flatnonzero(first), len(keys)))
    kept = counts > 1
    number = np.where(kept, np.cumsum(kept) - 1, -1)  # for each different key; -1: occurs once
    ids = np.empty(len(keys), np.int64)
    ids[order] = number[np.cumsum(first) - 1]
    twice = ids >= 0
    return Runs(places[twice], ids[twice], counts[kept])


BLANK_LINES = re.compile(r"\n\s*\n")
BULLETS = ("•", "-")
SYLLABLE = re.compile(r"[\uac00-\ud7a3\ua500-\ua61f]")  # Korean and Vai
ASCII_LETTER = re.compile(r"[A-Za-z]")
ELLIPSES = ("...", "…")
# Kinds of tokens: no letter or digit; no letter; at least one letter; in a script without spaces.
MARKS, OTHER_WORD, ALPHABETIC_WORD, UNSPACED_WORD = range(4)
# Tokens in a run that repeats as often as a run of one English word, where words are shorter: from the repeated runs of
# parallel texts. Chinese has 0.9 to 1.2 and needs no factor.
SPELLED_WORDS = (
    1.5  # Thai: 1.4 to 1.6 in 48 articles of XQuAD (Artetxe et al. 2020, 1910.11856). Also Lao, Khmer, Burmese
)
JAPANESE_WORDS = (
    1.4  # 1.1 to 1.5 in 21 pages of the Django Girls tutorial, 1.2 to 1.6 in the declaration of human rights
)
TIBETAN_SYLLABLES = 1.5  # 1.4 to 1.6 in 65 passages of the 84000 project, 1.1 to 1.3 in the declaration
UNDIVIDED_LETTERS = 2.5  # 2.6 to 2.8 in Javanese, 1.8 to 2.3 in Tai Tham: the declaration


class Measures:
    """Measures of one document. Shares are from 0 to 1; a share of nothing is 0."""

    def __init__(self, document: Document) -> None:
        self.text = document.text
        self.language = document.language

    # -- words -----------------------------------------------------------------------------------------------

    @cached_property
    def tokens(self) -> list[str]:
        """Words and runs of marks."""
        return tokens(self.text)

    @cached_property
    def distinct(self) -> dict[str, int]:
        """Last position of each different token in ``tokens``, ordered by first position."""
        return dict(zip(self.tokens, range(len(self.tokens)), strict=True))

    @cached_property
    def token_ids(self) -> np.ndarray:
        """Number of each token, shared only by equal tokens; int64 [num_tokens]."""
        return np.fromiter(map(self.distinct.__getitem__, self.tokens), np.int64, len(self.tokens))

    @cached_property
    def token_lengths(self) -> np.ndarray:
        """Characters of each token; int64 [num_tokens]."""
        return np.fromiter(map(len, self.tokens), np.int64, len(self.tokens))

    @cached_property
    def token_kinds(self) -> np.ndarray:
        """Kind of each token; int64 [num_tokens]."""
        kinds = np.zeros(len(self.tokens), np.int64)
        kinds[list(self.distinct.values())] = list(map(kind, self.distinct))
        return np.take(kinds, self.token_ids)

    def num_words(self) -> int:
        """Number of tokens with a letter or digit."""
        return int(np.count_nonzero(self.token_kinds))

    def mean_word_length(self) -> float | None:
        """Mean characters per word; None in scripts without spaces between words, or if there is no word.

        A Korean or Vai syllable counts as two letters, the minimum that it is composed of.
        """
        words = (self.token_kinds == OTHER_WORD) | (self.token_kinds == ALPHABETIC_WORD)
        count = int(np.count_nonzero(words))
        if not count or not self.has_spaced_words or self.is_tibetan:
            return None
        syllables = 0 if self.text.isascii() else len(SYLLABLE.findall(self.text))
        return (int(self.token_lengths @ words) + syllables) / count

    def mean_word_letters(self) -> float | None:
        """Mean characters per word without combining marks, such as the vowel signs of Indian scripts."""
        characters = self.mean_word_length()
        if characters is None or self.text.isascii():
            return characters
        words = np.count_nonzero((self.token_kinds == OTHER_WORD) | (self.token_kinds == ALPHABETIC_WORD))
        return characters - len(patterns().mark.findall(self.text)) / int(words)

    @cached_property
    def has_spaced_words(self) -> bool:
        """Whether most letters are in scripts with spaces between words; otherwise such words are names and numbers.

        Counts characters of words with a letter; a text of only numbers has spaces.
        """
        if not has_unspaced(self.text):
            return True
        unspaced, spaced = (
            int(self.token_lengths @ (self.token_kinds == kind)) for kind in (UNSPACED_WORD, ALPHABETIC_WORD)
        )
        return spaced > unspaced

    @cached_property
    def num_letters(self) -> int:
        """Number of letters of any script."""
        return sum(map(str.isalpha, self.text))

    @cached_property
    def num_ascii_letters(self) -> int:
        """Number of ASCII letters."""
        return self.num_letters if self.text.isascii() else len(ASCII_LETTER.findall(self.text))

    @cached_property
    def has_sentence_marks(self) -> bool:
        """Whether the text's script has a sentence-final mark."""
        return marks_sentences(self.text)

    def alphabetic_words(self) -> float:
        """Return the share of words with a letter; words are separated by blanks, so only isolated marks count."""
        if not self.has_spaced_words:
            return share(int(np.count_nonzero(self.token_kinds >= ALPHABETIC_WORD)), self.num_words())
        words = Counter(self.text.split())
        with_letter = sum(count for word, count in words.items() if word.isalpha() or any(map(str.isalpha, word)))
        return share(with_letter, words.total())

    def hash_ratio(self) -> float:
        """Return the number of ``#`` per token."""
        return share(self.text.count("#"), len(self.tokens))

    def ellipsis_ratio(self) -> float:
        """Return the number of ellipses per token."""
        return share(sum(map(self.text.count, ELLIPSES)), len(self.tokens))

    # -- lines -----------------------------------------------------------------------------------------------

    @cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, without outer blanks and invisible characters."""
        return [line for raw in self.text.splitlines() if (line := strip_line(raw))]

    def bullet_lines(self) -> float:
        """Return the share of lines that begin with a bullet."""
        return share(sum(line.startswith(BULLETS) for line in self.lines), len(self.lines))

    def ellipsis_lines(self) -> float:
        """Return the share of lines that end with an ellipsis."""
        return share(sum(line.endswith(ELLIPSES) for line in self.lines), len(self.lines))

    def punctuated_lines(self) -> float | None:
        """Return the share of lines that end with a sentence-final mark; None in scripts without such a mark."""
        if not self.has_sentence_marks:
            return None
        return share(sum(map(has_final_mark, self.lines)), len(self.lines))

    def short_lines(self, longest: int) -> float:
        """Return the share of lines of at most ``longest`` characters."""
        return share(sum(len(line) <= longest for line in self.lines), len(self.lines))

    def line_breaks(self) -> float:
        """Return the number of line breaks between lines that are not blank, per token."""
        return share(len(self.lines) - 1, len(self.tokens))

    # -- repetition ------------------------------------------------------------------------------------------

    @cached_property
    def _repeated_lines(self) -> tuple[int, int]:
        return repeated(self.lines)

    @cached_property
    def _paragraphs(self) -> list[str]:
        return BLANK_LINES.split(self.text.strip())

    @cached_property
    def _repeated_paragraphs(self) -> tuple[int, int]:
        return repeated(self._paragraphs)

    def duplicate_lines(self) -> float:
        """Return the share of lines that occurred before."""
        return share(self._repeated_lines[0], len(self.lines))

    def duplicate_paragraphs(self) -> float:
        """Return the share of paragraphs that occurred before."""
        return share(self._repeated_paragraphs[0], len(self._paragraphs))

    def duplicate_line_characters(self) -> float:
        """Return the share of the text's characters in lines that occurred before."""
        return share(self._repeated_lines[1], len(self.text))

    def duplicate_paragraph_characters(self) -> float:
        """Return the share of the text's characters in paragraphs that occurred before."""
        return share(self._repeated_paragraphs[1], len(self.text))

    def duplicate_characters_of_lines(self) -> float:
        """Return the share of the lines' characters in lines that occurred before."""
        return share(self._repeated_lines[1], sum(map(len, self.lines)))

    @cached_property
    def repeats(self) -> Repeats:
        """Runs of tokens that occur more than once."""
        return Repeats(self.token_ids, self.token_lengths)

    @cached_property
    def is_spelled(self) -> bool:
        """Whether at least half of the letters are Thai, Lao, Burmese or Khmer."""
        return self._most(num_spelled(self.text))

    @cached_property
    def is_tibetan(self) -> bool:
        """Whether at least half of the letters are Tibetan, a script that separates syllables."""
        return self._most(num_tibetan(self.text))

    def _most(self, letters: int) -> bool:
        return bool(letters) and 2 * letters > self.num_letters

    @cached_property
    def words_a_word(self) -> float:
        """Number of the text's tokens in a run that repeats as often as one English word."""
        if self.text.isascii():
            return 1.0
        if self.is_spelled:
            return SPELLED_WORDS
        if self.is_tibetan:
            return TIBETAN_SYLLABLES
        if self._most(num_undivided(self.text)):
            return UNDIVIDED_LETTERS
        return JAPANESE_WORDS if self._most(2 * num_kana(self.text)) else 1.0

    def top_gram(self, n: int) -> float:
        """Return the share of the text's characters in its most frequent run of tokens as long as ``n`` English
        words."""
        return share(self.repeats.top_characters(round(n * self.words_a_word)), len(self.text))

    def duplicate_gram(self, n: int) -> float:
        """Return the share of the text's characters in earlier-seen runs of tokens as long as ``n`` English words."""
        return share(self.repeats.duplicate_characters(round(n * self.words_a_word)), len(self.text))


class Latest:
    """Cache of the last document's measures, shared by rules that are applied one after the other."""

    def __init__(self) -> None:
        self._measures = Measures(Document("", None, None, None, None))

    def of(self, document: Document) -> Measures:
        """Return the document's measures."""
        measures = self._measures
        if measures.text is not document.text or measures.language != document.language:
            measures = self._measures = Measures(document)
        return measures


def kind(token: str) -> int:
    """Return the kind of a token."""
    if not token.isascii() and is_unspaced(token):
        return UNSPACED_WORD
    if token.isalpha() or any(map(str.isalpha, token)):
        return ALPHABETIC_WORD
    return OTHER_WORD if any(map(str.isalnum, token)) else MARKS


def repeated(parts: Iterable[str]) -> tuple[int, int]:
    """Return the number of parts that occurred before, and their characters."""
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count += 1
            characters += len(part)
        else:
            seen.add(part)
    return count, characters


def share(part: float, whole: float) -> float:
    """Return ``part / whole``, or 0 if ``whole`` is 0."""
    return part / whole if whole else 0.0
