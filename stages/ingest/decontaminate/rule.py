"""Rule that separates copies from boilerplate among shared runs, chosen by its cost for the arrival.

Text that repeats in training documents repeats equally in a split drawn from them at random, so a run in many documents
is not evidence of a copy (Brown et al. 2020, appendix C, ignored runs in more than ten). The amount of repetition
varies: a held-out tenth of a code corpus shares functions with the rest, and cutting all of them would cost 3 % of the
words or more. Therefore the strictest rule within the limit of the settings is chosen, and if there is none, only
passages that are hardly chance are cut: long ones in a single document.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Self

import numpy as np

from rewarm.stages.ingest.decontaminate.passages import Passages, Runs, cuts_of, find_passages
from rewarm.stages.ingest.settings import DecontaminateSettings

ALL = 2**32 - 1  # documents
HOLDERS = (ALL, 10_000, 3_000, 1_000, 300, 100, 30, 10, 5, 3, 2, 1)  # candidates


@dataclass(frozen=True)
class Shared:
    """Runs that training documents share with guarded text, by row and position; arrays of equal length."""

    row: np.ndarray  # int64
    words: np.ndarray  # int64: number of words of the row's text
    position: np.ndarray  # int64: the run's first word
    length: np.ndarray  # int64: its length in words
    gram: np.ndarray  # uint64
    counted: np.ndarray  # int64: training documents of the arrival with this run
    earlier: np.ndarray  # int64: those of earlier datasets
    of_task: np.ndarray  # bool: whether a task's text contains it
    of_earlier: np.ndarray  # bool: whether an earlier validation split does
    of_own: np.ndarray  # bool: whether the arrival's does

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Concatenate several parts."""
        empty = [np.empty(0, np.int64)] * 4 + [np.empty(0, np.uint64)] + [np.empty(0, np.int64)] * 2
        columns = [[*empty, *[np.empty(0, bool)] * 3], *(one.columns() for one in parts)]
        return cls(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def columns(self) -> list[np.ndarray]:
        """Return the arrays in order."""
        return [getattr(self, field.name) for field in fields(self)]

    def chosen(self, which: np.ndarray | slice) -> Self:
        """Return a selection of the runs."""
        return type(self)(*(column[which] for column in self.columns()))

    def rows(self, first: int = 0, last: int | None = None) -> Iterator[tuple[int, Self]]:
        """Yield the runs row by row, from ``first`` up to ``last``."""
        start = int(np.searchsorted(self.row, first))
        stop = len(self.row) if last is None else int(np.searchsorted(self.row, last))
        edges = np.flatnonzero(np.append(True, np.diff(self.row[start:stop]) != 0)[: stop - start]) + start
        for begin, end in pairwise([*edges.tolist(), stop]):
            yield int(self.row[begin]), self.chosen(slice(begin, end))


@dataclass(frozen=True)
class Rule:
    """Rule of what is cut for validation splits; tasks' runs are cut in any passage, up to at least ``most``
    documents."""

    holders: int  # maximum training documents with a run, including earlier datasets; 0: nothing is cut
    passage: int  # minimum words of a passage, in units of ``ngram`` words per run
    surroundings: int  # words cut on each side of it
    most: int  # the maximum for a run that is only in the arrival's own split, and for earlier datasets alone
    ngram: int

    def cuts(self, shared: Shared) -> np.ndarray:
        """Return which runs are not boilerplate; bool."""
        cut: np.ndarray = self._of_split(shared) | self._of_task(shared)
        return cut

    def runs(self, shared: Shared) -> Runs:
        """Return the runs in the form for passages, with one text per row."""
        rare, of_task = self._of_split(shared), self._of_task(shared)
        longer = replace(self, holders=max(self.holders, self.most))._of_split(shared) & (self.holders > 0)
        needed = np.where(longer, -(-shared.length * self.passage // self.ngram), 0)
        needed = np.where(of_task, shared.length, needed)
        first, text = np.unique(shared.row, return_index=True, return_inverse=True)[1:]
        return Runs(text, shared.position, shared.length, needed, rare | of_task, shared.words[first])

    def applied(self, settings: DecontaminateSettings) -> DecontaminateSettings:
        """Return the settings with this rule's surroundings."""
        return settings.model_copy(update={"surroundings": self.surroundings})

    def to_json(self) -> dict[str, int | None]:
        """Return the rule for the account; ``copies`` is null if all runs that are only in earlier splits are cut."""
        return {
            "holders": min(self.holders, self.most),
            "copies": None if self.holders == ALL else self.holders,
            "passage": self.passage,
            "surroundings": self.surroundings,
        }

    def _of_split(self, shared: Shared) -> np.ndarray:
        holders = shared.counted + shared.earlier
        own = shared.of_own & (holders <= min(self.holders, self.most))
        earlier = shared.of_earlier & (shared.earlier <= self.most) & (holders <= self.holders)
        cut: np.ndarray = own | earlier
        return cut

    def _of_task(self, shared: Shared) -> np.ndarray:
        cut: np.ndarray = shared.of_task & (shared.counted <= max(self.holders, self.most))
        return cut


def choose_rule(taken: Callable[[Sequence[Rule]], list[int]], words: int, settings: DecontaminateSettings) -> Rule:
    """Return the strictest rule that cuts at most ``repeated_share`` of the words; ``taken`` counts words per rule.

    Long passages in a single document are cut by every rule and not counted, so that an arrival full of copies is not
    spared for that reason. For the rest, the number of documents is chosen first, for long passages, then the length of
    passages, then the surroundings, which may add half as much, or those of one passage.
    """
    long = max(settings.long_passage, settings.ngram)
    full = Rule(ALL, settings.ngram, settings.surroundings, settings.max_holders, settings.ngram)
    core = replace(full, surroundings=0)
    least = replace(core, holders=1, passage=long)
    always, of_core, of_full = taken([least, core, full])
    allowed = settings.repeated_share * words
    for_surroundings = max(allowed / 2, 2 * settings.surroundings)

    def first_within(rules: Sequence[Rule], most: float, otherwise: Rule) -> Rule:
        return next((rule for rule, cost in zip(rules, taken(rules), strict=True) if cost <= most), otherwise)

    if of_core > always + allowed:
        found = first_within([replace(least, holders=number) for number in HOLDERS], always + allowed, least)
        shorter = [replace(found, passage=length) for length in (settings.ngram, (settings.ngram + long) // 2)]
        core = first_within(shorter, always + allowed, found)
        (of_core,) = taken([core])
    elif of_full <= of_core + for_surroundings:
        return full
    around = [replace(core, surroundings=number) for number in (settings.surroundings, settings.surroundings // 2)]
    return first_within(around, of_core + for_surroundings, core)


def words_cut(shared: Shared, rules: Sequence[Rule], settings: DecontaminateSettings) -> list[int]:
    """Return the number of words that each rule cuts from documents with shared runs."""
    costs: list[int] = []
    last: tuple[Runs, Passages] | None = None
    for rule in rules:
        runs = rule.runs(shared)
        if last is None or not (
            np.array_equal(runs.rare, last[0].rare) and np.array_equal(runs.needed, last[0].needed)
        ):
            last = runs, find_passages(runs)
        costs.append(cuts_of(last[1], runs.words, rule.applied(settings)).num_words(runs.words))
    return costs
