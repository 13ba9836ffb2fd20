"""Guards: what training text must not overlap with, as sorted numbers on disk; and the search for overlaps.

A guard is a folder: ``DIGEST.grams`` (sorted different uint64, little-endian, mapped into memory to be searched) and a
manifest with its account, written last. The file is named by its content, so a copy in a cache is never an old one.
"""

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stages.errors import StageError
from stages.ingest.decontaminate.grams import GRAMS_VERSION, WordHashes, run_hashes, word_hashes, words_of
from stages.ingest.decontaminate.settings import DecontaminateSettings
from stages.ingest.decontaminate.sieve import Sieve
from stages.ingest.decontaminate.sorting import NUMBER, SortedSet, mapped
from stages.storage import MANIFEST, Folder

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
    digest: str  # of the file of runs: 32 hex digits of xxh3-128
    version: int = GRAMS_VERSION


@dataclass(frozen=True)
class Hit:
    """Where a text overlaps."""

    guards: tuple[str, ...]  # names of the guards that it overlaps with, in the order in which they were opened
    grams: int  # different runs that it shares with any of them
    text: str  # the first such run: its words, folded


def write_guard(folder: Folder, name: str, texts: Iterable[str], settings: DecontaminateSettings) -> GuardAccount:
    """Write ``folder`` as a guard of ``texts``, in the place of one that is there; ``name`` is kept to be read.

    Memory is bounded whatever the number of texts; the result depends neither on their order nor on repetitions.
    """
    given = too_short = whole = 0
    lengths: set[int] = set()
    table = WordHashes()
    with tempfile.TemporaryDirectory(prefix="rewarm-") as aside:
        grams = SortedSet(Path(aside))
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
        count, digest = grams.finish(Path(aside) / "grams")
        account = GuardAccount(name, given, too_short, whole, count, tuple(sorted(lengths)), digest)
        folder.delete(MANIFEST)
        for old in folder.files(".grams"):
            folder.delete(old)
        with folder.writing(grams_file(account)) as scratch:
            shutil.copyfile(Path(aside) / "grams", scratch)
    folder.write_json(MANIFEST, asdict(account))
    return account


class Guards:
    """Guards opened to be searched. A text is held against all of them at once."""

    def __init__(self, names: Sequence[str], lengths: Sequence[int], grams: Sequence[np.ndarray]) -> None:
        self.names = tuple(names)
        self._lengths = lengths
        self._grams = grams
        self._sieve = Sieve(grams)

    @classmethod
    def open(cls, guards: Sequence[tuple[str, Folder]]) -> "Guards":
        """Open guards by their folders, each under a name to report it by.

        Raises:
            StageError: one is missing, torn or of another version.
        """
        accounts = [read_account(folder) for _, folder in guards]
        paths = [folder.local(grams_file(account)) for (_, folder), account in zip(guards, accounts, strict=True)]
        for account, path in zip(accounts, paths, strict=True):
            if path.stat().st_size != account.grams * NUMBER.itemsize:
                raise StageError(
                    f"{path}: {account.grams * NUMBER.itemsize} bytes expected ({account.grams} runs of words), "
                    f"{path.stat().st_size} found; delete it and its folder's {MANIFEST}, and write the guard again"
                )
        lengths = {length for account in accounts for length in account.lengths}
        return cls([name for name, _ in guards], sorted(lengths), [mapped(path) for path in paths])

    def hits(self, texts: Sequence[str]) -> list[Hit | None]:
        """For each text its overlap with the guards, or nothing."""
        table = WordHashes()
        words = [words_of(text) for text in texts]
        runs = [run_hashes(word_hashes(of_text, table), self._lengths) for of_text in words]
        found: list[Hit | None] = [None] * len(texts)
        if not self._lengths or not texts:
            return found
        numbers = np.concatenate([of_length for of_text in runs for of_length in of_text])
        places = np.flatnonzero(self._sieve.may_hold(numbers))
        different, which = np.unique(numbers[places], return_inverse=True)
        held = np.stack([holds(grams, different) for grams in self._grams])  # bool [guards, different]
        caught = np.logical_or.reduce(held)[which]
        places, which = places[caught], which[caught]
        if not len(places):
            return found
        starts = np.cumsum([0, *(len(of_length) for of_text in runs for of_length in of_text)])
        parts = np.searchsorted(starts, places, side="right") - 1  # text times lengths, plus which length
        begins = places - starts[parts]
        overlapping, slices = np.unique(parts // len(self._lengths), return_index=True)
        for text, mine in zip(overlapping.tolist(), np.split(np.arange(len(places)), slices[1:]), strict=True):
            shared = np.unique(which[mine])
            first = mine[np.argmin(begins[mine])]
            length = self._lengths[int(parts[first]) % len(self._lengths)]
            found[text] = Hit(
                tuple(np.array(self.names, object)[np.logical_or.reduce(held[:, shared], axis=1)]),
                len(shared),
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


def read_account(folder: Folder) -> GuardAccount:
    """The account of a guard; raises ``StageError`` where there is none or it is of another version."""
    if not folder.committed():
        raise StageError(f"{folder}: no guard here ({MANIFEST} is missing); it has to be written first")
    values = folder.manifest()
    account = GuardAccount(**{**values, "lengths": tuple(values["lengths"])})
    if account.version != GRAMS_VERSION:
        raise StageError(
            f"{folder}: a guard of version {GRAMS_VERSION} expected, {account.version} found; "
            f"delete its {MANIFEST} and write it again from its texts"
        )
    return account


def grams_file(account: GuardAccount) -> str:
    """The file of a guard's numbers."""
    return f"{account.digest}.grams"
