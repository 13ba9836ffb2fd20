"""Runs of words that the arrival shares with held-out text: found shard by shard, and which of them are boilerplate.

    staged texts ──find_overlaps──▶ matches, counts ──make_rule──▶ what is cut, and what is boilerplate

Every document that stays is looked at once; settling reads the matches and cuts only what they name. All of it is a
function of the arrival's documents and the guards: shards, workers and interruptions leave no trace.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from rewarm.stages.core.progress import Progress
from rewarm.stages.core.ray_data import map_shards
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.split import TRAIN
from rewarm.stages.ingest.decontaminate import DecontaminateSettings, Guards
from rewarm.stages.ingest.decontaminate.counts import Counter, RunCounts, sum_counts
from rewarm.stages.ingest.decontaminate.grams import words_of
from rewarm.stages.ingest.decontaminate.guards import Matches
from rewarm.stages.ingest.decontaminate.passages import cut_text, plan_cuts
from rewarm.stages.ingest.decontaminate.rule import Rule, Shared, choose_rule, words_cut
from rewarm.stages.ingest.dedup.columns import ColumnSink, blocks
from rewarm.stages.ingest.dedup.partition import FEW_ROWS
from rewarm.stages.ingest.passes import staged_rows

MATCHES = pa.schema(
    [
        pa.field("row", pa.uint32(), nullable=False),  # of the shard
        pa.field("words", pa.uint32(), nullable=False),  # of its text
        pa.field("position", pa.uint32(), nullable=False),  # the shared run's first word
        pa.field("length", pa.uint16(), nullable=False),  # its words
        pa.field("gram", pa.uint64(), nullable=False),
        pa.field("earlier", pa.uint32(), nullable=False),  # training documents of earlier datasets that hold it
        pa.field("of_task", pa.uint8(), nullable=False),  # whether a task's text holds it
        pa.field("of_earlier", pa.uint8(), nullable=False),  # whether an earlier validation split does
        pa.field("of_own", pa.uint8(), nullable=False),  # whether the arrival's does
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


def opened(guarded: Sequence[Guarded]) -> Guards:
    """The guards, to be searched."""
    return Guards.open([(guard.name, guard.folder) for guard in guarded])


def find_overlaps(shard: dict[str, Any], staging: Folder, guarded: Sequence[Guarded]) -> dict[str, Any]:
    """Leave the shared runs of one shard's training documents, and how many of these documents hold each run.

    The account (words of the training documents) marks the shard done.
    """
    name = f"{shard['number']:05d}"
    if staging.exists(f"{name}.matched.json"):
        done: dict[str, Any] = staging.read_json(f"{name}.matched.json")
        return done
    guards, counter, num_words, first = opened(guarded), Counter(), 0, 0
    with ColumnSink(staging, f"{name}.matches", MATCHES) as sink:
        for batch, fates in staged_rows(staging, name, ["text"]):
            rows = np.flatnonzero(fates == TRAIN)
            texts = [words_of(text) for text in batch["text"].take(pa.array(rows)).to_pylist()]
            sizes = np.array([len(words) for words in texts], np.int64)
            num_words += int(sizes.sum())
            found = guards.match(texts)
            counter.add(found.grams, documents_of(found))
            of_kind = kinds_of(found, guarded)
            sink.add(
                [
                    rows[found.text] + first,
                    sizes[found.text],
                    found.position,
                    found.length,
                    found.grams[found.which],
                    guards.earlier_holders(found.grams)[found.which],
                    *(of_kind[kind][found.which] for kind in Kind),
                ]
            )
            first += len(fates)
    counter.write(staging, f"{name}.counts")
    made = {"words": num_words}
    staging.write_json(f"{name}.matched.json", made)
    return made


def documents_of(found: Matches) -> np.ndarray:
    """How many of the texts hold each different run; int64 [different]."""
    different = len(found.grams)
    held = np.unique(found.text * different + found.which) % max(1, different)
    return np.bincount(held, minlength=different)


def kinds_of(found: Matches, guarded: Sequence[Guarded]) -> dict[Kind, np.ndarray]:
    """By kind of guard which of the different runs any such guard holds; bool [different]."""
    return {
        kind: np.logical_or.reduce(found.held[[guard.kind == kind for guard in guarded]], axis=0, initial=False)
        for kind in Kind
    }


def make_rule(
    staging: Folder, shards: Sequence[dict[str, Any]], words: int, settings: DecontaminateSettings, progress: Progress
) -> tuple[str, Rule]:
    """Sum the counts of all shards and decide what is cut; ``words`` are those of the arrival's training documents.

    The digest of the table of counts, and the rule.
    """
    counts = sum_counts(staging, [f"{shard['number']:05d}.counts" for shard in shards])
    few = sum(shard["documents"] for shard in shards) <= FEW_ROWS

    def taken(rules: Sequence[Rule]) -> list[int]:
        work = partial(words_of_shard, staging=staging, counts=counts, rules=rules, settings=settings)
        if few:
            found = [work(shard) for shard in shards]
        else:
            found = map_shards(work, shards, progress, "counting what repeats", "documents")
        return [sum(words) for words in zip(*(one["words"] for one in found), strict=True)] or [0] * len(rules)

    return counts, choose_rule(taken, words, settings)


def words_of_shard(
    shard: dict[str, Any], staging: Folder, counts: str, rules: Sequence[Rule], settings: DecontaminateSettings
) -> dict[str, Any]:
    """How many words of a shard are cut by each rule."""
    held = RunCounts.open(staging, counts)
    most = max(rules, key=lambda rule: rule.holders)
    return {"words": words_cut(read_matches(f"{shard['number']:05d}", staging, held, most.cuts), rules, settings)}


def cut_sample(texts: Sequence[str], guarded: Sequence[Guarded], settings: DecontaminateSettings) -> list[str]:
    """What a few texts would keep if they were an arrival's training documents; nothing ("") of those that go.

    Holders are counted in the texts alone, and in earlier datasets: of a sample they are fewer than in its arrival.
    """
    guards, words = opened(guarded), [words_of(text) for text in texts]
    found, sizes = guards.match(words), np.array([len(one) for one in words], np.int64)
    of_kind = kinds_of(found, guarded)
    matches = Shared(
        found.text,
        sizes[found.text],
        found.position,
        found.length,
        found.grams[found.which],
        documents_of(found)[found.which],
        guards.earlier_holders(found.grams)[found.which],
        *(of_kind[kind][found.which] for kind in Kind),
    )
    rule = choose_rule(lambda rules: words_cut(matches, rules, settings), int(sizes.sum()), settings)
    kept = list(texts)
    for row, shared in matches.rows():
        plan = plan_cuts(rule.runs(shared), rule.applied(settings))
        if plan != []:
            kept[row] = "" if plan is None else cut_text(texts[row], plan)[0]
    return kept


def cut_matches(name: str, staging: Folder, counts: str, rule: Rule) -> Shared:
    """The matches of all rows of a shard in which the rule may cut something."""
    return read_matches(name, staging, RunCounts.open(staging, counts), rule.cuts)


def read_matches(name: str, staging: Folder, counts: RunCounts, wanted: Callable[[Shared], np.ndarray]) -> Shared:
    """All matches of the rows of a shard that have one of those ``wanted``; the others are not held in memory."""

    def in_blocks() -> Iterator[Shared]:
        for columns in blocks(staging, f"{name}.matches"):
            row, words, position, length = (column.astype(np.int64) for column in columns[:4])
            gram, earlier = columns[4], columns[5].astype(np.int64)
            of_kinds = (column > 0 for column in columns[6:])
            yield Shared(row, words, position, length, gram, counts.of(gram), earlier, *of_kinds)

    rows = np.unique(np.concatenate([np.empty(0, np.int64), *(one.row[wanted(one)] for one in in_blocks())]))
    parts = [one.chosen(np.isin(one.row, rows)) for one in in_blocks()]
    return Shared.joined(parts)
