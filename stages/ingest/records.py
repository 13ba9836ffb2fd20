"""Records of an input: each is a document, or a refusal with reason and location. Nothing is dropped silently.

A text is kept unchanged, NUL characters and outer whitespace included: cleaning is optional and comes later, and the
content hash must not depend on it. A text with a lone surrogate is refused, because UTF-8 cannot represent it.
"""

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any

from rewarm.stages.ingest.settings import InputSettings

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NUMBER = re.compile(r"-?\d{9,19}(\.\d+)?")  # eight digits would be a date: 20240131


def parse_timestamp(value: Any) -> datetime | None:
    """Return the time in UTC, or None if the value is not a time. A time without a zone is assumed to be UTC.

    Accepts ISO 8601, dates and Unix times. A Unix time is in seconds; if that would be after the year 5138 (1e11 s), it
    is in ms, else µs, else ns.
    """
    try:
        if isinstance(value, bytes):
            value = value.decode()
        if isinstance(value, str):
            text = value.strip()
            value = float(text) if NUMBER.fullmatch(text) else datetime.fromisoformat(text)
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        if isinstance(value, date):
            return datetime.combine(value, time(), UTC)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            seconds = value
            while abs(seconds) >= 1e11:
                seconds /= 1000
            return EPOCH + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return None
    return None


def from_microseconds(value: int | None) -> datetime | None:
    """Return the time for microseconds since 1970 UTC; None outside the years 1 to 9999."""
    try:
        return None if value is None else EPOCH + timedelta(microseconds=value)
    except OverflowError:
        return None


EXCERPT = 256  # bytes of a refused record that are kept for inspection


class Reason(StrEnum):
    """Reason why a record was refused: fixed names for counting."""

    INVALID_JSON = "invalid JSON"
    INVALID_CSV = "invalid CSV"
    NOT_AN_OBJECT = "not an object"
    TEXT_MISSING = "text field missing"
    TEXT_NOT_A_STRING = "text not a string"
    EMPTY_TEXT = "empty text"
    INVALID_UTF8 = "invalid UTF-8"
    LONE_SURROGATE = "lone surrogate"
    TOO_LONG = "record too long"
    TOO_LONG_DOCUMENT = "document too long"
    OTHER_FORMAT = "another format"
    BOMB = "decompression bomb"
    TRUNCATED = "truncated stream"
    CORRUPT = "corrupt stream"
    UNREADABLE_PARQUET = "unreadable Parquet"
    UNREADABLE_ARROW = "unreadable Arrow"


class WebReason(StrEnum):
    """Reason why a response or a stored file is not a document: fixed names for counting."""

    STATUS = "HTTP status"
    CONTENT_TYPE = "content type"
    CONTENT_ENCODING = "content encoding"
    BOMB = "decompression bomb"
    BROKEN_RESPONSE = "broken response"


@dataclass(frozen=True, slots=True)
class Document:
    """One usable document."""

    text: str
    url: str | None
    timestamp: datetime | None  # UTC
    language: str | None
    source: str | None
    title: str | None = None
    location: str = field(default="", compare=False)  # of its record, as in a refusal; not part of the content


@dataclass(frozen=True, slots=True)
class Refusal:
    """One record, or the rest of a file, that cannot be used."""

    location: str  # in the file: line and byte (uncompressed), row, or "file"
    reason: str  # a ``Reason``, or a step's own name
    detail: str  # what was expected and what was found
    excerpt: bytes  # its first bytes
    step: str = "read"
    value: float | None = None  # the measured value, if a threshold decided


BYTE_ORDER_MARK = "\ufeff"
# Controls, spaces and marks without a glyph: a text of nothing else is empty.
INVISIBLE = "".join(
    map(chr, [*range(33), 0x7F, *range(0x80, 0xA1), 0xAD, *range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F])
)
INVISIBLE += "\u205f\u2060\u2061\u2062\u2063\u2064\u3000\ufeff"


def make_document(
    place: str, text: Any, fields: dict[str, Any], settings: InputSettings, raw: bytes | None = None
) -> Document | Refusal:
    """Return a document from a text (``str``, or UTF-8 ``bytes``) and its record's other fields, or a refusal."""
    try:
        value = text.decode() if isinstance(text, bytes) else text
        if not isinstance(value, str):
            detail = f"expected a string in the field {settings.text!r}, found {type(value).__name__}"
            return Refusal(place, Reason.TEXT_NOT_A_STRING, detail, (raw or b"")[:EXCERPT])
        encoded = value.encode()
    except UnicodeDecodeError as error:
        return Refusal(place, Reason.INVALID_UTF8, str(error).replace("\0", " "), (raw or text)[:EXCERPT])
    except UnicodeEncodeError as error:
        return Refusal(
            place, Reason.LONE_SURROGATE, f"half of a surrogate pair at character {error.start}", (raw or b"")[:EXCERPT]
        )
    if not value.strip().strip(INVISIBLE):
        return Refusal(place, Reason.EMPTY_TEXT, "the text is empty or only whitespace", (raw or encoded)[:EXCERPT])
    return Document(
        text=value.removeprefix(BYTE_ORDER_MARK),
        url=string_or_none(fields.get(settings.url)),
        timestamp=parse_timestamp(fields.get(settings.timestamp)),
        language=string_or_none(fields.get(settings.language)),
        source=string_or_none(fields.get(settings.source)),
        title=string_or_none(fields.get(settings.title)),
        location=place,
    )


def string_or_none(value: Any) -> str | None:
    """Return a descriptive field as a string that UTF-8 can represent, or None."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return value if isinstance(value, str) and storable(value) == value else None


def storable(text: str) -> str:
    """Return the text with characters replaced that UTF-8 cannot represent."""
    return text.encode(errors="replace").decode()
