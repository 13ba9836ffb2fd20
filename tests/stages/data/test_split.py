"""Duplicates and the validation split, against a plain model of the same rules."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.data.split import (
    DROP,
    TRAIN,
    VALIDATE,
    SplitSize,
    content_digest,
    expected_share,
    grown_bound,
    read_index,
    split_documents,
    threshold,
    training_bound,
    worth_of,
    write_index,
)

IDS = st.integers(0, 2**128 - 1).map(lambda value: value.to_bytes(16, "big"))
FEW = st.sampled_from(
    [bytes(16), bytes(15) + b"\1", b"\1" + bytes(15), b"\2" + bytes(14) + b"\0", b"\xff" * 16, b"\5\0\0\1" * 4]
)
HASHES = st.lists(st.one_of(FEW, IDS), max_size=40)


def hashes(values: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(values), "S16")


def model(rows: list[bytes], known: set[bytes], share: float) -> list[int]:
    kept = sorted(set(rows) - known)
    validation = {row for row in kept if int.from_bytes(row, "big") < share * 2**128}
    if len(kept) >= 2:
        validation = (validation or set(kept[:1])) - ({kept[-1]} if len(validation) == len(kept) else set())
    else:
        validation = set()
    seen = set(known)
    fates = []
    for row in rows:
        fates.append(DROP if row in seen else VALIDATE if row in validation else TRAIN)
        seen.add(row)
    return fates


@given(HASHES, HASHES, HASHES, st.sampled_from([0.0, 0.02, 0.25, 0.5]))
def test_fates(rows: list[bytes], one: list[bytes], two: list[bytes], share: float) -> None:
    earlier = [hashes(sorted(set(index))) for index in (one, two)]
    split = split_documents(hashes(rows), earlier, share)
    known = set(one) | set(two)
    assert split.fates.tolist() == model(rows, known, share)
    assert split.kept.tobytes() == b"".join(sorted(set(rows) - known))
    assert split.duplicates == len(rows) - len(set(rows))
    assert split.duplicates_earlier == len(set(rows) & known)
    assert len(split.kept) + split.duplicates + split.duplicates_earlier == len(rows)


def test_the_share_is_met_and_no_document_changes_sides_when_others_join() -> None:
    ids = [bytes.fromhex(document_id(f"document {number}")) for number in range(20_000)]
    some, every = (split_documents(hashes(rows), [], 0.02) for rows in (ids[:5000], ids))
    assert 0.017 < np.mean(every.fates == VALIDATE) < 0.023
    assert (every.fates[:5000] == some.fates).all()
    bound = int.from_bytes(bytes(threshold(0.02)).ljust(16, b"\0"), "big")
    assert (bound - 1) / 2**128 <= 0.02 < (bound + 2**80) / 2**128


def test_the_index_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows = hashes(sorted([bytes(16), bytes(15) + b"\1", b"\1" + bytes(15)]))
    write_index(Folder(tmp_path / "index"), rows)
    assert read_index(Folder(tmp_path / "index")).tobytes() == rows.tobytes()
    with pytest.raises(StageError, match=r"doc_ids.arrow is missing"):
        read_index(Folder(tmp_path / "none"))


def test_the_digest_tells_order_and_sides_apart() -> None:
    one, two = b"\1" * 16, b"\2" * 16
    cases = [
        ([one, two], [1, 1]),
        ([two, one], [1, 1]),
        ([one, two], [1, 2]),
        ([one, two], [2, 1]),
        ([one, two], [1, 0]),
    ]
    assert len({content_digest(hashes(rows), np.array(fates, np.uint8)) for rows, fates in cases}) == len(cases)


@given(
    st.lists(st.tuples(IDS, st.integers(1, 10_000)), min_size=2, max_size=60, unique_by=lambda row: row[0]),
    st.sampled_from([0.02, 0.1]),
    st.integers(1, 20),
    st.sampled_from([0.1, 0.5]),
)
def test_a_grown_split_is_the_least_that_is_worth_enough(
    rows: list[tuple[bytes, int]], share: float, wanted: int, cap: float
) -> None:
    ids, sizes = hashes([row for row, _ in rows]), np.array([size for _, size in rows])
    bound = training_bound([ids], share)
    parts = [(ids[part], sizes[part]) for part in (slice(0, 7), slice(7, None))]
    grown = grown_bound(bound, parts, len(ids), SplitSize(share, wanted, cap))
    order = np.argsort(ids)
    ranked, ordered = ids[order], sizes[order]
    before, count = (int(np.searchsorted(ranked, one)) for one in (bound, grown))
    assert count >= before, "growing moves nothing back into training"
    assert count < len(ids)
    if count > before:
        assert count <= int(len(ids) * cap)
        assert worth_of(ordered[: count - 1]) < wanted or count - 1 < before or count == before
        assert worth_of(ordered[:count]) >= wanted - 1e-6 or count == min(int(len(ids) * cap), len(ids) - 1)
    elif before < min(int(len(ids) * cap), len(ids) - 1):
        assert worth_of(ordered[:before]) >= wanted - 1e-6


def test_worth_by_hand() -> None:
    assert worth_of(np.array([5, 5, 5, 5])) == 4
    assert worth_of(np.array([1000, 1, 1])) == pytest.approx(1.004, abs=1e-3)
    assert worth_of(np.array([], np.int64)) == 0


@pytest.mark.parametrize(
    ("size", "documents", "each", "share"),
    [
        (SplitSize(0.02, 10, 0.1), 10_000, 0.5, 0.02),
        (SplitSize(0.02, 10, 0.1), 400, 0.5, 0.05),
        (SplitSize(0.02, 10, 0.1), 50, 0.5, 0.1),
        (SplitSize(0.2, 10, 0.1), 50, 0.5, 0.2),
        (SplitSize(0.0, 10, 0.1), 50, 0.5, 0.0),
    ],
)
def test_the_share_that_a_plan_expects(size: SplitSize, documents: int, each: float, share: float) -> None:
    assert expected_share(size, documents, each) == pytest.approx(share)
