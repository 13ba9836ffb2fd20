"""Guards: hashed runs of held-out text as sorted numbers on disk, and the search for overlaps with them.

A guard is a folder: ``DIGEST.grams`` (sorted different uint64, little-endian, memory-mapped for searching), for a
dataset's validation split also ``DIGEST.met`` (the same kind of numbers for runs of any guard that occur in the
dataset's training documents, followed by one byte each: the number of these documents), and a manifest with its
account, written last. A file is named by its content, so a cached copy is never stale.

Lookups are filtered by a sieve with one bit for each value of a number's upper bits. With 16 to 32 bits per number in
the sets, at most one in 16 other numbers passes, so few are looked up in the sets themselves, regardless of the number
of sets.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import numpy as np
import xxhash

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.storage import MANIFEST, Folder
from rewarm.stages.core.temporary import temporary
from rewarm.stages.ingest.decontaminate.counts import RunCounts
from rewarm.stages.ingest.decontaminate.grams import (
    GRAMS_VERSION,
    WordHashes,
    num_whole_words,
    run_hashes,
    runs_of,
    weighed_runs,
    weights_of,
    word_hashes,
    words_of,
)
from rewarm.stages.ingest.decontaminate.sorted_numbers import NUMBER, SortedSet, mapped
from rewarm.stages.ingest.settings import DecontaminateSettings
from rewarm.stages.ingest.words import LETTERS_A_WORD

BITS_PER_NUMBER = 16
FEWEST_BITS = 10  # as a power of two
MOST_BITS = 30  # 128 MiB; with more than 2**26 numbers the filter is weaker


class Sieve:
    """Filter for membership in any of several sets (uint64, sorted), which are read once."""

    def __init__(self, sets: Sequence[np.ndarray]) -> None:
        wanted = BITS_PER_NUMBER * sum(map(len, sets))
        power = min(max(wanted.bit_length(), FEWEST_BITS), MOST_BITS)
        self._shift = np.uint64(64 - power)
        self._bits = np.zeros(2**power // 8, np.uint8)
        for numbers in sets:
            for start in range(0, len(numbers), 2**20):
                place, bit = self._slots(numbers[start : start + 2**20])
                np.bitwise_or.at(self._bits, place, bit)

    def may_hold(self, numbers: np.ndarray) -> np.ndarray:
        """Return False for numbers that are in none of the sets; bool, of the shape of ``numbers`` (uint64)."""
        place, bit = self._slots(numbers)
        found: np.ndarray = (self._bits[place] & bit) != 0
        return found

    def _slots(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slots = numbers >> self._shift
        return (slots >> np.uint64(3)).astype(np.int64), np.uint8(1) << (slots & np.uint64(7)).astype(np.uint8)


LETTERS_AS_WORDS = 1  # version of guards in which each letter of Thai, Lao, Burmese and Khmer weighed one word
MOST_WORDS = 2**18  # different words whose hashes are cached while a guard is written
WRITE_AGAIN = f"delete its {MANIFEST} and write it again from its texts"
MOST_HOLDERS = 255  # maximum count of documents per run and dataset; higher counts are stored as this


@dataclass(frozen=True)
class GuardAccount:
    """Contents of a guard."""

    name: str
    texts: int  # number of texts
    too_short: int  # of these, shorter than ``min_words`` and not guarded
    whole: int  # of these, shorter than a run and guarded as a whole
    grams: int  # different runs
    lengths: tuple[int, ...]  # lengths of runs in words that occur, ascending
    digest: str  # of the file of runs: 32 hex digits of xxh3-128
    version: int = GRAMS_VERSION
    holders: str = ""  # digest of the file of holders, in guards of earlier releases of this software
    met: str = ""  # digest of the file of runs met; empty for tasks and for guards older than these counts
    num_met: int = 0  # runs in it


@dataclass(frozen=True)
class Matches:
    """Shared runs of a batch of texts, by text and position. Arrays of equal length, except the last two."""

    text: np.ndarray  # int64: index of the text
    position: np.ndarray  # int64: the run's first word
    length: np.ndarray  # int64: its length in words
    which: np.ndarray  # int64: its index in ``grams``
    grams: np.ndarray  # uint64 [different]: the hashes, ascending
    held: np.ndarray  # bool [guards, different]


@dataclass(frozen=True)
class Runs:
    """Runs of one length in one text, to be looked up."""

    text: int
    length: int  # in words
    numbers: np.ndarray  # uint64 [runs]: hash of the run from each position
    widths: np.ndarray | None = None  # int64 [runs]: its words, if letters of Thai and the like weigh less than one
    weights: np.ndarray | None = None  # int64 [words]: weight of each word, for runs of version 1


@dataclass(frozen=True)
class Hit:
    """Overlap of a text with guards."""

    guards: tuple[str, ...]  # names of the guards, in the order in which they were opened
    grams: int  # different runs that the text shares with any of them
    text: str  # the folded words of the first such run


def write_guard(folder: Folder, name: str, texts: Iterable[str], settings: DecontaminateSettings) -> GuardAccount:
    """Write ``folder`` as a guard of ``texts``, replacing an existing one; ``name`` is stored for information.

    Memory does not depend on the number of texts; the result does not depend on their order or repetitions.
    """
    given = too_short = whole = 0
    lengths: set[int] = set()
    table = WordHashes()
    with temporary("guard") as aside:
        grams = SortedSet(aside)
        for text in texts:
            words = words_of(text)
            given += 1
            num_words = num_whole_words(words)
            if num_words < settings.min_words:
                too_short += 1
                continue
            whole += num_words < settings.ngram
            length = min(num_words, settings.ngram)
            lengths.add(length)
            grams.add(runs_of(words, length, table))
            if len(table) > MOST_WORDS:
                table.clear()
        count, digest = grams.finish(aside / "grams")
        account = GuardAccount(name, given, too_short, whole, count, tuple(sorted(lengths)), digest)
        folder.delete(MANIFEST)
        for old in [*folder.files(".grams"), *folder.files(".holders"), *folder.files(".met")]:
            folder.delete(old)
        with folder.writing(grams_file(account)) as scratch:
            shutil.copyfile(aside / "grams", scratch)
    folder.write_json(MANIFEST, asdict(account))
    return account


def write_met(folder: Folder, counts: RunCounts) -> GuardAccount:
    """Add to a guard the runs of any guard that were found in its dataset's training documents."""
    account = read_account(folder)
    content = (
        counts.grams.astype(NUMBER).tobytes() + np.minimum(counts.documents, MOST_HOLDERS).astype(np.uint8).tobytes()
    )
    account = replace(account, met=xxhash.xxh3_128_hexdigest(content), num_met=len(counts.grams))
    folder.delete(MANIFEST)
    for old in [*folder.files(".holders"), *folder.files(".met")]:
        folder.delete(old)
    folder.write(met_file(account), content)
    folder.write_json(MANIFEST, asdict(account))
    return account


