"""``rewarm verify`` on a real workspace, whole and with damage planted: every damage is named, by its file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from edited_records import edit_record
from release_world import files_of

from rewarm.pipeline.lineage.verify import Findings, verify
from rewarm.pipeline.lineage.verify.data import DatasetCheck, check_apart
from rewarm.pipeline.lineage.verify.weights import check_tokenizer_files
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.terminal import Terminal

Command = Callable[..., tuple[int, str, str]]
Damage = Callable[[Path], object]
NEWS = "updates/0001-news"
DOCUMENTS, VALIDATION = "datasets/news/documents/00000.parquet", "datasets/news/validation/00000.parquet"


def checked(workspace: Workspace, quick: bool = True) -> Findings:
    return verify(workspace, quick, Terminal(quiet=True))


def flip(file: Path, place: int = -1) -> None:
    """Turn over a bit of a file's byte."""
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    """Lose the second half of a file."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def edit(file: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file's value."""
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def retext(file: Path) -> None:
    """Another text under an id that stays, in a file that is whole."""
    table = pq.read_table(file)
    texts = pa.array(["something else", *table.column("text").to_pylist()[1:]], pa.large_string())
    pq.write_table(table.set_column(table.schema.get_field_index("text"), "text", texts), file)


def readdress(file: Path, column: str) -> None:
    """Another address, source or language beside a text that stays, in a file that is whole."""
    table = pq.read_table(file)
    place = table.schema.get_field_index(column)
    values = pa.array(["other"] * len(table), table.schema.field(column).type)
    pq.write_table(table.set_column(place, table.schema.field(column), values), file)


def relabel(file: Path) -> None:
    """Other losses in a file that is whole."""
    table = pq.read_table(file)
    nats = pa.array(table.column("nats").to_numpy() * 1.01)
    pq.write_table(table.set_column(table.schema.get_field_index("nats"), table.schema.field("nats"), nats), file)


def test_a_lineage_as_it_was_made_is_whole_and_stays_so(lm: Workspace, rewarm: Command) -> None:
    before = files_of(lm.folder)
    code, out, error = rewarm("verify", lm.folder, "--json")
    found = json.loads(out)
    assert (code, found["ok"], found["problems"], found["orphans"]) == (0, True, [], []), error
    assert found["checked"]["models"] == 8, "a trunk and a release of each of four updates"
    assert found["checked"]["updates"] == found["checked"]["datasets"] == 4
    assert found["checked"]["losses"] == 2 * (1 + 2 + 3 + 4)
    assert found["checked"]["tokens"] > 10_000
    assert files_of(lm.folder) == before, "nothing is written"


