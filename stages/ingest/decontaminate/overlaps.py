"""Overlaps of the arrival with held-out text, found shard by shard, and the rule that separates copies from
boilerplate.

    staged texts ──find_overlaps──▶ matches, counts ──make_rule──▶ rule: what is cut, and what is boilerplate

Every kept document is examined once; pass 3 reads the matches and cuts only these. The result depends only on the
arrival's documents and the guards, not on shards, workers or interruptions.
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
        pa.field("row", pa.uint32(), nullable=False),  # in the shard
        pa.field("words", pa.uint32(), nullable=False),  # number of words of its text
        pa.field("position", pa.uint32(), nullable=False),  # the shared run's first word
        pa.field("length", pa.uint16(), nullable=False),  # its length in words
        pa.field("gram", pa.uint64(), nullable=False),
        pa.field("earlier", pa.uint32(), nullable=False),  # training documents of earlier datasets with this run
        pa.field("of_task", pa.uint8(), nullable=False),  # whether a task's text contains it
        pa.field("of_earlier", pa.uint8(), nullable=False),  # whether an earlier validation split does
        pa.field("of_own", pa.uint8(), nullable=False),  # whether the arrival's does
    ]
)


class Kind(StrEnum):
    """Origin of the text that a guard protects."""

    TASK = "task"
    EARLIER = "earlier"  # an earlier dataset's validation split
    OWN = "own"  # this arrival's


@dataclass(frozen=True)
class Guarded:
    """Guard with its name in reports."""

    name: str
    folder: Folder
    kind: Kind


def opened(guarded: Sequence[Guarded]) -> Guards:
    """Return the guards, opened for searching."""
    return Guards.open([(guard.name, guard.folder) for guard in guarded])


def find_overlaps(shard: dict[str, Any], staging: Folder, guarded: Sequence[Guarded]) -> dict[str, Any]:
    """Write the shared runs of one shard's training documents, and the number of these documents with each run.

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
    overlaps = {"words": num_words}
    staging.write_json(f"{name}.matched.json", overlaps)
    return overlaps


def documents_of(matches: Matches) -> np.ndarray:
    """Return the number of texts with each different run; int64 [different]."""
    different = len(matches.grams)
    held = np.unique(matches.text * different + matches.which) % max(1, different)
    return np.bincount(held, minlength=different)


def kinds_of(matches: Matches, guarded: Sequence[Guarded]) -> dict[Kind, np.ndarray]:
    """Return for each kind of guard a mask of the different runs in any such guard; bool [different]."""
    return {
        kind: np.logical_or.reduce(matches.held[[guard.kind == kind for guard in guarded]], axis=0, initial=False)
        for kind in Kind
    }


def make_rule(
    staging: Folder, shards: Sequence[dict[str, Any]], words: int, settings: DecontaminateSettings, progress: Progress
) -> tuple[str, Rule]:
    """Sum the counts of all shards and choose the rule; ``words`` is the number of words in training documents.

    Return the digest of the table of counts, and the rule.
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
    """Return the number of words of a shard that each rule cuts."""
    held = RunCounts.open(staging, counts)
    most = max(rules, key=lambda rule: rule.holders)
    return {"words": words_cut(read_matches(f"{shard['number']:05d}", staging, held, most.cuts), rules, settings)}


def cut_sample(texts: Sequence[str], guarded: Sequence[Guarded], settings: DecontaminateSettings) -> list[str]:
    """Return the texts after decontamination as if they were an arrival's training documents; "" for removed ones.

    Documents per run are counted only in these texts and in earlier datasets: a sample has fewer than its arrival.
    """
    guards, words = opened(guarded), [words_of(text) for text in texts]
    found, sizes = guards.match(words), np.array([len(word) for word in words], np.int64)
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
    """Return the matches of all rows of a shard in which the rule may cut something."""
    return read_matches(name, staging, RunCounts.open(staging, counts), rule.cuts)


def read_matches(name: str, staging: Folder, counts: RunCounts, wanted: Callable[[Shared], np.ndarray]) -> Shared:
    """Return all matches of the rows of a shard with at least one ``wanted`` match, without loading the others."""

    def in_blocks() -> Iterator[Shared]:
        for columns in blocks(staging, f"{name}.matches"):
            row, words, position, length = (column.astype(np.int64) for column in columns[:4])
            gram, earlier = columns[4], columns[5].astype(np.int64)
            of_kinds = (column > 0 for column in columns[6:])
            yield Shared(row, words, position, length, gram, counts.of(gram), earlier, *of_kinds)

    rows = np.unique(np.concatenate([np.empty(0, np.int64), *(block.row[wanted(block)] for block in in_blocks())]))
    parts = [block.chosen(np.isin(block.row, rows)) for block in in_blocks()]
    return Shared.joined(parts)
