"""MinHash signatures of documents: keys that similar documents probably share, and a sketch to estimate similarity.

    text ─▶ folded words ─▶ shingles of 5 words ─▶ 128 MinHashes ─▶ 20 keys, one per band of 6;  128 bits, one per hash

MinHash and bands: Broder 1997; Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, chapter 3. The MinHashes are
rensa's (Dahlgaard, Knudsen, Thorup 2017, Fast Similarity Sketching). The sketch is Li and König 2010, *b-Bit Minwise
Hashing*, b = 1: two documents of Jaccard similarity s agree in a bit with probability (1 + s) / 2.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash
from rensa import RMinHash  # type: ignore[import-untyped, unused-ignore]

from rewarm.stages.data.normal_forms import fold
from rewarm.stages.ingest.settings import NUM_HASHES, DuplicateSettings

Keys = npt.NDArray[np.uint64]
Sketches = npt.NDArray[np.uint8]
# Chinese and Japanese have no spaces between words: each character counts as a word.
IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(rf"[^\W{IDEOGRAPHS}]+|[{IDEOGRAPHS}]")
SPACE = re.compile(r"\s")
PIECE = 2**20  # characters that are split into words at a time
ASCII_WORDS = bytes(byte if chr(byte).isalnum() or byte == ord("_") else 32 for byte in range(128)).lower() + bytes(128)
BASE = 0x9E3779B97F4A7C15  # of the polynomial over a shingle's words; odd, so that no bits are lost
BATCH_SHINGLES = 2**21  # hashed in one call: 16 MB


@dataclass(frozen=True)
class Signatures:
    """Signatures of n documents."""

    keys: Keys  # uint64 [n, bands]
    sketches: Sketches  # uint8 [n, 16]


def signatures(texts: Sequence[str], settings: DuplicateSettings) -> Signatures:
    """Return the signatures of texts, which depend only on each text and on the settings' ``signature()``."""
    values = np.empty((len(texts), NUM_HASHES), np.uint32)
    row = 0
    for batch in in_batches(shingles(text, settings.shingle) for text in texts):
        offsets = np.cumsum([0, *map(len, batch)], dtype=np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            np.concatenate(batch), offsets, NUM_HASHES, settings.seed
        )
        values[row : row + len(batch)] = matrix.to_rows()
        row += len(batch)
    return Signatures(band_keys(values, settings), np.packbits((values & 1).astype(np.uint8), axis=1))


def in_batches(documents: Iterator[Keys]) -> Iterator[list[Keys]]:
    """Yield documents' shingles in batches of bounded size (or of one document)."""
    batch: list[Keys] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= BATCH_SHINGLES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def band_keys(values: npt.NDArray[np.uint32], settings: DuplicateSettings) -> Keys:
    """Return a key for each band, xxh3-64 over its MinHashes; uint32 [n, 128] -> uint64 [n, bands]."""
    bands = np.ascontiguousarray(values[:, : settings.bands * settings.rows]).reshape(-1, settings.rows)
    flat, width = memoryview(bands.tobytes()), 4 * settings.rows
    digests = (xxhash.xxh3_64_intdigest(flat[at : at + width]) for at in range(0, len(flat), width))
    return np.fromiter(digests, np.uint64, len(bands)).reshape(-1, settings.bands)


def shingles(text: str, size: int) -> Keys:
    """Return hashes of all runs of ``size`` words, of all words if there are fewer, or of the text if it has none."""
    words = word_hashes(text)
    if not len(words):
        return np.array([xxhash.xxh3_64_intdigest(text.encode())], np.uint64)
    size = min(size, len(words))
    count = len(words) - size + 1
    found = words[:count].copy()
    for place in range(1, size):
        found *= np.uint64(BASE)
        found += words[place : place + count]
    return found


def word_hashes(text: str) -> Keys:
    """Return xxh3-64 of every word: case-folded runs of letters, digits and underscores of the folded text."""
    return np.concatenate([np.empty(0, np.uint64), *map(hashed, pieces(text))])


def hashed(piece: str) -> Keys:
    """Return the word hashes of one piece. ASCII is split with a table, several times faster than with the regex."""
    piece = fold(piece)
    if piece.isascii():
        words = piece.encode().translate(ASCII_WORDS).split()
    else:
        words = " ".join(WORD.findall(piece.casefold())).encode().split()
    return np.fromiter(map(xxhash.xxh3_64_intdigest, words), np.uint64, len(words))


def pieces(text: str) -> Iterator[str]:
    """Yield the text in pieces of about ``PIECE`` characters, split at spaces, to bound the words in memory."""
    start = 0
    while start < len(text):
        space = SPACE.search(text, start + PIECE)
        stop = space.start() if space else len(text)
        yield text[start:stop]
        start = stop


def bits_apart(some: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return the number of the 128 bits in which sketches differ; both uint64 [n, 2]."""
    counts: npt.NDArray[np.int64] = np.bitwise_count(some ^ others).sum(axis=1, dtype=np.int64)
    return counts


def similar(some: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64], similarity: float) -> npt.NDArray[np.bool_]:
    """Return whether the estimate 2 · agreement - 1 of the Jaccard similarity reaches ``similarity``, pair by pair."""
    found: npt.NDArray[np.bool_] = 1 - bits_apart(some, others) / (NUM_HASHES // 2) >= similarity
    return found
