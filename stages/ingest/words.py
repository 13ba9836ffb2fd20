"""Words and tokens of a text in any script: the single definition for the quality rules and decontamination.

A *token* is a word or a run of marks. Words follow Unicode Standard Annex 29, simplified: sequences of letters, digits,
underscores and combining marks, with single ``.``, ``'`` or ``’`` between two of them (``don't``, ``3.14``,
``example.com``) and ``,`` between digits. Scripts without spaces between words (Chinese, Japanese, Thai, Lao, Burmese,
Khmer) are split by ICU's dictionaries; those for which it has none (Javanese, Balinese, Tai Tham, Yi and others) into
letters with their marks. Zero-width spaces (Khmer and Burmese pages), the Tibetan tsheg and the Ethiopic wordspace
separate words; joiners and direction marks inside a word are part of it (UAX 29, rule WB4).

A *bare word*, the unit of decontamination, does not depend on a dictionary: in these scripts it is one character.
"""

import re
import unicodedata
from functools import cache
from typing import NamedTuple

# Characters with the Unicode property Sentence_Terminal (PropList.txt, Unicode 16).
SENTENCE_TERMINAL = frozenset(
    "!.?\u0589\u061d\u061e\u061f\u06d4\u0700\u0701\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a"
    "\u104b\u1362\u1367\u1368\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8\u1aa9\u1aaa\u1aab"
    "\u1b4e\u1b4f\u1b5a\u1b5b\u1b5e\u1b5f\u1b7d\u1b7e\u1b7f\u1c3b\u1c3c\u1c7e\u1c7f\u2024\u203c\u203d\u2047"
    "\u2048\u2049\u2cf9\u2cfa\u2cfb\u2e2e\u2e3c\u2e53\u2e54\u2e60\u2e61\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7"
    "\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d\uaa5e\uaa5f\uaaf0\uaaf1\uabeb\ufe12\ufe15\ufe16\ufe52"
    "\ufe56\ufe57\uff01\uff0e\uff1f\uff61\U00010a56\U00010a57\U00010f55\U00010f56\U00010f57\U00010f58"
    "\U00010f59\U00010f86\U00010f87\U00010f88\U00010f89\U00011047\U00011048\U000110be\U000110bf\U000110c0"
    "\U000110c1\U00011141\U00011142\U00011143\U000111c5\U000111c6\U000111cd\U000111de\U000111df\U00011238"
    "\U00011239\U0001123b\U0001123c\U000112a9\U000113d4\U000113d5\U0001144b\U0001144c\U000115c2\U000115c3"
    "\U000115c9\U000115ca\U000115cb\U000115cc\U000115cd\U000115ce\U000115cf\U000115d0\U000115d1\U000115d2"
    "\U000115d3\U000115d4\U000115d5\U000115d6\U000115d7\U00011641\U00011642\U0001173c\U0001173d\U0001173e"
    "\U00011944\U00011946\U00011a42\U00011a43\U00011a9b\U00011a9c\U00011c41\U00011c42\U00011ef7\U00011ef8"
    "\U00011f43\U00011f44\U00016a6e\U00016a6f\U00016af5\U00016b37\U00016b38\U00016b44\U00016d6e\U00016d6f"
    "\U00016e98\U0001bc9f\U0001da88"
)

# Blocks of scripts without spaces between words; only their letters and digits count.
_SPELLED_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0xA9E0, 0xA9FF),  # Burmese, extended
    (0xAA60, 0xAA7F),
)
_UNSPACED_BLOCKS = (
    *_SPELLED_BLOCKS,
    (0x2E80, 0x2FDF),  # Han radicals
    (0x3005, 0x30FF),  # Han numerals and repetition marks, kana
    (0x31F0, 0x31FF),  # small kana
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0xFF66, 0xFF9D),  # half-width kana
)
# Blocks of scripts without spaces between words and without a dictionary.
_UNDIVIDED_BLOCKS = (
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A00, 0x1AAF),  # Buginese, Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0xA000, 0xA48F),  # Yi
    (0xA980, 0xA9DF),  # Javanese
)
_OTHER_PLANES_WORDS = (0x10000, 0x1EFFF)  # used as a whole: historic and minority scripts, few marks
_OTHER_PLANES_HAN = (0x20000, 0x3FFFF)
_VARIATION_SELECTORS = (0xE0100, 0xE01EF)
_JOINERS = ((0xAD, 0xAD), (0x200C, 0x200F), (0x2060, 0x2060), (0xFEFF, 0xFEFF))  # invisible parts of a word
WORD_SEPARATORS = "\u200b\u0f0b\u0f0c\u1361"
"""Characters that separate words like a blank: the zero-width space, the Tibetan tsheg, the Ethiopic wordspace."""

