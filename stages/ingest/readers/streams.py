"""Bytes of a plain, gzip, zstd or bzip2 file, and its lines, in bounded memory.

A torn stream, and one that swells beyond all measure, gives what it has, then says so.

What the first bytes of a file tell: its encoding, or that it is not what its name says.
"""

import bz2
import codecs
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

import zstandard

from rewarm.stages.ingest.records import EXCERPT, Reason
from rewarm.stages.ingest.settings import InputSettings

HEAD = 16  # bytes that are looked at
ENCODINGS = {  # by byte order mark, the longer before those they begin with
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
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
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer (git lfs pull gets its contents)",
}


def encoding_of(head: bytes) -> str | None:
    """UTF-16 or UTF-32 where a byte order mark says so."""
    return next((name for mark, name in ENCODINGS.items() if head.startswith(mark)), None)


def binary_of(head: bytes) -> str | None:
    """What a file that should be text is instead."""
    return next((name for mark, name in BINARIES.items() if head.startswith(mark)), None)


# Bytes read at a time. A compressed block is small because what comes of it is held at once: a block of gzip can grow
# to 16 MiB, one of zstd (128 KiB of one character are 4 bytes) to 64 MiB; bzip2's decoder takes a limit.
BLOCKS = {"": 2**20, "gzip": 2**14, "zstd": 2**11, "bzip2": 2**16}
BOUND = 2**20
MAX_WINDOW = 2**31  # `zstd --long=31`, as large public dumps are made; the default refuses windows above 128 MiB
SKIPPABLE = b"\x5d\x2a\x4d\x18"  # the frame that holds a .warc.zst's dictionary (iipc/warc-specifications, zstd draft)
DICTIONARY = b"\x37\xa4\x30\xec"
ZSTD = b"\x28\xb5\x2f\xfd"
MAX_DICTIONARY = 64 * 2**20  # bytes; crawlers' dictionaries have 0.1 to 2 MiB
BOMB_BYTES = 256 * 2**20  # what a stream may give before its ratio counts: small files of zeros pack without limit


class BrokenStreamError(Exception):
    """A stream cannot be read on; raised after what could be read was given."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Line(NamedTuple):
    """One line of a stream, without its end."""

    number: int  # from 1, at the first line given
    offset: int  # bytes before it in the (uncompressed) stream
    data: bytes  # no more than the limit
    size: int  # bytes it has in full
    broken: BrokenStreamError | None = None  # the stream broke in this line


def read_blocks(raw: BinaryIO, compression: str, settings: InputSettings) -> Iterator[bytes]:
    """The uncompressed bytes of a stream, block by block. Raises ``BrokenStreamError``, and ``OSError`` of the disk."""
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
            limit = f"at most {settings.max_file_bytes} bytes of a file (max_file_bytes)"
            raise BrokenStreamError(Reason.BOMB, f"{limit} expected, found more in {taken.size} compressed")
        if given > BOMB_BYTES and given > settings.max_expansion * taken.size:
            limit = f"at most {settings.max_expansion:g} bytes for each compressed one (max_expansion)"
            raise BrokenStreamError(Reason.BOMB, f"{limit} expected, found {given} for {taken.size}")
        yield block


class Counted:
    """Blocks, and how many bytes of them were taken."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks, self.size = blocks, 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self.blocks:
            self.size += len(block)
            yield block


class Bounded:
    """A bzip2 decoder that gives its bytes in parts, as a block of it can grow a thousandfold many times."""

    def __init__(self) -> None:
        self.decoder = bz2.BZ2Decompressor()

    def parts(self, data: bytes) -> Iterator[bytes]:
        """The bytes that ``data`` gives."""
        yield self.decoder.decompress(data, BOUND)
        while not (self.decoder.eof or self.decoder.needs_input):
            yield self.decoder.decompress(b"", BOUND)

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        return self.decoder.eof

    @property
    def unused_data(self) -> bytes:
        """What was found after the end."""
        return self.decoder.unused_data


DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "zstd": lambda: zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj(),
    "bzip2": Bounded,
}


def with_dictionary(
    new_decoder: Callable[[], Any], blocks: Iterator[bytes]
) -> tuple[Callable[[], Any], Iterator[bytes]]:
    """The decoder with the dictionary that a file begins with, and all of the file's bytes.

    It is a skippable frame whose content is a dictionary, or a compressed one. Raises ``BrokenStreamError``.
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
            # A reader, as a frame need not state its size, and one that lies must not fill the memory.
            content = zstandard.ZstdDecompressor().stream_reader(content).read(MAX_DICTIONARY)
        except zstandard.ZstdError as error:
            raise BrokenStreamError(
                Reason.CORRUPT, f"the file's zstd dictionary cannot be unpacked: {error}"
            ) from error
    if not content.startswith(DICTIONARY):  # a skippable frame of another use
        return new_decoder, chain([head], blocks)
    decoder = zstandard.ZstdDecompressor(zstandard.ZstdCompressionDict(content), max_window_size=MAX_WINDOW)
    return decoder.decompressobj, chain([head], blocks)


def parts_of(decoder: Any, data: bytes) -> Iterator[bytes]:
    """What a decoder makes of the next bytes."""
    if isinstance(decoder, Bounded):
        yield from decoder.parts(data)
    else:
        yield decoder.decompress(data)


def decompress(raw: Iterable[bytes], new_decoder: Callable[[], Any]) -> Iterator[bytes]:
    """Decode one or many streams laid end to end; zeros between them are padding."""
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
    """What a decoder says, and what to do about a dictionary that is not in the file."""
    if "ictionary" in str(error):
        return f"{error}: it was packed with a dictionary that it does not hold; unpack it with zstd -d -D DICTIONARY"
    return str(error)


def in_utf8(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """UTF-16 and UTF-32 that a byte order mark announces as UTF-8; anything else as it is.

    Half a surrogate pair becomes bytes that are no UTF-8, so that only the record that holds it is refused.
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
            raise BrokenStreamError(Reason.CORRUPT, f"{encoding} expected by its byte order mark: {error}") from error
        yield text.encode(errors="surrogatepass")


def split_lines(blocks: Iterator[bytes], limit: int, offset: int = 0, stop: int | None = None) -> Iterator[Line]:
    """Lines that end in ``\\n`` or with the stream; of a line longer than ``limit`` bytes the rest is passed over.

    ``offset`` is that of the first byte of ``blocks``; the lines that begin before ``stop`` are given.
    """
    number, size = 1, 0  # size: of the line that has begun
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
    """Keep the bytes of a line that has ``size`` so far; of one that has become too long only some to look at."""
    held += data[: max(0, limit - size)]
    if size + len(data) > limit:
        del held[min(limit, EXCERPT) :]


def next_line(blocks: Iterator[bytes], offset: int, stop: int) -> tuple[int, Iterator[bytes]]:
    """Where the first line after ``offset`` begins, and the bytes from there; of none before ``stop``, nothing."""
    for block in blocks:
        end = block.find(b"\n")
        if end >= 0:
            return offset + end + 1, chain([block[end + 1 :]], blocks)
        offset += len(block)
        if offset >= stop:
            break
    return offset, iter(())
