"""A whole lineage by the command line: base, update, status, report, export; and what a kill -9 leaves of it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from small_lineage import Lineage, command, kill_when, rewarm

from rewarm.stages.ingest.run import STAGING

SHARE, STEPS, TOKENS = 0.25, 39, 39 * 8 * 64


@pytest.fixture(scope="module")
def status(updated: Path) -> dict[str, Any]:
    """The status after the update that nothing disturbed."""
    shown = rewarm("status", updated, "--json")
    assert shown.returncode == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def test_status_tells_the_lineage(status: dict[str, Any], updated: Path) -> None:
    first, second = status["updates"]
    assert status["workspace"] == str(updated)
    assert (first["id"], second["id"], status["release"]) == ("0000-docs", "0001-code", "0001-code")
    assert [dataset["name"] for dataset in status["datasets"]] == ["docs", "code"]
    assert first["state"] == second["state"] == "released"
    assert second["tokens"]["planned"] == TOKENS == second["tokens"]["new"] + second["tokens"]["replayed"]
    assert second["tokens"]["annealed"] == 6 * 8 * 64
    assert second["train"]["steps"] == STEPS
    assert second["train"]["world_size"] == 2
    assert second["train"]["resumed_from"] == []
    assert set(second["seconds"]) == {"ingest", "tokenize", "replay", "train", "anneal", "evaluate", "gate"}


def test_replay_is_exact_and_accounted_for(status: dict[str, Any]) -> None:
    first, second = status["updates"]
    assert first["replay"]["achieved"] == 0
    assert second["replay"]["requested"] == SHARE
    assert abs(second["replay"]["achieved"] - SHARE) * STEPS * 8 <= 1
    assert second["replay"]["by_dataset"]["docs"]["tokens"] == second["tokens"]["replayed"]


def test_losses_forgetting_and_lm_eval_are_there_for_every_dataset(status: dict[str, Any]) -> None:
    first, second = status["updates"]
    for model in ("trunk", "release"):
        assert set(second["losses"][model]) == set(second["bits_per_byte"][model]) == {"docs", "code"}
        full, window = second["losses"][model], second["window_losses"][model]
        assert set(window) == {"docs", "code"}, "the last looks, at a part of the same split"
        assert all(abs(window[name] - full[name]) < 0.5 for name in window)
    assert second["losses"]["release"]["code"] < second["losses"]["trunk"]["code"] + 0.05, "annealing helps, or nearly"
    forgotten = second["losses"]["release"]["docs"] - first["losses"]["release"]["docs"]
    assert second["forgetting"] == {"docs": pytest.approx(forgotten)}
    tasks = {f"rewarm_{name}_{kind}" for name in ("docs", "code") for kind in ("rolling", "continuation")}
    assert set(second["lm_eval"]) == {*tasks, "rewarm_code_order"}, "word order only of what is new"
    assert 0 <= second["lm_eval"]["rewarm_docs_continuation"]["acc"] <= 1


def test_the_stability_gap_is_measured_on_every_dataset(status: dict[str, Any], updated: Path) -> None:
    first, second = status["updates"]
    assert first["gap"]["docs"]["depth"] == 0, "a base learns from nothing"
    looks = json.loads((updated / "updates/0001-code/trunk/curve.json").read_text())["validation"]
    assert [look["step"] for look in looks] == [0, 1, 2, 4, 8, 16, 20, STEPS]
    assert set(second["gap"]) == {"docs", "code"}
    for name, gap in second["gap"].items():
        rises = [look["losses"][name] - gap["start"] for look in looks]
        assert gap["start"] == looks[0]["losses"][name]
        assert gap["end"] == looks[-1]["losses"][name]
        assert gap["depth"] == pytest.approx(max(rises))
    assert second["gap"]["code"]["end"] < second["gap"]["code"]["start"], "the arrival is learned"


def test_broken_records_are_in_quarantine_with_their_reason(status: dict[str, Any], updated: Path) -> None:
    import pyarrow.parquet as pq

    docs = status["datasets"][0]
    read = {"invalid JSON": 1, "text not a string": 1}
    overlaps = {"overlaps with validation of docs": docs["quarantined"] - 2}
    assert docs["reasons"] == read | {reason: count for reason, count in overlaps.items() if count}
    refused = pq.read_table(updated / "datasets" / "docs" / "quarantine").to_pylist()
    cut = [row for row in refused if row["reason"] == "passage cut for validation of docs"]
    assert {row["reason"] for row in refused if row not in cut} == set(docs["reasons"])
    assert cut, "docstrings of one library repeat each other"
    account = json.loads(rewarm("data", updated, "docs", "--json").stdout)
    assert account["cut"]["documents"] == len(cut)
    assert account["cut"]["bytes"] == sum(row["value"] for row in cut) < 0.03 * docs["bytes"]
    assert all(row["location"] and row["file"] for row in refused)


def test_data_shows_every_step_and_adds_up(updated: Path) -> None:
    done = rewarm("data", updated, "docs", "--json")
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)["steps"]
    assert [step["name"] for step in steps][:2] == ["read", "language"]
    for step in steps:
        assert step["documents_in"] - step["documents_out"] == sum(step["reasons"].values()), step["name"]
    shown = rewarm("data", updated, "docs").stdout
    assert all(step["name"] in shown for step in steps)
    unknown = rewarm("data", updated, "nothing")
    assert unknown.returncode == 2
    assert "docs" in unknown.stderr, "the error names the datasets there are"


def test_quarantine_shows_counts_and_samples_of_one_reason(updated: Path) -> None:
    done = rewarm("quarantine", updated, "docs", "--reason", "invalid JSON", "--samples", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert "not json" in done.stdout
    assert "text not a string" not in done.stdout
    assert "invalid JSON" in rewarm("quarantine", updated, "docs").stdout


def test_tokens_are_proved_and_a_changed_one_is_found(updated: Path, tmp_path: Path) -> None:
    done = rewarm("tokenize", updated, "--verify", "--all")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["equal"]
    assert all(dataset["documents"] > 50 for dataset in found["datasets"].values())

    copy = tmp_path / "changed"
    shutil.copytree(updated, copy)
    shard = next((copy / "datasets" / "code" / "tokens" / "train").glob("*.arrow"))
    raw = bytearray(shard.read_bytes())
    tokens = pa.ipc.open_file(pa.BufferReader(raw)).get_batch(0).column("tokens").values.slice(100, 50)
    raw[raw.index(tokens.to_numpy().tobytes())] ^= 1  # one bit of one token
    shard.write_bytes(raw)
    wrong = rewarm("tokenize", copy, "code", "--verify", "--all")
    assert wrong.returncode == 1, wrong.stderr[-2000:]
    assert not json.loads(wrong.stdout)["equal"]

    exported = rewarm("tokenize", updated, "code", "--export", tmp_path / "out" / "code")
    assert exported.returncode == 0, exported.stderr[-2000:]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"code_train.bin", "code_train.idx"}
    assert rewarm("tokenize", updated).returncode == 2


def test_the_report_needs_no_network(updated: Path) -> None:
    done = rewarm("report", updated)
    assert done.returncode == 0, done.stderr
    index = Path(done.stdout.strip())
    page = index.read_text(encoding="utf-8")
    assert "0001-code" in page
    sources = re.findall(r'(?:<script src|<link rel="stylesheet" href)="([^"]+)"', page)
    assert len(sources) == 3
    assert all((index.parent / source).is_file() for source in sources)


def test_an_exported_release_loads_and_generates(updated: Path, tmp_path: Path) -> None:
    import transformers

    done = rewarm("export", updated, "--to", tmp_path / "release")
    assert done.returncode == 0, done.stderr
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "release")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "release")
    tokens = words("Return the", return_tensors="pt")
    assert model.generate(**tokens, max_new_tokens=8, do_sample=False).shape[1] > tokens.input_ids.shape[1]
    assert rewarm("export", updated, "0000-docs", "--to", tmp_path / "release").returncode == 2


def test_what_was_taken_in_is_not_taken_in_again(base: Lineage, updated: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (updated / "updates").rglob("*") if path.is_file()}
    again = rewarm(*base.update(updated))
    assert again.returncode == 0, again.stderr[-2000:]
    assert "took in these files already" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in (updated / "updates").rglob("*") if path.is_file()} == before
    other = rewarm("update", updated, "--data", f"code={base.docs}")
    assert other.returncode == 2, "other files under a name that is taken"
    assert "already ingested" in other.stderr


@pytest.mark.parametrize(
    "stages",
    [
        ("train",),
        pytest.param(("ingest", "tokenize", "train", "evaluate"), marks=pytest.mark.faults),
        pytest.param(("train", "trained", "trunk", "anneal", "annealed", "release", "gate"), marks=pytest.mark.faults),
    ],
)
def test_kills_at_any_stage_change_nothing(
    base: Lineage, status: dict[str, Any], updated: Path, tmp_path: Path, stages: tuple[str, ...]
) -> None:
    workspace = tmp_path / "killed"
    shutil.copytree(base.workspace, workspace)
    update = workspace / "updates" / "0001-code"
    markers: dict[str, Callable[[], bool]] = {
        "ingest": lambda: any((workspace / "datasets" / "code" / STAGING).glob("*.parquet")),
        "tokenize": (workspace / "datasets" / "code" / "manifest.json").exists,
        "train": lambda: len(list(update.glob("checkpoints/train/checkpoint_*/progress.json"))) >= 2,
        "trained": (update / "trunk" / "model" / "config.json").exists,  # the workers wait for the branch
        "trunk": (update / "trunk" / "manifest.json").exists,
        "anneal": lambda: any(update.glob("checkpoints/anneal/checkpoint_*/progress.json")),
        "annealed": (update / "release" / "model" / "config.json").exists,
        "release": (update / "release" / "manifest.json").exists,
        "evaluate": (update / "evaluation" / "started.json").exists,
        "gate": (update / "evaluation" / "manifest.json").exists,  # the actors have measured the candidate
    }
    for stage in stages:
        assert kill_when(command(*base.update(workspace)), markers[stage]), stage
        left = json.loads(rewarm("status", workspace, "--json").stdout)
        assert left["release"] == "0000-docs", f"killed in {stage}: the release stays"
        assert left["updates"][-1]["state"] == "unfinished"
    refused = rewarm(*base.update(workspace, "--set", "replay.share=0.1"))
    assert refused.returncode == 2
    assert "replay.share: 0.25 → 0.1" in refused.stderr
    done = rewarm(*base.update(workspace))
    assert done.returncode == 0, done.stderr[-3000:]
    resumed = json.loads(rewarm("status", workspace, "--json").stdout)["updates"][1]
    undisturbed = status["updates"][1]
    assert resumed["train"]["resumed_from"], "the training was taken up again"
    for field in ("weights", "losses", "bits_per_byte", "forgetting", "gap", "lm_eval", "tokens", "replay"):
        assert resumed[field] == undisturbed[field], field
    for part in ("trunk", "release"):
        curves = [(root / "updates" / "0001-code" / part / "curve.json").read_bytes() for root in (workspace, updated)]
        assert curves[0] == curves[1], part
