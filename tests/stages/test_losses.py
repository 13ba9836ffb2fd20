"""The losses by document: every target counts once, and the sums are the same however the stream is cut."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.losses import add_pieces, plan_pieces, sum_documents, write_piece
from stages.storage import Folder


@given(st.integers(0, 500), st.integers(1, 40), st.integers(1, 100))
def test_pieces_cover_every_target_once_in_whole_windows(num_tokens: int, seq_len: int, piece_tokens: int) -> None:
    spans = plan_pieces(num_tokens, seq_len, piece_tokens)
    covered = [position for start, stop in spans for position in range(start, stop)]
    assert covered == list(range(max(0, num_tokens - 1)))
    assert all(start % seq_len == 0 for start, _ in spans)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.data())
def test_sums_by_document_are_those_of_a_loop(sizes: list[int], data: st.DataObject) -> None:
    ends = np.cumsum(sizes)
    if ends[-1] < 2:
        return
    start = data.draw(st.integers(0, int(ends[-1]) - 2))
    stop = data.draw(st.integers(start + 1, int(ends[-1]) - 1))
    owner = [number for number, size in enumerate(sizes) for _ in range(size)]
    losses = np.arange(start + 1, stop + 1, dtype=np.float64)
    first, nats, counts = sum_documents(losses, start, ends)
    expected: dict[int, list[float]] = {}
    for position, loss in zip(range(start + 1, stop + 1), losses, strict=True):
        expected.setdefault(owner[position], []).append(loss)
    assert list(range(first, first + len(nats))) == list(expected)
    assert nats.tolist() == [sum(values) for values in expected.values()]
    assert counts.tolist() == [len(values) for values in expected.values()]


def test_a_document_that_pieces_share_is_added_up(tmp_path: Path) -> None:
    ends, losses = np.array([3, 4, 9]), np.arange(1, 9, dtype=np.float64)
    folder = Folder(tmp_path)
    for name, (start, stop) in {"0.npz": (0, 2), "1.npz": (2, 6), "2.npz": (6, 8)}.items():
        write_piece(folder, name, *sum_documents(losses[start:stop], start, ends))
    nats, counts = add_pieces(folder, ["0.npz", "1.npz", "2.npz"], 3)
    assert nats.tolist() == [1 + 2, 3, 4 + 5 + 6 + 7 + 8]
    assert counts.tolist() == [2, 1, 5]
