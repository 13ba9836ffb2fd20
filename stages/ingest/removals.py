"""Reports of steps that remove a large share of an arrival, and the limit above which the arrival is refused.

A filter that suits one corpus can empty another, and a model trained on the remainder looks healthy. Therefore every
step that removes more than 10% is reported with its most frequent reason and a sample.
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
from rewarm.stages.ingest.records import EXCERPT, WebReason

NAMED = 0.1  # share of a step's documents or bytes above which the step is reported
SHOWN = 100  # characters of a sample in a sentence
DUPLICATES = ("older addresses", "exact duplicates", "near-duplicates")  # a re-crawl may repeat nearly everything
HELD_OUT = "validation"  # held out, not removed
NO_PAGES = (WebReason.STATUS, WebReason.CONTENT_TYPE)  # images and redirects of an archive, not lost documents
CHANGED = "text changed"  # reason for a step that removes no documents, but much of their text


@dataclass(frozen=True)
class Removal:
    """Documents and bytes that one step removed from its input."""

    step: str
    documents: int
    documents_in: int
    num_bytes: int  # of text; 0 for the reading step, which counts the bytes of files
    bytes_in: int
    reason: str  # the most frequent
    count: int  # documents with this reason
    no_pages: int = 0  # of these documents, records of an archive that are not pages
    sample: dict[str, str] = field(default_factory=dict)  # one record: file, location, detail, excerpt; may be empty

    @property
    def share(self) -> float:
        """Share of the documents or of the bytes, whichever is larger."""
        return max(share(self.documents, self.documents_in), share(self.num_bytes, self.bytes_in))

    @property
    def counts_against(self) -> float:
        """Share that is compared with the limit: 0 for duplicates, and excluding records that are not pages."""
        if self.step in DUPLICATES:
            return 0.0
        documents = share(self.documents - self.no_pages, self.documents_in - self.no_pages)
        return max(documents, share(self.num_bytes, self.bytes_in))

    def to_json(self) -> dict[str, Any]:
        """Return the removal as JSON types, with the sentence that reports it."""
        return {**asdict(self), "sentence": describe(self)}


def share(some: int, of: int) -> float:
    """Return ``some / of``, or 0 if ``of`` is 0."""
    return some / of if of else 0.0


def find_removals(steps: Mapping[str, StepAccount], cut: Mapping[str, Counter[str]]) -> list[Removal]:
    """Return the steps that removed more than 10% of their input documents or bytes.

    ``cut``: for each step, the reasons for which documents lost a passage but were kept.
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
    """Return the first record refused for the most frequent reason; duplicates come from the staged shards
    ``names``."""
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
    """Return the first staged document that was dropped for a reason."""
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
    """Return the fields of a record that are shown."""
    shown = {name: str(row[name]) for name in ("file", "location", "detail")}
    return {**shown, "excerpt": bytes(row["excerpt"]).decode(errors="replace")}


def describe(removal: Removal) -> str:
    """Return a sentence that reports a removal."""
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