class Guards:
    """Guards opened for searching; a text is compared with all of them at once."""

    def __init__(
        self,
        names: Sequence[str],
        lengths: Sequence[int],
        grams: Sequence[np.ndarray],
        earlier: Sequence[tuple[np.ndarray, np.ndarray]],
        versions: Sequence[int],
    ) -> None:
        self.names = tuple(names)
        self._lengths = lengths
        self._grams = grams
        self._earlier = earlier
        self._sieve = Sieve(grams)
        self._are_old = np.array([version == LETTERS_AS_WORDS for version in versions], bool)

    @classmethod
    def open(cls, guards: Sequence[tuple[str, Folder]]) -> "Guards":
        """Open guards by their folders, each with a name for reports.

        Raises:
            StageError: a guard is missing, truncated or of another version.
        """
        accounts = [read_account(folder) for _, folder in guards]
        paths = [folder.local(grams_file(account)) for (_, folder), account in zip(guards, accounts, strict=True)]
        for account, path in zip(accounts, paths, strict=True):
            if path.stat().st_size != account.grams * NUMBER.itemsize:
                raise StageError(
                    f"{path}: expected {account.grams * NUMBER.itemsize} bytes ({account.grams} runs of words), "
                    f"found {path.stat().st_size}; delete it and its folder's {MANIFEST}, and write the guard again"
                )
        lengths = {length for account in accounts for length in account.lengths}
        earlier = [
            read_met(folder, account, numbers)
            for (_, folder), account, numbers in zip(guards, accounts, map(mapped, paths), strict=True)
        ]
        versions = [account.version for account in accounts]
        return cls([name for name, _ in guards], sorted(lengths), [mapped(path) for path in paths], earlier, versions)

    def hits(self, texts: Sequence[str]) -> list[Hit | None]:
        """Return each text's overlap with the guards, or None."""
        words = [words_of(text) for text in texts]
        matches = self.match(words)
        found: list[Hit | None] = [None] * len(texts)
        overlapping, starts = np.unique(matches.text, return_index=True)
        for text, (start, stop) in zip(overlapping.tolist(), pairwise([*starts, len(matches.text)]), strict=True):
            shared = np.unique(matches.which[start:stop])
            place, length = int(matches.position[start]), int(matches.length[start])
            names = self.names_of(matches.held[:, shared])
            found[text] = Hit(names, len(shared), " ".join(words[text][place : place + length]))
        return found

    def names_of(self, held: np.ndarray) -> tuple[str, ...]:
        """Return the names of the guards that contain any of some runs; ``held`` is bool [guards, runs]."""
        return tuple(np.array(self.names, object)[np.logical_or.reduce(held, axis=1)])

    def match(self, words: Sequence[list[str]]) -> Matches:
        """Return the runs that texts, given by their words, share with the guards."""
        runs = self._runs(words)
        numbers = np.concatenate([np.empty(0, np.uint64), *(run.numbers for run in runs)])
        places = np.flatnonzero(self._sieve.may_hold(numbers))
        grams, which = np.unique(numbers[places], return_inverse=True)
        held = self.holding(grams)
        caught = np.logical_or.reduce(held, axis=0) if len(self._grams) else np.zeros(len(grams), bool)
        places, which = places[caught[which]], which[caught[which]]
        starts = np.cumsum([0, *(len(run.numbers) for run in runs)])
        parts = np.searchsorted(starts, places, side="right") - 1
        position = places - starts[parts]
        length = np.array([0, *(run.length for run in runs)])[parts + 1]
        kept = np.ones(len(places), bool)
        for part, one in enumerate(runs):
            if one.widths is None and one.weights is None:
                continue
            mine = slice(*np.searchsorted(parts, [part, part + 1]))
            if one.widths is not None:
                length[mine] = one.widths[position[mine]]
            elif one.weights is not None:
                kept[mine] = in_long_stretches(position[mine], one.length, one.weights)
        text, position, length = (
            np.array([0, *(run.text for run in runs)])[parts + 1][kept],
            position[kept],
            length[kept],
        )
        used, which = np.unique(which[kept], return_inverse=True)
        order = np.lexsort((position, text))
        return Matches(text[order], position[order], length[order], which[order], grams[used], held[:, used])

    def _runs(self, words: Sequence[list[str]]) -> list[Runs]:
        """Return all runs to look up, by text and length."""
        table, runs = WordHashes(), []
        for text, of_text in enumerate(words):
            numbers, weights = word_hashes(of_text, table), weights_of(of_text)
            if weights is None:
                hashes = run_hashes(numbers, self._lengths)
                runs += [Runs(text, length, found) for length, found in zip(self._lengths, hashes, strict=True)]
                continue
            for length in self._lengths:
                runs.append(Runs(text, length, *weighed_runs(numbers, weights, length)))
                if self._are_old.any():
                    runs.append(Runs(text, length, run_hashes(numbers, [length])[0], weights=weights))
        return runs

    def holding(self, grams: np.ndarray) -> np.ndarray:
        """Return which guards contain which runs; bool [guards, len(grams)]."""
        held = [holds(own, grams) for own in self._grams]
        return np.array(held, bool).reshape(len(self._grams), len(grams))

    def earlier_holders(self, grams: np.ndarray) -> np.ndarray:
        """Return the number of training documents of the guards' datasets with each run, even of another guard.

        int64 [len(grams)]
        """
        total = np.zeros(len(grams), np.int64)
        for met, documents in self._earlier:
            found = holds(met, grams)
            total[found] += documents[np.searchsorted(met, grams[found])]
        return total


