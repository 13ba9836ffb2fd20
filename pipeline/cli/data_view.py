"""Tables of a dataset's ingest record and of its quarantined records, for ``rewarm data`` and ``rewarm quarantine``."""

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
from pydantic import TypeAdapter
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.report.formats import size
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.shapes import read_as, understood
from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest import ACCOUNT
from rewarm.stages.ingest.account import AccountRecord

ACCOUNTS = TypeAdapter(AccountRecord)
TOP = 12  # languages and hosts that a terminal shows
QUARTILES = ("least", "lower", "median", "upper", "most")
BAR = 40  # characters of a histogram's longest bar


def dataset_account(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return the ingest record of a dataset; raise ``UsageError`` if there is none."""
    folder = known(workspace, name)
    if not folder.exists(ACCOUNT):
        raise UsageError(f"{folder}: no record of its text: it was not (completely) ingested; run its update again")
    found = cast(dict[str, Any], read_as(folder, ACCOUNT, ACCOUNTS))
    return {"dataset": name, **found}


def known(workspace: Workspace, name: str) -> Folder:
    """Return the folder of a dataset; raise ``UsageError`` if it does not exist."""
    names = (workspace.folder / "datasets").folders()
    if name not in names:
        raise UsageError(f"{workspace.folder}: no dataset {name!r}; known datasets: {', '.join(names) or 'none'}")
    return workspace.dataset(name)


def account_view(found: dict[str, Any]) -> RenderableType:
    """Return the ingest record as tables."""
    parts: list[RenderableType] = [steps_table(found["steps"])]
    if reasons := reasons_table(found["steps"]):
        parts.append(reasons)
    if spared := parts_table(found["steps"], "not_applied", "rules that did not apply", "rule"):
        parts.append(spared)
    if passed := parts_table(found["steps"], "passed_over", "records that contain no document by design", "kind"):
        parts.append(passed)
    if found["earlier"]:
        parts.append(earlier_table(found["earlier"]))
    if found["decontaminated"]:
        parts.append(counts_table("overlap with held-out text (13-grams)", "held-out set", found["decontaminated"]))
        if cut := found.get("cut"):
            parts.append(Text(cut_line(cut)))
    parts.append(counts_table("languages", "language", found["languages"]))
    if found["domains"]:
        parts.append(counts_table("domains", "host", found["domains"]))
    parts.append(histogram("length in bytes", {size(2 ** int(k)): n for k, n in found["lengths"].items()}))
    if found["qualities"]:
        parts.append(histogram("quality", {f"{int(k) / 20:.2f}": n for k, n in found["qualities"].items()}))
    parts.extend(Text(f"lost: {', '.join(lost['files'])} ({lost['error']})", style="red") for lost in found["lost"])
    return Group(*parts)


def cut_line(cut: dict[str, Any]) -> str:
    """Describe what decontamination cut out of documents that were kept."""
    line = (
        f"{cut['documents']:,} documents lost {size(cut['bytes'])} in {cut['cuts']:,} passages that also occur in "
        f"held-out text; a run of a validation split in more than {cut['holders']} documents is kept as boilerplate"
    )
    if "passage" not in cut:
        return line
    return f"{line}, and so is a passage of fewer than {cut['passage']} words"


def steps_table(steps: list[dict[str, Any]]) -> Table:
    """Return the documents and bytes into and out of every step."""
    table = Table(title="documents and bytes of text, step by step", title_justify="left")
    table.add_column("step")
    for heading in ("documents in", "out", "kept", "bytes in", "out"):
        table.add_column(heading, justify="right")
    for step in steps:
        kept = f"{step['documents_out'] / step['documents_in']:.1%}" if step["documents_in"] else ""
        table.add_row(
            step["name"],
            f"{step['documents_in']:,}",
            f"{step['documents_out']:,}",
            kept,
            size(step["bytes_in"]),
            size(step["bytes_out"]),
        )
    return table


def reasons_table(steps: list[dict[str, Any]]) -> Table | None:
    """Return the reasons for which documents were dropped; None if none were."""
    rows = [(step["name"], reason, count) for step in steps for reason, count in step["reasons"].items()]
    if not rows:
        return None
    table = Table(title="why documents were dropped", title_justify="left")
    table.add_column("step")
    table.add_column("reason")
    table.add_column("documents", justify="right")
    for name, reason, count in rows:
        table.add_row(name, reason, f"{count:,}")
    return table


def parts_table(steps: list[dict[str, Any]], field: str, title: str, heading: str) -> Table | None:
    """Return counts below a step: rules that do not apply to a script, records that only describe other records."""
    rows = [(step["name"], part, count) for step in steps for part, count in step.get(field, {}).items()]
    if not rows:
        return None
    table = Table(title=title, title_justify="left")
    table.add_column("step")
    table.add_column(heading)
    table.add_column("number", justify="right")
    for name, part, count in rows:
        table.add_row(name, part, f"{count:,}")
    return table


def earlier_table(earlier: dict[str, dict[str, int]]) -> Table:
    """Return the duplicates of documents in earlier datasets."""
    table = Table(title="duplicates of documents in earlier datasets", title_justify="left")
    table.add_column("dataset")
    for heading in ("exact", "near"):
        table.add_column(heading, justify="right")
    for name, counts in earlier.items():
        table.add_row(name, f"{counts['exact']:,}", f"{counts['near']:,}")
    return table


def counts_table(title: str, heading: str, counts: dict[str, int]) -> Table:
    """Return the most frequent keys; the rest is summed in the last row."""
    table = Table(title=title, title_justify="left")
    table.add_column(heading)
    table.add_column("documents", justify="right")
    for name, count in list(counts.items())[:TOP]:
        table.add_row(name, f"{count:,}")
    if len(counts) > TOP:
        table.add_row(f"and {len(counts) - TOP} more", f"{sum(list(counts.values())[TOP:]):,}")
    return table


def histogram(title: str, counts: dict[str, int]) -> Table:
    """Return counts as bars."""
    table = Table(title=title, title_justify="left", show_header=False)
    most = max(counts.values(), default=1)
    for label, count in counts.items():
        table.add_row(f"from {label}", "█" * round(BAR * count / most), f"{count:,}")
    return table


@dataclass
class Refused:
    """Records refused for one reason."""

    step: str
    reason: str
    count: int = 0
    values: list[float] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return JSON types, with the quartiles of the measured values."""
        quartiles = np.percentile(self.values, (0, 25, 50, 75, 100)).tolist() if self.values else []
        return {
            "step": self.step,
            "reason": self.reason,
            "count": self.count,
            "values": dict(zip(QUARTILES, quartiles, strict=True)) if quartiles else None,
            "samples": self.samples,
        }


def quarantine(workspace: Workspace, name: str, reason: str | None, samples: int) -> dict[str, Any]:
    """Return counts of refused records by step and reason, with the first ``samples`` of each in file order."""
    folder = known(workspace, name) / "quarantine"
    groups: dict[tuple[str, str], Refused] = {}
    for shard in folder.files(".parquet"):
        with understood(f"{folder}/{shard}"), pq.ParquetFile(folder.local(shard)) as rows:
            for batch in rows.iter_batches(batch_size=4096):
                collect(batch.to_pylist(), reason, samples, groups)
    if reason is not None and not groups:
        raise UsageError(f"{folder}: no record was refused for {reason!r}; omit --reason to list all reasons")
    ordered = sorted(groups.values(), key=lambda group: (-group.count, group.step, group.reason))
    return {
        "dataset": name,
        "quarantined": sum(group.count for group in ordered),
        "reasons": [group.to_json() for group in ordered],
    }


def collect(
    rows: list[dict[str, Any]], reason: str | None, samples: int, groups: dict[tuple[str, str], Refused]
) -> None:
    """Add refused records to the group of their reason."""
    for row in rows:
        if reason not in (None, row["reason"]):
            continue
        key = row["step"], row["reason"]
        group = groups.setdefault(key, Refused(*key))
        group.count += 1
        if row["value"] is not None:
            group.values.append(row["value"])
        if len(group.samples) < samples:
            shown = {part: row[part] for part in ("file", "location", "detail", "value")}
            group.samples.append({**shown, "excerpt": row["excerpt"].decode(errors="replace")})


def quarantine_view(found: dict[str, Any]) -> RenderableType:
    """Return the refused records as a table, followed by samples."""
    table = Table(title=f"{found['dataset']}: {found['quarantined']:,} refused", title_justify="left")
    for heading in ("step", "reason"):
        table.add_column(heading)
    for heading in ("records", "least", "median", "most"):
        table.add_column(heading, justify="right")
    parts: list[RenderableType] = [table]
    for group in found["reasons"]:
        values = group["values"]
        figures = [f"{values[part]:.4g}" for part in ("least", "median", "most")] if values else ["", "", ""]
        table.add_row(group["step"], group["reason"], f"{group['count']:,}", *figures)
        for sample in group["samples"]:
            place = f"{sample['file']}, {sample['location']}"
            excerpt = " ".join(sample["excerpt"].split())[:160]
            parts.append(
                Text.assemble(
                    (f"{group['reason']}  ", "bold"), place, "\n    ", sample["detail"], "\n    ", (excerpt, "dim")
                )
            )
    return Group(*parts)
