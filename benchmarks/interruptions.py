"""What interruptions of a training run cost: checkpoints, a stopped driver, killed workers, other numbers of workers.

    python benchmarks/interruptions.py --rows stall stop kill workers    # about six minutes on two cores
    python benchmarks/interruptions.py --rows stall --millions 25
    python benchmarks/interruptions.py --rows goodput --minutes 60       # an hour, a killed worker every ten minutes

A tiny model is trained by the training stage on Ray, as in an update (``stall``: one of ``--millions`` parameters).
Each row has its goal. A preemption with notice is a driver that is stopped (SIGTERM, which rewarm raises as
``KeyboardInterrupt``); one without is a worker that is killed.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

if TYPE_CHECKING:
    from rewarm.stages.train import Job

EVERY = 200  # steps between checkpoints, of the goal
WORKER = "RayTrainWorker"  # in the names that Ray gives its processes
TOLERANCE = 1e-4  # of losses with another number of workers


@dataclass
class Seen:
    """Progress of a run that remembers when each step was shown, and acts once when it has come to a step."""

    per_step: int
    at: int = 0  # step of the act; 0: none
    act: Callable[[], None] = lambda: None
    steps: int = 0
    times: list[tuple[float, int]] = field(default_factory=list)  # time, step
    notes: list[tuple[float, str]] = field(default_factory=list)
    acted: float = 0.0

    def begin(self, label: str, total: float, unit: str) -> None:
        """Begin again."""

    def advance(self, by: float = 1, **figures: float) -> None:
        """Note steps, and act."""
        self.steps += round(by / self.per_step)
        self.times.append((time.monotonic(), self.steps))
        if self.at and self.steps >= self.at and not self.acted:
            self.acted = time.monotonic()
            self.act()

    def note(self, text: str) -> None:
        """Note a line."""
        self.notes.append((time.monotonic(), text))

    def after(self, acted: float = 0.0) -> tuple[int, int, float]:
        """Return the last step before a restart, the step resumed from, and seconds from the act to a new step.

        Without a time it is that of the act at a step.
        """
        mark, acted = " restarted at step ", acted or self.acted
        at, text = next(each for each in self.notes if mark in each[1] and each[0] > acted)
        before = max(step for time_, step in self.times if time_ < at)
        new = next(time_ for time_, step in self.times if time_ > at and step > before)
        return before, int(text.partition(mark)[2].split()[0]), new - acted


@dataclass
class Interrupted(Seen):
    """Progress of a run in which a worker is killed again and again; after some time the driver is stopped."""

    every: float = 600.0  # seconds between kills
    ends: float = 0.0  # seconds after the first step
    kills: list[float] = field(default_factory=list)  # times

    def advance(self, by: float = 1, **figures: float) -> None:
        """Note steps; kill or stop when it is time."""
        super().advance(by, **figures)
        begun, now = self.times[0][0], time.monotonic()
        if now > begun + self.ends:
            if not self.acted:
                self.acted = now
                interrupt()
        elif now > begun + self.every * (len(self.kills) + 0.5):
            self.kills.append(now)
            kill_worker()


def kill_worker() -> None:
    """Kill a training worker of this process."""
    import psutil

    found = [child for child in psutil.Process().children(recursive=True) if WORKER in " ".join(child.cmdline())]
    os.kill(found[-1].pid, signal.SIGKILL)


def interrupt() -> None:
    """Send this process SIGINT in a moment, when it waits for its workers."""
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the rows and print them; 1 if a goal is missed."""
    rows: dict[str, Callable[[Path, argparse.Namespace], bool]] = {
        "stall": stall,
        "stop": stop,
        "kill": kill,
        "goodput": goodput,
        "workers": workers,
    }
    parser = argparse.ArgumentParser(description="What interruptions of a training run cost")
    parser.add_argument("--rows", nargs="+", choices=tuple(rows), default=list(rows))
    parser.add_argument("--millions", type=int, default=100, help="parameters of the row stall, in millions")
    parser.add_argument("--kills", type=int, default=3, help="killed workers of the row kill")
    parser.add_argument("--every", type=float, default=600, help="seconds between kills of the row goodput")
    parser.add_argument("--minutes", type=float, default=20, help="of training of the row goodput")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    os.environ.update(DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1")
    print("row: measured; goal", flush=True)
    met = []
    for name in options.rows:
        with tempfile.TemporaryDirectory(prefix="interruptions-") as folder:
            met.append(rows[name](Path(folder), options))
    return 0 if all(met) else 1


def say(name: str, measured: str, goal: str, met: bool) -> bool:
    """Print a row."""
    print(f"{name}: {measured}; goal {goal}: {'met' if met else 'missed'}", flush=True)
    return met


def tiny(root: Path, name: str, steps: int, **settings: object) -> "Job":
    """A run of the tests' model, of a few milliseconds a step."""
    from training_world import make_world

    world = make_world(root)
    given = {"num_workers": 1, "cpus_per_worker": 1, "validate_every": 0, "device": "cpu", **settings}
    return world.job(name, steps=steps, **given)


def trained(job: "Job", progress: Any, cpus: int) -> Any:
    """Train the job on a Ray of its own."""
    from rewarm.stages import train
    from rewarm.stages.core import operators
    from rewarm.stages.core.cluster import connected

    operators.build(say=lambda _: None)
    with connected(cpus):
        return train.run(job, train.Group(progress))


# -- rows ---------------------------------------------------------------------------------------------------------


def stall(root: Path, options: argparse.Namespace) -> bool:
    """Seconds of a checkpoint, and their share of training with one every ``EVERY`` steps."""
    import torch
    import transformers

    from rewarm.stages.core.storage import Folder
    from rewarm.stages.train import Job
    from rewarm.stages.train.weights import digest, model_weights

    job = tiny(root, "stall", 6, checkpoint_every=2, num_workers=2)
    width, words = 768, 400
    layers = max(1, round(options.millions * 1e6 / (12 * width**2)))
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 12}
    config = transformers.AutoConfig.for_model(
        "gpt_neox",
        **sizes,
        intermediate_size=4 * width,
        vocab_size=words,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    count = sum(parameter.numel() for parameter in model.parameters())
    model.save_pretrained(root / "large")
    for path in job.start.path.glob("*token*"):
        (root / "large" / path.name).write_bytes(path.read_bytes())
    large: Job = replace(job, start=Folder(root / "large"), start_digest=digest(model_weights(model)))
    del model
    seen = Seen(job.mixture.tokens_per_step)
    outcome = trained(large, seen, 2)
    each = outcome.checkpoint_seconds / 3
    step = job.mixture.tokens_per_step / outcome.tokens_per_second
    share = each / (each + EVERY * step)
    return say(
        f"checkpoint stall, {count / 1e6:.0f} M parameters, every {EVERY} steps",
        f"{each:.2f} s a checkpoint, {step:.2f} s a step here: {share:.2%} of the time; ≤ 1 % with steps of at least "
        f"{99 * each / EVERY:.2f} s",
        "≤ 1 %",
        share <= 0.01,
    )


def stop(root: Path, _: argparse.Namespace) -> bool:
    """Steps lost when a driver is stopped: those after the checkpoint that it waits for."""
    job = tiny(root, "stop", 8000, checkpoint_every=8000)
    seen = Seen(job.mixture.tokens_per_step, 800, interrupt)
    try:
        trained(job, seen, 2)
    except KeyboardInterrupt:
        ended = time.monotonic()
    from rewarm.stages.train.checkpoints import saved_step

    saved = saved_step(job.checkpoints / job.name)
    lost = max(step for _, step in seen.times) - saved
    return say(
        "work lost at a preemption with notice",
        f"{lost} steps: checkpoint of step {saved}, {ended - seen.acted:.1f} s after the signal",
        "≤ 1 step",
        0 <= lost <= 1 and saved > 0,
    )


def kill(root: Path, options: argparse.Namespace) -> bool:
    """Killed workers: steps lost, and seconds to the next new step."""
    interval = 100
    lost, seconds = [], []
    for number in range(options.kills):
        job = tiny(root / str(number), "kill", 3000, checkpoint_every=interval)
        seen = Seen(job.mixture.tokens_per_step, 1050, kill_worker)
        trained(job, seen, 2)
        before, resumed, waited = seen.after()
        lost.append(before - resumed)
        seconds.append(waited)
    named = ", ".join(f"{each:.1f}" for each in seconds)
    return all(
        [
            say(
                "work lost at a preemption without notice",
                f"{', '.join(map(str, lost))} steps with checkpoints every {interval}",
                "≤ one interval",
                all(0 <= each <= interval for each in lost),
            ),
            say("kill to the next new step", f"{named} s", "≤ 20 s", max(seconds) <= 20),
        ]
    )


def goodput(root: Path, options: argparse.Namespace) -> bool:
    """Share of a run's time in which it does new steps, with a worker killed every ``--every`` seconds."""
    interval = 1000
    job = tiny(root, "goodput", 400 * round(60 * options.minutes), checkpoint_every=interval)
    seen = Interrupted(job.mixture.tokens_per_step, every=options.every, ends=60 * options.minutes)
    with suppress(KeyboardInterrupt):
        trained(job, seen, 2)
    whole = seen.acted - seen.times[0][0]
    found = [seen.after(each) for each in seen.kills]
    waits = [waited for _, _, waited in found]
    share = 1 - sum(waits) / whole
    return say(
        f"goodput at one preemption in {options.every:.0f} s",
        f"{share:.2%} of {whole / 60:.1f} minutes and {seen.steps:,} steps with {len(waits)} kills, checkpoints every "
        f"{interval} steps: {', '.join(f'{each:.1f}' for each in waits)} s from a kill to the next new step, "
        f"{', '.join(str(before - resumed) for before, resumed, _ in found)} steps done again",
        "≥ 97 %",
        bool(waits) and share >= 0.97,
    )


def workers(root: Path, _: argparse.Namespace) -> bool:
    """A run whose number of workers changes: the sequences of every step, and the losses of an undisturbed run."""
    from rewarm.stages import train
    from rewarm.stages.train.checkpoints import saved_step

    steps, legs, worst = 800, (1, 2, 4, 3), 0.0
    alone = tiny(root, "alone", steps, zero_stage=1, checkpoint_every=steps)
    trained(alone, Seen(alone.mixture.tokens_per_step), 4)
    expected = [row["loss"] for row in alone.out.read_json(train.CURVE)["steps"]]
    same = sequences_are_the_batch(alone, legs)
    changing, ran = tiny(root / "again", "changing", steps, zero_stage=1, checkpoint_every=steps), []
    for number, size in enumerate(legs, 1):
        job = replace(changing, settings=changing.settings.model_copy(update={"num_workers": size}))
        last = number == len(legs)
        seen = Seen(job.mixture.tokens_per_step, 0 if last else number * steps // len(legs) - 100, interrupt)
        begun = saved_step(job.checkpoints / job.name)
        with suppress(KeyboardInterrupt):
            trained(job, seen, 4)
        ran.append(f"{size} from step {begun}")
    found = [row["loss"] for row in changing.out.read_json(train.CURVE)["steps"]]
    worst = max(abs(one - other) for one, other in zip(found, expected, strict=True))
    return say(
        "1 → 2 → 4 → 3 workers, ZeRO 1",
        f"workers {', '.join(ran)}; the sequences of all {steps} steps are {'identical' if same else 'NOT identical'}, "
        f"losses differ by at most {worst:.1e} nats",
        f"identical, ≤ {TOLERANCE:g}",
        same and worst <= TOLERANCE,
    )


def sequences_are_the_batch(job: "Job", legs: Sequence[int]) -> bool:
    """Whether the parts of all ranks are together each step's batch, for every number of workers."""
    import numpy as np
    import torch

    from rewarm.stages.train.data import Batches

    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    for step in range(job.steps):
        whole = np.stack([window.inputs for window in batches.windows(step)])
        for size in legs:
            parts = [batches.windows(step, rank, size) for rank in range(size)]
            rows: list[Any] = [None] * len(whole)
            for rank, part in enumerate(parts):
                rows[rank::size] = [window.inputs for window in part]
            if not np.array_equal(np.stack(rows), whole):
                return False
    return True


if __name__ == "__main__":
    sys.exit(main())
