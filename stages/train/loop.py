"""The training loop of one worker: one job from its start or last checkpoint to its end."""

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import xxhash

from rewarm.stages.core.digests import RESTORE
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.patience import reported
from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary
from rewarm.stages.train.bad_steps import ReturnError, precedes, read_returns, record_return
from rewarm.stages.train.checkpoint_times import CheckpointTimes
from rewarm.stages.train.checkpoints import (
    Saved,
    damages,
    digest_own,
    keep_newest,
    merged,
    names_of,
    new_name,
    read_progress,
    write_progress,
)
from rewarm.stages.train.data import Batches, ValidationSet
from rewarm.stages.train.decisions import Return, decisions_of, is_left_out
from rewarm.stages.train.determinism import BITWISE, NOT_BITWISE, WARNING, repeats
from rewarm.stages.train.experiment_trackers import Trackers
from rewarm.stages.train.freed_memory import returned
from rewarm.stages.train.hangs import Watchdog, reporter
from rewarm.stages.train.inputs import check_inputs
from rewarm.stages.train.job import CURVE, Job, Log
from rewarm.stages.train.looks import final_losses, look_note, looks_at, sequences_per_look
from rewarm.stages.train.metrics import training_report
from rewarm.stages.train.not_finite import NotFiniteError, stop_at
from rewarm.stages.train.recorder import Recorder
from rewarm.stages.train.settings import TrainSettings
from rewarm.stages.train.tracker import Requests

if TYPE_CHECKING:
    from rewarm.stages.train.engine import Engine, Place

STOPPING = 60.0  # seconds for which workers wait to be ended by a driver that is stopping; then they train on


def train_job(job: Job, place: "Place", tracker: Any, show: Callable[[str], None]) -> dict[str, Any]:
    """Train a job on this rank from its last good checkpoint; rank 0's return value is the result.

    Failures that a retry would not fix are returned instead of raised: ``damaged``, an input that does not match the
    record, and ``stopped``, a figure that is not a number.
    """
    report = reporter(job.checkpoints, job.name, place.rank, tracker.note.remote)
    with (
        temporary("train") as scratch,
        reported(show),
        Watchdog(job.settings.hang_seconds, report) as watchdog,
    ):
        try:
            return train(job, place, scratch, tracker, show, watchdog)
        except DamagedError as error:
            return {"damaged": str(error)}
        except NotFiniteError as error:
            return {"stopped": stop_at(job, place, error.found)}
        finally:
            gc.collect()  # the engine: the next job's needs its memory
            if place.device.type == "cuda":
                torch.cuda.empty_cache()


def train(
    job: Job, place: "Place", scratch: Path, tracker: Any, show: Callable[[str], None], watchdog: Watchdog
) -> dict[str, Any]:
    """Run the steps of a job. Raises ``DamagedError`` and ``NotFiniteError`` on all ranks."""
    from rewarm.stages.train.engine import Engine

    start = time.perf_counter()
    size, notes = check_inputs(job, place)
    seconds = time.perf_counter() - start
    for line in (f"verified {size / 1e6:,.1f} MB of inputs against the record in {seconds:.1f} s", *notes):
        show(line)
    teacher = None
    if job.holds_to_teacher:
        teacher = (job.teacher or job.start).local(), job.teacher_digest or job.start_digest
    batches = Batches(job.mixture, job.tokens, job.settings.document_mask, place.device)
    read = sequences_per_look(job.steps, len(job.validation), job.settings)
    looks = [ValidationSet(name, folder, job.mixture.seq_len, read) for name, folder in job.validation.items()]
    if any(len(look.indices) < min(look.count, job.settings.validation_sequences) for look in looks):
        show(look_note(read, len(looks), job.settings))
    times = CheckpointTimes(job.settings, place, requested=Requests(tracker))
    while True:
        returns = read_returns(job)
        with returned(place.device):
            engine = Engine(job.start.local(), job.start_digest, job.settings, place, scratch, teacher)
            for line in engine.notes:
                show(line)
            begun = resume(job, engine, show, returns)
        trackers = Trackers(job, scratch, begun.step, show) if place.rank == 0 else None
        recorder = Recorder(job, place, begun.log, tracker, training_report(job, engine), returns, trackers, watchdog)
        if (changed := recorder.attempt(begun.step, arithmetic_of(job, engine, batches, show))) is not None:
            show(changed)
        try:
            saved = run_steps(job, engine, begun.step, recorder, batches, looks, times, scratch)
        except ReturnError as error:
            record_return(job, place, returns, error.decision)
            show(str(error))
            engine.close()
            del engine, recorder
            continue
        finally:
            watchdog.pause()
            if trackers is not None:
                trackers.close()
        result = {**finish(job, engine, recorder), "checkpoint": saved or begun.checkpoint}
        engine.close()
        return result


