"""Streams of bytes and lines from plain, gzip, zstd or bzip2 files, in bounded memory.

A truncated stream or a decompression bomb yields its readable part, then raises an error. The first bytes reveal the
encoding of a file, and files whose format does not match their name.
"""

import bz2
import codecs
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

import zstandard

from rewarm.stages.ingest.locations import InputFile, locate
from rewarm.stages.ingest.opening import open_raw
from rewarm.stages.ingest.records import EXCERPT, Reason
from rewarm.stages.ingest.settings import InputSettings

HEAD = 16  # bytes that are examined
ENCODINGS = {  # by byte order mark, longer marks before their prefixes
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ARC = "the archives before WARC: convert it, as with `warcio recompress OLD.arc.gz NEW.warc.gz`"
BINARIES = {
    b"PK\x03\x04": "a zip archive (or an office document)",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh91AY&SY": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"PAR1\x15": "Parquet",
    b"ARROW1\0\0": "an Arrow file",
    b"%PDF-": "PDF",
    b"{\\rtf": "RTF",
    b"%!PS-": "PostScript",
    b"SQLite format 3\0": "an SQLite database",
    b"filedesc://": f"ARC ({ARC})",
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer (git lfs pull downloads its contents)",
}


def encoding_of(head: bytes) -> str | None:
    """Return UTF-16 or UTF-32 if the file has such a byte order mark, else None."""
    return next((name for mark, name in ENCODINGS.items() if head.startswith(mark)), None)


def binary_of(head: bytes) -> str | None:
    """Return a description of the binary format of a file that should be text, or None."""
    return next((name for mark, name in BINARIES.items() if head.startswith(mark)), None)


def is_plain(file: InputFile) -> bool:
    """Return whether a file of lines can be read from any position."""
    if file.compression or locate(file.path).is_web:
        return False
    with open_raw(file) as stream:
        head = stream.read(HEAD)
    return encoding_of(head) is None and binary_of(head) is None


# Bytes read at a time. A compressed block is small because its whole output is in memory: a block of gzip can grow to
# 16 MiB, one of zstd (128 KiB of one character are 4 bytes) to 64 MiB; bzip2's decoder accepts a limit.
BLOCKS = {"": 2**20, "gzip": 2**14, "zstd": 2**11, "bzip2": 2**16}
BOUND = 2**20
MAX_WINDOW = 2**31  # `zstd --long=31`, used for large public dumps; the default refuses windows above 128 MiB
SKIPPABLE = b"\x5d\x2a\x4d\x18"  # frame with the dictionary of a .warc.zst (iipc/warc-specifications, zstd draft)
DICTIONARY = b"\x37\xa4\x30\xec"
ZSTD = b"\x28\xb5\x2f\xfd"
MAX_DICTIONARY = 64 * 2**20  # bytes; crawlers' dictionaries have 0.1 to 2 MiB
BOMB_BYTES = 256 * 2**20  # output before the ratio is checked: small files of zeros compress without limit


class BrokenStreamError(Exception):
    """The rest of a stream cannot be read; raised after the readable part."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Line(NamedTuple):
    """One line of a stream, without its line end."""

    number: int  # from 1, counted from the first line that is yielded
    offset: int  # bytes before it in the (uncompressed) stream
    data: bytes  # truncated at the limit
    size: int  # full length in bytes
    broken: BrokenStreamError | None = None  # error of the stream within this line


def read_blocks(raw: BinaryIO, compression: str, settings: InputSettings) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a stream in blocks. Raises ``BrokenStreamError``, and ``OSError`` of the disk."""
    size = BLOCKS[compression]
    blocks = iter(lambda: raw.read(size), b"")
    if compression == "":
        yield from blocks
        return
    new_decoder = DECODERS[compression]
    if compression == "zstd":
        new_decoder, blocks = with_dictionary(new_decoder, blocks)
    taken = Counted(blocks)
    given = 0
    for block in decompress(taken, new_decoder):
        given += len(block)
        if settings.max_file_bytes is not None and given > settings.max_file_bytes:
            limit = f"expected at most {settings.max_file_bytes} bytes in a file (max_file_bytes)"
            raise BrokenStreamError(Reason.BOMB, f"{limit}, found more in {taken.size} compressed bytes")
        if given > BOMB_BYTES and given > settings.max_expansion * taken.size:
            limit = f"expected at most {settings.max_expansion:g} bytes per compressed byte (max_expansion)"
            raise BrokenStreamError(Reason.BOMB, f"{limit}, found {given} for {taken.size}")
        yield block


class Counted:
    """Iterator over blocks that counts the consumed bytes."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks, self.size = blocks, 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self.blocks:
            self.size += len(block)
            yield block


class Bounded:
    """A bzip2 decoder with bounded output, because blocks can expand by large factors."""

    def __init__(self) -> None:
        self.decoder = bz2.BZ2Decompressor()

    def parts(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes decoded from ``data``."""
        yield self.decoder.decompress(data, BOUND)
        while not (self.decoder.eof or self.decoder.needs_input):
            yield self.decoder.decompress(b"", BOUND)

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        return self.decoder.eof

    @property
    def unused_data(self) -> bytes:
        """Bytes found after the end of the stream."""
        return self.decoder.unused_data


DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "zstd": lambda: zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj(),
    "bzip2": Bounded,
}


