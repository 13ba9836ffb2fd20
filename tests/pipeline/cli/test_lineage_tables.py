"""The tables of ``rewarm status`` on a terminal of 80 columns."""

import io
from typing import Any

import pytest
from records import record, verdict
from rich.console import Console
from rich.table import Table

from rewarm.pipeline.cli.lineage_tables import LAST, WORST, lines_of, losses_table, seconds_table, updates_table
from rewarm.pipeline.lineage.status import Status
from rewarm.pipeline.record import DatasetPart, UpdateRecord
from rewarm.stages.ingest import IngestOutcome
from rewarm.stages.tokenize import TokenizeOutcome

CHECK = {
    **{"metric": "nats/token", "limit": 0.2, "p": 0.5, "p_adjusted": None, "n": 40, "units": 40, "worth": 40.0},
    **{"detectable": 0.01, "outcome": "passed", "passed": True, "because": ""},
}


def check(kind: str, name: str, role: str, candidate: float, current: float) -> dict[str, Any]:
    return {**CHECK, "kind": kind, "name": name, "role": role} | {
        "candidate": candidate,
        "current": current,
        "change": candidate - current,
    }


def lineage(names: list[str], above: dict[str, float] | None = None) -> Status:
    """A base and an update for each further name; every earlier dataset loses 0.01, or what ``above`` says."""
    updates: list[UpdateRecord] = []
    for number, name in enumerate(names):
        rise = {before: (above or {}).get(before, 0.01) for before in names[:number]}
        checks = [check("best", before, "old", 3.0 + change, 3.0) for before, change in rise.items()]
        checks += [check("loss", before, "old", 3.0 + change, 3.0) for before, change in rise.items()]
        checks.append(check("loss", name, "new", 2.5, 4.0))
        updates.append(
            record(
                f"{number:04d}-{name}",
                losses={"release": {**{before: 3.0 + change for before, change in rise.items()}, name: 2.5}},
                bits_per_byte={"release": {**dict.fromkeys(rise, 1.25), name: 1.125}},
                forgetting=rise,
                gate=verdict(True, checks=checks) if number else None,
                tokens={"planned": 600_000, "new": 450_000, "replayed": 150_000},
                steps={"ingest": {"seconds": 101.25, "attempts": 1}, "train": {"seconds": 12_345.6, "attempts": 1}},
            )
        )
    return Status("/somewhere/lm", updates[-1].id, updates)


def printed(table: Table | None, width: int = 80) -> str:
    assert table is not None
    file = io.StringIO()
    Console(width=width, file=file).print(table)
    return file.getvalue()


def cells(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return line.split()


@pytest.mark.parametrize(
    "name", ["news", "crawl-2026-{:02d}", "an-archive-of-a-very-long-name-of-the-year-{:02d}", "消息{:02d}"]
)
def test_a_year_of_monthly_updates_fits_a_terminal(name: str) -> None:
    found = lineage([name.format(month) if "{" in name else f"{name}{month}" for month in range(13)])
    for table in (losses_table(found), updates_table(found), seconds_table(found)):
        text = printed(table)
        assert "…" not in text
        assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert printed(losses_table(found)).count("3.010") == 12
    assert printed(seconds_table(found)).count("12345.6") == 12


def test_a_dataset_has_its_loss_its_change_and_the_best_before() -> None:
    text = printed(losses_table(lineage(["docs", "news", "code"], {"docs": 0.25})))
    assert cells(text, "docs") == ["docs", "3.250", "1.250", "+0.250", "3.000", "0.250"]
    assert cells(text, "code") == ["code", "(new)", "2.500", "1.125", "-1.500"]


def test_an_update_has_what_it_learned_and_what_it_forgot_most() -> None:
    text = printed(updates_table(lineage(["docs", "news", "code"], {"news": 0.25})))
    assert cells(text, "0000-docs")[1:4] == ["2.500", "450", "k"], "a base learned nothing and forgot nothing"
    assert cells(text, "0002-code")[:5] == ["0002-code", "*", "2.500", "-1.500", "+0.250"]


def test_a_base_has_no_empty_columns() -> None:
    text = printed(losses_table(lineage(["docs"])))
    assert "best" not in text.splitlines()[2]
    assert losses_table(Status("/somewhere/lm", None, [])) is None


def test_of_many_datasets_the_last_and_the_most_forgotten_are_shown_and_the_rest_counted() -> None:
    names = [f"d{number:03d}" for number in range(300)]
    found = lineage(names[:1] + names[1:], {"d007": 0.9, "d111": 0.4})
    text = printed(losses_table(found))
    rows = [line.split()[0] for line in text.splitlines() if line.strip().startswith("d") and "3." in line]
    assert {"d007", "d111"} <= set(rows)
    assert len(rows) == LAST + WORST - 1  # the arrival's own loss is 2.5
    assert "280 more datasets, at most 0.010 above their best" in " ".join(text.split())
    assert printed(losses_table(found, everything=True)).count("3.010") == 297


def test_a_refused_and_an_unfinished_update_say_so() -> None:
    found = lineage(["docs", "news"])
    states = [record("0002-code", state="refused"), record("0003-books", state="unfinished")]
    text = printed(updates_table(Status(found.workspace, found.release, [*found.updates, *states])))
    assert cells(text, "0002-code")[:2] == ["0002-code", "refused"]
    assert "0003-books" in text
    assert "unfinished" in text


def test_a_step_that_removed_much_is_named_for_people_and_programs() -> None:
    removal = {
        "step": "read",
        "sentence": "read removed 60% of the documents (60 of 100); most often: invalid JSON (60)",
    }
    ingest = IngestOutcome(40, 9000, 4, 900, 60, {"invalid JSON": 60}, 0, 0, "1d", removals=[removal])
    part = DatasetPart(ingest, TokenizeOutcome(2000, 40, 9000, 200, 4, 900, "tokenizers", "", "t", "7d"))
    found = Status("/somewhere/lm", None, [record("0000-docs", data={"docs": part})])
    assert list(lines_of(found)) == [f"docs: {removal['sentence']}"]
    assert found.to_json()["datasets"][0]["removals"] == [removal]


def test_the_name_of_a_workspace_is_the_last_part_of_its_address() -> None:
    addresses = ["/a/lm", "/a/lm/", "s3://bucket/models/lm?region=eu", "lm"]
    assert [Status(address, None, []).name for address in addresses] == ["lm"] * 4
