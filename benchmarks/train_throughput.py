"""Tokens a second of the training stage, against peers that do the same work.

    python benchmarks/train_throughput.py                    # about seven minutes on two cores
    python benchmarks/train_throughput.py --steps 40 --rounds 1 --workers 1 --zero-stage 2 --peers bare

The peer ``bare`` is a DeepSpeed loop as one would write it by hand for this one run; ``trainer`` is Hugging Face's
Trainer with DeepSpeed. Both have as many processes with one thread each, gloo, the same model, start, batches, learning
rates, optimizer, clipping, ZeRO stage and allocator; no Ray, no reading (their batches lie in memory as tensors before
the clock starts), no log. The order of a round's runs changes from round to round, so that a drift of the machine hits
all, and no process of Ray lives while a peer runs. All are timed on rank 0, from the end of step 10 to the end of the
last step; none validates or saves in between. The losses of every step must agree: it was the same work.
"""

import argparse
import contextlib
import io
import json
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewarm.stages.train import Job
    from rewarm.stages.train.data import Batches

GOALS = {"bare": 0.98, "trainer": 1.0}  # our rate as a part of a peer's
NOISE = 0.10  # between the rounds' ratios: where they differ by more, other work on the machine decided them
SEQ_LEN, BATCH, VOCABULARY = 256, 16, 4096
SIZES = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
CORPUS = "ml-docs"  # docstrings of packages that rewarm itself needs
LOSS_TOLERANCE = 1e-3  # relative; the order of sums differs, and training carries that on
PACKAGES = ("torch", "deepspeed", "ray", "transformers")


@dataclass(frozen=True)
class Run:
    """One training run: its steady rate in tokens per second, and the loss of every step in nats."""

    rate: float
    losses: list[float]


