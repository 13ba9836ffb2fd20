"""Bad steps: what is an outlier, that a skipped step leaves no trace, and returns to an earlier checkpoint."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from process_group import in_group
from training_world import SEQ_LEN, World

from rewarm.stages import train
from rewarm.stages.core.errors import StageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenSet, TokenStream, write_shard
from rewarm.stages.train import Job, TrainSettings
from rewarm.stages.train.bad_steps import Guard, ReturnError, precedes
from rewarm.stages.train.decisions import (
    Decision,
    Return,
    decisions_of,
    decisions_so_far,
    is_left_out,
    steps_without_effect,
)

GUARDED = {"skip_sigma": 6.0, "skip_window": 8, "skip_limit": 1}


def guard(**settings: Any) -> Guard:
    return Guard(TrainSettings.model_validate({"global_batch": 8, **GUARDED, **settings}))


def steps(judge: Guard, figures: list[tuple[float, float | None]], first: int = 1) -> list[bool]:
    found = []
    for step, (loss, norm) in enumerate(figures, first):
        judge.begin(loss)
        found.append(judge.skips(norm))
        judge.end(step)
    return found


CALM = [(3.0 + 0.1 * (number % 3), 1.0 + 0.05 * (number % 2)) for number in range(8)]


def test_an_outlier_of_either_figure_is_bad() -> None:
    judge = guard(skip_limit=8)
    assert steps(judge, CALM) == [False] * 8
    assert steps(judge, [(9.0, 1.0)], 9) == [True]
    assert judge.reason is not None
    assert judge.reason.startswith("loss 9 above 3.")
    assert steps(judge, [(3.0, 7.0)], 10) == [True]
    assert judge.reason.startswith("gradient norm 7 above 1.")
    assert steps(judge, [(3.1, 1.0), (3.0, None)], 11) == [False, False]


def test_it_judges_nothing_before_half_a_window() -> None:
    assert steps(guard(skip_limit=8), [(3.0, 1.0), (900.0, 1.0), (3.1, 1.0), (3.0, 1.0), (900.0, 1.0)])[1] is False
    assert steps(guard(skip_limit=8), [*CALM[:4], (900.0, 1.0)]) == [False] * 4 + [True]


def test_what_was_skipped_does_not_raise_the_threshold() -> None:
    judge = guard(skip_limit=8)
    steps(judge, CALM)
    assert steps(judge, [(9.0, 1.0)] * 5, 9) == [True] * 5


def test_the_answer_of_a_step_holds_for_all_its_parts() -> None:
    judge = guard()
    steps(judge, CALM)
    judge.begin(3.0)
    assert [judge.skips(50.0), judge.skips(1.0)] == [True, True]


def test_the_state_is_that_of_the_curve() -> None:
    live, restored = guard(skip_limit=8), guard(skip_limit=8)
    figures = [*CALM, (9.0, 1.0), (3.1, 1.02)]
    skipped = steps(live, figures)
    rows = [
        {"step": step, "loss": loss, "grad_norm": norm, **({"skipped": "…"} if bad else {})}
        for step, ((loss, norm), bad) in enumerate(zip(figures, skipped, strict=True), 1)
    ]
    restored.restore(rows)
    for judge in (live, restored):
        judge.begin(4.2)
        judge.skips(1.0)
    assert live.reason == restored.reason


def test_too_many_bad_steps_of_a_window_return() -> None:
    judge = guard(skip_limit=1)
    steps(judge, CALM)
    steps(judge, [(9.0, 1.0), (3.1, 1.0)], 9)
    with pytest.raises(ReturnError) as raised:
        steps(judge, [(9.0, 1.0)], 11)
    assert raised.value.decision == Return(9, 11, [9, 11])
    assert "2 bad steps between 9 and 11: returning to the last checkpoint before step 9" in str(raised.value)


def test_bad_steps_far_apart_do_not_return() -> None:
    judge = guard(skip_limit=1)
    steps(judge, CALM)
    steps(judge, [(9.0, 1.0), *CALM, (9.0, 1.0), *CALM], 9)


def test_a_decision_is_told_once() -> None:
    rows = [
        {"step": 3, "skipped": "loss"},
        {"step": 4},
        {"step": 9, "skipped": "norm"},
        {"step": 30, "skipped": "loss"},
    ]
    found = decisions_of(rows, [Return(9, 11, [9, 11])])
    assert found == [
        Decision(3, 3, "skipped", "loss"),
        Decision(9, 11, "left out", "2 bad steps: 9, 11"),
        Decision(30, 30, "skipped", "loss"),
    ]
    assert steps_without_effect(found) == [3, 9, 10, 11, 30]
    assert steps_without_effect([]) == []


def test_left_out_steps_and_the_checkpoints_that_precede_them() -> None:
    returns = [Return(9, 11), Return(20, 20)]
    assert [step for step in range(1, 25) if is_left_out(returns, step)] == [9, 10, 11, 20]
    assert precedes(returns, 8, 0)
    assert not precedes(returns, 9, 0), "its weights hold step 9"
    assert precedes(returns, 12, 1)
    assert not precedes(returns, 21, 1)
    assert precedes(returns, 21, 2)


# -- the engine --------------------------------------------------------------------------------------------------

MODES = [(0, "fp32"), (1, "fp32"), (2, "bf16"), (3, "fp32"), (3, "bf16")]


def skip_one(rank: int, size: int, job: Job, modes: list[tuple[int, str]], results: Path) -> None:
    """A step that the guard skips, between others: as if it had not been, but for Adam's later bias correction."""
    from rewarm.stages.train.data import Batches
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    place = Place(rank, size, rank, torch.device("cpu"))
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    digests: dict[str, list[str]] = {}
    for stage, precision in modes:
        for name in ("without", "skipped"):
            update = {"zero_stage": stage, "precision": precision, "micro_batch": 2, **GUARDED}
            settings = job.settings.model_copy(update=update)
            engine = Engine(job.start.path, job.start_digest, settings, place, job.checkpoints.path)
            for step in (0, 1, 2) if name == "without" else (0, 1, 7, 2):
                if step == 7:
                    engine.guard._losses.extend([0.001] * 8)
                before = engine.weights_digest()
                engine.step(batches.part(step, rank, size, engine.rounds), job.rate(step))
                assert (engine.guard.reason is not None) == (step == 7), (stage, precision)
                assert (engine.weights_digest() == before) == (step == 7)
                engine.guard._losses.clear()
            digests.setdefault(f"{stage}-{precision}", []).append(engine.weights_digest())
    if rank == 0:
        (results / "digests.json").write_text(json.dumps(digests))


