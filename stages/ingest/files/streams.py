"""Bytes of a plain, gzip or zstd file, and its lines, in bounded memory; a torn one gives what it has, then says so."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

# Bytes read at a time. A compressed block is small because one can grow a thousandfold (gzip) or more (zstd).
BLOCKS = {"": 2**20, "gzip": 2**16, "zstd": 2**14}
MAX_WINDOW = 2**31  # `zstd --long=31`, as large public dumps are made; the default refuses windows above 128 MiB


class BrokenStreamError(Exception):
    """A compressed stream ends early (``truncated``) or is none; raised after what could be read was given."""

    def __init__(self, truncated: bool, detail: str) -> None:
        super().__init__(detail)
        self.truncated = truncated


class Line(NamedTuple):
    """One line of a stream, without its end."""

    number: int  # from 1
    offset: int  # bytes before it in the (uncompressed) stream
    data: bytes  # no more than the limit
    size: int  # bytes it has in full
    broken: BrokenStreamError | None = None  # the stream broke in this line


def read_blocks(path: str, compression: str) -> Iterator[bytes]:
    """The uncompressed bytes of a file, block by block. Raises ``BrokenStreamError``, and ``OSError`` of the disk."""
    with Path(path).open("rb") as stream:
        size = BLOCKS[compression]
        raw = iter(lambda: stream.read(size), b"")
        if compression == "":
            yield from raw
        elif compression == "gzip":
            yield from decompress(raw, lambda: zlib.decompressobj(wbits=31))
        else:
            yield from decompress(raw, zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj)


def decompress(raw: Iterator[bytes], new_decoder: Callable[[], Any]) -> Iterator[bytes]:
    """Decode one or many streams laid end to end; zeros between them are padding."""
    decoder = new_decoder()
    fresh, empty = True, True
    for block in raw:
        rest = block
        while rest := rest.lstrip(b"\0") if fresh else rest:
            try:
                data = decoder.decompress(rest)
            except (zlib.error, zstandard.ZstdError) as error:
                raise BrokenStreamError(False, str(error)) from error
            if data:
                yield data
            fresh, empty = decoder.eof, False
            rest = b""
            if fresh:
                rest, decoder = decoder.unused_data, new_decoder()
    if empty:
        raise BrokenStreamError(True, "the compressed file is empty")
    if not fresh:
        raise BrokenStreamError(True, "the compressed stream ends before its end mark")


def split_lines(blocks: Iterator[bytes], limit: int) -> Iterator[Line]:
    """Lines that end in ``\\n`` or with the stream; of a line longer than ``limit`` bytes the rest is passed over."""
    number, offset, size = 1, 0, 0
    held = bytearray()
    broken = None
    try:
        for block in blocks:
            *ends, tail = block.split(b"\n")
            for end in ends:
                held += end[: max(0, limit - size)]
                size += len(end)
                yield Line(number, offset, bytes(held), size)
                number, offset, size = number + 1, offset + size + 1, 0
                held.clear()
            held += tail[: max(0, limit - size)]
            size += len(tail)
    except BrokenStreamError as error:
        broken = error
    if size or broken:
        yield Line(number, offset, bytes(held), size, broken)