@pytest.mark.parametrize(
    ("damage", "file", "says"),
    [
        (lambda at: cut(at / "datasets/news/documents/00000.parquet"), "datasets/news/documents/00000", "shard"),
        (lambda at: retext(at / "datasets/news/documents/00000.parquet"), "datasets/news/documents", "doc_id"),
        *[
            (lambda at, name=name: readdress(at / DOCUMENTS, name), DOCUMENTS, "bytes")
            for name in ("source", "url", "language")
        ],
        (lambda at: readdress(at / VALIDATION, "url"), VALIDATION, "bytes"),
        (lambda at: flip(at / NEWS / "release/model/README.md"), f"{NEWS}/release/model/README.md", "card"),
        (lambda at: (at / NEWS / "release/model/README.md").unlink(), f"{NEWS}/release/model/README.md", "card"),
        (lambda at: (at / "datasets/news/validation/00000.parquet").unlink(), "datasets/news", "validation_documents"),
        (lambda at: shutil.rmtree(at / "datasets/news"), "datasets/news", "dataset of update 0001-news"),
        (lambda at: flip(at / "datasets/news/tokens/train/00000.arrow", 3000), "datasets/news/tokens", "token"),
        (lambda at: cut(at / "datasets/news/tokens/train/00000.arrow"), "datasets/news/tokens/train", "token shard"),
        (lambda at: (at / "datasets/news/tokens/train/00000.arrow").unlink(), "datasets/news/tokens/train", "shards"),
        (lambda at: cut(at / "datasets/news/quarantine/00000.parquet"), "datasets/news/quarantine", "refused records"),
        (lambda at: (at / "datasets/news/manifest.json").unlink(), "datasets/news/manifest.json", "manifest"),
        (lambda at: shutil.rmtree(at / "dedup/news"), "dedup/news", "index"),
        (lambda at: cut(at / "tokenizer/tokenizer.json"), "tokenizer", "tokenizer"),
        (lambda at: (at / "releases.json").unlink(), "releases.json", "current release"),
        (lambda at: (at / "releases.json").write_text("{"), "releases.json", "current release"),
        (lambda at: edit(at / "releases.json", lambda v: v.update(current="0009-x")), "releases.json", "the log"),
        (lambda at: edit(at / "releases.json", lambda v: v["history"].pop(1)), "releases.json", "the log"),
        (lambda at: shutil.rmtree(at / "commits"), "commits", "a commit of 0001-news"),
        (lambda at: (at / "commits/00000001.json").unlink(), "commits", "log of commits"),
        (lambda at: (at / "commits/00000003.json").unlink(), "releases.json", "the log"),
        (lambda at: flip(at / "commits/00000001.json", 200), "commits", "log of commits"),
        (lambda at: (at / NEWS / "update.json").write_text("{"), f"{NEWS}/update.json", "record"),
        (lambda at: shutil.rmtree(at / NEWS), f"{NEWS}/update.json", "record of a finished"),
        (lambda at: edit(at / NEWS / "update.json", lambda v: v.update(position=7)), NEWS, "committed"),
        (lambda at: (at / NEWS / "trunk/manifest.json").unlink(), f"{NEWS}/trunk/manifest.json", "manifest"),
        (
            lambda at: edit(at / NEWS / "trunk/manifest.json", lambda v: v["identity"]["inputs"].update(start="0")),
            f"{NEWS}/trunk/manifest.json",
            "a start from the trunk of 0000-docs",
        ),
        (
            lambda at: edit_record(
                Workspace(str(at)), "0000-docs", lambda v: v["weights"].update(trunk="0" * 32)
            ),
            f"{NEWS}/trunk/manifest.json",
            "a start from the trunk of 0000-docs",
        ),
        (
            lambda at: edit(at / NEWS / "mixture/mixture.json", lambda v: v["replayed"][0].update(start=3)),
            f"{NEWS}/mixture/mixture.json",
            "replayed from",
        ),
        (
            lambda at: edit(at / NEWS / "mixture/mixture.json", lambda v: v.update(share="1/2")),
            f"{NEWS}/mixture/mixture.json",
            "tokens",
        ),
        (
            lambda at: relabel(at / NEWS / "evaluation/losses/release-docs.parquet"),
            f"{NEWS}/evaluation/losses/release-docs.parquet",
            "nats",
        ),
        (lambda at: flip(at / "dedup/news/near.arrow"), "dedup/news/near.arrow", "digest"),
        (lambda at: flip(next((at / "dedup/news/validation-grams").glob("*.grams"))), "dedup/news/vali", "digest"),
        (lambda at: flip(at / "datasets/news/account.json", 3), "datasets/news/account.json", "digest"),
        (lambda at: flip(at / "datasets/news/tokens/validation/00000.arrow", 900), "datasets/news/tokens", "digest"),
        (lambda at: flip(at / "tokenizer/tokenizer_config.json", 9), "tokenizer/tokenizer_config.json", "digest"),
        (lambda at: flip(at / NEWS / "release/curve.json", 5), f"{NEWS}/release/curve.json", "digest"),
        (lambda at: flip(at / NEWS / "release/model/config.json", 9), f"{NEWS}/release/model/config.json", "digest"),
        (lambda at: (at / NEWS / "trunk/curve.json").unlink(), f"{NEWS}/trunk/curve.json", "bytes"),
        (lambda at: flip(next((at / NEWS / "evaluation/samples").iterdir())), f"{NEWS}/evaluation/samples", "digest"),
        (lambda at: flip(next((at / NEWS / "evaluation/scores").iterdir())), f"{NEWS}/evaluation/scores", "digest"),
        (lambda at: flip(at / NEWS / "mixture/files.json", 90), f"{NEWS}/mixture/files.json", "digests"),
        (
            lambda at: edit(at / NEWS / "evaluation/manifest.json", lambda v: v.update({"files.json": "0" * 32})),
            f"{NEWS}/evaluation/manifest.json",
            "table of files",
        ),
    ],
)  # fmt: skip
def test_every_damage_is_named(lm: Workspace, damage: Damage, file: str, says: str) -> None:
    damage(lm.folder.path)
    found = checked(lm)
    hits = [one for one in found.problems if one.file.startswith(file) and says in one.expected]
    assert hits, found.problems
    assert all(one.remedy for one in found.problems)


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink], ids=["flipped", "cut", "missing"])
def test_weights_are_checked_unless_quick(lm: Workspace, rewarm: Command, damage: Callable[[Path], object]) -> None:
    damage(lm.update("0001-news").path / "release" / "model" / "model.safetensors")
    quick, out, _ = rewarm("verify", lm.folder, "--quick")
    assert quick == 0
    assert "the weights were not verified" in out
    code, out, _ = rewarm("verify", lm.folder)
    assert code == 1
    assert f"{NEWS}/release/model" in out
    assert "1 problem " in out