_UNSEEN = "".join(map(chr, (0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF)))
_BLANKS = " \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)

# Emoji and other pictures with what joins and varies them, and blanks, at the end of a line.
EMOJI = re.compile("[\u2190-\u21ff\u2300-\u27bf\u2b00-\u2bff\u200d\ufe0f\u20e3\U0001f000-\U0001faff\\s]+$")

LETTERS_A_WORD = 3
"""Letters of Thai, Lao, Burmese or Khmer, excluding marks, that count as one word when letters are counted."""

# Thai, Lao and Tibetan have no sentence-final mark (none in Sentence_Terminal); Tai Tham has one that is not used.
_WITHOUT_SENTENCE_MARK = re.compile("[\u0e01-\u0e33\u0e40-\u0e46\u0e81-\u0eb3\u0ec0-\u0ec6\u0f40-\u0f6c\u1a20-\u1a54]")

_TIBETAN = re.compile("[\u0f40-\u0f6c]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")

_JOINED = "{0}+(?:['’.]{0}+|,(?<=[0-9],)[0-9]{0}*)*"


class Patterns(NamedTuple):
    """The definitions as regular expressions."""

    token: re.Pattern[str]  # in scripts without spaces, a run of words
    ascii_token: re.Pattern[str]  # the same, for ASCII-only texts
    bare_word: re.Pattern[str]
    unspaced: re.Pattern[str]
    spelled: re.Pattern[str]  # one letter of Thai, Lao, Burmese or Khmer
    mark: re.Pattern[str]  # one combining mark
    undivided: re.Pattern[str]  # one letter, with its marks, of a script without spaces and without a dictionary


@cache
def patterns() -> Patterns:
    """Return the definitions, compiled on first use (60 ms)."""
    marks, spaced, ideographs = [_VARIATION_SELECTORS], [_OTHER_PLANES_WORDS], [_OTHER_PLANES_HAN]
    spelled: list[tuple[int, int]] = []
    undivided: list[tuple[int, int]] = []
    in_spelled_block, in_unspaced_block, in_undivided_block = (
        {code for first, last in blocks for code in range(first, last + 1)}
        for blocks in (_SPELLED_BLOCKS, _UNSPACED_BLOCKS, _UNDIVIDED_BLOCKS)
    )
    for code in range(0x10000):
        character = chr(code)
        if unicodedata.category(character)[0] == "M":
            marks.append((code, code))
        elif character.isalnum():
            group = spelled if code in in_spelled_block else ideographs if code in in_unspaced_block else spaced
            if code in in_undivided_block:
                undivided.append((code, code))
            else:
                group.append((code, code))
    mark, letter, first = _class(marks), _class(spelled), _class(spaced + undivided)
    bare, inner = _class(ideographs + spelled), _class(spaced + undivided + marks)
    word = f"{_class([*spaced, *marks, *_JOINERS])}_"
    single, unspaced = _class(undivided), _class(ideographs + spelled + undivided)
    joiner = _class(list(_JOINERS))
    token = (
        f"{_JOINED.format(f'[{word}]')}|[^{word}{unspaced}{WORD_SEPARATORS}\\s]+|(?:[{bare}][{mark}{joiner}]*)+"
        f"|[{single}][{mark}{joiner}]*"
    )
    return Patterns(
        re.compile(token),
        re.compile(f"{_JOINED.format('[0-9A-Za-z_]')}|[^0-9A-Za-z_\\s]+"),
        re.compile(f"[{first}][{inner}]*|[{bare}][{mark}]*"),
        re.compile(f"[{unspaced}]"),
        re.compile(f"[{letter}]"),
        re.compile(f"[{mark}]"),
        re.compile(f"[{single}]"),
    )