@dataclass(frozen=True)
class Round:
    """All runs, one right after the other."""

    ours: Run
    peers: dict[str, Run]

    @property
    def ratios(self) -> dict[str, float]:
        """Our rate as a part of every peer's."""
        return {name: self.ours.rate / peer.rate for name, peer in self.peers.items()}

    @property
    def largest_difference(self) -> float:
        """Of the peers' losses to ours, relative."""
        pairs = [pair for peer in self.peers.values() for pair in zip(self.ours.losses, peer.losses, strict=True)]
        return max(abs(ours - theirs) / theirs for ours, theirs in pairs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all rounds and print them; 1 where the two did not learn the same."""
    options = parse(arguments)
    os.environ.update(DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1")
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} before; "
        + ", ".join(f"{n} {version(n)}" for n in PACKAGES)
    )
    with tempfile.TemporaryDirectory(prefix="rewarm-benchmark-") as scratch:
        root = Path(scratch)
        job = prepare(root, options)
        print(
            f"GPT-NeoX 4 × 128, vocabulary {VOCABULARY}; {options.steps} steps of {BATCH} × {SEQ_LEN} tokens; "
            f"{options.workers} workers × 1 thread, ZeRO {options.zero_stage}, fp32, document mask"
        )
        heads = [f"{name} tokens/s" for name in ("rewarm", *options.peers)] + [
            f"rewarm/{each}" for each in options.peers
        ]
        print("  ".join(["round", *(f"{head:>16}" for head in heads), "losses differ by", "load"]), flush=True)
        rounds = []
        for number in range(1, options.rounds + 1):
            rounds.append(race(job, root / f"round-{number}", options, number))
            print(line(number, rounds[-1]), flush=True)
    for name in options.peers:
        print(summary(name, rounds))
    return 0 if max(each.largest_difference for each in rounds) < LOSS_TOLERANCE else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; the number of steps is made of whole blocks, as our loop takes the time once a block."""
    parser = argparse.ArgumentParser(description="Tokens a second of the training stage against peers")
    parser.add_argument("--steps", type=int, default=60, help="steps of a run, the first ten of them untimed")
    parser.add_argument("--rounds", type=int, default=3, help="of one run each")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--zero-stage", type=int, default=1, choices=(0, 1, 2, 3))
    parser.add_argument("--peers", nargs="+", default=list(GOALS), choices=tuple(GOALS))
    options = parser.parse_args(arguments)
    if options.steps < 20 or options.steps % 10:
        parser.error(f"--steps {options.steps}: expected a multiple of 10, at least 20")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: expected at least 1")
    if options.workers < 1 or BATCH % options.workers:
        parser.error(f"--workers {options.workers}: expected a divisor of the batch of {BATCH} sequences")
    return options


def line(number: int, each: Round) -> str:
    """A round as a line of the table."""
    rates = [f"{run.rate:16,.0f}" for run in (each.ours, *each.peers.values())]
    ratios = [f"{ratio:16.3f}" for ratio in each.ratios.values()]
    return "  ".join([f"{number:5}", *rates, *ratios, f"{each.largest_difference:16.1e}", f"{os.getloadavg()[0]:4.1f}"])


def summary(name: str, rounds: Sequence[Round]) -> str:
    """Median, minimum and maximum over the rounds, and whether the goal is met, where they agree enough to tell."""
    columns = {
        "rewarm tokens/s": ([each.ours.rate for each in rounds], ",.0f"),
        f"{name} tokens/s": ([each.peers[name].rate for each in rounds], ",.0f"),
        f"rewarm/{name}": (ratios := [each.ratios[name] for each in rounds], ".3f"),
    }
    lines = [
        f"{label}: median {statistics.median(values):{form}}, min {min(values):{form}}, max {max(values):{form}}"
        for label, (values, form) in columns.items()
    ]
    if max(ratios) - min(ratios) > NOISE:
        verdict = "cannot be told, the rounds differ too much; run it again while the machine does nothing else"
    else:
        verdict = "met" if statistics.median(ratios) >= GOALS[name] else "missed"
    return "\n".join([*lines, f"goal, rewarm/{name} at least {GOALS[name]} on the median: {verdict}"])


def race(job: "Job", folder: Path, options: argparse.Namespace, number: int) -> Round:
    """One round, whose order depends on its number."""
    names = ["rewarm", *options.peers]
    first = (number - 1) % len(names)
    runs = {
        name: run_ours(job, folder, options.workers) if name == "rewarm" else run_peer(job, folder, name)
        for name in [*names[first:], *names[:first]]
    }
    return Round(runs["rewarm"], {name: runs[name] for name in options.peers})


# -- the work ----------------------------------------------------------------------------------------------------


def prepare(root: Path, options: argparse.Namespace) -> "Job":
    """Real text as token shards, by the stages themselves; a model's first weights; the run that both will do."""
    from rewarm.pipeline import demo_text
    from rewarm.stages import ingest, tokenize, train
    from rewarm.stages.core import operators
    from rewarm.stages.core.cluster import connected
    from rewarm.stages.core.progress import Silent
    from rewarm.stages.core.storage import Folder
    from rewarm.stages.data.mixture import Mixture, Source
    from rewarm.stages.data.tokens import TokenSet, TokenStream

    operators.build(say=lambda _: None)
    corpus = next(each for each in demo_text.CORPORA if each.name == CORPUS)
    documents = demo_text.collect(corpus, demo_text.find_packages(corpus.packages), Silent())
    (root / "text.jsonl.zst").write_bytes(demo_text.pack(documents))
    dataset, words, tokens = (Folder(root / name) for name in ("dataset", "words", "tokens"))
    with connected(options.workers):
        settings = ingest.IngestSettings()
        files = ingest.find_inputs([str(root / "text.jsonl.zst")], settings)
        ingest.run(files, dataset, settings, [], Folder(root / "index"), Silent())
        definition = tokenize.TokenizerSettings(vocab_size=VOCABULARY)
        tokenize.train_tokenizer(dataset / "documents", words, definition, Silent())
        tokenize.run(dataset, words, tokens, tokenize.TokenizeSettings(), Silent())
    model = train.ModelSettings(config={**SIZES, "max_position_embeddings": 512, "use_parallel_residual": True})
    made = train.initial_model(model, words, SEQ_LEN, 0, Folder(root / "initial"))
    source = Source("text", TokenStream(tokens / "train").num_sequences(SEQ_LEN), order_seed=1)
    mixture = Mixture((source,), (), "0", SEQ_LEN, BATCH, options.steps)
    schedule = train.ScheduleSettings(kind="cosine", peak=2e-3)
    return train.Job(
        name="train",
        mixture=mixture,
        first=0,
        steps=options.steps,
        position=0,
        schedule=train.schedule_for(schedule, 0, options.steps * mixture.tokens_per_step, None),
        start=Folder(root / "initial") / "model",
        start_digest=made["digest"],
        start_checkpoint=None,
        tokens={"text": TokenSet(tokens / "train")},
        validation={},
        out=Folder(root / "trunk"),
        checkpoints=Folder(root / "checkpoints"),
        settings=train.TrainSettings(
            seq_len=SEQ_LEN,
            global_batch=BATCH,
            zero_stage=options.zero_stage,
            precision="fp32",
            num_workers=options.workers,
            cpus_per_worker=1,
            device="cpu",
            validate_every=0,
            checkpoint_every=options.steps,
        ),
        seed=0,
    )


def run_ours(job: "Job", folder: Path, workers: int) -> Run:
    """The training stage on a Ray of its own, as ``rewarm`` starts one; its rate is the one it reports itself."""
    from rewarm.stages import train
    from rewarm.stages.core.cluster import connected
    from rewarm.stages.core.progress import Silent
    from rewarm.stages.core.storage import Folder

    out = Folder(folder)
    with connected(workers):
        outcome = train.run(replace(job, out=out / "trunk", checkpoints=out / "checkpoints"), train.Group(Silent()))
    curve = (out / "trunk").read_json(train.CURVE)
    return Run(outcome.tokens_per_second, [row["loss"] for row in curve["steps"]])


# -- the peers ---------------------------------------------------------------------------------------------------


def run_peer(job: "Job", folder: Path, name: str) -> Run:
    """A peer, in as many processes as the stage has workers."""
    from torch.multiprocessing.spawn import spawn

    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workers = job.settings.num_workers
    spawn(peer_rank, (job, folder, name, port), nprocs=workers)  # type: ignore[no-untyped-call]
    parts = [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(workers)]
    losses = [statistics.fmean(each) for each in zip(*(part["losses"] for part in parts), strict=True)]
    return Run(parts[0]["rate"], losses)


def peer_rank(rank: int, job: "Job", folder: Path, name: str, port: int) -> None:
    """One process of a peer, from start to end."""
    workers = job.settings.num_workers
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(workers), LOCAL_SIZE=str(workers))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    from rewarm.stages.core import operators

    operators.load(say=lambda _: None)
    import torch
    import torch.distributed as dist

    from rewarm.stages.train.data import Batches
    from rewarm.stages.train.freed_memory import keep_freed_memory
    from rewarm.stages.train.recorder import FLUSH_STEPS

    torch.set_num_threads(1)
    keep_freed_memory()  # as our workers do
    dist.init_process_group("gloo")
    reader = Batches(job.mixture, job.tokens, job.settings.document_mask, torch.device("cpu"))
    loop = {"bare": bare, "trainer": trainer}[name]
    times, losses = loop(job, reader)
    assert len(times) == len(losses) == job.steps, f"{len(times)} times and {len(losses)} losses of {job.steps} steps"
    seconds = times[-1] - times[FLUSH_STEPS - 1]
    rate = (job.steps - FLUSH_STEPS) * job.mixture.tokens_per_step / seconds
    (folder / f"{name}-{rank}.json").write_text(json.dumps({"rate": rate, "losses": losses}))
    dist.destroy_process_group()


