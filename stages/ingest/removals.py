"""What the steps of ingest take: those that remove much are named, those that remove too much refuse the arrival.

A filter that is right for one corpus empties another, and a model trained on what is left looks healthy. So every step
that removes more than a tenth is reported with its commonest reason and a sample, wherever a person looks.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest.account import READ, StepAccount
from rewarm.stages.ingest.dedup.decide import REASONS
from rewarm.stages.ingest.dedup.index import read_fates
from rewarm.stages.ingest.readers.payload import WebReason
from rewarm.stages.ingest.records import EXCERPT

NAMED = 0.1  # share of a step's documents or bytes above which it is reported
SHOWN = 100  # characters of a sample in a sentence
DUPLICATES = ("older addresses", "exact duplicates", "near-duplicates")  # a re-crawl may repeat nearly all of the last
HELD_OUT = "validation"  # is measured on, not removed
NO_PAGES = (WebReason.STATUS, WebReason.CONTENT_TYPE)  # an archive's images and redirects are no documents to lose
CHANGED = "text changed"  # the reason of a step that removes no document, but much of their text


@dataclass(frozen=True)
class Removal:
    """What one step took of what came into it."""

    step: str
    documents: int
    documents_in: int
    num_bytes: int  # of text; reading counts the bytes of files, so it gives 0
    bytes_in: int
    reason: str  # the commonest
    count: int  # documents that it was given for
    no_pages: int = 0  # of the documents: records of an archive that hold none
    sample: dict[str, str] = field(default_factory=dict)  # one record: file, location, detail, excerpt; may be empty

    @property
    def share(self) -> float:
        """Of the documents or the bytes, whichever is more."""
        return max(share(self.documents, self.documents_in), share(self.num_bytes, self.bytes_in))

    @property
    def counts_against(self) -> float:
        """The share that is held against the limit: 0 for duplicates, and without what is no page."""
        if self.step in DUPLICATES:
            return 0.0
        documents = share(self.documents - self.no_pages, self.documents_in - self.no_pages)
        return max(documents, share(self.num_bytes, self.bytes_in))

    def to_json(self) -> dict[str, Any]:
        """As JSON types, with the sentence that says it."""
        return {**asdict(self), "sentence": describe(self)}


def share(some: int, of: int) -> float:
    """A part of the whole; 0 of nothing."""
    return some / of if of else 0.0


def find_removals(steps: Mapping[str, StepAccount], cut: Mapping[str, Counter[str]]) -> list[Removal]:
    """The steps that removed more than a tenth of the documents or of the bytes that came into them.

    ``cut``: by step the reasons for which documents lost a part and stayed.
    """
    found = []
    for name, step in steps.items():
        reasons = step.reasons + cut.get(name, Counter())
        reason, count = min(
            reasons.items(), key=lambda pair: (-pair[1], pair[0]), default=(CHANGED, step.documents_out)
        )
        made = Removal(
            step=name,
            documents=step.documents_in - step.documents_out,
            documents_in=step.documents_in,
            num_bytes=0 if name == READ else max(0, step.bytes_in - step.bytes_out),
            bytes_in=0 if name == READ else step.bytes_in,
            reason=reason,
            count=count,
            no_pages=sum(step.reasons[reason] for reason in NO_PAGES) if name == READ else 0,
        )
        if name != HELD_OUT and made.share > NAMED:
            found.append(made)
    return found


def find_sample(removal: Removal, quarantine: Folder, staging: Folder, names: Sequence[str]) -> dict[str, str]:
    """The first record that a step refused for its commonest reason; of duplicates from the staged shards ``names``."""
    if removal.step in DUPLICATES:
        return first_of_fate(removal.reason, staging, names)
    for name in quarantine.files(".parquet"):
        with pq.ParquetFile(quarantine.local(name)) as shard:
            for group in range(shard.num_row_groups):
                table = shard.read_row_group(group)
                steps, reasons = (np.array(table.column(column).to_pylist(), object) for column in ("step", "reason"))
                rows = np.flatnonzero((steps == removal.step) & (reasons == removal.reason))
                if len(rows):
                    return as_sample(table.slice(int(rows[0]), 1).to_pylist()[0])
    return {}


def first_of_fate(reason: str, staging: Folder, names: Sequence[str]) -> dict[str, str]:
    """The first staged document that was dropped for a reason."""
    fate = next(fate for fate, said in REASONS.items() if said == reason)
    for name in names:
        rows = np.flatnonzero(read_fates(staging, name) == fate)
        if len(rows):
            filesystem, path = staging.filesystem()
            with filesystem.open_input_file(f"{path}/{name}.parquet") as stream:
                table = pq.read_table(stream, columns=["text", "file", "location"])
            row = table.slice(int(rows[0]), 1).to_pylist()[0]
            return as_sample({**row, "detail": reason, "excerpt": row["text"].encode()[:EXCERPT]})
    return {}


def as_sample(row: Mapping[str, Any]) -> dict[str, str]:
    """What is shown of a record."""
    shown = {name: str(row[name]) for name in ("file", "location", "detail")}
    return {**shown, "excerpt": bytes(row["excerpt"]).decode(errors="replace")}


def describe(removal: Removal) -> str:
    """A removal in one sentence."""
    parts = [
        f"{share(some, of):.0%} of the {what} ({some:,} of {of:,})"
        for what, some, of in (
            ("documents", removal.documents, removal.documents_in),
            ("bytes", removal.num_bytes, removal.bytes_in),
        )
        if share(some, of) > NAMED
    ]
    text = f"{removal.step} removed {' and '.join(parts)}; most often: {removal.reason} ({removal.count:,})"
    if not removal.sample:
        return text
    excerpt = " ".join(removal.sample["excerpt"].split())
    excerpt = excerpt if len(excerpt) <= SHOWN else excerpt[:SHOWN].rstrip() + " …"
    return f"{text}, such as {removal.sample['file']}, {removal.sample['location']}: “{excerpt}”"
