"""The record of an update: every record is read as it was written, of today's format and of the one before."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from old_workspace import unpack
from records import record, verdict

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.status import status, unfinished
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import (
    FORMAT,
    UPDATE,
    Annealing,
    Attempts,
    Cost,
    Laid,
    Replay,
    StepTaken,
    Tokens,
    Training,
    UpdateRecord,
    Weights,
    decode,
    encode,
    part_of,
)
from rewarm.pipeline.record.attempts import attempt, counted, read_attempts
from rewarm.pipeline.record.gap import Gap
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.storage import Folder
from rewarm.stages.replay import Carried
from rewarm.stages.train import Phase, TrainOutcome

# -- round trip ------------------------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
counts = st.integers(0, 2**52)
floats = st.floats(allow_nan=False, allow_infinity=False)
by_dataset = st.dictionaries(st.sampled_from(["trunk", "release"]), st.dictionaries(names, floats, max_size=3))
replayed = st.builds(
    lambda sequences, size, due, start: {"sequences": sequences, "tokens": sequences * size, "due": due, "from": start},
    *(st.integers(0, 10**6), st.integers(1, 4096), floats, counts),
)
records = st.builds(
    UpdateRecord,
    id=st.builds(lambda number, name: f"{number:04d}-{name}", st.integers(0, 20_000), names),
    arrival=names,
    state=st.sampled_from(["released", "refused", "undecided", "unfinished"]),
    datasets=st.lists(names, max_size=3),
    position=counts,
    follows=st.none() | names,
    tokens=st.builds(Tokens, counts, counts, counts, counts),
    replay=st.builds(Replay, floats, floats, names, st.dictionaries(names, replayed, max_size=3)),
    schedule=st.none()
    | st.builds(Laid, names, st.lists(st.builds(Phase, names, st.just("linear"), *[floats] * 4), max_size=2)),
    train=st.none() | st.builds(Training, counts, counts, floats, st.lists(counts, max_size=3)),
    anneal=st.none() | st.builds(Annealing, st.booleans(), names, counts),
    losses=by_dataset,
    bits_per_byte=by_dataset,
    forgetting=st.dictionaries(names, floats, max_size=3),
    gap=st.dictionaries(names, st.builds(Gap, floats, counts, st.none() | counts, floats, floats), max_size=2),
    lm_eval=st.dictionaries(names, st.dictionaries(names, st.none() | floats, max_size=2), max_size=2),
    gate=st.none() | st.builds(lambda said: verdict(False, said), names),
    steps=st.dictionaries(names, st.builds(StepTaken, floats, st.none() | counts), max_size=3),
    attempts=st.none() | st.builds(Attempts, counts, counts, floats, floats),
    cost=st.none() | st.builds(Cost, floats, st.none() | floats, names),
    weights=st.builds(Weights, names, names),
    notes=st.lists(names, max_size=3),
)


@given(records)
@settings(deadline=None)
def test_a_record_is_read_as_it_was_written(made: UpdateRecord) -> None:
    data = encode(made)
    assert data.count(b"\n") == 1, "one line"
    assert json.loads(data)["format"] == FORMAT
    assert decode(data, "update.json") == made
    assert encode(decode(data, "update.json")) == data


def test_what_is_not_finite_is_null_and_comes_back_as_no_number() -> None:
    made = record(losses={"release": {"docs": float("inf")}}, lm_eval={"task": {"acc_stderr": None}})
    found = decode(encode(made), "update.json")
    assert math.isnan(found.losses["release"]["docs"])
    assert found.lm_eval == {"task": {"acc_stderr": None}}


@given(st.binary(max_size=200) | records.map(encode), st.integers(0, 4000), st.binary(min_size=1, max_size=3))
@settings(deadline=None)
def test_damaged_bytes_are_a_record_or_are_refused_in_one_line(data: bytes, at: int, put: bytes) -> None:
    damaged = data[: at % (len(data) + 1)] + put
    try:
        found = decode(damaged, "updates/0001-news/update.json")
    except DamagedError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("updates/0001-news/update.json: ")
    else:
        assert isinstance(found, UpdateRecord)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 99}, "has format '99', this rewarm reads formats 1 and 2"),
        ({"format": "\x1b[2J"}, "has format"),
        ({"state": "lost"}, "state: "),
        ({"tokens": {"new": "many"}}, "tokens.new: "),
        ({"tokens": 7}, "tokens: "),
        ({"surprise": 1}, "surprise: "),
        ({"gate": {"passed": True}}, "gate.against: "),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], says: str) -> None:
    value = {**json.loads(encode(record())), **change}
    with pytest.raises(DamagedError, match=says.replace(".", r"\.")) as raised:
        decode(json.dumps(value).encode(), "update.json")
    assert "\n" not in str(raised.value)


def test_a_part_takes_the_fields_that_its_step_has() -> None:
    outcome = TrainOutcome(9, 900, 1e-3, "d", "", 4, 120.0, [3])
    assert part_of(Training, outcome) == Training(9, 4, 120.0, [3])


# -- what an earlier version left ------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> tuple[Workspace, dict[str, Any]]:
    return unpack(tmp_path)


ADDED = {
    ("schedule", "warm_in"): None,
    ("train", "optimizer"): "adamw",
    ("train", "moments"): "empty",
    ("train", "decisions"): [],
    ("train", "bitwise"): None,
    ("train", "checkpoint_seconds"): 0.0,
    ("anneal", "decisions"): [],
    ("tokens", "left_out"): 0,
}
"""What a record holds since, with what it says of updates that were recorded without it."""


def test_a_workspace_of_the_version_before_shows_what_it_showed(old: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, expected = old
    found = json.loads(json.dumps(status(Lineage(workspace)).to_json()))
    assert found["release"] == expected["release"]
    assert found["datasets"] == expected["datasets"]
    assert [one["id"] for one in found["updates"]] == [one["id"] for one in expected["updates"]]
    for now, before in zip(found["updates"], expected["updates"], strict=True):
        for (part, name), value in ADDED.items():
            if now[part] and before["state"] != "unfinished":
                assert now[part].pop(name) == value, (before["id"], part, name)
        before["plan"] = {name: part for name, part in (before.get("plan") or {}).items() if name != "actual"}
        for name, value in before.items():
            if before["state"] != "unfinished":
                assert (now[name] or None) == (value or None), (before["id"], name)
    assert [one["attempts"] and one["attempts"]["count"] for one in found["updates"]] == [None, None, None, 0]


def test_its_plan_keeps_what_it_cost(old: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, expected = old
    found = Lineage(workspace).find("1")
    actual = expected["updates"][1]["plan"]["actual"]
    assert found.plan is not None
    assert found.cost == Cost(actual["hours"], actual["cost"], actual["currency"])
    assert found.plan.predicted.steps == actual["steps"]


def test_the_next_commit_raises_its_format_and_leaves_its_files(old: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, _ = old
    small = {path: path.read_bytes() for path in workspace.folder.path.rglob("*.json")}
    lineage = Lineage(workspace)
    assert workspace.record()["format"] == 2
    carried = lineage.replayed()
    head = lineage.head
    assert head is not None
    replay = Replay(by_dataset={"docs": {"sequences": 2, "tokens": 128, "due": 100.0, "from": 0}})
    after = carried.after(replay.by_dataset)
    lineage.record(record("0003-more", follows=head.id, replay=replace(replay, carried=after.to_json())))
    assert workspace.record()["format"] == 3
    again = Lineage(workspace)
    assert [entry.id for entry in again.entries][-1] == "0003-more"
    assert again.replayed() == after == Carried.from_json(after.to_json())
    changed = {path.name for path, data in small.items() if path.read_bytes() != data}
    assert changed == {"workspace.json", "releases.json"}


def test_the_record_of_an_update_that_was_killed_has_what_is_known(old: tuple[Workspace, dict[str, Any]]) -> None:
    found = unfinished(Lineage(old[0]))
    assert found is not None
    assert (found.id, found.state, found.follows, found.train) == ("0003-more", "unfinished", "0001-code", None)
    assert (found.tokens.new, found.tokens.replayed) == (14976, 4992)
    assert list(found.steps) == ["ingest", "tokenize", "replay"]


# -- opening ---------------------------------------------------------------------------------------------------------


def test_a_lineage_opens_without_reading_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(str(tmp_path))
    for number, name in enumerate(["docs", "news", "code"]):
        carried = Carried().to_json()
        Lineage(workspace).record(record(f"{number:04d}-{name}", position=number, replay=Replay(carried=carried)))
    read: list[str] = []
    whole = Folder.read

    def noted(folder: Folder, name: str) -> bytes:
        read.append(f"{folder.name}/{name}")
        return whole(folder, name)

    monkeypatch.setattr(Folder, "read", noted)
    lineage = Lineage(workspace)
    assert list(lineage.datasets()) == ["docs", "news", "code"]
    assert (lineage.position, lineage.release) == (2, "0002-code")
    assert not [one for one in read if one.endswith(UPDATE)]
    assert lineage.replayed() == Carried()
    assert [one for one in read if one.endswith(UPDATE)] == ["0002-code/update.json"], "the last one has the sum"
    assert lineage.find("1").arrival == "news"


# -- attempts --------------------------------------------------------------------------------------------------------


def test_attempts_that_failed_or_were_killed_are_counted(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(ValueError, match="boom"), attempt(folder):
        raise ValueError("boom")
    assert counted(read_attempts(folder)).failed == 1
    with attempt(folder):
        pass
    folder.write_json("attempts.json", [*read_attempts(folder)[:1], {"seconds": 7.0, "done": False}])
    assert (counted(read_attempts(folder)).count, counted(read_attempts(folder)).failed) == (2, 1), "it may be running"
    with attempt(folder) as so_far:
        found = counted(so_far())
        assert (found.count, found.failed) == (3, 2)
        assert found.lost_seconds >= 7.0 and found.seconds >= found.lost_seconds
    assert counted(read_attempts(folder)) == replace(found, seconds=counted(read_attempts(folder)).seconds)


def test_a_folder_that_was_dropped_does_not_come_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "0001-news")
    with pytest.raises(ValueError, match="refused"), attempt(folder):
        folder.delete()
        raise ValueError("refused")
    assert not folder.exists()


# -- how much a new figure touches -----------------------------------------------------------------------------------

FIGURE = {  # the files that a new figure of training touches: its step, its part of the record, and a page
    "stages/train/run.py": (
        "    resumed_from: list[int]  # steps from which restarted groups of workers resumed\n",
        "    resumed_from: list[int]\n    peak_memory: int = 77\n",
    ),
    "pipeline/record/update.py": ("    world_size: int = 0\n", "    world_size: int = 0\n    peak_memory: int = 0\n"),
    "pipeline/report/update.html": (
        "<div><dt>workers</dt><dd>{{ update.train.world_size }}</dd></div>",
        "<div><dt>workers</dt><dd>{{ update.train.world_size }}</dd></div>\n"
        "        <div><dt>peak memory</dt><dd>{{ update.train.peak_memory }}</dd></div>",
    ),
}
SHOWN = """
import json, sys
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.record import Training, UpdateRecord, part_of
from rewarm.pipeline.report import pages
from rewarm.pipeline.report.from_lineage import report_record
from rewarm.pipeline.lineage.status import status
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.stages.train import TrainOutcome

