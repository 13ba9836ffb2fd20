"""Reader of web payloads (the body of a response, or a stored file), by media type or first bytes.

Servers and crawlers omit the media type or send an invalid one (``html``, ``*/*``, ``unknown/unknown``). In that case,
and if a page is labelled as plain text, the bytes decide, so that no document begins with markup.
"""

import re
from datetime import datetime
from typing import NamedTuple

import orjson

from rewarm.stages.ingest.records import EXCERPT, Document, Refusal, WebReason, make_document
from rewarm.stages.ingest.settings import IngestSettings

PAGES = {"text/html", "application/xhtml+xml"}
PLAIN = "text/plain"
PLAIN_TYPES = {PLAIN, "text/markdown", "text/x-markdown", "text/x-rst"}
XML = "application/xml"
BINARY = "application/octet-stream"
# Top-level types of RFC 6838 and its registry; labels with other types are ignored.
TOP_LEVEL = {"application", "audio", "font", "image", "message", "model", "multipart", "text", "video"}
PROGRAMS = {"application/x-httpd-php", "application/php", "text/php"}  # of servers that forgot to run one
UNKNOWN = {
    *PROGRAMS,
    *("application/unknown", "application/x-unknown-content-type", "text/unknown", "application/x-unknown"),
}
DOWNLOADS = {BINARY, "binary/octet-stream", "application/force-download", "application/x-download"}
# Other names of pages: ``text/htm``, ``application/xhtml``, ``text/x-server-parsed-html``, ``text/html+xml``.
PAGE_TYPE = re.compile(r"(?:text|application)/(?:[\w.-]*[.-])?x?html?5?(?:\+xml)?")
XML_TYPES = {XML, "text/xml"}  # also those of XHTML
TYPE = re.compile(r"([\w!#$&^.+-]+)/([\w!#$&^.+-]+)")
CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)

SNIFFED = 4096  # bytes of a payload that are examined
BEFORE = rb"\s*(?:<\?xml[^>]{0,256}\?>\s*|<!--.{0,4000}?-->\s*)*"
# Elements with which a page or fragment begins, including those of the WHATWG's MIME sniffing standard.
MARKUP = re.compile(
    BEFORE
    + rb"<(?:!doctype\s+html|html|head|body|title|meta|link|base|script|style|noscript|iframe|frameset|div|p|h[1-6]|ul"
    + rb"|ol|dl|a|b|i|br|hr|em|strong|center|font|span|section|article|main|nav|header|footer|aside|table|img|form|pre"
    + rb"|blockquote|video|audio|picture|button|marquee|small|big|tt|u|s)"
    + rb"[\s/>]",
    re.IGNORECASE | re.DOTALL,
)
PAGE_START = re.compile(BEFORE + rb"<(?:!doctype\s+html|html|head|body)[\s/>]", re.IGNORECASE | re.DOTALL)
OTHER_MARKUP = re.compile(rb"\s*<(?:\?xml|!doctype|!--|[a-z][\w:.-]*[\s/>])", re.IGNORECASE)
ENTITY = re.compile(rb"&(?:[A-Za-z]{2,8}|#[0-9]{1,6}|#[xX][0-9A-Fa-f]{1,5});")
# Bytes that do not occur in text (MIME sniffing standard, "binary data byte"); ISO-2022 needs the escape.
BINARY_BYTES = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
DOCUMENT_MARKS = {b"{\\rtf": "application/rtf", b"%!PS-": "application/postscript"}  # valid as text, but not text
JSON = re.compile(rb"\s*(?:\{\s*[\"}]|\[\s*[\[\]{\"\d-])")
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Label(NamedTuple):
    """Parsed ``Content-Type`` field."""

    mime: str | None  # lower case; None if the field has no valid media type
    charset: str | None


def parse_label(value: str | None) -> Label:
    """Return the last media type and charset of a ``Content-Type`` field, which servers repeat, misspell or omit."""
    parts = [part.split(";")[0].strip().lower() for part in (value or "").split(",")]
    found = [match[0] for part in parts if (match := TYPE.match(part)) and match[1] in TOP_LEVEL]
    mime = next((mime for mime in reversed(found) if mime not in UNKNOWN), None)
    if mime is None and any(re.match(r"x?html?\b", part) for part in parts):
        mime = "text/html"
    charsets = CHARSET.findall(value or "")
    return Label(mime, charsets[-1] if charsets else None)


