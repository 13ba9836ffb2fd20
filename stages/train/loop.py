"""The training loop of one worker. Read ``train_worker`` top to bottom."""

import ctypes
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import torch
import torch.distributed as dist
import xxhash

from stages import operators
from stages.storage import Folder
from stages.train.data import Batches, ValidationSet
from stages.train.job import CURVE, Job, Log, Saved
from stages.train.looks import final_losses, looks_at
from stages.train.reporting import TrainingReport, training_report
from stages.train.settings import TrainSettings

if TYPE_CHECKING:
    from stages.train.engine import Engine, Place

PROGRESS = "progress.json"
FLUSH_STEPS = 10  # losses wait on the device for so many steps before the ranks exchange them
SETTLING_STEPS = 3  # first steps of an attempt, not counted in the throughput


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Train a ``Job`` on this rank, from where its last checkpoint stands; rank 0's return value is the result."""
    job: Job = config["job"]
    operators.load(say=lambda line: None)
    from stages.train.engine import Engine

    place = take_place(job.settings)
    with tempfile.TemporaryDirectory(prefix="rewarm-train-") as scratch:
        teacher = (job.teacher or job.start).local() if job.holds_to_teacher else None
        engine = Engine(job.start.local(), job.settings, place, Path(scratch), teacher)
        batches = Batches(job.mixture, job.tokens, job.settings.document_mask, place.device)
        looks = [
            ValidationSet(name, folder, job.mixture.seq_len, job.settings.validation_sequences)
            for name, folder in job.validation.items()
        ]
        step, log = resume(job, engine)
        recorder = Recorder(job, place, log, config.get("tracker"), training_report(job, engine))
        recorder.attempt(step)
        while step < job.steps:
            if looks_at(step, job.steps, job.settings):
                recorder.validation(step, looks, engine)
            torch.manual_seed(step_seed(job.seed, step, place.rank))
            part = batches.part(job.first + step, place.rank, place.world_size, engine.micro_batch)
            rate = job.rate(step)
            loss = engine.step(part, rate)
            step += 1
            recorder.step(step, loss, rate, engine.gradient_norm(), engine.divergence())
            if step == job.steps:
                recorder.validation(step, looks, engine)
            if step in job.snapshots:
                snapshot(job, engine, step, recorder)
            if step == job.steps or step % job.settings.checkpoint_every == 0:
                save(job, engine, step, recorder, Path(scratch))
        return finish(job, engine, recorder)


def take_place(settings: TrainSettings) -> "Place":
    """Find this worker's rank and device, and make its arithmetic repeatable."""
    import ray.train
    import ray.train.torch

    from stages.train.engine import Place

    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    else:
        torch.set_num_threads(settings.cpus_per_worker or 1)
        keep_freed_memory()
    return Place(context.get_world_rank(), context.get_world_size(), context.get_local_rank(), device)


def keep_freed_memory() -> None:
    """Let the C library keep what tensors free, as a GPU's caching allocator does, instead of asking the kernel anew.

    By default glibc maps every large tensor afresh: on two cores a sixth of a small model's step went into page faults.
    Another C library keeps its own ways.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    m_mmap_max, m_trim_threshold, m_top_pad, m_arena_max = -4, -1, -2, -8  # malloc.h
    for parameter, value in ((m_mmap_max, 0), (m_trim_threshold, 2**31 - 1), (m_top_pad, 64 << 20), (m_arena_max, 1)):
        mallopt(parameter, value)


def step_seed(seed: int, step: int, rank: int) -> int:
    """The random state of a step (dropout): a function of where it stands, so no generator state is saved."""
    return int(xxhash.xxh3_64_intdigest(f"{seed}/{step}/{rank}".encode())) >> 1


def resume(job: Job, engine: "Engine") -> tuple[int, Log]:
    """Steps done and their log: from this run's last checkpoint, else from the start (with the optimizer it names)."""
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            saved = Saved.from_json(orjson.loads((Path(folder) / PROGRESS).read_bytes()))
            engine.load(Path(folder), saved.world_size, saved.digest)
        return saved.step, saved.log
    if job.start_checkpoint is not None:
        folder = Folder(job.start_checkpoint)
        saved = Saved.from_json(folder.read_json(PROGRESS))
        engine.load(folder.local(), saved.world_size, saved.digest)
    return 0, Log()


@torch.no_grad()
def validate(engine: "Engine", look: ValidationSet, settings: TrainSettings) -> float:
    """Mean loss in nats per token over a validation set's sequences; every rank runs its part, all get the mean."""
    from stages.causal import collate, token_losses

    place = engine.place
    windows = look.part(place.rank, place.world_size)
    filler = next((window for window in windows if window is not None), None) or look.stream.window(0, look.seq_len)
    total = torch.zeros(2, dtype=torch.float64)
    engine.engine.eval()
    for first in range(0, len(windows), engine.micro_batch):
        piece = windows[first : first + engine.micro_batch]
        batch = collate([window or filler for window in piece], place.device, settings.document_mask)
        losses = token_losses(engine.engine, *batch).double().sum(dim=1).cpu()
        real = torch.tensor([window is not None for window in piece])
        total += torch.stack([losses[real].sum(), real.sum().double() * look.seq_len])
    engine.engine.train()
    summed = total.to(place.device)
    dist.all_reduce(summed)
    return float(summed[0] / summed[1])


