"""The ledger against a count of every token of every batch."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.stages.core.progress import Silent
from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.replay import Wanted, document_reads, find_reads, sequences_of_steps, source_reads, step_reads
from rewarm.stages.replay import reads as ledger

LENGTHS = st.lists(st.integers(1, 40), min_size=2, max_size=30)


def world(lengths: list[int], seq_len: int, start: int, steps: int) -> tuple[Mixture, np.ndarray] | None:
    """A mixture that replays documents of these lengths, and their ends; nothing where they make no sequence."""
    ends = np.cumsum(lengths)
    count = int(ends[-1] - 1) // seq_len
    if not count:
        return None
    new = (Source("new", 50, 3),)
    old = Source("old", count, 5, start, num_tokens=int(ends[-1]))
    return Mixture(new, (old, Source("other", 9, 5)), "1/2", seq_len, 8, steps), ends


def counted(
    mixture: Mixture, ends: np.ndarray, left: set[int]
) -> tuple[Counter[int], Counter[tuple[int, int]], dict[int, set[int]]]:
    """By document: tokens predicted; reads by document and position; steps. Token by token, without steps ``left``."""
    tokens: Counter[int] = Counter()
    reads: Counter[tuple[int, int]] = Counter()
    steps: dict[int, set[int]] = {}
    for step in set(range(mixture.steps)) - left:
        for number, start in zip(*mixture.batch(step), strict=True):
            if number == 1:
                for position in range(start + 1, start + mixture.seq_len + 1):
                    document = int(np.searchsorted(ends, position, side="right"))
                    tokens[document] += 1
                    reads[document, position] += 1
                    steps.setdefault(document, set()).add(step)
    return tokens, reads, steps


@settings(deadline=None, max_examples=80)
@given(
    lengths=LENGTHS,
    seq_len=st.integers(1, 17),
    start=st.integers(0, 90),
    steps=st.integers(1, 12),
    cut=st.integers(1, 29),
    left=st.sets(st.integers(0, 11), max_size=4),
)
def test_documents_are_counted_as_every_token_of_every_batch_says(
    lengths: list[int], seq_len: int, start: int, steps: int, cut: int, left: set[int]
) -> None:
    made = world(lengths, seq_len, start, steps)
    if made is None:
        return
    mixture, ends = made
    left = {step for step in left if step < steps}
    tokens, reads, when = counted(mixture, ends, left)
    times = {number: max((n for (d, _), n in reads.items() if d == number), default=0) for number in range(len(ends))}
    reads_of_it = source_reads(mixture.sources[1], mixture.count(0, steps)[1], seq_len, Silent())
    reads_of_it = reads_of_it.less(step_reads(mixture, 1, left))
    cuts = [0, min(cut, len(ends) - 1), len(ends)]
    parts = [document_reads(reads_of_it, ends, low, high) for low, high in pairwise(cuts)]
    assert np.concatenate([part.tokens for part in parts]).tolist() == [tokens[d] for d in range(len(ends))]
    assert np.concatenate([part.times for part in parts]).tolist() == list(times.values())
    found = find_reads(mixture, {1: Wanted.of(ends, np.arange(len(ends)))}, Silent(), left)
    counts = [sum(mixture.batch(step)[0].tolist().count(number) for step in left) for number in range(3)]
    assert sequences_of_steps(mixture, left) == counts[: len(mixture.sources)]
    by_document = {one.place: one for one in found}
    assert {place: (one.times, set(one.steps)) for place, one in by_document.items()} == {
        document: (times[document], steps) for document, steps in when.items()
    }


@settings(deadline=None)
@given(tokens=st.integers(4, 200), seq_len=st.integers(1, 40), start=st.integers(0, 200), count=st.integers(0, 300))
def test_places_are_counted_pass_by_pass(tokens: int, seq_len: int, start: int, count: int) -> None:
    size = (tokens - 1) // seq_len
    if not size:
        return
    source = Source("old", size, 5, start, num_tokens=tokens)
    plain = np.zeros(tokens, dtype=np.int64)
    for first in source.starts(np.arange(count), seq_len):
        plain[first : first + seq_len] += 1
    found = source_reads(source, count, seq_len, Silent())
    assert np.diff(found.below(np.arange(tokens + 1))).tolist() == plain.tolist()


def test_chunks_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world([7, 30, 2, 1, 19, 40, 3], 5, 4, 11)
    assert made is not None
    mixture, ends = made
    wanted = {1: Wanted.of(ends, np.array([1, 5])), 2: Wanted.of(np.array([46]), np.array([0]))}
    whole = (
        list(find_reads(mixture, wanted, Silent())),
        source_reads(mixture.sources[1], 44, 5, Silent()).reads.tolist(),
    )
    monkeypatch.setattr(ledger, "CHUNK", 3)
    again = (
        list(find_reads(mixture, wanted, Silent())),
        source_reads(mixture.sources[1], 44, 5, Silent()).reads.tolist(),
    )
    assert whole == again
    assert {one.source for one in whole[0]} == {1, 2}
