"""What a record of an input is: a document, or a refusal with reason and place. Nothing is dropped silently.

A text is kept as it stands, NUL characters and outer whitespace included: cleaning is a later choice, and a content
hash must not depend on it. A lone surrogate cannot be stored as UTF-8, so such a text is refused.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from stages.ingest.files.settings import InputSettings
from stages.ingest.timestamps import parse_timestamp

EXCERPT = 256  # bytes of a refused record that are kept to look at


class Reason(StrEnum):
    """Why a record was refused: fixed names to count by."""

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


@dataclass(frozen=True, slots=True)
class Document:
    """One usable document."""

    text: str
    url: str | None
    timestamp: datetime | None  # UTC
    language: str | None
    source: str | None
    title: str | None = None
    location: str = field(default="", compare=False)  # of its record, as a refusal's; no part of what it says


@dataclass(frozen=True, slots=True)
class Refusal:
    """One record, or the rest of a file, that cannot be used."""

    location: str  # in the file: line and byte (uncompressed), row, or "file"
    reason: str  # a ``Reason``, or the name a step gives
    detail: str  # what was expected and what was found
    excerpt: bytes  # its first bytes
    step: str = "read"
    value: float | None = None  # what was measured, where a threshold decided


def make_document(
    place: str, text: Any, fields: dict[str, Any], settings: InputSettings, raw: bytes | None = None
) -> Document | Refusal:
    """A document of a text (``str``, or UTF-8 as ``bytes``) and its record's other fields, or why it is none."""
    try:
        value = text.decode() if isinstance(text, bytes) else text
        if not isinstance(value, str):
            detail = f"a string expected under {settings.text!r}, found {type(value).__name__}"
            return Refusal(place, Reason.TEXT_NOT_A_STRING, detail, (raw or b"")[:EXCERPT])
        encoded = value.encode()
    except UnicodeDecodeError as error:
        return Refusal(place, Reason.INVALID_UTF8, str(error).replace("\0", " "), (raw or text)[:EXCERPT])
    except UnicodeEncodeError as error:
        return Refusal(
            place, Reason.LONE_SURROGATE, f"half of a surrogate pair at character {error.start}", (raw or b"")[:EXCERPT]
        )
    if not value.strip():
        return Refusal(place, Reason.EMPTY_TEXT, "the text is empty or only whitespace", (raw or encoded)[:EXCERPT])
    return Document(
        text=value,
        url=string_or_none(fields.get(settings.url)),
        timestamp=parse_timestamp(fields.get(settings.timestamp)),
        language=string_or_none(fields.get(settings.language)),
        source=string_or_none(fields.get(settings.source)),
        title=string_or_none(fields.get(settings.title)),
        location=place,
    )


def string_or_none(value: Any) -> str | None:
    """A descriptive field: a string that UTF-8 can hold, or nothing."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return value if isinstance(value, str) and storable(value) == value else None


def storable(text: str) -> str:
    """The text with what UTF-8 cannot hold replaced."""
    return text.encode(errors="replace").decode()
