"""Training on real Ray Train workers: the same curve whatever the workers and whatever is killed."""

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_lineage import started_by, words
from tensorboard_events import curves
from training_world import BATCH, SEQ_LEN, STEPS, World

from rewarm.stages import anneal, train
from rewarm.stages.core.errors import DamagedError, StageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenSet
from rewarm.stages.train import Job, Phase, TrainOutcome
from rewarm.stages.train.checkpoints import damages, names_of, read_progress
from rewarm.stages.train.not_finite import documents_of
from rewarm.stages.train.weights import digest, load_model, model_weights

pytestmark = pytest.mark.usefixtures("ray_cluster")

# Some seconds of training: the driver hears of it once a second, and a kill must fall into it.
RUN = 150
MILESTONES = (20, 30)
LONG = {"steps": RUN, "checkpoint_every": 15, "validate_every": 50, "final_steps": 20}


def curve(job: Job) -> dict[str, Any]:
    value: dict[str, Any] = job.out.read_json(train.CURVE)
    return value


def weights(folder: Folder) -> str:
    return digest(model_weights(load_model((folder / "model").path)))


def actors(kind: str) -> list[psutil.Process]:
    """Actors of this session's cluster, by the names Ray gives its processes."""
    mine = [child for child in started_by(psutil.Process()) if child.is_running()]
    return [child for child in mine if kind in " ".join(words(child))]


class Killer(Silent):
    """Kills an actor of the training, once, when it has come to a step."""

    def __init__(self, kind: str, tokens: int) -> None:
        self.kind, self.left, self.killed, self.notes = kind, tokens, False, list[str]()

    def advance(self, by: float = 1, **figures: float) -> None:
        self.left -= int(by)
        if self.left <= 0 and not self.killed:
            self.killed = True
            os.kill(actors(self.kind)[-1].pid, signal.SIGKILL)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def undisturbed(world: World) -> tuple[Job, TrainOutcome]:
    job = world.job("undisturbed", **LONG, milestones=MILESTONES)
    return job, train.run(job, train.Group(Silent()))


def test_the_curve_has_every_step_and_the_loss_falls(undisturbed: tuple[Job, TrainOutcome]) -> None:
    job, outcome = undisturbed
    found = curve(job)
    assert [row["step"] for row in found["steps"]] == list(range(1, RUN + 1))
    assert [row["tokens"] for row in found["steps"]] == [step * SEQ_LEN * BATCH for step in range(1, RUN + 1)]
    assert [row["lr"] for row in found["steps"]] == [job.rate(step) for step in range(RUN)]
    assert [row["step"] for row in found["validation"]] == [0, 1, 2, 4, 8, 16, 32, 50, 100, 140, 150]
    looks = [row["losses"]["text"] for row in found["validation"][-2:]]
    assert found["final"] == {"text": pytest.approx(sum(looks) / 2)}
    first, last = found["validation"][0]["losses"]["text"], found["validation"][-1]["losses"]["text"]
    assert last < first - 0.1
    assert outcome.resumed_from == []
    assert (outcome.steps, outcome.world_size) == (RUN, 2)
    assert outcome.bitwise is True
    assert found["arithmetic"]["gradients"] == "bitwise"


def test_milestones_stay_beside_the_checkpoints(undisturbed: tuple[Job, TrainOutcome]) -> None:
    job, _ = undisturbed
    kept = job.checkpoints.at("../milestones")  # the commit of an update deletes checkpoints
    for name, step in zip(kept.folders(), MILESTONES, strict=True):
        assert name == f"train-step-{step:08d}"
        assert damages(kept / name) == []
        assert read_progress(kept / name).step == step


def test_tensorboard_has_the_same_curve(undisturbed: tuple[Job, TrainOutcome]) -> None:
    job, _ = undisturbed
    shown, found = curves(job.checkpoints.at("../tensorboard/train").path), curve(job)
    assert list(shown["train/loss"].values()) == pytest.approx([row["loss"] for row in found["steps"]], rel=1e-6)
    assert shown["validation/text"][RUN] == pytest.approx(found["validation"][-1]["losses"]["text"], rel=1e-6)
    assert not list(job.out.path.rglob("*tfevents*")), "the files are no part of the step's outcome"