def arithmetic_of(job: Job, engine: "Engine", batches: Batches, show: Callable[[str], None]) -> dict[str, str]:
    """Return the choices that change the last digits, and whether this device repeats a micro batch. A collective."""
    place = engine.place
    batch = batches.part(job.first, place.rank, place.world_size, engine.rounds)[0]
    same = repeats(engine, batch, job.seed)
    if not same:
        show(WARNING)
    return {**engine.ways.arithmetic, "gradients": BITWISE if same else NOT_BITWISE}


def run_steps(
    job: Job,
    engine: "Engine",
    step: int,
    recorder: Recorder,
    batches: Batches,
    looks: list[ValidationSet],
    times: CheckpointTimes,
    scratch: Path,
) -> str | None:
    """Run the steps of a job after the first ``step``; return the name of the last checkpoint, None if none was saved.

    Raises ``ReturnError`` if the run must return to an earlier checkpoint.
    """
    place, checkpoint = engine.place, None
    if engine.guard is not None:
        engine.guard.restore(recorder.log.steps)
    while step < job.steps:
        if looks_at(step, job.steps, job.settings):
            recorder.validation(step, looks, engine)
        if not is_left_out(recorder.returns, step + 1):
            torch.manual_seed(step_seed(job.seed, step, place.rank))
            part = batches.part(job.first + step, place.rank, place.world_size, engine.rounds)
            rate = job.rate(step)
            loss = engine.step(part, rate)
            recorder.step(step + 1, loss, rate, engine)
            if engine.guard is not None:
                engine.guard.end(step + 1)
        step += 1
        if step == job.steps:
            recorder.validation(step, looks, engine)
        if step in job.snapshots:
            snapshot(job, engine, step, recorder)
        if times.due(step) or step == job.steps or step in job.milestones:
            checkpoint = save(job, engine, step, recorder, scratch)
        if times.stops:
            time.sleep(STOPPING)  # steps after this checkpoint would be lost
    return checkpoint


def shown_by(tracker: Any, place: "Place") -> Callable[[str], None]:
    """Return a function that shows a line on the driver, on rank 0 only."""

    def show(line: str) -> None:
        if place.rank == 0:
            tracker.note.remote(line)

    return show


def take_place(settings: TrainSettings) -> "Place":
    """Return this worker's ranks and device, and make its arithmetic deterministic."""
    import ray.train
    import ray.train.torch

    from rewarm.stages.train.engine import Place

    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    else:
        torch.set_num_threads(settings.cpus_per_worker or 1)
    return Place(context.get_world_rank(), context.get_world_size(), context.get_local_rank(), device)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the random seed of a step (dropout): a function of its position, so no generator state is saved."""
    return int(xxhash.xxh3_64_intdigest(f"{seed}/{step}/{rank}".encode())) >> 1


@dataclass(frozen=True)
class Begun:
    """Starting point of a group of workers: completed steps, their log, and the checkpoint's name if there is one."""

    step: int
    log: Log
    checkpoint: str | None = None


def resume(job: Job, engine: "Engine", show: Callable[[str], None], returns: Sequence[Return] = ()) -> Begun:
    """Load this run's last good checkpoint, else the start (with the optimizer state named by the job).

    A damaged checkpoint is skipped, with a line that describes the damage, and so is one that holds steps which the run
    has returned from since.
    """
    passed = 0
    for name in agreed(names_of(job)):
        with checkpoint_here(job, name) as folder:
            problem, saved = inspected(folder, name, engine.place)
            if saved is not None and not precedes(returns, saved.step, saved.returns):
                problem = f"the run has returned from its step {saved.step} since"
            if problem is None and saved is not None:
                if passed:
                    show(f"resuming from {name}, step {saved.step}")
                engine.load(folder.path, saved.world_size, saved.digest)
                return Begun(saved.step, saved.log, name)
        passed += 1
        show(f"{name} is skipped: {problem}")
    if passed:
        show("no intact checkpoint is left: starting from the first step")
    if job.start_checkpoint is not None:
        kept = Folder(Folder(job.start_checkpoint).local())
        problem, saved = inspected(kept, None, engine.place)
        if problem is not None or saved is None:
            raise DamagedError(
                f"{job.start_checkpoint}: {problem}. {RESTORE}, or start with an empty optimizer "
                "(train.keep_optimizer=false)"
            )
        engine.load(kept.path, saved.world_size, saved.digest)
    return Begun(0, Log())


