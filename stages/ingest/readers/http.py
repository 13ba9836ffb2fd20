"""Reader of HTTP responses as crawlers store them: status, media type, decoded body, and the resulting document."""

import io
import re
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import zstandard
from fastwarc.stream_io import BrotliReader
from fastwarc.warc import HeaderMap

from rewarm.stages.ingest.readers.payload import (
    BINARY_BYTES,
    PAGES,
    SNIFFED,
    looks_plain,
    parse_label,
    read_payload,
    sniff,
)
from rewarm.stages.ingest.records import EXCERPT, Document, Refusal, WebReason
from rewarm.stages.ingest.settings import IngestSettings

HEAD_END = re.compile(rb"\r?\n\r?\n")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
LINE_END = re.compile(rb"\r?\n|\Z")
# Above RATIO_FLOOR bytes, a body that expands by more is a bomb: pages compress 10 times, rarely 50 times.
MAX_RATIO = 200
RATIO_FLOOR = 2**20
BLOCK = 2**12  # compressed bytes decoded at a time by decoders without an output limit
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
MAX_WINDOW = 2**23  # of a zstd body (RFC 9659)
BLANKS_AND_QUOTES = " \t\r\n\"'"
KNOWN = ("gzip", "deflate", "br", "zstd")  # content encodings; servers confuse them
TRANSFERRED = {"gzip", "deflate"}  # transfer encodings that are also content encodings
INTERIM = range(100, 200)  # responses before the final one: 100 Continue, 103 Early Hints


