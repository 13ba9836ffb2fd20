"""What an update starts from is compared with the record: every damage is named before anything is spent."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from edited_records import edit_record
from release_world import begun

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.optimizer import OPTIMIZER
from rewarm.pipeline.lineage.recorded import compare_with_record, recorded_table, refuse_changed_model
from rewarm.pipeline.lineage.verify import verify
from rewarm.pipeline.lineage.verify.weights import refuse_damaged
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.update.model_steps import run_start, trunk_job
from rewarm.stages.core.digests import FILES, FileDigest, read_table, write_table
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import MANIFEST, Folder
from rewarm.stages.train.inputs import damaged, files_to_check

HEAD = "updates/0003-more"
TRUNK = f"{HEAD}/trunk"


class Notes(Silent):
    """Keeps what a person would read."""

    def __init__(self) -> None:
        self.notes = list[str]()

    def note(self, text: str) -> None:
        self.notes.append(text)


def flip(file: Path, place: int = -1) -> None:
    """Turn over a bit of a file's byte."""
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def optimizer(workspace: Workspace) -> Folder:
    return workspace.folder / HEAD / "trunk" / OPTIMIZER


def test_a_whole_lineage_passes_and_says_how_much_was_compared(lm: Workspace) -> None:
    said = Notes()
    compare_with_record(Lineage(lm), optimizer(lm), said)
    assert len(said.notes) == 1
    assert "MB of earlier results against the record" in said.notes[0]


@pytest.mark.parametrize(
    ("damage", "file", "says"),
    [
        (lambda at: flip(at / TRUNK / "model/model.safetensors"), f"{TRUNK}/model/model.safetensors", "digest"),
        (lambda at: flip(at / TRUNK / "model/config.json", 20), f"{TRUNK}/model/config.json", "digest"),
        (lambda at: (at / TRUNK / "model/config.json").unlink(), f"{TRUNK}/model/config.json", "no such file"),
        (lambda at: flip(at / TRUNK / "model/tokenizer.json"), f"{TRUNK}/model/tokenizer.json", "digest"),
        (lambda at: flip(at / "tokenizer/tokenizer_config.json", 20), "tokenizer/tokenizer_config.json", "digest"),
        (lambda at: flip(at / "datasets/news/tokens/validation/00000.arrow", 900), "news/tokens/validation", "digest"),
        (lambda at: flip(at / "dedup/docs/near.arrow"), "dedup/docs/near.arrow", "digest"),
        (lambda at: flip(at / "dedup/docs/doc_ids.arrow"), "dedup/docs/doc_ids.arrow", "digest"),
        (lambda at: flip(next((at / HEAD / "evaluation/losses").iterdir())), f"{HEAD}/evaluation/losses", "digest"),
        (lambda at: flip(at / TRUNK / "optimizer/state/optim_states.pt"), "optim_states.pt", "keep_optimizer"),
        (lambda at: (at / "datasets/docs/tokens" / FILES).unlink(), f"datasets/docs/tokens/{FILES}", "no such file"),
        (lambda at: flip(at / "datasets/docs/tokens" / FILES), f"datasets/docs/tokens/{FILES}", "by the record"),
    ],
)  # fmt: skip
def test_every_damage_is_named(lm: Workspace, damage: Callable[[Path], object], file: str, says: str) -> None:
    damage(lm.folder.path)
    with pytest.raises(DamagedError) as raised:
        compare_with_record(Lineage(lm), optimizer(lm), Silent())
    assert file in str(raised.value)
    assert says in str(raised.value)


def test_a_damaged_trunk_stops_an_update_before_it_begins(lm: Workspace, tmp_path: Path) -> None:
    (tmp_path / "late.jsonl").write_text(json.dumps({"text": "a document"}))
    flip(lm.folder.path / HEAD / "trunk/model/model.safetensors")
    with pytest.raises(DamagedError, match=r"0003-more/trunk/model/model\.safetensors"):
        begun(lm, "late", tmp_path / "late.jsonl")
    assert not (lm.folder / "updates" / "0004-late").exists()