def in_long_stretches(positions: np.ndarray, length: int, weights: np.ndarray) -> np.ndarray:
    """Return which runs of a guard of version 1 are part of a copy; bool [len(positions)].

    Such a guard has runs of ``length`` letters of Thai and the like, which are only a few words. Therefore only a
    stretch of runs at consecutive positions counts, if it weighs at least ``length`` words. Runs without such letters
    do not count here: they are found like those of other guards. ``positions`` ascend, ``weights`` are in thirds.
    """
    before = np.concatenate(([0], np.cumsum(weights)))
    full = length * LETTERS_A_WORD
    kept: np.ndarray = before[positions + length] - before[positions] < full
    spelled = positions[kept]
    starts = np.flatnonzero(np.append(True, np.diff(spelled) != 1)[: len(spelled)])
    stops = np.append(starts[1:], len(spelled)) - 1
    enough = before[spelled[stops] + length] - before[spelled[starts]] >= full if len(spelled) else np.empty(0, bool)
    kept[kept] = np.repeat(enough, stops - starts + 1 if len(spelled) else 0)
    return kept


def holds(sorted_numbers: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return which of ``numbers`` are in ``sorted_numbers``; bool [len(numbers)]."""
    if not len(sorted_numbers):
        return np.zeros(len(numbers), bool)
    places = np.minimum(np.searchsorted(sorted_numbers, numbers), len(sorted_numbers) - 1)
    found: np.ndarray = sorted_numbers[places] == numbers
    return found


def read_account(folder: Folder) -> GuardAccount:
    """Return the account of a guard.

    Raises:
        StageError: there is no guard, it is of another version, or its account is invalid.
    """
    if not folder.committed():
        raise StageError(f"{folder}: no guard found ({MANIFEST} is missing); it must be written first")
    values = folder.manifest()
    version = values.get("version")
    if version not in (LETTERS_AS_WORDS, GRAMS_VERSION):
        newer = isinstance(version, int) and version > GRAMS_VERSION
        raise StageError(
            f"{folder}: expected a guard of version {LETTERS_AS_WORDS} or {GRAMS_VERSION}, found {version}; "
            + ("it is from a newer release of this software: use that release" if newer else WRITE_AGAIN)
        )
    try:
        return GuardAccount(**{**values, "lengths": tuple(values["lengths"])})
    except (KeyError, TypeError) as error:
        raise StageError(f"{folder / MANIFEST}: expected the account of a guard ({error}); {WRITE_AGAIN}") from None


def read_met(folder: Folder, account: GuardAccount, grams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the runs in training documents of a guard's dataset, and the number of documents; none for a task.

    An older guard counted the documents with each of its own runs, including at least one held-out document.
    """
    if account.holders:
        counts = sized(folder, holders_file(account), account.grams)
        return grams, np.maximum(counts, 1) - np.uint8(1)
    if not account.met:
        return np.empty(0, NUMBER), np.empty(0, np.uint8)
    content = sized(folder, met_file(account), account.num_met * (NUMBER.itemsize + 1))
    split = account.num_met * NUMBER.itemsize
    return content[:split].view(NUMBER), content[split:]


def sized(folder: Folder, name: str, num_bytes: int) -> np.ndarray:
    """Return a guard's memory-mapped file, uint8 [num_bytes]; raises ``StageError`` if it has another size."""
    path = folder.local(name)
    if path.stat().st_size != num_bytes:
        raise StageError(
            f"{path}: expected {num_bytes} bytes (counts of runs of words), found {path.stat().st_size}; {WRITE_AGAIN}"
        )
    return np.asarray(np.memmap(path, np.uint8, "r")) if num_bytes else np.empty(0, np.uint8)


def holders_file(account: GuardAccount) -> str:
    """Return the name of an older guard's file of counts."""
    return f"{account.holders}.holders"


def met_file(account: GuardAccount) -> str:
    """Return the name of the file of runs in a guard's dataset."""
    return f"{account.met}.met"


def grams_file(account: GuardAccount) -> str:
    """Return the name of a guard's file of hashes."""
    return f"{account.digest}.grams"
