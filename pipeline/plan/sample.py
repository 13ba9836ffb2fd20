"""A sample of an arrival's documents, in time that does not grow with the arrival.

Of a small arrival every record is read; of a large one, pieces spread evenly over its bytes: lines of a plain file,
row groups of Parquet, batches of Arrow, the beginning of a compressed file or web archive, which cannot be entered in
the middle. Among the documents read, content hashes choose, so that the order and the number of files do not matter.
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.data.documents import document_id
from rewarm.stages.ingest import IngestSettings, InputFile
from rewarm.stages.ingest.account import READ, Account, StepAccount
from rewarm.stages.ingest.format import Piece, Sampling
from rewarm.stages.ingest.passes import steps_of
from rewarm.stages.ingest.readers import FORMATS, read_piece
from rewarm.stages.ingest.records import Refusal
from rewarm.stages.ingest.removals import as_sample

PIECE = 4 * 2**20  # bytes of a file that are read at one place
PARTS = 64  # no document makes up more of the sample than one part of so many
SEED = 7  # of the hash that chooses; the validation split is chosen by the plain one


@dataclass(frozen=True)
class Excerpt:
    """A part of the arrival, perhaps as a file of its own, and the bytes of the arrival that it is."""

    piece: Piece
    num_bytes: float


@dataclass(frozen=True)
class Sample:
    """The documents that were read (counts and hashes of all, texts of those chosen)."""

    texts: dict[str, str]  # doc_id → text, cut at the sample's ``PARTS``-th part; in the order of the choosing hash
    hashes: npt.NDArray[np.bytes_]  # S16, of every document read
    sizes: npt.NDArray[np.int64]  # bytes of its text
    places: npt.NDArray[np.int64]  # the piece it is of
    pieces: npt.NDArray[np.float64]  # bytes of the arrival that each piece is
    refused: int  # records that could not be read
    complete: bool  # whether the whole arrival was read
    steps: dict[str, StepAccount] = field(default_factory=dict)  # of ingest, up to its search for duplicates
    shown: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)  # by step and reason the first record

    def first(self, num_bytes: int) -> dict[str, str]:
        """The sample's first documents, up to ``num_bytes`` of text; at least one."""
        chosen: dict[str, str] = {}
        size = 0
        for doc_id, text in self.texts.items():
            if chosen and size >= num_bytes:
                break
            chosen[doc_id] = text
            size += len(text.encode())
        return chosen


def take_sample(
    files: Sequence[InputFile],
    settings: IngestSettings,
    read_bytes: int,
    sample_bytes: int,
    scratch: Path,
    progress: Progress,
) -> Sample:
    """Read up to ``read_bytes`` of the files and choose ``sample_bytes`` of text; ``scratch`` holds excerpts meanwhile.

    Raises ``UsageError`` if no documents were read.
    """
    complete = sum(file.size for file in files) <= read_bytes
    progress.begin("sampling", min(read_bytes, sum(file.size for file in files)), "bytes")
    chosen = Chosen(sample_bytes)
    hashes, sizes, places, pieces, refused = [], [], [], [], 0
    steps = steps_of(settings)
    account, shown = Account.of([READ, *(step.name for step in steps)]), dict[tuple[str, str], dict[str, str]]()
    for number, excerpt in enumerate(cut(files, read_bytes, settings, scratch)):
        pieces.append(excerpt.num_bytes)
        for record in read_piece(excerpt.piece, settings):
            result = account.follow(record, steps)
            if isinstance(result, Refusal):
                refused += result is record
                row = {"file": excerpt.piece.file.name, "location": record.location, "detail": result.detail}
                shown.setdefault((result.step, str(result.reason)), as_sample({**row, "excerpt": result.excerpt}))
                continue
            doc_id, size = document_id(result.text), len(result.text.encode())
            hashes.append(bytes.fromhex(doc_id))
            sizes.append(size)
            places.append(number)
            chosen.offer(doc_id, result.text)
        progress.advance(excerpt.num_bytes)
    if not hashes:
        refusals = ", ".join(f"{count} × {reason}" for reason, count in account.refused.most_common(3)) or "no records"
        raise UsageError(
            f"{files[0].path} …: no documents in the {len(pieces)} pieces read ({refusals}); raise plan.read_bytes"
        )
    return Sample(
        chosen.texts(),
        np.array(hashes, "S16"),
        np.array(sizes, np.int64),
        np.array(places, np.int64),
        np.array(pieces),
        refused,
        complete,
        account.steps,
        shown,
    )


class Chosen:
    """The documents of smallest hash that together hold ``limit`` bytes, whatever order they are offered in."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._held: list[tuple[int, str, str, int]] = []  # the largest hash on top: negated
        self._ids: set[str] = set()

    def offer(self, doc_id: str, text: str) -> None:
        """Add a document, and drop those that are no longer needed."""
        key = -xxhash.xxh3_64_intdigest(bytes.fromhex(doc_id), seed=SEED)
        full = self.size >= self.limit
        if doc_id in self._ids or (full and key < self._held[0][0]):
            return
        cut_text = text.encode()[: max(1, self.limit // PARTS)].decode(errors="ignore")
        size = len(cut_text.encode())
        heapq.heappush(self._held, (key, doc_id, cut_text, size))
        self._ids.add(doc_id)
        self.size += size
        while self.size - self._held[0][3] >= self.limit:
            _, dropped, _, size = heapq.heappop(self._held)
            self._ids.remove(dropped)
            self.size -= size

    def texts(self) -> dict[str, str]:
        """Return the chosen texts by id, in order of their hashes."""
        return {doc_id: text for _, doc_id, text, _ in sorted(self._held, reverse=True)}


# -- pieces of files ---------------------------------------------------------------------------------------------


def cut(files: Sequence[InputFile], read_bytes: int, settings: IngestSettings, scratch: Path) -> Iterator[Excerpt]:
    """The files whole where they are small enough together; else parts of them, some as files in ``scratch``."""
    if sum(file.size for file in files) <= read_bytes:
        yield from (Excerpt(Piece(file), file.size) for file in files)
        return
    for file, offsets in spread(files, max(1, read_bytes // PIECE)):
        if file.size <= PIECE:
            yield Excerpt(Piece(file), file.size)
        else:
            wanted = Sampling(offsets, PIECE, scratch / excerpt_name(file))
            for piece, num_bytes in FORMATS[file.format].sample(file, wanted, settings):
                yield Excerpt(piece, num_bytes)


def spread(files: Sequence[InputFile], count: int) -> Iterator[tuple[InputFile, list[int]]]:
    """``count`` places at equal distances over the bytes of all files laid end to end, by file."""
    ends = list(accumulate(file.size for file in files))
    by_file: dict[int, list[int]] = {}
    for place in range(count):
        position = (2 * place + 1) * ends[-1] // (2 * count)
        number = bisect_right(ends, position)
        by_file.setdefault(number, []).append(position - (ends[number] - files[number].size))
    yield from ((files[number], offsets) for number, offsets in by_file.items())


def excerpt_name(file: InputFile) -> str:
    """A name for a part of a file."""
    return xxhash.xxh3_64_hexdigest(file.path.encode())