def agreed(names: list[str]) -> list[str]:
    """Return rank 0's list on all ranks. A collective."""
    shared: list[Any] = [names]
    dist.broadcast_object_list(shared)
    found: list[str] = shared[0]
    return found


@contextmanager
def checkpoint_here(job: Job, name: str) -> Iterator[Folder]:
    """Provide a checkpoint of the run on this machine: in place on a shared disk, else a temporary copy."""
    import ray.train

    place = job.checkpoints / job.name / name
    if place.is_local:
        yield place
        return
    filesystem, path = place.filesystem()
    with ray.train.Checkpoint(path, filesystem).as_directory() as copy:
        yield Folder(copy)


def inspected(folder: Folder, name: str | None, place: "Place") -> tuple[str | None, Saved | None]:
    """Return the damage of a checkpoint, or its record. A collective: each rank reads some of the files.

    A checkpoint without digests is intact if Ray Train lists it as the run's last (``name``).
    """
    found: list[Any] = [None] * place.world_size
    dist.all_gather_object(found, [str(damage) for damage in damages(folder, place.rank, place.world_size)])
    problems = list(dict.fromkeys(text for texts in found for text in texts))
    if problems:
        return "; ".join(problems[:3]), None
    saved = read_progress(folder)
    if not saved.files and name is not None and name != counted():
        return "it was not finished", None
    return None, saved


def counted() -> str | None:
    """Return the name of the checkpoint that Ray Train lists as the run's last."""
    import ray.train

    last = ray.train.get_checkpoint()
    return None if last is None else str(last.path).rpartition("/")[2]


def save(job: Job, engine: "Engine", step: int, recorder: Recorder, scratch: Path) -> str:
    """Save a checkpoint of all ranks and return its name; it is valid once every rank's part is in storage."""
    import ray.train

    start = time.perf_counter()
    with recorder.pause():
        folder, (name,) = Path(tempfile.mkdtemp(dir=scratch)), agreed([new_name(job)] if engine.place.rank == 0 else [])
        engine.save(folder)
        digest = engine.weights_digest()
        tables: list[Any] = [None] * engine.place.world_size
        dist.all_gather_object(tables, digest_own(folder))
        stores = [(job.checkpoints / job.name, name)]
        if step in job.milestones:
            stores.append((job.checkpoints.at("../milestones"), f"{job.name}-step-{step:08d}"))
        for store, target in stores:
            store.upload(folder, target)
        dist.barrier()
        if engine.place.rank == 0:
            counts = job.mixture.count(job.first, step)
            consumed = {source.key: count for source, count in zip(job.mixture.sources, counts, strict=True)}
            returns = len(recorder.returns)
            saved = Saved(step, engine.place.world_size, digest, consumed, recorder.log, merged(tables), returns)
            for store, target in stores:
                write_progress(store / target, saved)
            keep_newest(job)
            recorder.saved(step)
        last = recorder.log.steps[-1]
        metrics = {"step": step, "loss": last["loss"], "lr": last["lr"], "tokens": last["tokens"]}
        metrics |= {"losses": recorder.log.validation[-1]["losses"], "percent": 100 * step // job.steps}
        ray.train.report(metrics)
        shutil.rmtree(folder, ignore_errors=True)
    recorder.log.checkpoint_seconds += time.perf_counter() - start
    return name


def snapshot(job: Job, engine: "Engine", step: int, recorder: Recorder) -> None:
    """Save the full weights after a step, before its checkpoint so that a resumed run skips none. A collective."""
    from rewarm.stages.train.weights import write_snapshot

    with recorder.pause():
        weights = engine.gather()
        if engine.place.rank == 0:
            write_snapshot(job.out, step, weights)


def finish(job: Job, engine: "Engine", recorder: Recorder) -> dict[str, Any]:
    """Write the trained model as a Hugging Face folder, and the curve; rank 0's return value is the result."""
    weights = engine.gather()
    if engine.place.rank != 0:
        return {}
    from rewarm.stages.train.weights import write_model

    log = recorder.log
    found = write_model(job.start.local(), weights, job.out, job.dtype, job.tokenizer)
    final = final_losses(log.validation, job.steps, job.settings)
    job.out.write_json(
        CURVE,
        {"steps": log.steps, "validation": log.validation, "final": final, "arithmetic": recorder.arithmetic}
        | ({"returns": [asdict(each) for each in recorder.returns]} if recorder.returns else {}),
    )
    return {
        "digest": found,
        "tokens_per_second": log.tokens_per_second,
        "world_size": engine.place.world_size,
        "decisions": decisions_of(log.steps, recorder.returns),
        "bitwise": recorder.arithmetic["gradients"] == BITWISE,
        "checkpoint_seconds": log.checkpoint_seconds,
    }
