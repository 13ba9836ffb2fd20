"""Early check that an arrival contains documents: reads up to the first one, before any computation starts."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.temporary import temporary
from rewarm.stages.ingest.format import Piece, beginning
from rewarm.stages.ingest.listing import refuse_unreadable
from rewarm.stages.ingest.locations import InputFile, locate
from rewarm.stages.ingest.readers import FORMATS, read_piece
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import IngestSettings

# Only this much of a remote file is checked; if it contains no document, the rest gets the benefit of the doubt.
REMOTE_FILES = 8
REMOTE_BYTES = 16 * 2**20  # per file, as stored
REMOTE_RECORDS = 10_000  # per file whose beginning cannot be read by itself


def require_document(inputs: list[InputFile], settings: IngestSettings) -> None:
    """Read until the first usable document. Raises ``UsageError`` with the reasons if there is none."""
    reasons: Counter[str] = Counter()
    first = ""
    remote = [file for file in inputs if not locate(file.path).is_local]
    some = [file for file in inputs if file not in set(remote[REMOTE_FILES:])]
    complete = len(some) == len(inputs)
    for file in some:
        try:
            for record in glance(file, settings):
                if isinstance(record, Document):
                    return
                reasons[record.reason] += 1
                first = first or f"; the first: {describe(file, record)}"
        except OSError as error:
            refuse_unreadable(locate(file.path), error)
        complete = complete and (file not in remote or file.size <= REMOTE_BYTES)
    if not complete:
        return
    counts = ", ".join(f"{count} × {reason}" for reason, count in sorted(reasons.items())) or nothing_in(inputs)
    names = ", ".join(file.path for file in inputs[:3]) + (" …" if len(inputs) > 3 else "")
    raise UsageError(
        f"{names}: no documents found ({counts}{first}). Expected: text in the field {settings.text!r} of each record"
    )


def nothing_in(inputs: list[InputFile]) -> str:
    """Return the reason why files contained neither a document nor a refused record."""
    size = sum(file.size for file in inputs)
    return f"no record in {size} bytes" if size else "all files are empty"


def glance(file: InputFile, settings: IngestSettings) -> Iterator[Document | Refusal]:
    """Yield the records of a file; for a large remote file, only those at its beginning."""
    if locate(file.path).is_local or file.size <= REMOTE_BYTES:
        yield from read_piece(Piece(file), settings)
    elif not FORMATS[file.format].sequential:
        yield from islice(read_piece(Piece(file), settings), REMOTE_RECORDS)
    else:
        with temporary("head") as folder:
            yield from read_piece(Piece(beginning(file, REMOTE_BYTES, folder / "head")), settings)


def describe(file: InputFile, refusal: Refusal) -> str:
    """Return the location of a refused record, and the reason."""
    return f"{file.name}, {refusal.location}: {refusal.reason}, {refusal.detail}"