workspace = Workspace(sys.argv[1])
train = part_of(Training, TrainOutcome(9, 900, 1e-3, "d", "", 4, 1.0, []))
Lineage(workspace).record(UpdateRecord("0000-docs", "docs", "released", train=train))
lineage = Lineage(workspace)
page = pages(report_record(lineage, {}))["0000-docs.html"]
print(json.dumps([status(lineage).to_json()["updates"][0]["train"], page]))
"""


def test_a_new_figure_touches_its_step_its_part_and_a_template(tmp_path: Path) -> None:
    """The package with one figure more in three files, run: record, status and page have it."""
    root = Path(__file__).parents[3]
    for package in ("pipeline", "stages", "rewarm"):  # rewarm has links to the other two
        copied = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / package, tmp_path / package, symlinks=True, ignore=copied)
    for name, (before, after) in FIGURE.items():
        text = (tmp_path / name).read_text()
        assert text.count(before) == 1, name
        (tmp_path / name).write_text(text.replace(before, after))
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN, str(tmp_path / "lm")], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert shown.returncode == 0, shown.stderr
    train, page = json.loads(shown.stdout)
    assert train["peak_memory"] == 77
    assert "<dt>peak memory</dt><dd>77</dd>" in page
    assert b'"peak_memory":77' in (tmp_path / "lm/updates/0000-docs/update.json").read_bytes()
    assert len(FIGURE) == 3, "two files and a template"