def _class(ranges: list[tuple[int, int]]) -> str:
    """Return the inside of a character class, with adjacent ranges joined."""
    joined: list[list[int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in joined)


def tokens(text: str) -> list[str]:
    """Return the words and runs of marks of a text in order; empty if it is blank or has only zero-width spaces."""
    found = patterns()
    if text.isascii():
        return found.ascii_token.findall(text)
    runs: list[str] = found.token.findall(text)
    if not found.unspaced.search(text):
        return runs
    words = []
    for run in runs:
        if len(run) > 1 and found.unspaced.match(run):
            words += split_run(run)
        else:
            words.append(run)
    return words


def split_run(run: str) -> list[str]:
    """Split a run of letters without spaces into words with ICU's dictionaries, which do not depend on the locale."""
    from icu4py.breakers import WordBreaker

    return list(WordBreaker(run, "en"))


def bare_words(text: str) -> list[str]:
    """Return the words of a text, split at every mark, so that ``don't`` gives ``don`` and ``t``."""
    return patterns().bare_word.findall(text)


def num_unspaced(text: str) -> int:
    """Return the number of characters of scripts without spaces in a text."""
    return 0 if text.isascii() else len(patterns().unspaced.findall(text))


def num_spelled(text: str) -> int:
    """Return the number of Thai, Lao, Burmese and Khmer letters in a text."""
    return 0 if text.isascii() else len(patterns().spelled.findall(text))


def num_undivided(text: str) -> int:
    """Return the number of letters of scripts without spaces and without a dictionary in a text."""
    return 0 if text.isascii() else len(patterns().undivided.findall(text))


def num_tibetan(text: str) -> int:
    """Return the number of Tibetan letters in a text."""
    return 0 if text.isascii() else len(_TIBETAN.findall(text))


def num_kana(text: str) -> int:
    """Return the number of hiragana and katakana in a text."""
    return 0 if text.isascii() else len(_KANA.findall(text))


def is_unspaced(token: str) -> bool:
    """Return whether a token is in a script without spaces."""
    return patterns().unspaced.match(token) is not None


def is_spelled(token: str) -> bool:
    """Return whether a token begins with a letter of Thai, Lao, Burmese or Khmer."""
    return patterns().spelled.match(token) is not None


def has_spelled(text: str) -> bool:
    """Return whether a text contains a letter of Thai, Lao, Burmese or Khmer."""
    return not text.isascii() and patterns().spelled.search(text) is not None


def has_unspaced(text: str) -> bool:
    """Return whether a text contains a character of a script without spaces."""
    return not text.isascii() and patterns().unspaced.search(text) is not None


def strip_line(line: str) -> str:
    """Return a line without blanks and invisible characters at its ends."""
    line = line.strip()
    return line if line.isascii() else line.strip(_BLANKS + _UNSEEN)


def without_emoji(line: str) -> str:
    """Return a line without emoji and blanks at its end."""
    line = line.rstrip()
    return line if line[-1:].isascii() else EMOJI.sub("", line)


def has_final_mark(line: str) -> bool:
    """Return whether a line ends with a sentence-final mark; typewritten Ethiopic has two wordspaces for one.

    Emoji behind the mark do not count.
    """
    line = without_emoji(line)
    return line[-1:] in SENTENCE_TERMINAL or line.endswith("\u1361\u1361")


def marks_sentences(text: str) -> bool:
    """Return whether a text's letters are in scripts that mark the end of a sentence.

    False if more than a third are Thai, Lao, Tibetan or Tai Tham: the others are then names, as in a text about
    software.
    """
    if text.isascii() or not _WITHOUT_SENTENCE_MARK.search(text):
        return True
    return 3 * len(_WITHOUT_SENTENCE_MARK.findall(text)) <= sum(map(str.isalpha, text))