def test_training_gets_the_records_digests(lm: Workspace) -> None:
    """Of the start and of the shards of the mixture, the replayed ones among them; damage to these is found there."""
    lineage = Lineage(lm)
    head = lineage.updates[-1]
    before = Lineage(lm)
    before.stand_on(before.updates[:-1])
    job = job_of(lm, before, head.id)
    assert job.start_digest == before.updates[-1].weights.trunk
    assert job.start_files is not None
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= job.start_files.keys()
    assert job.shards.keys() == {source.key for source in job.mixture.sources} == {"docs", "news", "code", "more"}
    wanted, notes = files_to_check(job, job.start)
    assert not notes
    assert list(damaged(wanted)) == []
    flip(lm.folder.path / "datasets/news/tokens/train/00000.arrow", 3000)
    assert [(folder, name) for folder, name, _ in damaged(wanted)] == [
        (lm.dataset("news") / "tokens" / "train", "00000.arrow")
    ]


def job_of(workspace: Workspace, lineage: Lineage, name: str):
    """The trunk's training of an update, made anew."""
    from release_world import recipe

    from rewarm.pipeline.terminal import Terminal
    from rewarm.pipeline.update.context import Tokenizer, UpdateContext
    from rewarm.pipeline.update.inputs import Arrival
    from rewarm.pipeline.update.runner import Runner

    arrival = Arrival({name.partition("-")[2]: []}, {})
    context = UpdateContext(workspace, lineage, arrival, recipe(), name, Runner(Terminal(quiet=True)))
    return trunk_job(context, run_start(context, Tokenizer("")))


def test_a_lineage_of_an_earlier_version_opens_and_says_what_was_not_compared(lm: Workspace) -> None:
    for file in lm.folder.path.rglob(MANIFEST):
        value = json.loads(file.read_text())
        value.pop(FILES, None)
        file.write_text(json.dumps(value))
    for file in lm.folder.path.rglob(FILES):
        file.unlink()
    lineage = Lineage(lm)
    lineage.stand_on([dataclasses.replace(update, files={}) for update in lineage.updates])
    said = Notes()
    compare_with_record(lineage, None, said)
    assert "recorded without file digests" in said.notes[1]
    for part in (
        "the tokenizer",
        "the trunk of 0003-more",
        "tokens of docs",
        "index of more",
        "evaluation of 0003-more",
    ):
        assert part in said.notes[1]
    assert recorded_table(lineage, lm.tokenizer) is None
    job = job_of(lm, lineage, "0003-more")
    assert (job.start_files, job.shards) == (None, {})


def test_a_table_that_lists_a_replaced_card_is_understood(lm: Workspace) -> None:
    """Of an imported base that an earlier version sealed with the model's own README, before it wrote the release's."""
    release = lm.update("0000-docs") / "release"
    place = release.relative_to(lm.folder)
    listed = {**read_table(release, release.manifest()[FILES]), "model/README.md": FileDigest(4291, "0" * 32)}
    digest = write_table(release, listed)
    release.write_json(MANIFEST, {**release.manifest(), FILES: digest})
    edit_record(lm, "0000-docs", lambda value: value["files"].update({place: digest}))
    lineage = Lineage(lm)
    refuse_changed_model(lineage, release / "model")
    refuse_damaged(lm, lineage.find("0"))
    assert not verify(lm, True, Silent()).problems
    flip(release.path / "model" / "config.json", 20)
    with pytest.raises(DamagedError, match=r"config\.json"):
        refuse_changed_model(lineage, release / "model")
    (release.path / "model" / "README.md").write_text("another card")
    assert [one.file for one in verify(lm, True, Silent()).problems] == [
        f"{place}/model/config.json",
        f"{place}/model/README.md",
    ]