@pytest.mark.parametrize(
    "modes", [[(1, "fp32"), (3, "bf16")], pytest.param(MODES, marks=pytest.mark.faults)], ids=["few", "all"]
)
def test_a_skipped_step_leaves_no_trace_at_any_stage(
    world: World, tmp_path: Path, modes: list[tuple[int, str]]
) -> None:
    in_group(skip_one, 2, world.job("skipped"), modes, tmp_path)
    for mode, (without, skipped) in json.loads((tmp_path / "digests.json").read_text()).items():
        assert without == skipped, mode


# -- a run -------------------------------------------------------------------------------------------------------


def spoiled(world: World, job: Job, steps_: list[int], out: Path) -> Job:
    """The job with one token repeated in place of those that some steps read, counted from 1."""
    stream = TokenStream(world.train)
    ends, _ = stream.document_spans()
    tokens = np.array(stream.read(0, int(ends[-1])))
    for step in steps_:
        for start in job.mixture.batch(step - 1)[1].tolist():
            tokens[start + 1 : start + SEQ_LEN] = 399
    rows = [part.tolist() for part in np.split(tokens, ends[:-1])]
    columns = {
        "doc_id": pa.array(stream.document_ids()),
        "tokens": pa.array(rows, pa.large_list(pa.uint16())),
        "num_bytes": pa.array([len(row) for row in rows], pa.int64()),
    }
    folder = Folder(out)
    with folder.writing("00000.arrow") as path:
        write_shard(path, stream.format, [pa.record_batch(columns)])
    return dataclasses.replace(job, tokens={"text": TokenSet(folder)})


@pytest.fixture
def bad_job(world: World, tmp_path: Path) -> Job:
    settings = {"skip_sigma": 4.0, "skip_window": 16, "skip_limit": 1, "num_workers": 2, "cpus_per_worker": 1}
    job = world.job(f"bad-{tmp_path.name}", steps=24, checkpoint_every=6, validate_every=0, **settings)
    return spoiled(world, job, [15, 16], tmp_path / "tokens")


def test_a_run_returns_leaves_steps_out_and_says_so(bad_job: Job, ray_cluster: None) -> None:
    notes: list[str] = []
    progress = Silent()
    progress.note = notes.append
    outcome = train.run(bad_job, train.Group(progress))
    curve = bad_job.out.read_json(train.CURVE)
    assert outcome.steps == 24
    assert [row["step"] for row in curve["steps"]] == [*range(1, 15), *range(17, 25)]
    assert curve["returns"] == [{"first": 15, "last": 16, "skipped": [15, 16]}]
    assert outcome.decisions == [Decision(15, 16, "left out", "2 bad steps: 15, 16")]
    assert decisions_so_far(bad_job.checkpoints, bad_job.name) == outcome.decisions
    assert any("step 15 is skipped: gradient norm" in note for note in notes), notes
    assert any("leaving out steps 15 to 16" in note for note in notes), notes
    assert curve["steps"][-1]["loss"] < curve["steps"][0]["loss"]


def test_a_run_without_returns_left_stops(bad_job: Job, ray_cluster: None) -> None:
    settings = bad_job.settings.model_copy(update={"return_limit": 0})
    with pytest.raises(StageError, match="the number of bad steps among the last 16 is 2"):
        train.run(dataclasses.replace(bad_job, settings=settings), train.Group(Silent()))


def test_nothing_is_guarded_by_default() -> None:
    settings = TrainSettings()
    assert settings.skip_sigma is None
    assert "skip_sigma" not in settings.identity()
    assert settings.model_copy(update={"skip_sigma": 6.0}).identity()["skip_sigma"] == 6.0
