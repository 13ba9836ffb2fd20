"""What the rules measure on a document; each figure is made once, when a rule first asks for it.

Runs of n words that a document repeats (Rae et al. 2021, arXiv 2112.11446, appendix A1.1, "Repetition Removal").

Exact, without hashing: a run of n words is known by its first and its last n - 1 words, so the numbers of longer runs
follow from those of shorter ones. Only runs that occur at least twice are carried on, because no longer run is more
frequent than its parts; in prose few are left after three or four words.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rewarm.stages.ingest.records import Document
from rewarm.stages.ingest.words import (
    SENTENCE_TERMINAL,
    has_unspaced,
    is_unspaced,
    marks_sentences,
    num_spelled,
    tokens,
)


@dataclass(frozen=True)
class Runs:
    """The runs of n words that occur at least twice."""

    places: np.ndarray  # int64 [k]: where each begins, ascending
    ids: np.ndarray  # int64 [k]: a number that only equal runs share, from 0 and below len(counts)
    counts: np.ndarray  # int64: how often the run of each number occurs


class Repeats:
    """Repeated runs of a document's words, given as numbers (int64 [N], from 0, below N) and lengths in characters."""

    def __init__(self, words: np.ndarray, lengths: np.ndarray) -> None:
        self._ends = np.concatenate(([0], np.cumsum(lengths)))
        counts = np.bincount(words, minlength=1)
        places = np.flatnonzero(counts[words] > 1)
        self._runs = [Runs(places, words[places], counts)]

    def runs(self, n: int) -> Runs:
        """The runs of ``n`` words, ``n >= 1``."""
        while len(self._runs) < n:
            self._runs.append(longer(self._runs[-1]))
        return self._runs[n - 1]

    def top_characters(self, n: int) -> int:
        """Characters of the most frequent run of ``n`` words, with one blank between words, times its occurrences.

        Of several that are as frequent, the one that begins first. 0 where no run occurs twice.
        """
        runs = self.runs(n)
        if not len(runs.places):
            return 0
        most = int(runs.counts.max())
        place = runs.places[np.argmax(runs.counts[runs.ids] == most)]
        return int(self._ends[place + n] - self._ends[place] + n - 1) * most

    def duplicate_characters(self, n: int) -> int:
        """Characters of words in runs of ``n`` words that were read before, none counted twice.

        The document is read from left to right. A run that was read before counts, and reading goes on behind it; else
        the run counts as read, and reading goes on one word further.
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
    """The repeated runs of n + 1 words from those of n words: both their first and their last n words repeat."""
    follow = np.flatnonzero(np.diff(runs.places) == 1)
    pairs = runs.ids[follow] * len(runs.counts) + runs.ids[follow + 1]
    return repeated_only(runs.places[follow], pairs)


def repeated_only(places: np.ndarray, keys: np.ndarray) -> Runs:
    """The places whose key occurs at least twice, with keys replaced by numbers from 0."""
    if not len(keys):
        nothing = np.empty(0, np.int64)
        return Runs(nothing, nothing, nothing)
    order = np.argsort(keys)
    ranked = keys[order]
    first = np.concatenate(([True], ranked[1:] != ranked[:-1]))
    counts = np.diff(np.append(np.flatnonzero(first), len(keys)))
    kept = counts > 1
    number = np.where(kept, np.cumsum(kept) - 1, -1)  # of each different key; -1: occurs once
    ids = np.empty(len(keys), np.int64)
    ids[order] = number[np.cumsum(first) - 1]
    twice = ids >= 0
    return Runs(places[twice], ids[twice], counts[kept])


BLANK_LINES = re.compile(r"\n\s*\n")
BULLETS = ("•", "-")
HANGUL = re.compile(r"[\uac00-\ud7a3]")
ASCII_LETTER = re.compile(r"[A-Za-z]")
ELLIPSES = ("...", "…")
# Kinds of tokens: no letter or digit; no letter; at least one letter; of a script without spaces.
MARKS, OTHER_WORD, ALPHABETIC_WORD, UNSPACED_WORD = range(4)
SPELLED_WORDS = 1.4
"""Words of ICU's Thai dictionary for one English word: 42,957 for 30,100 in the same 48 articles of XQuAD (Artetxe et
al. 2020, arXiv 1910.11856), where Chinese has 31,450. Taken for Lao, Burmese and Khmer too."""


class Measures:
    """Figures of one document. Shares are of one; 0 where there is nothing to take a share of."""

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
        """Each different token's last place among ``tokens``; its order is that of the first places."""
        return dict(zip(self.tokens, range(len(self.tokens)), strict=True))

    @cached_property
    def token_ids(self) -> np.ndarray:
        """For each token a number that only equal tokens share; int64 [num_tokens]."""
        return np.fromiter(map(self.distinct.__getitem__, self.tokens), np.int64, len(self.tokens))

    @cached_property
    def token_lengths(self) -> np.ndarray:
        """Characters of each token; int64 [num_tokens]."""
        return np.fromiter(map(len, self.tokens), np.int64, len(self.tokens))

    @cached_property
    def token_kinds(self) -> np.ndarray:
        """The kind of each token; int64 [num_tokens]."""
        kinds = np.zeros(len(self.tokens), np.int64)
        kinds[list(self.distinct.values())] = list(map(kind, self.distinct))
        return np.take(kinds, self.token_ids)

    def num_words(self) -> int:
        """Tokens with a letter or digit."""
        return int(np.count_nonzero(self.token_kinds))

    def mean_word_length(self) -> float | None:
        """Letters a word; nothing where words have no spaces between them, or where there is no word.

        A Korean syllable is two letters, the fewest that it is composed of.
        """
        words = (self.token_kinds == OTHER_WORD) | (self.token_kinds == ALPHABETIC_WORD)
        count = int(np.count_nonzero(words))
        if not count or not self.has_spaced_words:
            return None
        syllables = 0 if self.text.isascii() else len(HANGUL.findall(self.text))
        return (int(self.token_lengths @ words) + syllables) / count

    @cached_property
    def has_spaced_words(self) -> bool:
        """Whether most letters are of scripts with spaces between words: else the few such words are names and figures.

        Characters of words with a letter are counted; a text of figures alone has spaces.
        """
        if not has_unspaced(self.text):
            return True
        unspaced, spaced = (
            int(self.token_lengths @ (self.token_kinds == kind)) for kind in (UNSPACED_WORD, ALPHABETIC_WORD)
        )
        return spaced > unspaced

    @cached_property
    def num_letters(self) -> int:
        """Letters of any script."""
        return sum(map(str.isalpha, self.text))

    @cached_property
    def num_ascii_letters(self) -> int:
        """Those of ASCII."""
        return self.num_letters if self.text.isascii() else len(ASCII_LETTER.findall(self.text))

    @cached_property
    def has_sentence_marks(self) -> bool:
        """Whether the text's script has a mark that ends sentences."""
        return marks_sentences(self.text)

    def alphabetic_words(self) -> float:
        """Share of words with a letter; a word is what is between blanks, so a mark counts only by itself."""
        if not self.has_spaced_words:
            return share(int(np.count_nonzero(self.token_kinds >= ALPHABETIC_WORD)), self.num_words())
        words = Counter(self.text.split())
        with_letter = sum(count for word, count in words.items() if word.isalpha() or any(map(str.isalpha, word)))
        return share(with_letter, words.total())

    def hash_ratio(self) -> float:
        """``#`` per token."""
        return share(self.text.count("#"), len(self.tokens))

    def ellipsis_ratio(self) -> float:
        """Ellipses per token."""
        return share(sum(map(self.text.count, ELLIPSES)), len(self.tokens))

    # -- lines -----------------------------------------------------------------------------------------------

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank, without the blanks around them."""
        return [line for line in map(str.strip, self.text.splitlines()) if line]

    def bullet_lines(self) -> float:
        """Share of lines that begin with a bullet."""
        return share(sum(line.startswith(BULLETS) for line in self.lines), len(self.lines))

    def ellipsis_lines(self) -> float:
        """Share of lines that end with an ellipsis."""
        return share(sum(line.endswith(ELLIPSES) for line in self.lines), len(self.lines))

    def punctuated_lines(self) -> float | None:
        """Share of lines that end with a sentence's last mark; nothing in scripts without such a mark."""
        if not self.has_sentence_marks:
            return None
        return share(sum(line[-1] in SENTENCE_TERMINAL for line in self.lines), len(self.lines))

    def short_lines(self, longest: int) -> float:
        """Share of lines of at most ``longest`` characters."""
        return share(sum(len(line) <= longest for line in self.lines), len(self.lines))

    def line_breaks(self) -> float:
        """Line breaks between lines that are not blank, per token."""
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
        """Share of lines that stood before."""
        return share(self._repeated_lines[0], len(self.lines))

    def duplicate_paragraphs(self) -> float:
        """Share of paragraphs that stood before."""
        return share(self._repeated_paragraphs[0], len(self._paragraphs))

    def duplicate_line_characters(self) -> float:
        """Share of the text's characters in lines that stood before."""
        return share(self._repeated_lines[1], len(self.text))

    def duplicate_paragraph_characters(self) -> float:
        """Share of the text's characters in paragraphs that stood before."""
        return share(self._repeated_paragraphs[1], len(self.text))

    def duplicate_characters_of_lines(self) -> float:
        """Share of the lines' characters in lines that stood before."""
        return share(self._repeated_lines[1], sum(map(len, self.lines)))

    @cached_property
    def repeats(self) -> Repeats:
        """Runs of tokens that occur more than once."""
        return Repeats(self.token_ids, self.token_lengths)

    @cached_property
    def words_a_word(self) -> float:
        """How many of the text's words say as much as one English word."""
        spelled = num_spelled(self.text)
        return SPELLED_WORDS if spelled and 2 * spelled > self.num_letters else 1.0

    def top_gram(self, n: int) -> float:
        """Share of the text's characters in the most frequent run of as many tokens as ``n`` English words are."""
        return share(self.repeats.top_characters(round(n * self.words_a_word)), len(self.text))

    def duplicate_gram(self, n: int) -> float:
        """Share of the text's characters in runs of as many tokens as ``n`` English words are that stood before."""
        return share(self.repeats.duplicate_characters(round(n * self.words_a_word)), len(self.text))


class Latest:
    """The measures of the document seen last, so that rules which look at one after the other share them."""

    def __init__(self) -> None:
        self._measures = Measures(Document("", None, None, None, None))

    def of(self, document: Document) -> Measures:
        """The document's measures."""
        measures = self._measures
        if measures.text is not document.text or measures.language != document.language:
            measures = self._measures = Measures(document)
        return measures


def kind(token: str) -> int:
    """What kind of token it is."""
    if not token.isascii() and is_unspaced(token):
        return UNSPACED_WORD
    if token.isalpha() or any(map(str.isalpha, token)):
        return ALPHABETIC_WORD
    return OTHER_WORD if any(map(str.isalnum, token)) else MARKS


def repeated(parts: Iterable[str]) -> tuple[int, int]:
    """How many parts stood before, and their characters."""
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
    """``part / whole``; 0 of nothing."""
    return part / whole if whole else 0.0