class Recorder:
    """Keeps the curve on every rank (it is saved with checkpoints) and streams it from rank 0 to whoever watches."""

    def __init__(self, job: Job, place: "Place", log: Log, tracker: Any, report: TrainingReport | None = None) -> None:
        self.job = job
        self.place = place
        self.log = log
        self.tracker = tracker if place.rank == 0 else None
        self.report = report
        self._waiting: list[tuple[int, torch.Tensor, float, float, torch.Tensor | None]] = []
        self._settling = SETTLING_STEPS
        self._clock = time.perf_counter()

    def attempt(self, step: int) -> None:
        """Note that a group of workers set out from ``step``."""
        if self.place.rank == 0:
            attempts = self.job.checkpoints / f"{self.job.name}-attempts"
            attempts.write_json(f"{time.time_ns()}.json", {"step": step, "world_size": self.place.world_size})
        if self.tracker is not None:
            self.tracker.begin.remote(step, self.job.steps)
        self._go_on()

    def step(self, step: int, loss: torch.Tensor, rate: float, norm: float, divergence: torch.Tensor | None) -> None:
        """Take the figures of a step; they are exchanged among the ranks now and then."""
        self._waiting.append((step, loss, rate, norm, divergence))
        if self.report is not None:
            self.report.step(step, rate, norm)
        if len(self._waiting) == FLUSH_STEPS:
            self.flush()

    def flush(self) -> None:
        """Mean the waiting losses over the ranks, log and stream them. A collective."""
        if not self._waiting:
            return
        pairs = [(loss, loss.new_zeros(()) if kl is None else kl) for _, loss, _, _, kl in self._waiting]
        figures = torch.stack([torch.stack(pair) for pair in pairs]).double()
        dist.all_reduce(figures)
        means = (figures / self.place.world_size).cpu().tolist()
        rows = [
            {"step": step, "tokens": self._tokens(step), "lr": rate, "loss": mean, "grad_norm": norm}
            | ({} if divergence is None else {"kl": kl})
            for (step, _, rate, norm, divergence), (mean, kl) in zip(self._waiting, means, strict=True)
        ]
        self._waiting = []
        self.log.steps += rows
        self._time(len(rows))
        if self.tracker is not None:
            self.tracker.steps.remote(rows, self.log.tokens_per_second)
        if self.report is not None:
            self.report.losses(rows[-1])

    def _tokens(self, step: int) -> int:
        return self.job.position + step * self.job.mixture.tokens_per_step

    def _time(self, steps: int) -> None:
        now = time.perf_counter()
        if self._settling > 0:
            self._settling -= steps
        else:
            self.log.timed_tokens += steps * self.job.mixture.tokens_per_step
            self.log.timed_seconds += now - self._clock
        self._clock = now

    def validation(self, step: int, looks: list[ValidationSet], engine: "Engine") -> None:
        """Look at the validation losses and log them. A collective."""
        with self.pause():
            losses = {look.name: validate(engine, look, self.job.settings) for look in looks}
            row = {"step": step, "tokens": self._tokens(step), "losses": losses}
            self.log.validation.append(row)
            if self.tracker is not None:
                self.tracker.validation.remote(row)
            if self.report is not None:
                self.report.validation(losses)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Work that is not training: it stays out of the throughput."""
        self.flush()
        yield
        self._go_on()

    def _go_on(self) -> None:
        self._clock = time.perf_counter()
        if self.report is not None:
            self.report.go_on()


def save(job: Job, engine: "Engine", step: int, recorder: Recorder, scratch: Path) -> None:
    """A checkpoint of all ranks, through Ray Train: it counts once every rank's part is in the storage."""
    import ray.train

    with recorder.pause():
        folder = Path(tempfile.mkdtemp(dir=scratch))
        engine.save(folder)
        digest = engine.weights_digest()
        if engine.place.rank == 0:
            counts = job.mixture.count(job.first, step)
            consumed = {source.key: count for source, count in zip(job.mixture.sources, counts, strict=True)}
            saved = Saved(step, engine.place.world_size, digest, consumed, recorder.log)
            (folder / PROGRESS).write_bytes(orjson.dumps(saved.to_json()))
        last = recorder.log.steps[-1]
        metrics = {"step": step, "loss": last["loss"], "lr": last["lr"], "tokens": last["tokens"]}
        metrics |= {"losses": recorder.log.validation[-1]["losses"], "percent": 100 * step // job.steps}
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        shutil.rmtree(folder, ignore_errors=True)


def snapshot(job: Job, engine: "Engine", step: int, recorder: Recorder) -> None:
    """Keep the whole weights after a step. A collective; it comes before the step's checkpoint, so none is skipped."""
    from stages.train.snapshots import write_snapshot

    with recorder.pause():
        weights = engine.gather()
        if engine.place.rank == 0:
            write_snapshot(job.out, step, weights)


def finish(job: Job, engine: "Engine", recorder: Recorder) -> dict[str, Any]:
    """Write the trained model as a Hugging Face folder and the curve beside it; what rank 0 returns is the result."""
    weights = engine.gather()
    if engine.place.rank != 0:
        return {}
    from stages.train.weights import write_model

    log = recorder.log
    found = write_model(job.start.local(), weights, job.out, job.dtype)
    final = final_losses(log.validation, job.steps, job.settings)
    job.out.write_json(CURVE, {"steps": log.steps, "validation": log.validation, "final": final})
    return {"digest": found, "tokens_per_second": log.tokens_per_second, "world_size": engine.place.world_size}
