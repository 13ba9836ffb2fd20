"""Verification that stored tokens equal the output of Hugging Face's tokenizer, recomputed from the document shards.

The reference is the ``tokenizers`` library with ``tokenizer.json``, after a check that ``AutoTokenizer`` gives the same
ids. It is independent of how the tokens were made (backend, batches, threads, another program).
"""

import random
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise, zip_longest
from typing import Any

import numpy as np
import pyarrow as pa

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.ray_data import map_shards
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.data.tokens import TokenFormat
from rewarm.stages.tokenize.backends import Encoder, encoder_of, special_cases
from rewarm.stages.tokenize.files import SPLITS, DocumentShard, format_of, shards_of, token_batches
from rewarm.stages.tokenize.make_tokenizer import same_ids

SHOWN = 20  # mismatches that are reported individually
SEED = 0x7E51  # of the sample
ROWS, BYTES = 1024, 4 << 20  # of a batch


@dataclass(frozen=True)
class TokenMismatch:
    """Difference between a stored document and the tokens of its text."""

    shard: str  # split and name
    row: int  # in the shard, from 0
    doc_id: str  # of the document shard; of the token shard if that has more rows
    what: str  # "ids", "end-of-text", "doc_id", "num_bytes", "missing" or "no such document"
    position: int | None  # of the first id that differs
    expected: int | str | None
    found: int | str | None


@dataclass(frozen=True)
class VerifyOutcome:
    """Outcome of verification: ids of ``documents`` texts, and identity, order and sizes of all ``rows``."""

    documents: int
    tokens: int  # of these documents, end-of-text included
    rows: int
    mismatches: int
    first: list[TokenMismatch]  # in the order of the shards, at most 20
    tokenizer: str  # digest


def verify(
    dataset: Folder, tokenizer: Folder, tokens: Folder, documents: int | None, progress: Progress
) -> VerifyOutcome:
    """Compare ``tokens/train`` and ``tokens/validation`` with the reference's output for the dataset's documents.

    The texts of ``documents`` of them (None: all), a fixed uniform sample, are encoded again, and ids, end-of-text,
    content hash and size are compared. For the others, names, order and sizes are compared with the document shards.
    Raises ``UsageError`` if there is nothing to compare, the tokens were made by another tokenizer, or
    ``AutoTokenizer`` and ``tokenizer.json`` give different ids.
    """
    if documents is not None and documents < 1:
        raise UsageError(f"{documents} documents to verify: expected at least 1")
    definition = load_definition(tokenizer)
    if not same_ids(tokenizer.local(), definition, special_cases(definition)):
        raise UsageError(
            f"{tokenizer}: AutoTokenizer and tokenizer.json give different ids; import the tokenizer again"
        )
    shards = [shard for split in SPLITS for shard in shards_of(dataset, tokens, split)]
    rows = [_num_rows(shard) for shard in shards]
    if not sum(rows):
        raise UsageError(f"{dataset}: contains no documents, so there is nothing to verify")
    for shard, chosen in zip(shards, choose(rows, documents), strict=True):
        shard["chosen"] = chosen
    work = VerifyShard(tokenizer.uri, format_of(definition))
    found = map_shards(work, shards, progress, "verifying tokens", advance="bytes")
    first = [TokenMismatch(**mismatch) for account in found for mismatch in account["first"]]
    counts = {name: sum(account[name] for account in found) for name in ("documents", "tokens", "rows", "mismatches")}
    return VerifyOutcome(**counts, first=first[:SHOWN], tokenizer=definition.digest)


def choose(rows: list[int], documents: int | None) -> list[list[int] | None]:
    """Return the rows of each shard to encode again: a seeded uniform sample over all, or None for every row."""
    total = sum(rows)
    if documents is None or documents >= total:
        return [None] * len(rows)
    chosen = sorted(random.Random(SEED).sample(range(total), documents))
    starts = [0, *accumulate(rows)]
    cuts = [bisect_left(chosen, start) for start in starts]
    return [
        [row - start for row in chosen[low:high]] for start, (low, high) in zip(starts, pairwise(cuts), strict=False)
    ]


