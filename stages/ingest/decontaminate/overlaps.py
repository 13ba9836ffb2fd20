"""Runs of words that the arrival shares with held-out text: found shard by shard, and which of them are boilerplate.

    staged texts ──find_overlaps──▶ matches, counts ──make_rule──▶ the holders that make a run boilerplate

Every document that stays is looked at once; settling reads the matches and cuts only what they name. All of it is a
function of the arrival's documents and the guards: shards, workers and interruptions leave no trace.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import partial
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa

from rewarm.stages.core.progress import Progress
from rewarm.stages.core.ray_data import map_shards
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.split import TRAIN, VALIDATE
from rewarm.stages.ingest.decontaminate import DecontaminateSettings, Guards
from rewarm.stages.ingest.decontaminate.counts import Counter, RunCounts, sum_counts
from rewarm.stages.ingest.decontaminate.grams import words_of
from rewarm.stages.ingest.decontaminate.passages import cut_text, plan_cuts, words_cut
from rewarm.stages.ingest.dedup.columns import ColumnSink, blocks
from rewarm.stages.ingest.dedup.partition import FEW_ROWS
from rewarm.stages.ingest.passes import staged_rows

PAIR = 2  # holders of a run that one training document shares with one that is held out: always cut
MATCHES = pa.schema(
    [
        pa.field("row", pa.uint32(), nullable=False),  # of the shard
        pa.field("words", pa.uint32(), nullable=False),  # of its text
        pa.field("position", pa.uint32(), nullable=False),  # the shared run's first word
        pa.field("length", pa.uint16(), nullable=False),  # its words
        pa.field("gram", pa.uint64(), nullable=False),
        pa.field("earlier", pa.uint32(), nullable=False),  # documents of earlier datasets that hold it
        pa.field("of_task", pa.uint8(), nullable=False),  # whether a task's text holds it
        pa.field("of_split", pa.uint8(), nullable=False),  # whether a validation split does
    ]
)


class Kind(StrEnum):
    """Whose text a guard keeps out of training."""

    TASK = "task"
    EARLIER = "earlier"  # an earlier dataset's validation split
    OWN = "own"  # this arrival's


@dataclass(frozen=True)
class Guarded:
    """A guard, under the name that reports give it."""

    name: str
    folder: Folder
    kind: Kind


@dataclass(frozen=True)
class Matches:
    """Shared runs of a shard's documents, by row and position; arrays of one length."""

    row: np.ndarray  # int64
    words: np.ndarray  # int64: of the row's text
    position: np.ndarray  # int64: the run's first word
    length: np.ndarray  # int64: its words
    gram: np.ndarray  # uint64
    counted: np.ndarray  # int64: documents of the arrival that hold it
    holders: np.ndarray  # int64: these, and those of earlier datasets
    of_task: np.ndarray  # bool: whether a task's text holds it
    of_split: np.ndarray  # bool: whether a validation split does

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """One after the other."""
        empty = [np.empty(0, np.int64)] * 4 + [np.empty(0, np.uint64)] + [np.empty(0, np.int64)] * 2
        columns = [[*empty, np.empty(0, bool), np.empty(0, bool)], *(one.columns() for one in parts)]
        return cls(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def columns(self) -> list[np.ndarray]:
        """The arrays in their order."""
        return [getattr(self, part.name) for part in fields(self)]

    def chosen(self, which: np.ndarray | slice) -> Self:
        """Some of them."""
        return type(self)(*(column[which] for column in self.columns()))

    def rows(self, first: int = 0, last: int | None = None) -> Iterator[tuple[int, Self]]:
        """Row by row, from ``first`` up to ``last``."""
        start = int(np.searchsorted(self.row, first))
        stop = len(self.row) if last is None else int(np.searchsorted(self.row, last))
        edges = np.flatnonzero(np.append(True, np.diff(self.row[start:stop]) != 0)[: stop - start]) + start
        for begin, end in pairwise([*edges.tolist(), stop]):
            yield int(self.row[begin]), self.chosen(slice(begin, end))


@dataclass(frozen=True)
class Rule:
    """Which shared runs are cut: those that at most so many documents hold."""

    counts: str  # the digest of the arrival's table of counts
    task_holders: int
    split_holders: int

    def cuts(self, matches: Matches) -> np.ndarray:
        """Which runs are not boilerplate; bool. For tasks the arrival's documents are counted."""
        of_split = matches.of_split & (matches.holders <= self.split_holders)
        cut: np.ndarray = of_split | (matches.of_task & (matches.counted <= self.task_holders))
        return cut


def opened(guarded: Sequence[Guarded]) -> Guards:
    """The guards, to be searched."""
    return Guards.open([(guard.name, guard.folder) for guard in guarded])


def find_overlaps(shard: dict[str, Any], staging: Folder, guarded: Sequence[Guarded]) -> dict[str, Any]:
    """Leave the shared runs of one shard's training documents, and how many of its documents hold each run.

    Validation documents are counted too. The account (words of the training documents) marks the shard done.
    """
    name = f"{shard['number']:05d}"
    if staging.exists(f"{name}.matched.json"):
        done: dict[str, Any] = staging.read_json(f"{name}.matched.json")
        return done
    guards, counter, num_words, first = opened(guarded), Counter(), 0, 0
    of_kind = {kind: [place for place, guard in enumerate(guarded) if guard.kind == kind] for kind in Kind}
    splits = of_kind[Kind.EARLIER] + of_kind[Kind.OWN]
    with ColumnSink(staging, f"{name}.matches", MATCHES) as sink:
        for batch, fates in staged_rows(staging, name, ["text"]):
            rows = np.flatnonzero((fates == TRAIN) | (fates == VALIDATE))
            texts = [words_of(text) for text in batch["text"].take(pa.array(rows)).to_pylist()]
            sizes = np.array([len(words) for words in texts], np.int64)
            found = guards.match(texts)
            different = len(found.grams)
            held = np.unique(found.text * different + found.which) % max(1, different)
            counter.add(found.grams, np.bincount(held, minlength=different))
            trains = fates[rows] == TRAIN
            num_words += int(sizes[trains].sum())
            mine = trains[found.text]
            text, which = found.text[mine], found.which[mine]
            earlier = guards.holders(found.grams, of_kind[Kind.EARLIER])
            sink.add(
                [
                    rows[text] + first,
                    sizes[text],
                    found.position[mine],
                    found.length[mine],
                    found.grams[which],
                    earlier[which],
                    np.logical_or.reduce(found.held[of_kind[Kind.TASK]], axis=0)[which],
                    np.logical_or.reduce(found.held[splits], axis=0)[which],
                ]
            )
            first += len(fates)
    counter.write(staging, f"{name}.counts")
    made = {"words": num_words}
    staging.write_json(f"{name}.matched.json", made)
    return made


def make_rule(
    staging: Folder, shards: Sequence[dict[str, Any]], words: int, settings: DecontaminateSettings, progress: Progress
) -> Rule:
    """Sum the counts of all shards and decide how many holders make a run boilerplate; ``words`` are the arrival's.

    For tasks it is what the settings say. For validation splits it is the largest number up to that for which the runs
    of three holders and more take no more than ``repeated_share`` of the words, and two at least.
    """
    names = [f"{shard['number']:05d}.counts" for shard in shards]
    counts = sum_counts(staging, names)
    numbers = range(min(PAIR, settings.max_holders), settings.max_holders + 1)
    work = partial(repeated_words, staging=staging, counts=counts, numbers=numbers, settings=settings)
    if sum(shard["documents"] for shard in shards) > FEW_ROWS:
        found = map_shards(work, shards, progress, "counting what repeats", "documents")
    else:
        found = [work(shard) for shard in shards]
    repeated = np.array([one["words"] for one in found], np.int64).reshape(len(found), len(numbers)).sum(axis=0)
    allowed = np.flatnonzero(repeated <= settings.repeated_share * words)
    return Rule(counts, settings.max_holders, numbers[int(allowed[-1])])


def repeated_words(
    shard: dict[str, Any], staging: Folder, counts: str, numbers: range, settings: DecontaminateSettings
) -> dict[str, Any]:
    """For each number of holders the words of a shard that are cut for it, above those for the first number."""
    name, held = f"{shard['number']:05d}", RunCounts.open(staging, counts)

    def disputed(one: Matches) -> np.ndarray:
        return one.of_split & (one.holders > numbers[0]) & (one.holders <= numbers[-1])

    matches = read_matches(name, staging, held, disputed)
    return {"words": words_above(matches, numbers, settings).tolist()}


def words_above(matches: Matches, numbers: range, settings: DecontaminateSettings) -> np.ndarray:
    """For each number of holders the words that are cut for it, above those for the first; int64 [len(numbers)]."""
    totals = np.zeros(len(numbers), np.int64)
    for _, shared in matches.rows():
        num_words = int(shared.words[0])
        sizes = []
        for number in numbers:
            common = ~shared.of_split | (shared.holders > number)
            plan = plan_cuts(shared.position, shared.length, common, num_words, settings)
            sizes.append(words_cut(plan, num_words))
        totals += np.array(sizes) - sizes[0]
    return totals


def cut_sample(texts: Sequence[str], guarded: Sequence[Guarded], settings: DecontaminateSettings) -> list[str]:
    """What a few texts would keep if they were an arrival's training documents; nothing ("") of those that go.

    Holders are counted in the texts alone, and in earlier datasets: of a sample they are fewer than in its arrival.
    """
    guards, words = opened(guarded), [words_of(text) for text in texts]
    found, sizes = guards.match(words), np.array([len(one) for one in words], np.int64)
    different = len(found.grams)
    counted = np.bincount(np.unique(found.text * different + found.which) % max(1, different), minlength=different)
    holders = counted + guards.holders(found.grams, [k for k, one in enumerate(guarded) if one.kind == Kind.EARLIER])
    tasks = [k for k, one in enumerate(guarded) if one.kind == Kind.TASK]
    splits = [k for k, one in enumerate(guarded) if one.kind != Kind.TASK]
    matches = Matches(
        found.text,
        sizes[found.text],
        found.position,
        found.length,
        found.grams[found.which],
        counted[found.which],
        holders[found.which],
        np.logical_or.reduce(found.held[tasks], axis=0)[found.which],
        np.logical_or.reduce(found.held[splits], axis=0)[found.which],
    )
    numbers = range(min(PAIR, settings.max_holders), settings.max_holders + 1)
    allowed = np.flatnonzero(words_above(matches, numbers, settings) <= settings.repeated_share * sizes.sum())
    rule = Rule("", settings.max_holders, numbers[int(allowed[-1])])
    kept = list(texts)
    for row, shared in matches.rows():
        plan = plan_cuts(shared.position, shared.length, ~rule.cuts(shared), int(shared.words[0]), settings)
        if plan != []:
            kept[row] = "" if plan is None else cut_text(texts[row], plan)[0]
    return kept


def cut_matches(name: str, staging: Folder, rule: Rule) -> Matches:
    """The matches of all rows of a shard in which the rule may cut something."""
    return read_matches(name, staging, RunCounts.open(staging, rule.counts), rule.cuts)


def read_matches(name: str, staging: Folder, counts: RunCounts, wanted: Callable[[Matches], np.ndarray]) -> Matches:
    """All matches of the rows of a shard that have one of those ``wanted``; the others are not held in memory."""

    def in_blocks() -> Iterator[Matches]:
        for columns in blocks(staging, f"{name}.matches"):
            row, words, position, length = (column.astype(np.int64) for column in columns[:4])
            gram, earlier, of_task, of_split = columns[4:]
            own = counts.of(gram)
            yield Matches(row, words, position, length, gram, own, own + earlier, of_task > 0, of_split > 0)

    rows = np.unique(np.concatenate([np.empty(0, np.int64), *(one.row[wanted(one)] for one in in_blocks())]))
    parts = [one.chosen(np.isin(one.row, rows)) for one in in_blocks()]
    return Matches.joined(parts)
