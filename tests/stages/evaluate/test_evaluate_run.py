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
import yaml
from small_lineage import started_by, words

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenStream
from rewarm.stages.evaluate import EvaluateOutcome, EvaluateSettings, EvaluationSet, run, worker_environment
from rewarm.stages.evaluate.lm_eval import Task, run_task
from rewarm.stages.evaluate.task_sets import expand
from rewarm.stages.inference.actors import Pool, Reading, load_model
from rewarm.stages.inference.losses import document_losses

SETTINGS = EvaluateSettings(task_documents=12, document_chars=300)


def evaluate(
    models: dict[str, Folder], sets: list[EvaluationSet], out: Path, num_actors: int, **changes: Any
) -> EvaluateOutcome:
    settings = SETTINGS.model_copy(update=changes)
    with Pool(num_actors, False, worker_environment(settings)) as pool:
        return run(
            models, sets, Folder(out), settings,
            reading=Reading(64, settings.batch_size, gpus=False), pool=pool, progress=Silent(),
        )  # fmt: skip


@pytest.mark.usefixtures("ray_cluster")
def test_every_model_dataset_and_task_is_measured_and_kept(world: Any, tmp_path: Path) -> None:
    models = {"trunk": world.trunk, "release": world.release}
    outcome = evaluate(models, world.sets, tmp_path, num_actors=2)
    for name, folder in models.items():
        model = load_model(folder, gpu=False)
        for one in world.sets:
            stream = TokenStream(one.tokens)
            everything = (0, stream.num_documents)
            nats, counts = document_losses(model, stream, everything, seq_len=64, batch_size=3)
            table = pq.read_table(tmp_path / "losses" / f"{name}-{one.name}.parquet").to_pydict()
            assert table["doc_id"] == stream.document_ids()
            assert sum(table["num_tokens"]) == outcome.tokens[one.name] == stream.num_tokens
            assert table["nats"] == pytest.approx(nats.tolist(), rel=1e-6)
            assert outcome.losses[name][one.name] == pytest.approx(nats.sum() / counts.sum(), rel=1e-6)
            bits = nats.sum() / math.log(2) / sum(len(text.encode()) for text in world.texts[one.name])
            assert outcome.bits_per_byte[name][one.name] == pytest.approx(bits, rel=1e-6)
    assert outcome.losses["trunk"] != outcome.losses["release"]
    assert sorted(outcome.lm_eval) == sorted(
        [
            *(f"rewarm_{one.name}_{kind}" for one in world.sets for kind in ("rolling", "continuation")),
            "rewarm_code_order",
        ]
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
    assert "empty: its validation split holds no documents" in evaluate(both, [empty], tmp_path / "empty", 1).notes[0]


def stand_ins(root: Path) -> Path:
    """Definitions of the German set's names on a few local questions: lm-eval takes them before its own."""
    root.mkdir()
    rows = [
        {"q": f"Item {n}: what comes after {n}?", "choices": [str(n + k) for k in (1, 2, 3)], "label": n % 3}
        for n in range(8)
    ]
    lines = [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows]
    for name in expand(("paper-german",), None):
        (root / f"{name}-train.jsonl").write_bytes(b"".join(lines[2:]))
        (root / f"{name}-test.jsonl").write_bytes(b"".join(lines[:2]))
        task = {
            "task": name, "dataset_path": "json", "training_split": "train", "test_split": "test",
            "dataset_kwargs": {
                "data_files": {part: str(root / f"{name}-{part}.jsonl") for part in ("train", "test")},
                "cache_dir": str(root / "cache"),
            },
            "output_type": "multiple_choice", "doc_to_text": "q", "doc_to_choice": "choices", "doc_to_target": "label",
            "metric_list": [{"metric": metric, "aggregation": "mean"} for metric in ("acc", "acc_norm")],
        }  # fmt: skip
        (root / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return root


@pytest.mark.usefixtures("ray_cluster")
def test_a_set_runs_each_task_at_its_shots_and_has_a_mean_without_mmlu(world: Any, tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager

    folder = stand_ins(tmp_path / "stand-ins")
    named = {"tasks": ("paper-german",), "include_path": str(folder), "task_documents": 0}
    outcome = evaluate({"release": world.release}, world.sets[1:], tmp_path / "out", num_actors=1, **named)
    scores = outcome.lm_eval
    assert set(scores) == {"paper-german", "hellaswag_de", "arc_de", "m_mmlu_de"}
    assert scores["paper-german"]["mean"] == (scores["hellaswag_de"]["acc_norm"] + scores["arc_de"]["acc"]) / 2
    assert any("TriviaQA" in note for note in outcome.notes)

    model, manager = load_model(world.release, gpu=False), TaskManager(include_path=str(folder), include_defaults=False)
    found: dict[tuple[str, int], list[list[float]]] = {}
    for task, shots in (("arc_de", 0), ("m_mmlu_de", 0), ("m_mmlu_de", 5)):
        results = run_task(model, world.release.local(), Task(task, shots=shots), manager, SETTINGS, 64)
        assert results["n-shot"][task] == shots
        found[task, shots] = [[answer[0][0] for answer in sample["resps"]] for sample in results["samples"][task]]
    for task, shots, same in (("arc_de", 0, True), ("m_mmlu_de", 5, True), ("m_mmlu_de", 0, False)):
        lines = (tmp_path / "out" / "samples" / f"{task}.jsonl").read_bytes().splitlines()
        kept = [orjson.loads(line)["loglikelihoods"] for line in lines]
        assert (kept == [pytest.approx(values, rel=1e-4) for values in found[task, shots]]) is same, (task, shots)


@pytest.mark.usefixtures("ray_cluster")
def test_a_model_that_does_not_load_ends_the_stage(world: Any, tmp_path: Path) -> None:
    broken = Folder(tmp_path / "broken")
    broken.write("config.json", b"{}")
    with pytest.raises(StageError, match=r"broken: no weights"):
        evaluate({"release": broken}, world.sets[1:], tmp_path / "out", 1, task_documents=0)


@pytest.mark.usefixtures("ray_cluster")
def test_one_pool_that_has_every_cpu_measures_one_model_after_the_other(world: Any, tmp_path: Path) -> None:
    with Pool(2, False, worker_environment(SETTINGS)) as pool:
        found = [
            run(
                {"release": model}, world.sets, Folder(tmp_path / name), SETTINGS,
                reading=Reading(64, SETTINGS.batch_size, gpus=False), pool=pool, progress=Silent(),
            )
            for name, model in (("new", world.release), ("old", world.trunk))
        ]  # fmt: skip
    assert found[0].losses != found[1].losses
    apart = evaluate({"release": world.trunk}, world.sets, tmp_path / "apart", num_actors=1)
    assert found[1] == apart


@pytest.mark.faults
@pytest.mark.usefixtures("ray_cluster")
def test_killed_actors_come_back_and_change_nothing(world: Any, tmp_path: Path) -> None:
    models = {"release": world.release}
    undisturbed = evaluate(models, world.sets, tmp_path / "undisturbed", num_actors=2)
    killer = KillsEachActorOnce()
    settings = SETTINGS.model_copy()
    with Pool(2, False, worker_environment(settings)) as pool:
        disturbed = run(
            models, world.sets, Folder(tmp_path / "disturbed"), settings,
            reading=Reading(64, settings.batch_size, gpus=False), pool=pool, progress=killer,
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
        own = started_by(psutil.Process())  # a local Ray's workers are this process's descendants
        self.killed = [one.pid for one in own if "ray::ModelHost" in " ".join(words(one))]
        for pid in self.killed:
            os.kill(pid, signal.SIGKILL)