@dataclass(frozen=True)
class VerifyShard:
    """Ray task that compares one shard."""

    tokenizer: str  # folder
    token_format: TokenFormat

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Compare the shard ``{source, target, name, chosen, …}``; return counts and the first mismatches."""
        label, target, name = f"{shard['split']}/{shard['name']}", Folder(shard["target"]), f"{shard['name']}.arrow"
        if not target.exists(name):
            missing = TokenMismatch(label, 0, "", "missing", None, f"{target}/{name}", None)
            return {"documents": 0, "tokens": 0, "rows": 0, "mismatches": 1, "first": [asdict(missing)]}
        encoder = encoder_of(Folder(self.tokenizer), self.token_format.tokenizer, "tokenizers")
        counts = {"documents": 0, "tokens": 0, "rows": 0, "mismatches": 0}
        first: list[dict[str, Any]] = []
        with DocumentShard(shard["source"], shard["name"]) as documents:
            stored = _stored(token_batches(target, name, self.token_format))
            for row, (document, tokens) in enumerate(zip_longest(_documents(documents, shard["chosen"]), stored)):
                encoded = document is not None and document.text is not None
                counts["rows"] += 1
                counts["documents"] += encoded
                counts["tokens"] += len(tokens.ids) if encoded and tokens is not None else 0
                difference = self._difference(document, tokens, encoder)
                if difference is not None:
                    counts["mismatches"] += 1
                    doc_id = (document or tokens).doc_id
                    first += [asdict(TokenMismatch(label, row, doc_id, *difference))][: SHOWN - len(first)]
        return {**counts, "first": first}

    def _difference(
        self, document: "_Document | None", stored: "_Stored | None", encoder: Encoder
    ) -> "_Difference | None":
        if document is None or stored is None:
            what = "missing" if stored is None else "no such document"
            return what, None, document.doc_id if document else None, stored.doc_id if stored else None
        sides: list[tuple[str, int | str, int | str]] = [
            ("doc_id", document.doc_id, stored.doc_id),
            ("num_bytes", document.num_bytes, stored.num_bytes),
        ]
        if document.text is not None:
            size = len(document.text.encode())
            sides += [("doc_id", document_id(document.text), stored.doc_id), ("num_bytes", size, stored.num_bytes)]
        for what, expected, found in sides:
            if expected != found:
                return what, None, expected, found
        return None if document.text is None else self._other_ids(encoder.encode([document.text])[0], stored.ids)

    def _other_ids(self, expected: np.ndarray, stored: np.ndarray) -> "_Difference | None":
        last = int(stored[-1]) if len(stored) else None
        if last != self.token_format.end_of_text:
            return "end-of-text", max(0, len(stored) - 1), self.token_format.end_of_text, last
        before, after = self.token_format.around()
        expected, found = np.array([*before, *expected, *after[:-1]], dtype=np.uint32), stored[:-1]
        if np.array_equal(expected, found):
            return None
        both = min(len(expected), len(found))
        unequal = np.flatnonzero(expected[:both] != found[:both])
        position = int(unequal[0]) if len(unequal) else both
        pick = [int(ids[position]) if position < len(ids) else None for ids in (expected, found)]
        return "ids", position, pick[0], pick[1]


_Difference = tuple[str, int | None, int | str | None, int | str | None]  # what, position, expected, found


@dataclass(frozen=True, slots=True)
class _Document:
    doc_id: str
    num_bytes: int
    text: str | None  # if it is encoded again


@dataclass(frozen=True, slots=True)
class _Stored:
    doc_id: str
    num_bytes: int
    ids: np.ndarray


def _num_rows(shard: dict[str, Any]) -> int:
    with DocumentShard(shard["source"], shard["name"]) as documents:
        return documents.num_rows


def _documents(shard: DocumentShard, chosen: list[int] | None) -> Iterator[_Document]:
    """Yield all rows in order, with text for chosen rows; a row group without chosen rows is not decoded."""
    start = 0
    for group, count in enumerate(shard.group_rows()):
        rows = range(start, start + count)
        wanted = set(
            rows if chosen is None else chosen[bisect_left(chosen, start) : bisect_left(chosen, start + count)]
        )
        places = iter(rows)
        for batch in shard.batches(ROWS, BYTES, [group]) if wanted else shard.descriptions(group, ROWS):
            texts = batch.column("text") if wanted else [None] * batch.num_rows
            described = zip(batch.column("doc_id").to_pylist(), batch.column("num_bytes").to_pylist(), strict=True)
            for (doc_id, num_bytes), text in zip(described, texts, strict=True):
                yield _Document(doc_id, num_bytes, text.as_py() if next(places) in wanted else None)
        start += count


def _stored(batches: Iterator[pa.RecordBatch]) -> Iterator[_Stored]:
    for batch in batches:
        lists = batch.column("tokens")
        values, offsets = lists.values.to_numpy(zero_copy_only=True), lists.offsets.to_pylist()
        rows = zip(batch.column("doc_id").to_pylist(), batch.column("num_bytes").to_pylist(), strict=True)
        for (doc_id, num_bytes), (low, high) in zip(rows, pairwise(offsets), strict=True):
            yield _Stored(doc_id, num_bytes, values[low:high])