class BodyError(Exception):
    """Body that cannot be decoded, or must not be."""

    def __init__(self, reason: WebReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Response(NamedTuple):
    """Head of a response, and its body as sent."""

    status: int | None
    headers: HeaderMap
    body: bytes


def read_response(
    block: bytes, url: str | None, timestamp: datetime | None, settings: IngestSettings, cut: bool = False
) -> Document | Refusal:
    """Return the document of a stored response. A refusal has an empty location, which the caller fills in.

    ``cut``: the crawler declares that it stored only part of the body, which is then the document.
    """
    response = parse_response(block)
    if response is None:
        if sniff(block) in PAGES:  # HTTP/0.9, or the crawler stored only the body
            return read_payload(block, parse_label("text/html"), url, timestamp, settings)
        detail = "expected an HTTP head (status line, fields, an empty line)"
        return Refusal("", WebReason.BROKEN_RESPONSE, detail, block[:EXCERPT])
    status, headers, body = response
    if status != 200:
        return Refusal("", WebReason.STATUS, f"expected 200, found {status}", block[:EXCERPT], value=status)
    try:
        body = decode_body(headers, body, settings.max_record_bytes, cut)
    except BodyError as error:
        return Refusal("", error.reason, str(error), block[:EXCERPT])
    return read_payload(body, parse_label(headers.get("Content-Type")), url, timestamp, settings)


def parse_response(block: bytes) -> Response | None:
    """Return head and body of the final response; None without a head. Lines may end with LF alone.

    Interim responses, and the answer of a proxy that established a connection, come before the final response.
    """
    block = block.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    if not block.startswith(b"HTTP/"):
        return None
    end = HEAD_END.search(block)
    if end is None:
        return None
    head = re.sub(rb"\r?\n", b"\r\n", block[: end.start()]) + b"\r\n\r\n"
    headers = HeaderMap(encoding="latin1")
    headers.parse(io.BytesIO(head), has_status_line=True)
    body = block[end.end() :]
    before = headers.status_code in INTERIM or (headers.status_code == 200 and headers.get("Content-Type") is None)
    if before and body.startswith(b"HTTP/") and (final := parse_response(body)):
        return final  # behind 100 Continue, or a proxy's "200 Connection established"
    return Response(headers.status_code, headers, body)


# -- the body ----------------------------------------------------------------------------------------------------


def decode_body(headers: HeaderMap, body: bytes, limit: int, cut: bool = False) -> bytes:
    """Return the body without transfer and content encodings; at most ``limit`` bytes.

    Crawlers often store a decoded body with the server's original head: a body that does not begin like its encoding is
    used unchanged. For a body that the crawler ``cut``, the decodable part is returned. Raises ``BodyError``.
    """
    transfer = listed(headers, "transfer-encoding")
    if CHUNK_SIZE.match(body) and ("chunked" in transfer or holds_a_page(body)):
        body = dechunk(body, cut)
        if CHUNK_SIZE.match(body) and holds_a_page(body):  # a proxy sent chunks on in chunks
            body = dechunk(body, cut)
    encodings = listed(headers, "content-encoding") + [name for name in transfer if name in TRANSFERRED]
    for name in reversed(encodings):
        body = decode_content(body, name, limit, cut)
    if packed := undeclared(body):  # a page that its server stores compressed, without saying so
        body = decode_content(body, packed, limit, cut)
    return body


def undeclared(body: bytes) -> str | None:
    """Return the content encoding of a body that begins like one, or None."""
    return "gzip" if body.startswith(GZIP) else "zstd" if body.startswith(ZSTD) else None


def listed(headers: HeaderMap, field: str) -> list[str]:
    """Return the encodings of a field, which may be repeated, in the order in which they were applied.

    Servers also write ``x-gzip``, ``application/gzip``, ``"gzip"`` and ``gzip;q=1.0``.
    """
    values = ",".join(value for name, value in headers.items() if name.lower() == field)
    names = (part.split(";")[0].strip(BLANKS_AND_QUOTES).lower() for part in values.split(","))
    bare = (name.removeprefix("application/").removeprefix("x-") for name in names)
    return [name for name in bare if name not in ("", "identity", "none")]


def dechunk(body: bytes, cut: bool) -> bytes:
    """Return the data of a chunked body; a body that was stored without chunks is returned unchanged."""
    parts: list[bytes] = []
    try:
        for part in chunks(body, cut):
            parts.append(part)  # noqa: PERF402 - parts before the error are kept
    except BodyError:
        if not parts and looks_plain(body) and not starts_a_page(body):
            return body
        raise
    return b"".join(parts)


def holds_a_page(body: bytes) -> bool:
    """Return whether the head does not declare that a body is chunked, but it is completely, and holds a page."""
    try:
        data = b"".join(chunks(body, cut=False))
    except BodyError:
        return False
    return sniff(data) in PAGES or data.startswith(GZIP)


def starts_a_page(body: bytes) -> bool:
    """Return whether a page begins after the first line, which is then a chunk size."""
    return sniff(body.partition(b"\n")[2]) in PAGES


def chunks(body: bytes, cut: bool) -> Iterator[bytes]:
    """Yield the data of a chunked body (RFC 9112, section 7.1); extensions and trailers are skipped."""
    position = 0
    while head := CHUNK_SIZE.match(body, position):
        size = int(head[1], 16)
        if size == 0:
            return
        data = body[head.end() : head.end() + size]
        end = LINE_END.match(body, head.end() + size)
        if (len(data) < size or not end) and not cut:
            break
        yield data
        position = end.end() if end else head.end() + size
    if not cut:
        raise BodyError(WebReason.BROKEN_RESPONSE, f"expected a chunk size at byte {position} of the chunked body")


def decode_content(body: bytes, name: str, limit: int, cut: bool = False) -> bytes:
    """Return the body without one content encoding. Raises ``BodyError``."""
    if not body:
        return body
    most = min(limit, max(RATIO_FLOOR, MAX_RATIO * len(body)))
    try:
        data = unpack(body, name, most + 1, cut)
    except (zlib.error, zstandard.ZstdError, OSError, EOFError) as error:
        if looks_plain(body):
            return body
        raise BodyError(WebReason.CONTENT_ENCODING, f"expected a complete {name} body: {error}") from error
    if len(data) > most:
        raise BodyError(WebReason.BOMB, f"expected at most {most} bytes from a {name} body of {len(body)} bytes")
    return data


def unpack(body: bytes, name: str, most: int, cut: bool) -> bytes:
    """Return at most ``most`` bytes of an encoded body, or of the body itself if it was stored decoded.

    Raises ``BodyError`` if the encoding is unknown, and the decoder's own exceptions.
    """
    if name in KNOWN and body.startswith(GZIP):
        return inflate(body, 31, most, cut)
    if name in KNOWN and body.startswith(ZSTD):
        return unzstd(body, most, cut)
    framed = body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
    if name in ("gzip", "zstd") and not (framed and BINARY_BYTES.search(body[:SNIFFED])):
        return body
    if name in ("gzip", "deflate", "zstd"):
        # Many servers send raw deflate although the standard requires a zlib frame.
        return inflate(body, 15 if framed else -15, most, cut)
    if name == "br":
        return unbrotli(body, most, cut)
    if looks_plain(body):  # a charset, or another name that is not an encoding
        return body
    raise BodyError(WebReason.CONTENT_ENCODING, f"expected gzip, deflate, br or zstd, found {name}")


def inflate(body: bytes, window: int, most: int, cut: bool) -> bytes:
    """Return at most ``most`` bytes of a zlib stream, complete unless ``cut``, or of consecutive gzip members.

    Raises ``zlib.error``, ``EOFError``.
    """
    parts: list[bytes] = []
    size = 0
    while not parts or (size < most and body.startswith(GZIP)):
        decoder = zlib.decompressobj(wbits=window)
        parts.append(decoder.decompress(body, most - size))
        size += len(parts[-1])
        if not (cut or decoder.eof) and size < most:
            raise EOFError("it ends early")
        body = decoder.unused_data
    return b"".join(parts)


def unbrotli(body: bytes, most: int, cut: bool) -> bytes:
    """Return at most ``most`` bytes of a Brotli stream, complete unless ``cut``. Raises ``OSError``."""
    reader, data = BrotliReader(io.BytesIO(body)), bytearray()
    try:
        while len(data) < most and (block := reader.read(BLOCK)):
            data += block
    except OSError:
        if not (cut and data):
            raise
    return bytes(data)


def unzstd(body: bytes, most: int, cut: bool) -> bytes:
    """Return about ``most`` bytes (at most a block more) of consecutive zstd frames, complete unless ``cut``.

    Raises ``ZstdError`` and ``EOFError``.
    """
    frames, data = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW), bytearray()
    decoder = frames.decompressobj()
    for start in range(0, len(body), BLOCK):
        block = body[start : start + BLOCK]
        while block and len(data) < most:
            data += decoder.decompress(block)
            block = decoder.unused_data if decoder.eof else b""
            if decoder.eof and not (block or body[start + BLOCK :]).startswith(ZSTD):
                return bytes(data)
            if decoder.eof:
                decoder = frames.decompressobj()
        if len(data) >= most:
            return bytes(data)
    if not cut:
        raise EOFError("it ends early")
    return bytes(data)
