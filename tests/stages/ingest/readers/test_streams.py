"""Compressed streams, whole and torn, and lines over block borders."""

import bz2
import gzip
import io
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.ingest.readers.streams import BLOCKS, BrokenStreamError, in_utf8, next_line, read_blocks, split_lines
from rewarm.stages.ingest.records import Reason
from rewarm.stages.ingest.settings import InputSettings

TEXT = b"".join(f"line {number} of a text that does not compress to nothing\n".encode() for number in range(60_000))
PACK = {"gzip": gzip.compress, "zstd": zstandard.compress, "bzip2": bz2.compress}
SETTINGS = InputSettings()


def read(path: Path, compression: str) -> tuple[bytes, BrokenStreamError | None]:
    data = b""
    try:
        with path.open("rb") as raw:
            for block in read_blocks(raw, compression, SETTINGS):
                data += block
    except BrokenStreamError as error:
        return data, error
    return data, None


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("copies", [1, 3])
def test_streams_laid_end_to_end_are_read_whole(tmp_path: Path, compression: str, copies: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(PACK[compression](TEXT) * copies)
    assert read(path, compression) == (TEXT * copies, None)


def test_gzip_may_end_in_padding(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(TEXT) + bytes(BLOCKS["gzip"] + 10))
    assert read(path, "gzip") == (TEXT, None)


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("lost", [1, 5, 150])
def test_a_truncated_stream_gives_what_it_has_and_says_so(tmp_path: Path, compression: str, lost: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(PACK[compression](TEXT)[:-lost])
    data, error = read(path, compression)
    assert error
    assert error.reason == Reason.TRUNCATED
    assert TEXT.startswith(data)
    assert len(data) > len(TEXT) // 2 or compression == "bzip2", "whose blocks are 900 kB"


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("data", [b"no compressed stream at all", b"PK\x03\x04 a zip", TEXT])
def test_what_is_no_such_stream_is_corrupt(tmp_path: Path, compression: str, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    _, error = read(path, compression)
    assert error
    assert error.reason == Reason.CORRUPT


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(TEXT))
    data[-6] ^= 1  # in the checksum
    (tmp_path / "x").write_bytes(data)
    _, error = read(tmp_path / "x", "gzip")
    assert error
    assert error.reason == Reason.CORRUPT


@pytest.mark.parametrize("compression", PACK)
def test_an_empty_compressed_file_is_truncated(tmp_path: Path, compression: str) -> None:
    (tmp_path / "x").write_bytes(b"")
    _, error = read(tmp_path / "x", compression)
    assert error
    assert error.reason == Reason.TRUNCATED


def test_a_long_zstd_window_is_read(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "x").write_bytes(compressor.compress(TEXT) + compressor.flush())
    assert read(tmp_path / "x", "zstd") == (TEXT, None)


@given(st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"x", b"\n"))), st.integers(0, 9))
def test_lines_do_not_depend_on_blocks_and_long_ones_are_cut(blocks: list[bytes], limit: int) -> None:
    whole = b"".join(blocks)
    lines = list(split_lines(iter(blocks), limit))
    expected = whole.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert [(line.number, line.size, line.data) for line in lines] == [
        (number, len(data), data[:limit]) for number, data in enumerate(expected, 1)
    ]
    for line in lines:
        assert whole[line.offset : line.offset + line.size].startswith(line.data)
        assert b"\n" not in whole[line.offset : line.offset + line.size]


def test_the_line_a_stream_breaks_in_is_marked() -> None:
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(b"one\ntwo\nthr") + packer.flush(zlib.Z_SYNC_FLUSH)
    *whole, last = split_lines(read_blocks(io.BytesIO(head), "gzip", SETTINGS), 100)
    assert [line.data for line in whole] == [b"one", b"two"]
    assert (last.number, last.offset, last.data) == (3, 8, b"thr")
    assert last.broken
    assert last.broken.reason == Reason.TRUNCATED


@given(st.binary(max_size=80).map(lambda data: data.replace(b"x", b"\n")), st.data())
def test_every_line_is_of_the_part_it_begins_in(whole: bytes, data: st.DataObject) -> None:
    edges = sorted({0, len(whole), *data.draw(st.lists(st.integers(0, len(whole))))})
    size = data.draw(st.integers(1, 9))
    found = []
    for start, stop in pairwise(edges):
        blocks = iter([whole[at : at + size] for at in range(max(0, start - 1), len(whole), size)])
        offset, blocks = next_line(blocks, start - 1, stop) if start else (0, blocks)
        found += [(line.offset, line.data) for line in split_lines(blocks, 100, offset, stop)]
    assert found == [(line.offset, line.data) for line in split_lines(iter([whole]), 100)]


@given(st.text(), st.sampled_from(["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]), st.integers(1, 9))
def test_wide_text_becomes_utf8_whatever_its_blocks(text: str, encoding: str, size: int) -> None:
    data = ("\ufeffx" + text).encode(encoding)
    blocks = iter([data[at : at + size] for at in range(0, len(data), size)])
    assert b"".join(in_utf8(blocks)).decode() == "x" + text


@given(st.lists(st.binary()))
def test_other_bytes_stay_as_they_are(blocks: list[bytes]) -> None:
    whole = b"".join(blocks)
    if not whole.startswith((b"\xff\xfe", b"\xfe\xff")):
        assert b"".join(in_utf8(iter(blocks))) == whole


@pytest.mark.parametrize("compression", PACK)
def test_a_bomb_ends_soon_after_the_limit(compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewarm.stages.ingest.readers.streams.BOMB_BYTES", 2**20)
    data = PACK[compression](bytes(2**26))
    given = 0
    with pytest.raises(BrokenStreamError) as bomb:
        for block in read_blocks(io.BytesIO(data), compression, InputSettings(max_expansion=100)):
            given += len(block)
    assert bomb.value.reason == Reason.BOMB
    assert given < 2**25
    text = PACK[compression](TEXT)
    assert b"".join(read_blocks(io.BytesIO(text), compression, InputSettings(max_expansion=1000))) == TEXT
