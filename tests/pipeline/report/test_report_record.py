"""From the files of a workspace to the report's records and pages."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from edited_records import edit_record
from records import record_of_format_1, verdict

from rewarm.pipeline.api.reports import report, write_report
from rewarm.pipeline.gate.verdict import Verdict
from rewarm.pipeline.lineage.lineage import PLAN, Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.report import INDEX, assets, pages
from rewarm.pipeline.report.formats import result
from rewarm.pipeline.report.from_lineage import report_record
from rewarm.pipeline.update.inputs import create
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import MANIFEST
from rewarm.stages.tokenize import TokenizeOutcome

TRUNKS = {"0000-base": "aa", "0001-news": "bb", "0002-shuffled": "cc", "0003-code": "dd"}
STARTS = {"0000-base": "", "0001-news": "aa", "0002-shuffled": "bb", "0003-code": "bb"}
COUNTS: dict[str, Any] = {
    "ingest": {
        "documents": 9,
        "num_bytes": 900,
        "validation_documents": 2,
        "validation_bytes": 200,
        "duplicates": 1,
        "duplicates_earlier": 1,
        "quarantined": 3,
        "reasons": {},
        "digest": "1d",
    },
    "tokenize": asdict(TokenizeOutcome(200, 9, 900, 40, 2, 200, "tokenizers", "", "t", "7d")),
}


def an_update(name: str, position: int) -> UpdateRecord:
    arrival = name.partition("-")[2]
    return record_of_format_1(
        id=name,
        arrival=arrival,
        datasets=[arrival],
        state="refused" if arrival == "shuffled" else "released",
        finished="2026-01-01T00:00:00+00:00",
        position=position,
        tokens={"planned": 200, "new": 200, "replayed": 0, "annealed": 30},
        replay={"requested": 0.0, "achieved": 0.0, "source": "none", "by_dataset": {}},
        schedule={},
        losses={"release": {arrival: 3.5}},
        seconds={"train": 20.0},
        train={},
        weights={"trunk": TRUNKS[name], "release": TRUNKS[name] * 2},
        data={arrival: COUNTS},
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A base and three updates, of which the gate refused the second; the third goes on from before it."""
    made = Workspace(str(tmp_path / "work space"))
    create(made, load_recipe("tiny"))
    for position, name in enumerate(TRUNKS):
        folder = made.update(name)
        identity = {"version": 1, "settings": {}, "inputs": {"start": STARTS[name]}}
        manifest = {"step": "train", "fingerprint": "f" + name, "identity": identity, "outcome": {}, "seconds": 20.0}
        (folder / "trunk").write_json(MANIFEST, {**manifest, "finished": "2026-01-01T00:00:00+00:00"})
        folder.write_json(PLAN, {"arrival": name, "data": {name.partition("-")[2]: "0d"}})
        update = an_update(name, 200 * position)
        Lineage(made).record(update)
    return made


def test_the_record_tells_where_each_update_began_and_what_became_of_it(workspace: Workspace) -> None:
    record = report_record(Lineage(workspace), {"rewarm": "0"})
    assert [update.start for update in record.updates] == [None, "0000-base", "0001-news", "0001-news"]
    assert [update.state for update in record.updates] == ["released", "released", "refused", "released"]
    assert [entry.update for entry in record.history] == ["0000-base", "0001-news", "0003-code"]
    assert record.release == "0003-code"
    assert [dataset.name for dataset in record.datasets] == ["base", "news", "shuffled", "code"]
    (stage,) = record.updates[1].stages
    assert (stage.name, stage.folder, stage.fingerprint) == ("train", "updates/0001-news/trunk", "f0001-news")
    assert record.updates[1].digests == {
        "input of news": "0d",
        "ingest of news": "1d",
        "tokenize of news": "7d",
        "weights of the trunk": "bb",
        "weights of the release": "bbbb",
    }


def test_reasons_of_promotions_are_kept(workspace: Workspace) -> None:
    edit_record(workspace, "0003-code", lambda record: record.update(gate=verdict(True, "all checks passed")))
    assert report_record(Lineage(workspace), {}).history[-1].because == "all checks passed"


