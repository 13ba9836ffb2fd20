"""Guards: what training text must not overlap with, as sorted numbers on disk; and the search for overlaps.

A guard is two files, ``NAME.grams`` (sorted different uint64, little-endian, mapped into memory to be searched) and
``NAME.json`` (its account, written last: without it there is no guard).
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from stages.errors import StageError
from stages.ingest.decontaminate.grams import GRAMS_VERSION, WordHashes, run_hashes, word_hashes, words_of
from stages.ingest.decontaminate.settings import DecontaminateSettings
from stages.ingest.decontaminate.sieve import Sieve
from stages.ingest.decontaminate.sorting import NUMBER, SortedSet, mapped
from stages.storage import Folder

MOST_WORDS = 2**18  # different words whose numbers are kept while a guard is written


@dataclass(frozen=True)
class GuardAccount:
    """What a guard holds."""

    name: str
    texts: int  # given
    too_short: int  # of these, with fewer words than ``min_words``: not guarded
    whole: int  # of these, shorter than a run and guarded as a whole
    grams: int  # different runs
    lengths: tuple[int, ...]  # words in a run: those that occur, ascending
    version: int = GRAMS_VERSION


@dataclass(frozen=True)
class Hit:
    """Where a text overlaps."""

    guards: dict[str, int]  # for each guard that it overlaps with, in the order given: how many different runs
    gram: str  # the first such run in the text: its words, folded

    @property
    def num_grams(self) -> int:
        """The most runs shared with one guard."""
        return max(self.guards.values())


def write_guard(folder: Folder, name: str, texts: Iterable[str], settings: DecontaminateSettings) -> GuardAccount:
    """Write the guard ``name`` of ``texts`` into ``folder``, in the place of one that is there.

    Memory is bounded whatever the number of texts; the result depends neither on their order nor on repetitions.
    """
    given = too_short = whole = 0
    lengths: set[int] = set()
    table = WordHashes()
    folder.delete(account_file(name))
    with folder.writing(grams_file(name)) as scratch, SortedSet(scratch) as grams:
        for text in texts:
            words = words_of(text)
            given += 1
            if len(words) < settings.min_words:
                too_short += 1
                continue
            whole += len(words) < settings.ngram
            length = min(len(words), settings.ngram)
            lengths.add(length)
            grams.add(run_hashes(word_hashes(words, table), [length])[0])
            if len(table) > MOST_WORDS:
                table.clear()
        count = grams.finish()
    account = GuardAccount(name, given, too_short, whole, count, tuple(sorted(lengths)))
    folder.write_json(account_file(name), asdict(account))
    return account


class Guards:
    """Guards opened to be searched. A text is held against all of them at once."""

    def __init__(self, accounts: Sequence[GuardAccount], paths: Sequence[Path]) -> None:
        self.accounts = list(accounts)
        self._grams = [mapped(path) for path in paths]
        self._lengths = sorted({length for account in accounts for length in account.lengths})
        self._sieve = Sieve(self._grams)

    @classmethod
    def open(cls, places: Sequence[tuple[str, Folder]]) -> "Guards":
        """Open guards by name and folder; raises ``StageError`` where one is missing, torn or of another version."""
        accounts = [read_account(folder, name) for name, folder in places]
        paths = [folder.local(grams_file(name)) for name, folder in places]
        for account, path in zip(accounts, paths, strict=True):
            if path.stat().st_size != account.grams * NUMBER.itemsize:
                raise StageError(
                    f"{path}: {account.grams} runs of words expected, {path.stat().st_size} bytes found; "
                    f"delete {path.with_suffix('.json')} and run the command again"
                )
        return cls(accounts, paths)

    def hits(self, texts: Sequence[str]) -> list[Hit | None]:
        """For each text its overlap with the guards, or nothing."""
        table = WordHashes()
        words = [words_of(text) for text in texts]
        runs = [run_hashes(word_hashes(of_text, table), self._lengths) for of_text in words]
        found: list[Hit | None] = [None] * len(texts)
        if not self._lengths or not texts:
            return found
        numbers = np.concatenate([of_length for of_text in runs for of_length in of_text])
        starts = np.cumsum([0, *(len(of_length) for of_text in runs for of_length in of_text)])
        places = np.flatnonzero(self._sieve.may_hold(numbers))
        different, which = np.unique(numbers[places], return_inverse=True)
        held = np.stack([holds(grams, different) for grams in self._grams])  # bool [guards, different]
        caught = np.logical_or.reduce(held)[which]
        places, which = places[caught], which[caught]
        parts = np.searchsorted(starts, places, side="right") - 1  # text times lengths, plus which length
        for text in np.unique(parts // len(self._lengths)).tolist():
            mine = parts // len(self._lengths) == text
            counts = held[:, np.unique(which[mine])].sum(axis=1).tolist()
            begins = places[mine] - starts[parts[mine]]
            first = int(np.argmin(begins))
            length = self._lengths[int(parts[mine][first]) % len(self._lengths)]
            found[text] = Hit(
                {account.name: count for account, count in zip(self.accounts, counts, strict=True) if count},
                " ".join(words[text][int(begins[first]) :][:length]),
            )
        return found


def holds(sorted_numbers: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Which of ``numbers`` are among ``sorted_numbers``; bool [len(numbers)]."""
    if not len(sorted_numbers):
        return np.zeros(len(numbers), bool)
    places = np.minimum(np.searchsorted(sorted_numbers, numbers), len(sorted_numbers) - 1)
    found: np.ndarray = sorted_numbers[places] == numbers
    return found


def read_account(folder: Folder, name: str) -> GuardAccount:
    """The account of a guard; raises ``StageError`` where there is none or it is of another version."""
    if not folder.exists(account_file(name)):
        raise StageError(
            f"{folder}: no guard {name!r} here ({account_file(name)} is missing); it has to be written first"
        )
    values = folder.read_json(account_file(name))
    account = GuardAccount(**{**values, "lengths": tuple(values["lengths"])})
    if account.version != GRAMS_VERSION:
        raise StageError(
            f"{folder}/{account_file(name)}: a guard of version {GRAMS_VERSION} expected, {account.version} found; "
            "delete it and write it again from its texts"
        )
    return account


def grams_file(name: str) -> str:
    """The file of a guard's numbers."""
    return f"{quote(name, safe='')}.grams"


def account_file(name: str) -> str:
    """The file of a guard's account."""
    return f"{quote(name, safe='')}.json"
