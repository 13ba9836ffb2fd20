"""A text file, or a page, as one document; and the refusals that all streams share."""

from typing import BinaryIO

from rewarm.stages.ingest.readers.streams import BrokenStreamError, binary_of, in_utf8, read_blocks
from rewarm.stages.ingest.records import EXCERPT, Document, Reason, Refusal, make_document
from rewarm.stages.ingest.settings import InputSettings

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_text(raw: BinaryIO, name: str, compression: str, settings: InputSettings) -> Document | Refusal:
    """A text file is one document; its name stands as the address. Half a file is no document."""
    data = read_whole(raw, compression, settings, decode=True)
    if isinstance(data, Refusal):
        return data
    if found := binary_of(data):
        return other_format("text", found, data)
    return make_document("file", data.removeprefix(BYTE_ORDER_MARK), {settings.url: name}, settings)


def read_whole(raw: BinaryIO, compression: str, settings: InputSettings, decode: bool = False) -> bytes | Refusal:
    """The bytes of a file that is one record, as UTF-8 if ``decode``; a refusal where it is too long or broken."""
    data = bytearray()
    blocks = read_blocks(raw, compression, settings)
    try:
        for block in in_utf8(blocks) if decode else blocks:
            data += block
            if len(data) > settings.max_record_bytes:
                return too_long("file", bytes(data), f"more than {settings.max_record_bytes}", settings)
    except BrokenStreamError as error:
        return broken("file", error, bytes(data))
    return bytes(data)


def broken(place: str, error: BrokenStreamError, data: bytes) -> Refusal:
    """The rest of a file that cannot be read."""
    return Refusal(place, error.reason, str(error), data[:EXCERPT])


def other_format(expected: str, found: str, data: bytes) -> Refusal:
    """A file that is not what its name says."""
    detail = f"{expected} expected, the file looks like {found}; unpack it, or name it by what it is"
    return Refusal("file", Reason.OTHER_FORMAT, detail, data[:EXCERPT])


def too_long(place: str, data: bytes, found: str, settings: InputSettings) -> Refusal:
    """A record above the limit."""
    detail = f"at most {settings.max_record_bytes} bytes (max_record_bytes) expected, found {found}"
    return Refusal(place, Reason.TOO_LONG, detail, data[:EXCERPT])