def test_the_model_is_a_hugging_face_folder_with_the_trained_weights(undisturbed: tuple[Job, TrainOutcome]) -> None:
    import transformers

    job, outcome = undisturbed
    folder = (job.out / "model").path
    assert weights(job.out) == outcome.digest
    words = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    written = model.generate(**words("Return the", return_tensors="pt"), max_new_tokens=5, do_sample=False)
    assert written.shape[1] > words("Return the", return_tensors="pt").input_ids.shape[1]


@pytest.mark.parametrize(
    ("kind", "notice"),
    [
        ("RayTrainWorker", "restarted"),
        pytest.param("TrainController", "controller process of the workers died", marks=pytest.mark.faults),
    ],
)
def test_a_killed_process_changes_nothing(
    world: World, undisturbed: tuple[Job, TrainOutcome], kind: str, notice: str
) -> None:
    job = world.job(f"killed {kind}", **LONG)
    killer = Killer(kind, 15 * SEQ_LEN * BATCH)
    outcome = train.run(job, train.Group(killer))
    assert killer.killed
    assert len(outcome.resumed_from) == 1
    assert outcome.resumed_from[0] in range(0, RUN, 15)
    assert any(notice in note for note in killer.notes)
    assert outcome.digest == undisturbed[1].digest
    assert curve(job) == curve(undisturbed[0])


class Notes(Silent):
    """Keeps what a person would read."""

    def __init__(self) -> None:
        self.notes = list[str]()

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file: flip(file, 64), "digest"),
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:-100]), "bytes", marks=pytest.mark.faults),
        pytest.param(lambda file: shutil.rmtree(file.parent.parent), "", marks=pytest.mark.faults),
    ],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_is_used(
    undisturbed: tuple[Job, TrainOutcome], tmp_path: Path, damage: Callable[[Path], object], says: str
) -> None:
    job, outcome = undisturbed
    shutil.copytree(job.checkpoints.path, tmp_path / "checkpoints")
    damaged = dataclasses.replace(job, checkpoints=Folder(tmp_path / "checkpoints"), out=Folder(tmp_path / "trunk"))
    newest, before = names_of(damaged)
    damage(next((damaged.checkpoints.path / "train" / newest / "state").glob("*optim_states.pt")))
    said = Notes()
    again = train.run(damaged, train.Group(said))
    text = "\n".join(said.notes)
    assert says == "" or (f"{newest} is skipped: state/" in text and says in text)
    assert says == "" or f"resuming from {before}, step 135" in text
    assert again.resumed_from[-1] == 135
    assert again.digest == outcome.digest
    assert curve(damaged) == curve(job)
    assert not damages(Folder(again.checkpoint)), "the anneal starts from one that is whole"