def read_payload(
    body: bytes, label: Label, url: str | None, timestamp: datetime | None, settings: IngestSettings
) -> Document | Refusal:
    """Return the document of a payload. A refusal has an empty location, which the caller fills in."""
    from rewarm.stages.ingest.html.extract import extract_page

    mime = media_type(body, label.mime)
    if mime in PAGES:
        return extract_page(body, label.charset, url, timestamp, settings)
    if mime in PLAIN_TYPES:
        return plain_document(body, label.charset, url, timestamp, settings)
    return Refusal("", WebReason.CONTENT_TYPE, f"expected a page or plain text, found {mime}", body[:EXCERPT])


def media_type(body: bytes, declared: str | None) -> str:
    """Return the media type of a payload: the declared one unless it is missing or contradicts the bytes."""
    if declared and (PAGE_TYPE.fullmatch(declared) or (declared in XML_TYPES and PAGE_START.match(sample(body)))):
        declared = "text/html"
    if declared in PAGES:
        if is_json(body):
            return "application/json"
        return declared_page(body, declared) if b"<" in body else without_markup(body, declared)
    if declared is None:
        return sniff(body)
    if declared in DOWNLOADS:
        found = sniff(body)
        return found if found in PAGES else declared
    if declared in PLAIN_TYPES:
        marked = next((mime for mark, mime in DOCUMENT_MARKS.items() if body.startswith(mark)), declared)
        return "text/html" if PAGE_START.match(sample(body)) else marked
    return declared


def is_json(body: bytes) -> bool:
    """Return whether a body that is declared as a page is a JSON object or array."""
    if not JSON.match(body):
        return False
    try:
        orjson.loads(body)
    except ValueError:
        return False
    return True


def declared_page(body: bytes, declared: str) -> str:
    """Return the media type of a payload with elements that is declared as a page: a picture or PDF may hold some."""
    found = sniff(body)
    return declared if found in (*PAGES, PLAIN, BINARY, XML) else found


def without_markup(body: bytes, declared: str) -> str:
    """Return the media type of a payload without elements that is declared as a page: plain text, or another file."""
    found = sniff(body)
    if found == PLAIN:
        return declared if not body.strip() or ENTITY.search(body) else PLAIN
    return declared if found in (*PAGES, BINARY, XML) else found


def sniff(body: bytes) -> str:
    """Detect the media type from the first bytes, as browsers do."""
    from resiliparse.parse.encoding import detect_mime

    start = sample(body)
    if MARKUP.match(start):
        return "text/html"
    found: str = detect_mime(body[:SNIFFED])
    if found not in (*PAGES, PLAIN, BINARY, XML):
        return found
    if OTHER_MARKUP.match(start):
        return XML
    return BINARY if BINARY_BYTES.search(start) else PLAIN


def sample(body: bytes) -> bytes:
    """Return the first bytes without a byte order mark; for UTF-16, those of its ASCII characters."""
    start = body[:SNIFFED]
    if start.startswith(UTF16_MARKS):
        return start[2:].replace(b"\0", b"")
    return start.removeprefix(b"\xef\xbb\xbf")


def looks_plain(body: bytes) -> bool:
    """Return whether a body that is not in its content encoding was stored decoded."""
    return sniff(body) in PAGES | {PLAIN, XML}


def plain_document(
    body: bytes, charset: str | None, url: str | None, timestamp: datetime | None, settings: IngestSettings
) -> Document | Refusal:
    """Return the document of plain text in any encoding, or a refusal."""
    from rewarm.stages.ingest.html.charset import decode_page
    from rewarm.stages.ingest.html.extract import INVALID_CHARSET

    text = decode_page(body, charset)
    if text is None:
        detail = f"expected text in a known encoding (declared: {charset or 'none'}); no encoding matches"
        return Refusal("", INVALID_CHARSET, detail, body[:EXCERPT])
    return make_document("", text, {settings.url: url, settings.timestamp: timestamp}, settings, body)
