"""An HTTP response as a crawler stored it: status, type, the body as the server meant it, and its document."""

import io
import re
import zlib
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import zstandard
from fastwarc.stream_io import BrotliReader
from fastwarc.warc import HeaderMap
from resiliparse.parse.encoding import detect_mime

from stages.ingest.clean.charset import decode_page
from stages.ingest.clean.extract import INVALID_CHARSET, extract_page
from stages.ingest.records import EXCERPT, Document, Refusal, make_document
from stages.ingest.settings import IngestSettings

PAGES = {"text/html", "application/xhtml+xml"}
PLAIN = "text/plain"
HEAD_END = re.compile(rb"\r?\n\r?\n")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
# Above RATIO_FLOOR bytes a body that grows by more is a bomb: pages shrink to a tenth, seldom to a fiftieth.
MAX_RATIO = 200
RATIO_FLOOR = 2**20


class WebReason(StrEnum):
    """Why a response is no document: fixed names to count by."""

    STATUS = "HTTP status"
    CONTENT_TYPE = "content type"
    CONTENT_ENCODING = "content encoding"
    BOMB = "decompression bomb"
    BROKEN_RESPONSE = "broken response"


class BodyError(Exception):
    """A body that cannot be decoded, or must not be."""

    def __init__(self, reason: WebReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Response(NamedTuple):
    """A response's head, and its body as sent."""

    status: int | None
    headers: HeaderMap
    body: bytes


def read_response(
    block: bytes, url: str | None, timestamp: datetime | None, settings: IngestSettings
) -> Document | Refusal:
    """The document of a stored response. What is refused has an empty location, for the caller to fill."""
    response = parse_response(block)
    if response is None:
        detail = "an HTTP head (status line, fields, an empty line) expected"
        return Refusal("", WebReason.BROKEN_RESPONSE, detail, block[:EXCERPT])
    status, headers, body = response
    if status != 200:
        return Refusal("", WebReason.STATUS, f"200 expected, found {status}", block[:EXCERPT], value=status)
    try:
        body = decode_body(headers, body, settings.max_record_bytes)
    except BodyError as error:
        return Refusal("", error.reason, str(error), block[:EXCERPT])
    mime, charset = content_type(headers, body)
    if mime in PAGES:
        return extract_page(body, charset, url, timestamp, settings)
    if mime == PLAIN:
        return plain_document(body, charset, url, timestamp, settings)
    return Refusal("", WebReason.CONTENT_TYPE, f"a page or plain text expected, found {mime}", body[:EXCERPT])


def plain_document(
    body: bytes, charset: str | None, url: str | None, timestamp: datetime | None, settings: IngestSettings
) -> Document | Refusal:
    """A document of plain text in any encoding."""
    text = decode_page(body, charset)
    if text is None:
        detail = f"text in a known encoding expected, declared {charset or 'none'}; no encoding reads it"
        return Refusal("", INVALID_CHARSET, detail, body[:EXCERPT])
    return make_document("", text, {settings.url: url, settings.timestamp: timestamp}, settings, body)


def parse_response(block: bytes) -> Response | None:
    """Head and body; None where there is no head. Lines may end in LF alone."""
    if not block.startswith(b"HTTP/"):
        return None
    end = HEAD_END.search(block)
    if end is None:
        return None
    head = re.sub(rb"\r?\n", b"\r\n", block[: end.start()]) + b"\r\n\r\n"
    headers = HeaderMap(encoding="latin1")
    headers.parse(io.BytesIO(head), has_status_line=True)
    return Response(headers.status_code, headers, block[end.end() :])


def content_type(headers: HeaderMap, body: bytes) -> tuple[str, str | None]:
    """The body's type, guessed from its first bytes where the server names none, and the declared charset."""
    value = headers.get("Content-Type") or ""
    mime, *parameters = (part.strip() for part in value.split(";"))
    values = dict(parameter.lower().split("=", 1) for parameter in parameters if "=" in parameter)
    charset = values.get("charset", "").strip("\"' ") or None
    return mime.lower() or detect_mime(body[:4096]), charset


# -- the body ----------------------------------------------------------------------------------------------------


def decode_body(headers: HeaderMap, body: bytes, limit: int) -> bytes:
    """The body without transfer and content encodings; at most ``limit`` bytes.

    Crawlers often store a decoded body under the server's head: what does not begin like its encoding is as it is
    meant. Raises ``BodyError``.
    """
    if "chunked" in (headers.get("Transfer-Encoding") or "").lower() and CHUNK_SIZE.match(body):
        body = b"".join(chunks(body))
    encodings = [name.strip().lower() for name in (headers.get("Content-Encoding") or "").split(",")]
    for name in reversed([name for name in encodings if name not in ("", "identity", "none")]):
        body = decode_content(body, name, limit)
    return body


def chunks(body: bytes) -> Iterator[bytes]:
    """The data of a chunked body (RFC 9112, section 7.1); extensions and trailers are passed over."""
    position = 0
    while head := CHUNK_SIZE.match(body, position):
        size = int(head[1], 16)
        if size == 0:
            return
        data = body[head.end() : head.end() + size]
        if len(data) < size:
            break
        yield data
        position = head.end() + size
        position += 2 if body.startswith(b"\r\n", position) else int(body.startswith(b"\n", position))
    raise BodyError(WebReason.BROKEN_RESPONSE, f"a chunk's size expected at byte {position} of the chunked body")


def decode_content(body: bytes, name: str, limit: int) -> bytes:
    """The body without one content encoding. Raises ``BodyError``."""
    if not body:
        return body
    most = min(limit, max(RATIO_FLOOR, MAX_RATIO * len(body)))
    try:
        if name in ("gzip", "x-gzip"):
            data = inflate(body, 31, most + 1) if body.startswith(b"\x1f\x8b") else body
        elif name == "deflate":
            # Many servers send raw deflate where the standard asks for zlib's frame.
            framed = body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
            data = inflate(body, 15 if framed else -15, most + 1)
        elif name == "br":
            data = BrotliReader(io.BytesIO(body)).read(most + 1)
        elif name == "zstd":
            window = zstandard.ZstdDecompressor(max_window_size=2**23)  # RFC 9659
            data = window.stream_reader(body).read(most + 1) if body.startswith(b"\x28\xb5\x2f\xfd") else body
        else:
            raise BodyError(WebReason.CONTENT_ENCODING, f"gzip, deflate, br or zstd expected, found {name}")
    except (zlib.error, zstandard.ZstdError, OSError, EOFError) as error:
        if looks_plain(body):
            return body
        raise BodyError(WebReason.CONTENT_ENCODING, f"a whole {name} body expected: {error}") from error
    if len(data) > most:
        raise BodyError(WebReason.BOMB, f"at most {most} bytes of a {name} body of {len(body)} bytes expected")
    return data


def inflate(body: bytes, window: int, most: int) -> bytes:
    """At most so many bytes of a zlib stream, which must be whole. Raises ``zlib.error``, or ``EOFError``."""
    decoder = zlib.decompressobj(wbits=window)
    data = decoder.decompress(body, most)
    if not decoder.eof and len(data) < most:
        raise EOFError("it ends early")
    return data


def looks_plain(body: bytes) -> bool:
    """Whether a body that is not in its encoding was stored decoded."""
    return detect_mime(body[:4096]) in PAGES | {PLAIN}
