"""The whole stage on Ray actors: what it reports, what it leaves, and how it goes on after a crash."""

import math
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from stages.errors import StageError
from stages.evaluate import EvaluateOutcome, EvaluateSettings, EvaluationSet, run
from stages.evaluate.losses import target_losses
from stages.evaluate.pool import load_model
from stages.progress import Silent
from stages.storage import Folder
from stages.tokens import TokenStream

SETTINGS = EvaluateSettings(task_documents=12, document_chars=300)


def evaluate(
    models: dict[str, Folder], sets: list[EvaluationSet], out: Path, num_actors: int, **changes: Any
) -> EvaluateOutcome:
    settings = SETTINGS.model_copy(update=changes)
    return run(
        models, sets, Folder(out), settings,
        seq_len=64, document_mask=True, num_actors=num_actors, gpus=False, progress=Silent(),
    )  # fmt: skip


@pytest.mark.usefixtures("ray_cluster")
def test_every_model_dataset_and_task_is_measured_and_kept(world: Any, tmp_path: Path) -> None:
    models = {"trunk": world.trunk, "release": world.release}
    outcome = evaluate(models, world.sets, tmp_path, num_actors=2)
    for name, folder in models.items():
        model = load_model(folder, gpu=False)
        for one in world.sets:
            stream = TokenStream(one.tokens)
            span = (0, stream.num_tokens - 1)
            losses = target_losses(model, stream, span, seq_len=64, document_mask=True, batch_size=3)
            table = pq.read_table(tmp_path / "losses" / f"{name}-{one.name}.parquet").to_pydict()
            assert table["doc_id"] == stream.document_ids()
            assert sum(table["num_tokens"]) == outcome.tokens[one.name] == stream.num_tokens - 1
            assert sum(table["nats"]) == pytest.approx(losses.sum(), rel=1e-6)
            assert outcome.losses[name][one.name] == pytest.approx(losses.mean(), rel=1e-6)
            bits = losses.sum() / math.log(2) / sum(len(text.encode()) for text in world.texts[one.name])
            assert outcome.bits_per_byte[name][one.name] == pytest.approx(bits, rel=1e-6)
    assert outcome.losses["trunk"] != outcome.losses["release"]
    assert sorted(outcome.lm_eval) == sorted(
        f"rewarm_{one.name}_{kind}" for one in world.sets for kind in ("rolling", "continuation")
    )
    assert set(outcome.lm_eval["rewarm_code_rolling"]) == {"word_perplexity", "byte_perplexity", "bits_per_byte"}
    assert {"acc", "acc_stderr", "acc_norm", "acc_norm_stderr"} == set(outcome.lm_eval["rewarm_code_continuation"])
    samples = [orjson.loads(line) for line in (tmp_path / "samples" / "rewarm_code_continuation.jsonl").open("rb")]
    assert all(len(sample["loglikelihoods"]) == 4 and len(sample["doc_id"]) == 32 for sample in samples)
    assert orjson.loads(orjson.dumps(asdict(outcome))) == asdict(outcome)

    # A crash lost one model's losses on one dataset; the next call measures these again, and nothing else.
    lost = "losses/trunk-code.parquet"
    (tmp_path / lost).unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = evaluate(models, world.sets, tmp_path, num_actors=1)
    assert again == outcome
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    changed = {str(path.relative_to(tmp_path)) for path in after if after[path] != before.get(path)}
    assert changed == {lost}


@pytest.mark.usefixtures("ray_cluster")
def test_one_folder_under_two_names_is_evaluated_once(world: Any, tmp_path: Path) -> None:
    both = {"trunk": world.trunk, "release": world.trunk}
    outcome = evaluate(both, world.sets[1:], tmp_path, num_actors=4, task_documents=0)
    assert outcome.losses["trunk"] == outcome.losses["release"]
    assert outcome.lm_eval == {}
    files = [tmp_path / "losses" / f"{name}-code.parquet" for name in both]
    assert files[0].read_bytes() == files[1].read_bytes()
    empty = EvaluationSet("empty", Folder(tmp_path / "none"), Folder(tmp_path / "none"))
    assert "empty: its validation split has 0 tokens" in evaluate(both, [empty], tmp_path / "empty", 1).notes[0]


@pytest.mark.usefixtures("ray_cluster")
def test_a_model_that_does_not_load_ends_the_stage(world: Any, tmp_path: Path) -> None:
    broken = Folder(tmp_path / "broken")
    broken.write("config.json", b"{}")
    with pytest.raises(StageError, match=r"the losses of .*broken"):
        evaluate({"release": broken}, world.sets[1:], tmp_path / "out", 1, task_documents=0)


@pytest.mark.faults
@pytest.mark.usefixtures("ray_cluster")
def test_killed_actors_come_back_and_change_nothing(world: Any, tmp_path: Path) -> None:
    models = {"release": world.release}
    undisturbed = evaluate(models, world.sets, tmp_path / "undisturbed", num_actors=2)
    killer = KillsEachActorOnce()
    settings = SETTINGS.model_copy()
    disturbed = run(
        models, world.sets, Folder(tmp_path / "disturbed"), settings,
        seq_len=64, document_mask=True, num_actors=2, gpus=False, progress=killer,
    )  # fmt: skip
    assert len(killer.killed) == 2
    assert disturbed == undisturbed


class KillsEachActorOnce(Silent):
    """When the first piece is done, every actor's process gets a SIGKILL."""

    def __init__(self) -> None:
        self.killed: list[int] = []
        self.label = ""

    def begin(self, label: str, total: float, unit: str) -> None:
        self.label = label

    def advance(self, by: float = 1, **figures: float) -> None:
        import psutil

        if self.label != "evaluate" or self.killed:
            return
        own = psutil.Process().children(recursive=True)  # a local Ray's workers are this process's descendants
        self.killed = [one.pid for one in own if "ray::Evaluator" in " ".join(one.cmdline())]
        for pid in self.killed:
            os.kill(pid, signal.SIGKILL)