def test_a_release_carries_the_tokenizer_that_made_the_data_byte_for_byte(lm: Workspace) -> None:
    """Another decoder gives the same ids, and is another tokenizer all the same."""
    models = {name: lm.update(name) / "release" / "model" for name in ("0000-docs", "0001-news")}
    edit(models["0001-news"].path / "tokenizer.json", lambda value: value.update(decoder=None))
    findings = Findings(lm.folder)
    for model in models.values():
        check_tokenizer_files(lm.tokenizer, model, findings)
    assert [one.file for one in findings.problems] == [f"{NEWS}/release/model/tokenizer.json"]


def test_an_optimizer_that_is_kept_is_checked_too(lm: Workspace) -> None:
    place = "updates/0003-more/trunk/optimizer/state/optim_states.pt"
    assert checked(lm, quick=False).checked["optimizers"] == 1
    flip(lm.folder.path / place)
    assert [one.file for one in checked(lm, quick=False).problems] == [place]


def test_orphans_are_named_and_are_no_problem(lm: Workspace, rewarm: Command) -> None:
    root = lm.folder.path
    planted = {
        ".x.tmp": "datasets/news/documents/.00003.parquet.0f.tmp",
        "dataset": "datasets/dropped/documents/00000.parquet",
        "kept": "datasets/refused/quarantine/00000.parquet",
        "dedup": "dedup/dropped/doc_ids.arrow",
        "update": "updates/0007-torn/trunk/model/model.safetensors",
        "checkpoints": "updates/0002-code/checkpoints/train/checkpoint_1/state.pt",
        "optimizer": "updates/0001-news/trunk/optimizer/progress.json",
        "unknown": "notes.txt",
    }
    for place in planted.values():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(b"12345")
    code, out, _ = rewarm("verify", lm.folder, "--quick", "--json")
    assert code == 0
    found = {one["path"]: one["kind"] for one in json.loads(out)["orphans"]}
    assert set(found) == {
        planted[".x.tmp"],
        "datasets/dropped/documents",
        "dedup/dropped",
        "updates/0007-torn",
        "updates/0002-code/checkpoints",
        "updates/0001-news/trunk/optimizer",
        "notes.txt",
    }
    assert found["notes.txt"] == "unknown"


def test_validation_documents_in_training_are_noticed(lm: Workspace) -> None:
    ids = np.array([bytes([number]) * 16 for number in range(1, 9)], "S16")
    one, other = (DatasetCheck(lm, name, Findings(lm.folder)) for name in ("docs", "news"))
    other.earlier = ["docs"]
    one.splits["documents"].ids, one.splits["validation"].ids = ids[:3], ids[3:5]
    other.splits["documents"].ids, other.splits["validation"].ids = ids[5:7], ids[7:]
    checks = {"docs": one, "news": other}
    apart = Findings(lm.folder)
    check_apart(checks, apart)
    assert not apart.problems
    other.splits["documents"].ids = ids[4:7]
    mixed = Findings(lm.folder)
    check_apart(checks, mixed)
    assert [(one.file, one.found) for one in mixed.problems] == [("datasets/docs/validation", "1 documents")]


def test_an_update_under_way_is_left_out(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    from release_world import begun

    (tmp_path / "late.jsonl").write_text(json.dumps({"text": "a document"}))
    begun(lm, "late", tmp_path / "late.jsonl")
    (lm.dataset("late") / "documents").write("00000.parquet", b"torn")
    code, out, _ = rewarm("verify", lm.folder, "--quick", "--json")
    found = json.loads(out)
    assert code == 0
    assert any("0004-late: unfinished" in note for note in found["notes"])
    assert not [one for one in found["orphans"] if "late" in one["path"]]


def test_a_lineage_that_goes_round_a_refused_update_is_whole(lm: Workspace) -> None:
    """By the trunk policy ``before``, an update starts from the trunk before the one that was refused."""
    edit_record(lm, "0002-code", lambda value: value.update(state="refused"))
    assert not checked(lm).problems, "by the policy continue"
    edit_record(lm, "0003-more", lambda value: value.pop("follows", None))
    first, last = (
        json.loads((lm.update(name).path / "update.json").read_text()) for name in ("0001-news", "0003-more")
    )
    manifest = lm.update("0003-more").path / "trunk/manifest.json"
    edit(manifest, lambda value: value["identity"]["inputs"].update(start=first["weights"]["trunk"]))
    around = {one.file for one in checked(lm).problems}
    assert "updates/0003-more/update.json" in around, "its position still counts the refused update"
    trained = json.loads(manifest.read_text())["outcome"]["tokens"]
    edit_record(lm, "0003-more", lambda value: value.update(position=first["position"] + trained))
    assert "updates/0003-more/update.json" in {one.file for one in checked(lm).problems}, "so does its sum of replay"
    edit_record(lm, "0003-more", lambda value: value["replay"].update(carried=None))
    rest = {one.file for one in checked(lm).problems}
    assert "updates/0003-more/update.json" not in rest
    assert last["position"] > first["position"] + trained
