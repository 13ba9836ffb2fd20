"""Arrivals for the tests: texts in shards, as pass 1 leaves them, and the Jaccard similarity as it is defined."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.data.split import SplitSize
from rewarm.stages.ingest.dedup.decide import Decision, Fate, decide
from rewarm.stages.ingest.dedup.index import index_documents, read_fates
from rewarm.stages.ingest.dedup.staged import SignatureSink
from rewarm.stages.ingest.settings import DuplicateSettings

SIZES = pa.schema([pa.field("num_bytes", pa.int64())])
WORDS = [f"w{number}" for number in range(5000)]


def shingle_set(text: str, size: int = 5) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1))}


def jaccard(one: str, other: str) -> float:
    some, others = shingle_set(one), shingle_set(other)
    return len(some & others) / len(some | others)


def edited(text: str, target: float, rng: random.Random) -> str:
    """The text with words replaced until its similarity to itself is at most ``target``."""
    words = text.split()
    places = rng.sample(range(len(words)), len(words))
    low, high = 0, len(words)
    while low < high:  # similarity falls with the number of edits
        middle = (low + high) // 2
        if jaccard(text, " ".join(replaced(words, places[:middle]))) > target:
            low = middle + 1
        else:
            high = middle
    return " ".join(replaced(words, places[:low]))


def replaced(words: list[str], places: Sequence[int]) -> list[str]:
    chosen = set(places)
    return [f"{word}x" if at in chosen else word for at, word in enumerate(words)]


@dataclass
class Home:
    """A place for arrivals and the indices of earlier ones."""

    root: Path
    settings: DuplicateSettings = field(default_factory=DuplicateSettings)

    def index(self, name: str) -> Folder:
        return Folder(self.root / "dedup" / name)

    def stage(
        self,
        name: str,
        texts: Sequence[str],
        cuts: Sequence[int] = (),
        urls: Sequence[str | None] | None = None,
        times: Sequence[object] | None = None,
    ) -> tuple[Folder, list[tuple[str, int]]]:
        """Write the shards' files; ``cuts``: rows at which a new shard begins."""
        staging, shards = Folder(self.root / name), []
        for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(texts)], strict=True)):
            part = list(texts[start:stop])
            with SignatureSink(staging, f"{number:05d}", self.settings) as sink:
                sink.add(
                    [document_id(text) for text in part],
                    [None] * len(part) if urls is None else urls[start:stop],
                    [None] * len(part) if times is None else times[start:stop],  # type: ignore[arg-type]
                    part,
                )
            write_sizes(staging, f"{number:05d}", [len(text.encode()) for text in part])
            shards.append((f"{number:05d}", len(part)))
        return staging, shards

    def decide(
        self,
        name: str,
        texts: Sequence[str],
        earlier: Sequence[str] = (),
        share: float = 0.1,
        worth: int = 0,
        cap: float = 0.0,
        progress: Silent | None = None,
        **given: object,
    ) -> tuple[list[Fate], Decision]:
        """Stage, decide, index; the fates in input order."""
        staging, shards = self.stage(name, texts, **given)  # type: ignore[arg-type]
        known = [self.index(other) for other in earlier]
        decision = decide(staging, shards, known, self.settings, SplitSize(share, worth, cap), progress or Silent())
        index_documents(self.index(name), staging, shards, self.settings, Silent())
        fates = np.concatenate([np.empty(0, np.uint8), *(read_fates(staging, shard) for shard, _ in shards)])
        return [Fate(fate) for fate in fates.tolist()], decision


def write_sizes(staging: Folder, name: str, sizes: Sequence[int]) -> None:
    """What the decision reads of a shard's staged documents."""
    with staging.writing(f"{name}.parquet") as scratch:
        pq.write_table(pa.table({"num_bytes": sizes}, SIZES), scratch)


def document(rng: random.Random, words: int = 200) -> str:
    return " ".join(rng.choices(WORDS, k=words))
