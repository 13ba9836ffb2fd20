"""Megatron's and datatrove's files: written and read back, read from bytes laid out by hand, and refused when torn."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.stages.data.token_files import TokenFileError, open_datatrove, open_megatron, read_megatron, write_megatron

DOCUMENTS = st.lists(st.lists(st.integers(0, 60_000), max_size=9), max_size=12)


def by_hand(prefix: Path, code: int = 8, bounds: tuple[int, ...] = (0, 1, 3)) -> None:
    """Three sequences, two documents: [5, 6, 7] and [65535] + [9, 1], with the sequences' ids in another order."""
    prefix.with_suffix(".bin").write_bytes(struct.pack("<6H", 9, 1, 5, 6, 7, 65535))
    index = b"MMIDIDX\x00\x00" + b"\x01\0\0\0\0\0\0\0" + bytes([code])
    index += b"\x03\0\0\0\0\0\0\0" + struct.pack("<Q", len(bounds))
    index += b"\x03\0\0\0" + b"\x01\0\0\0" + b"\x02\0\0\0"  # lengths in ids
    index += struct.pack("<3q", 4, 10, 0)  # where each begins, in bytes
    index += struct.pack(f"<{len(bounds)}q", *bounds)
    prefix.with_suffix(".idx").write_bytes(index)


def test_bytes_laid_out_by_hand_are_read(tmp_path: Path) -> None:
    by_hand(tmp_path / "x")
    found = list(read_megatron(tmp_path / "x"))
    assert [ids.tolist() for ids in found] == [[5, 6, 7], [65535, 9, 1]]
    assert found[0].dtype == np.uint16


def test_written_bytes_are_the_format(tmp_path: Path) -> None:
    batches = [(np.array([5, 6, 0], np.uint16), np.array([2, 1])), (np.array([7], np.uint16), np.array([1]))]
    assert write_megatron(tmp_path / "x", np.dtype("<u2"), batches) == (3, 4)
    assert (tmp_path / "x.bin").read_bytes() == bytes([5, 0, 6, 0, 0, 0, 7, 0])
    assert (tmp_path / "x.idx").read_bytes() == (
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, 8, 3, 4)
        + struct.pack("<3i", 2, 1, 1)
        + struct.pack("<3q", 0, 4, 6)
        + struct.pack("<4q", 0, 1, 2, 3)
    )


def test_more_than_65536_ids_are_int32(tmp_path: Path) -> None:
    batch = (np.array([70_000, 1], np.uint32), np.array([2]))
    write_megatron(tmp_path / "x", np.dtype("<i4"), [batch])
    assert (tmp_path / "x.idx").read_bytes()[17] == 4
    assert (tmp_path / "x.bin").read_bytes() == struct.pack("<2i", 70_000, 1)
    assert [ids.tolist() for ids in read_megatron(tmp_path / "x")] == [[70_000, 1]]


@given(batches=st.lists(DOCUMENTS, max_size=3))
@settings(deadline=None, max_examples=60)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, batches: list[list[list[int]]]) -> None:
    prefix = tmp_path_factory.mktemp("round") / "name.with.dots"
    packed = [
        (np.array([i for ids in batch for i in ids], np.uint16), np.array([len(ids) for ids in batch], np.int64))
        for batch in batches
    ]
    documents = [ids for batch in batches for ids in batch]
    assert write_megatron(prefix, np.dtype("<u2"), packed) == (len(documents), sum(map(len, documents)))
    opened = open_megatron(prefix)
    assert [ids.tolist() for ids in opened.read()] == documents
    assert [ids.tolist() for ids in opened.read(1, 3)] == documents[1:3]


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_datatrove(tmp_path: Path, dtype: str) -> None:
    np.array([1, 2, 3, 4], dtype).tofile(tmp_path / "00000.ds")
    np.array([3, 3, 4], "<u8").tofile(tmp_path / "00000.ds.index")
    opened = open_datatrove(tmp_path / "00000.ds")
    assert [ids.tolist() for ids in opened.read()] == [[1, 2, 3], [], [4]]
    assert opened.values.dtype == np.dtype(dtype)


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def put(file: Path, place: int, data: bytes) -> None:
    raw = bytearray(file.read_bytes())
    raw[place : place + len(data)] = data
    file.write_bytes(raw)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda data, index: index.unlink(), "belong together"),
        (lambda data, index: data.unlink(), "belong together"),
        (lambda data, index: index.write_bytes(b""), "no Megatron index"),
        (lambda data, index: put(index, 0, b"MMIDIDY"), "no Megatron index"),
        (lambda data, index: put(index, 9, b"\x02"), "found version 2 and code 8"),
        (lambda data, index: put(index, 17, b"\x06"), "found version 1 and code 6"),
        (lambda data, index: cut(index, 60), "cut off"),
        (lambda data, index: put(index, 18, b"\xff" * 8), "cut off"),
        (lambda data, index: cut(data, 11), "no whole number"),
        (lambda data, index: cut(data, 6), "it names ids up to byte 12, x.bin has 6"),
        (lambda data, index: put(index, 34, b"\xff\xff\xff\xff"), "it names ids"),
        (lambda data, index: put(index, 46, b"\x05"), "it names ids"),
        (lambda data, index: put(index, 70, b"\x01"), "document bounds from 0 to 3"),
        (lambda data, index: put(index, 78, b"\x04"), "document bounds from 0 to 3"),
    ],
)
def test_torn_megatron_files_are_refused(tmp_path: Path, harm, message: str) -> None:  # type: ignore[no-untyped-def]
    by_hand(tmp_path / "x")
    harm(tmp_path / "x.bin", tmp_path / "x.idx")
    with pytest.raises(TokenFileError, match=message):
        open_megatron(tmp_path / "x")


@pytest.mark.parametrize(
    ("data", "index", "message"),
    [
        (b"\0" * 6, None, "belong together"),
        (b"\0" * 6, b"\0" * 9, "no whole number of document ends"),
        (b"\0" * 6, struct.pack("<2Q", 1, 4), "its index ends at id 4"),
        (b"\0" * 6, struct.pack("<2Q", 5, 3), "ascending"),
    ],
)
def test_torn_datatrove_files_are_refused(tmp_path: Path, data: bytes, index: bytes | None, message: str) -> None:
    (tmp_path / "x.ds").write_bytes(data)
    if index is not None:
        (tmp_path / "x.ds.index").write_bytes(index)
    with pytest.raises(TokenFileError, match=message):
        open_datatrove(tmp_path / "x.ds")
