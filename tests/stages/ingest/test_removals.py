"""Which steps are named for what they took, and which of them refuse an arrival."""

from collections import Counter
from pathlib import Path

import pytest

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import QUARANTINE_SCHEMA
from rewarm.stages.ingest.account import StepAccount
from rewarm.stages.ingest.locations import InputFile
from rewarm.stages.ingest.passes import ShardSink, quarantine_rows
from rewarm.stages.ingest.records import Refusal
from rewarm.stages.ingest.removals import Removal, describe, find_removals, find_sample
from rewarm.stages.ingest.run import refuse_most
from rewarm.stages.ingest.settings import IngestSettings


def step(documents: tuple[int, int], sizes: tuple[int, int], **reasons: int) -> StepAccount:
    return StepAccount(*documents, *sizes, Counter(reasons))


@pytest.mark.parametrize(
    ("name", "account", "cut", "expected"),
    [
        ("language", step((100, 91), (1000, 910), a=9), {}, None),
        ("language", step((100, 89), (1000, 990), a=5, b=6), {}, ("b", 6, 0.11)),
        ("language", step((100, 100), (1000, 800)), {}, ("text changed", 100, 0.2)),
        ("decontaminate", step((100, 98), (1000, 700), a=2), {"cut": 30}, ("cut", 30, 0.3)),
        ("read", step((100, 95), (100_000, 900), a=5), {}, None),  # its bytes are those of files
        ("read", step((100, 80), (100_000, 900), a=5, b=15), {}, ("b", 15, 0.2)),
        ("validation", step((100, 50), (1000, 500), a=50), {}, None),
        ("near-duplicates", step((100, 10), (1000, 100), a=90), {}, ("a", 90, 0.9)),
        ("empty", step((0, 0), (0, 0)), {}, None),
    ],
)
def test_a_step_that_takes_more_than_a_tenth_is_named(
    name: str, account: StepAccount, cut: dict[str, int], expected: tuple[str, int, float] | None
) -> None:
    found = find_removals({name: account}, {name: Counter(cut)})
    assert [(one.reason, one.count, one.share) for one in found] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("name", "account", "limit", "refused"),
    [
        ("language", step((100, 50), (1000, 500), a=50), 0.5, False),
        ("language", step((100, 49), (1000, 500), a=51), 0.5, True),
        ("language", step((100, 80), (1000, 400), a=20), 0.5, True),
        ("language", step((100, 49), (1000, 500), a=51), 0.6, False),
        ("near-duplicates", step((100, 1), (1000, 10), a=99), 0.5, False),
        ("exact duplicates", step((100, 1), (1000, 10), a=99), 0.5, False),
        ("read", step((100, 30), (1000, 10), **{"content type": 60, "broken record": 10}), 0.5, False),
        ("read", step((100, 30), (1000, 10), **{"content type": 10, "broken record": 60}), 0.5, True),
    ],
)
def test_a_step_that_takes_more_than_the_limit_refuses(
    tmp_path: Path, name: str, account: StepAccount, limit: float, refused: bool
) -> None:
    found = find_removals({name: account}, {})
    settings = IngestSettings(max_removed=limit)
    inputs = [InputFile("/x.jsonl", "x.jsonl", 1, "jsonl", "")]
    if not refused:
        refuse_most(inputs, Folder(tmp_path), found, settings)
        return
    with pytest.raises(
        UsageError, match=rf"x.jsonl …: {name} removed .*ingest.max_removed = 0\.5.*max_removed=0\.[5-9]"
    ):
        refuse_most(inputs, Folder(tmp_path), found, settings)


def test_the_limit_decides_no_result() -> None:
    assert IngestSettings().identity() == IngestSettings(max_removed=0.9).identity()


def test_a_sample_is_the_first_record_of_the_commonest_reason(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    refused = [
        ("a.jsonl", Refusal(f"line {number}", reason, "what was found", f"text {number}".encode(), step="language"))
        for number, reason in enumerate(["script", "too short", "too short"])
    ]
    for name, rows in (("00000.parquet", refused[:1]), ("00001.parquet", refused)):
        with ShardSink(folder, name, QUARANTINE_SCHEMA) as sink:
            sink.add(quarantine_rows(rows))
    (removal,) = find_removals({"language": step((9, 6), (90, 60), script=1, **{"too short": 2})}, {})
    sample = find_sample(removal, folder, folder, [])
    assert sample == {"file": "a.jsonl", "location": "line 1", "detail": "what was found", "excerpt": "text 1"}
    said = describe(Removal(**{**{k: v for k, v in removal.to_json().items() if k != "sentence"}, "sample": sample}))
    assert said == (
        "language removed 33% of the documents (3 of 9) and 33% of the bytes (30 of 90); most often: too short (2), "
        "such as a.jsonl, line 1: “text 1”"
    )