def bare(job: "Job", reader: "Batches") -> tuple[list[float], list[float]]:
    """The bare loop; returns the time at the end of every step, and this rank's losses."""
    import deepspeed
    import torch
    import torch.distributed as dist
    from torch.nn import functional

    model, optimizer = made(job, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=zero(job))
    rank, workers = dist.get_rank(), dist.get_world_size()
    batches = [reader.part(step, rank, workers, 1)[0] for step in range(job.steps)]
    rates = [job.rate(step) for step in range(job.steps)]
    times, losses = [], []
    for batch, rate in zip(batches, rates, strict=True):
        for group in engine.optimizer.param_groups:
            group["lr"] = rate
        logits = engine(input_ids=batch.inputs, position_ids=batch.positions, use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        engine.backward(loss)
        engine.step()
        losses.append(loss.detach())
        times.append(time.perf_counter())
    return times, torch.stack(losses).tolist()


def trainer(job: "Job", reader: "Batches") -> tuple[list[float], list[float]]:
    """Hugging Face's Trainer with DeepSpeed; returns the time at the end of every step, and this rank's losses.

    Without a GPU Accelerate takes every process for the only one, so that each is given the sequences of its rank;
    DeepSpeed sums over all.
    """
    import torch
    import torch.distributed as dist
    import transformers

    rank, workers = dist.get_rank(), dist.get_world_size()
    parts = [reader.part(step, rank, workers, 1)[0] for step in range(job.steps)]
    rows = [
        {"input_ids": inputs, "position_ids": positions, "labels": targets, "shift_labels": targets}
        for part in parts
        for inputs, positions, targets in zip(part.inputs, part.positions, part.targets, strict=True)
    ]
    times: list[float] = []
    losses: list[Any] = []

    rates = [*(job.rate(step) for step in range(job.steps)), 0.0]

    class Timed(transformers.Trainer):
        """With the job's optimizer and rates (those given to it are ignored under DeepSpeed); keeps every loss."""

        def create_optimizer(self, *_: Any) -> Any:
            """Return the optimizer."""
            self.optimizer = self.optimizer or optimizer
            return self.optimizer

        def create_scheduler(self, *_: Any, **given: Any) -> Any:
            """Return the schedule."""
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rates[step])
            return self.lr_scheduler

        def training_step(self, *given: Any, **options: Any) -> Any:
            """Step."""
            losses.append(super().training_step(*given, **options))
            return losses[-1]

    class Clock(transformers.TrainerCallback):
        """Notes the ends of steps."""

        def on_step_end(self, *given: Any, **options: Any) -> None:
            """Note the time."""
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory(prefix="trainer-") as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=job.settings.global_batch // workers,
            max_steps=job.steps,
            max_grad_norm=job.settings.clip,
            train_sampling_strategy="sequential",
            deepspeed=zero(job),
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        model, optimizer = made(job, 1.0)
        model.config.use_cache = False  # with a cache, transformers makes no mask of documents from positions
        data: Any = rows
        Timed(model=model, args=arguments, train_dataset=data, callbacks=[Clock()]).train()
    return times, torch.stack(losses).tolist()


def made(job: "Job", rate: float) -> tuple[Any, Any]:
    """Model and optimizer with the stage's settings: AdamW with weight decay on matrices only, fp32."""
    import torch
    import transformers

    settings = job.settings
    model = transformers.AutoModelForCausalLM.from_pretrained(job.start.local(), dtype=torch.float32)
    model.train()
    groups = [
        {"params": [each for each in model.parameters() if each.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [each for each in model.parameters() if each.dim() <= 1], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=rate, betas=(settings.beta1, settings.beta2), eps=settings.epsilon)


def zero(job: "Job") -> dict[str, Any]:
    """DeepSpeed's configuration with the stage's settings: clipping, a ZeRO stage."""
    settings = job.settings
    return {
        "train_micro_batch_size_per_gpu": settings.global_batch // settings.num_workers,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.clip,
        "zero_optimization": {"stage": settings.zero_stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
    }


if __name__ == "__main__":
    raise SystemExit(main())