def test_a_verdict_is_read_as_it_was_recorded() -> None:
    check = {
        "kind": "loss",
        "name": "base",
        "metric": "nats/token",
        "role": "old",
        "candidate": 3.6,
        "current": 3.5,
        "change": 0.1,
        "limit": 0.05,
        "p": 0.01,
        "p_adjusted": None,
        "n": 40,
        "passed": False,
        "because": "forgets 0.100, more than 0.05",
        "outcome": "refused",
        "detectable": 0.02,
        "units": 12,
    }
    given = {
        "passed": False,
        "against": "0001-news",
        "alpha": 0.05,
        "correction": "holm",
        "because": ["base: forgets 0.100, more than 0.05"],
        "checks": [check],
        "outcome": "refused",
    }
    gate = of_format_1(given)
    assert {**asdict(gate), "checks": [{name: asdict(one)[name] for name in check} for one in gate.checks]}.items() >= {
        **given,
        "checks": [check],
    }.items()
    assert (gate.outcome, result(gate.checks[0])) == ("refused", "failed")
    held = of_format_1(given | {"outcome": "held", "checks": [check | {"outcome": "undecided"}]})
    assert (held.outcome, result(held.checks[0])) == ("held", "undecided")
    old = {name: value for name, value in check.items() if name not in ("outcome", "detectable", "units")}
    before = of_format_1({**{name: given[name] for name in given if name != "outcome"}, "checks": [old]})
    assert (before.outcome, result(before.checks[0])) == ("refused", "failed"), "made before there were any"


def of_format_1(gate: dict[str, Any]) -> Verdict:
    found = record_of_format_1(id="0002-x", arrival="x", state="refused", gate=gate).gate
    assert found is not None
    return found


def test_every_update_has_its_page_and_pages_of_updates_that_are_gone_are_removed(workspace: Workspace) -> None:
    folder = workspace.folder.path / "report"
    folder.mkdir()
    (folder / "0009-gone.html").write_text("old")
    (folder / "notes.html").write_text("mine")
    assert write_report(workspace) == str(folder / "index.html")
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "pages.json",
        *assets(),
        "notes.html",
        *(f"{name}.html" for name in TRUNKS),
    }
    assert "Refused" not in (folder / "0003-code.html").read_text()


def test_a_page_that_says_what_it_said_is_not_written_again(workspace: Workspace) -> None:
    folder = Path(write_report(workspace)).parent
    before = {name: (folder / f"{name}.html").stat().st_ino for name in TRUNKS}
    (workspace.update("0001-news") / "release" / "model").write("config.json", b"{}")
    Lineage(workspace).promote("0001-news")
    write_report(workspace)
    after = {name: (folder / f"{name}.html").stat().st_ino for name in TRUNKS}
    assert {name for name in TRUNKS if before[name] != after[name]} == {"0001-news", "0003-code"}


def test_a_long_lineage_draws_its_last_updates_and_lists_the_others(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = report_record(Lineage(workspace), {})
    record = report_record(Lineage(workspace), {}, last=1)
    assert [one.id for one in record.earlier] + [one.id for one in record.updates if one.id in TRUNKS] == list(TRUNKS)
    assert len(record.updates) < len(whole.updates)
    assert record.order == whole.order
    assert [record.number(name) for name in record.names] == [whole.number(name) for name in record.names]
    made = pages(record)
    assert all(f'href="{one.id}.html"' in made[INDEX] for one in record.earlier)
    last = record.finished[-1]
    assert f'rel="prev">← {record.finished[-2]}' in made[f"{last}.html"]
    assert made[f"{last}.html"] == pages(whole)[f"{last}.html"], "a page is the same whatever else is drawn"


def test_pages_are_made_again_when_what_was_written_is_not_known(workspace: Workspace) -> None:
    folder = Path(write_report(workspace)).parent
    expected = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != INDEX}
    for damage in (lambda file: file.write_text("{"), lambda file: file.write_text("[]"), Path.unlink):
        damage(folder / "pages.json")
        (folder / "0001-news.html").write_text("old")
        write_report(workspace)
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != INDEX} == expected
    (folder / "0001-news.html").unlink()
    write_report(workspace)
    assert (folder / "0001-news.html").read_bytes() == expected["0001-news.html"]


def test_one_page_can_be_sent_as_one_file(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "sent.html"
    assert report(workspace.folder.uri, "0000-base", file) == str(file)
    assert "0000-base" in file.read_text() and 'src="' not in file.read_text()
    for update, to, message in (("0000-base", None, "--to FILE"), (None, tmp_path / "sent.pdf", "ends in .html")):
        with pytest.raises(UsageError, match=message):
            report(workspace.folder.uri, update, to)


def test_an_earlier_update_whose_page_is_gone_is_counted_and_not_linked(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(write_report(workspace)).parent
    monkeypatch.setattr("rewarm.pipeline.api.reports.SHOWN", 1)
    (folder / "0000-base.html").unlink()
    write_report(workspace)
    index = (folder / INDEX).read_text()
    assert 'href="0000-base.html"' not in index
    assert "1 without a page" in index
    write_report(workspace, everything=True)
    assert 'href="0000-base.html"' in (folder / INDEX).read_text()