def with_dictionary(
    new_decoder: Callable[[], Any], blocks: Iterator[bytes]
) -> tuple[Callable[[], Any], Iterator[bytes]]:
    """Return the decoder with the dictionary at the beginning of a file, and all of the file's bytes.

    The dictionary is in a skippable frame, plain or compressed. Raises ``BrokenStreamError``.
    """
    head = b""
    while len(head) < 8 and (block := next(blocks, b"")):
        head += block
    size = int.from_bytes(head[4:8], "little")
    if not head.startswith(SKIPPABLE) or size > MAX_DICTIONARY:
        return new_decoder, chain([head], blocks)
    while len(head) < 8 + size and (block := next(blocks, b"")):
        head += block
    content = head[8 : 8 + size]
    if content.startswith(ZSTD):
        try:
            # Read as a stream: a frame need not declare its size, and a wrong size must not exhaust memory.
            content = zstandard.ZstdDecompressor().stream_reader(content).read(MAX_DICTIONARY)
        except zstandard.ZstdError as error:
            raise BrokenStreamError(
                Reason.CORRUPT, f"the file's zstd dictionary cannot be unpacked: {error}"
            ) from error
    if not content.startswith(DICTIONARY):  # a skippable frame with another purpose
        return new_decoder, chain([head], blocks)
    decoder = zstandard.ZstdDecompressor(zstandard.ZstdCompressionDict(content), max_window_size=MAX_WINDOW)
    return decoder.decompressobj, chain([head], blocks)


def parts_of(decoder: Any, data: bytes) -> Iterator[bytes]:
    """Yield the output of a decoder for the next bytes."""
    if isinstance(decoder, Bounded):
        yield from decoder.parts(data)
    else:
        yield decoder.decompress(data)


def decompress(raw: Iterable[bytes], new_decoder: Callable[[], Any]) -> Iterator[bytes]:
    """Decode one or more concatenated streams; zeros between them are padding."""
    decoder = new_decoder()
    fresh, empty = True, True
    for block in raw:
        rest = block
        while rest := rest.lstrip(b"\0") if fresh else rest:
            try:
                yield from filter(None, parts_of(decoder, rest))
            except (zlib.error, zstandard.ZstdError, OSError, EOFError) as error:
                raise BrokenStreamError(Reason.CORRUPT, explain(error)) from error
            fresh, empty = decoder.eof, False
            rest = b""
            if fresh:
                rest, decoder = decoder.unused_data, new_decoder()
    if empty:
        raise BrokenStreamError(Reason.TRUNCATED, "the compressed file is empty")
    if not fresh:
        raise BrokenStreamError(Reason.TRUNCATED, "the compressed stream ends before its end mark")


def explain(error: Exception) -> str:
    """Return a decoder's error, with advice if the dictionary is not in the file."""
    if "ictionary" in str(error):
        return f"{error}: compressed with an external dictionary; decompress it with zstd -d -D DICTIONARY"
    return str(error)


def in_utf8(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Convert UTF-16 and UTF-32 with a byte order mark to UTF-8; yield anything else unchanged.

    A lone surrogate becomes invalid UTF-8, so that only the record that contains it is refused.
    """
    head = b""
    try:
        while len(head) < HEAD and (block := next(blocks, b"")):
            head += block
    except BrokenStreamError:
        yield head
        raise
    encoding = encoding_of(head)
    if encoding is None:
        yield head
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    for block in chain([head], blocks, [b""]):
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise BrokenStreamError(
                Reason.CORRUPT, f"expected {encoding} because of its byte order mark: {error}"
            ) from error
        yield text.encode(errors="surrogatepass")


def split_lines(blocks: Iterator[bytes], limit: int, offset: int = 0, stop: int | None = None) -> Iterator[Line]:
    """Yield lines that end with ``\\n`` or with the stream; lines are truncated to ``limit`` bytes.

    ``offset`` is the position of the first byte of ``blocks``; only lines that begin before ``stop`` are yielded.
    """
    number, size = 1, 0  # size: of the current line
    held = bytearray()
    broken = None
    try:
        for block in blocks:
            lines = block.split(b"\n")
            tail = lines.pop()
            if lines and size:
                first = lines[0]
                hold(held, first, size, limit)
                size += len(first)
                yield Line(number, offset, bytes(held), size)
                number, offset, size = number + 1, offset + size + 1, 0
                held.clear()
                del lines[0]
            for line in lines:
                if stop is not None and offset >= stop:
                    return
                yield Line(number, offset, line if len(line) <= limit else line[:limit], len(line))
                number, offset = number + 1, offset + len(line) + 1
            if stop is not None and size == 0 and offset >= stop:
                return
            hold(held, tail, size, limit)
            size += len(tail)
    except BrokenStreamError as error:
        broken = error
    if size or broken:
        yield Line(number, offset, bytes(held), size, broken)


def hold(held: bytearray, data: bytes, size: int, limit: int) -> None:
    """Append bytes to a line of ``size`` bytes so far; keep only an excerpt of a line that is too long."""
    held += data[: max(0, limit - size)]
    if size + len(data) > limit:
        del held[min(limit, EXCERPT) :]


def next_line(blocks: Iterator[bytes], offset: int, stop: int) -> tuple[int, Iterator[bytes]]:
    """Return the start of the first line after ``offset`` and the bytes from there; no bytes if none before
    ``stop``."""
    for block in blocks:
        end = block.find(b"\n")
        if end >= 0:
            return offset + end + 1, chain([block[end + 1 :]], blocks)
        offset += len(block)
        if offset >= stop:
            break
    return offset, iter(())