def flip(file: Path, count: int) -> None:
    """Turn over so many bytes, spread over a file."""
    data = bytearray(file.read_bytes())
    for place in range(0, len(data), len(data) // count):
        data[place] ^= 0xFF
    file.write_bytes(data)


def test_training_stops_at_the_first_loss_that_is_not_a_number(world: World) -> None:
    job = world.job("diverged", checkpoint_every=1, validate_every=0, keep_checkpoints=3, max_failures=0)
    far_too_high = Phase("constant", "constant", 0, 1e9, 1e30, 1e30)
    job = dataclasses.replace(job, schedule=dataclasses.replace(job.schedule, phases=(far_too_high,)))
    said = Notes()
    stopped = r"stopped at step 2 of 12: the (loss|norm of the gradient) is (nan|inf)"
    with pytest.raises(StageError, match=stopped) as raised:
        train.run(job, train.Group(said))
    assert "checkpoint of step 1 is kept" in str(raised.value)
    assert any("retrying once from step 1" in note for note in said.notes)
    stop = job.checkpoints.read_json("train-stopped.json")
    assert stop["documents"]["text"] == documents_of(job, 1)["text"]
    assert [read_progress(job.checkpoints / "train" / name).step for name in names_of(job)] == [1]
    with pytest.raises(StageError, match="rewarm discard"):
        train.run(job, train.Group(Silent()))


def test_a_start_that_is_not_the_recorded_one_is_not_trained_on(world: World) -> None:
    job = dataclasses.replace(world.job("other"), start_digest="0" * 32)
    with pytest.raises(DamagedError, match=f"have digest {world.digest}, expected {'0' * 32} from the record"):
        train.run(job, train.Group(Silent()))
    assert not names_of(job)


def test_one_worker_reads_and_learns_the_same(world: World, undisturbed: tuple[Job, TrainOutcome]) -> None:
    """The first steps of the same run; ``test_faults`` has a whole update that goes on with one worker."""
    job = dataclasses.replace(world.job("alone", num_workers=1, micro_batch=4, **LONG), steps=40)
    outcome = train.run(job, train.Group(Silent()))
    assert outcome.world_size == 1
    one, two = curve(job), curve(undisturbed[0])
    losses = [[row["loss"] for row in found["steps"][: job.steps]] for found in (one, two)]
    assert losses[0][:30] == pytest.approx(losses[1][:30], rel=1e-4)
    assert losses[0] == pytest.approx(losses[1], rel=1e-2), "training carries the order of sums on"
    alone, pair = ({look["step"]: look["losses"] for look in found["validation"]} for found in (one, two))
    for step in (0, 1, 2, 4, 8, 16, 32):
        assert alone[step] == pytest.approx(pair[step], rel=1e-2)


def test_a_driver_that_comes_back_trains_nothing_twice(undisturbed: tuple[Job, TrainOutcome]) -> None:
    job, outcome = undisturbed
    before = curve(job)
    again = train.run(job, train.Group(Silent()))
    assert again.digest == outcome.digest
    assert again.resumed_from == [RUN]
    assert curve(job) == before


def test_the_anneal_branches_off_the_trunk(undisturbed: tuple[Job, TrainOutcome]) -> None:
    job, outcome = undisturbed
    infinite = train.schedule_for(train.ScheduleSettings(kind="infinite", peak=2e-3), 0, outcome.tokens, None)
    trunk = dataclasses.replace(job, schedule=infinite)
    out = Folder(job.out.path.parent / "release")
    branch = anneal.run(trunk, outcome, out, anneal.AnnealSettings(share=0.04), 2e-4, train.Group(Silent()))
    found = curve(dataclasses.replace(job, out=out))
    assert branch.branched
    assert branch.steps == 6
    assert found["steps"][0]["tokens"] == outcome.tokens + SEQ_LEN * BATCH
    assert found["steps"][-1]["lr"] == pytest.approx(2e-4)
    assert found["validation"][0]["losses"] == curve(job)["validation"][-1]["losses"], (
        "the branch starts at the trunk's end"
    )
    assert branch.digest == weights(out) != outcome.digest
    assert weights(job.out) == outcome.digest, "the trunk stays as it was"


def test_nothing_is_annealed_after_a_schedule_that_decays(undisturbed: tuple[Job, TrainOutcome]) -> None:
    job, outcome = undisturbed
    out = Folder(job.out.path.parent / "copied")
    same = anneal.run(job, outcome, out, anneal.AnnealSettings(), 2e-4, train.Group(Silent()))
    assert not same.branched
    assert "already decayed" in same.because
    assert weights(out) == outcome.digest


def test_shards_that_changed_under_a_run_are_noticed(world: World) -> None:
    job = world.job("changed", steps=STEPS, max_failures=0)
    job = dataclasses.replace(job, tokens={"text": TokenSet(world.validation)})
    with pytest.raises(StageError, match="token shards have changed"):
        train.run(job, train.Group(Silent()))
