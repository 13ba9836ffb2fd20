"""Tokens a second of the training stage, against a bare DeepSpeed loop that does the same work.

    python benchmarks/train_throughput.py                    # about five minutes on two cores
    python benchmarks/train_throughput.py --steps 40 --rounds 1 --workers 1 --zero-stage 2

The peer is what one would write by hand for this one run: as many processes with one thread each, gloo, the same
model, start, batches, learning rates, optimizer, clipping and ZeRO stage; no Ray, no data loading (its batches lie in
memory as tensors before the clock starts), no log. Rounds alternate which of the two runs first, so that a drift of
the machine hits both, and no process of Ray lives while the peer runs. Both are timed on rank 0, from the end of step
10 to the end of the last step; neither validates or saves in between. The losses of every step must agree: it was the
same work.
"""

import argparse
import contextlib
import io
import json
import os
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

GOAL = 0.98  # of the bare loop's rate
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
    """Both runs, one right after the other."""

    ours: Run
    bare: Run

    @property
    def ratio(self) -> float:
        """Our rate as a part of the bare loop's."""
        return self.ours.rate / self.bare.rate

    @property
    def largest_difference(self) -> float:
        """Of the two curves' losses, relative."""
        pairs = zip(self.ours.losses, self.bare.losses, strict=True)
        return max(abs(ours - bare) / bare for ours, bare in pairs)


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
        print("round  rewarm tokens/s  bare tokens/s  rewarm/bare  losses differ by", flush=True)
        rounds = []
        for number in range(1, options.rounds + 1):
            rounds.append(race(job, root / f"round-{number}", options.workers, ours_first=number % 2 == 1))
            print(line(number, rounds[-1]), flush=True)
    print(summary(rounds))
    return 0 if max(each.largest_difference for each in rounds) < LOSS_TOLERANCE else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; the number of steps is made of whole blocks, as our loop takes the time once a block."""
    parser = argparse.ArgumentParser(description="Tokens a second of the training stage against a bare DeepSpeed loop")
    parser.add_argument("--steps", type=int, default=60, help="steps of a run, the first ten of them untimed")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--zero-stage", type=int, default=1, choices=(0, 1, 2, 3))
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
    rates = f"{each.ours.rate:15,.0f}  {each.bare.rate:13,.0f}"
    return f"{number:5}  {rates}  {each.ratio:11.3f}  {each.largest_difference:16.1e}"


def summary(rounds: Sequence[Round]) -> str:
    """Median, minimum and maximum over the rounds, and whether the goal is met, where they agree enough to tell."""
    columns = {
        "rewarm tokens/s": ([each.ours.rate for each in rounds], ",.0f"),
        "bare tokens/s": ([each.bare.rate for each in rounds], ",.0f"),
        "rewarm/bare": (ratios := [each.ratio for each in rounds], ".3f"),
    }
    lines = [
        f"{name}: median {statistics.median(values):{form}}, min {min(values):{form}}, max {max(values):{form}}"
        for name, (values, form) in columns.items()
    ]
    if max(ratios) - min(ratios) > NOISE:
        verdict = "cannot be told, the rounds differ too much; run it again while the machine does nothing else"
    else:
        verdict = "met" if statistics.median(ratios) >= GOAL else "missed"
    return "\n".join([*lines, f"goal, at least {GOAL} on the median: {verdict}"])


def race(job: "Job", folder: Path, workers: int, ours_first: bool) -> Round:
    """One round."""
    if ours_first:
        ours = run_ours(job, folder, workers)
        return Round(ours, run_bare(job, folder))
    bare = run_bare(job, folder)
    return Round(run_ours(job, folder, workers), bare)


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


# -- the peer ----------------------------------------------------------------------------------------------------


def run_bare(job: "Job", folder: Path) -> Run:
    """The bare loop, in as many processes as the stage has workers."""
    from torch.multiprocessing.spawn import spawn

    folder.mkdir(parents=True, exist_ok=True)
    spawn(bare_rank, (job, folder), nprocs=job.settings.num_workers)  # type: ignore[no-untyped-call]
    parts = [json.loads((folder / f"bare-{rank}.json").read_text()) for rank in range(job.settings.num_workers)]
    losses = [statistics.fmean(each) for each in zip(*(part["losses"] for part in parts), strict=True)]
    return Run(parts[0]["rate"], losses)


def bare_rank(rank: int, job: "Job", folder: Path) -> None:
    """One process of the bare loop, from start to end."""
    workers = job.settings.num_workers
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(workers), LOCAL_SIZE=str(workers))
    from rewarm.stages.core import operators

    operators.load(say=lambda _: None)
    import torch
    import torch.distributed as dist
    from torch.nn import functional

    from rewarm.stages.train.data import Batches
    from rewarm.stages.train.recorder import FLUSH_STEPS

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=workers)
    engine = bare_engine(job)
    reader = Batches(job.mixture, job.tokens, job.settings.document_mask, torch.device("cpu"))
    batches = [reader.part(step, rank, workers, 1)[0] for step in range(job.steps)]
    rates = [job.rate(step) for step in range(job.steps)]
    losses = []
    started = 0.0
    for step, (batch, rate) in enumerate(zip(batches, rates, strict=True)):
        if step == FLUSH_STEPS:
            started = time.perf_counter()
        for group in engine.optimizer.param_groups:
            group["lr"] = rate
        logits = engine(input_ids=batch.inputs, position_ids=batch.positions, use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        engine.backward(loss)
        engine.step()
        losses.append(loss.detach())
    seconds = time.perf_counter() - started
    rate = (job.steps - FLUSH_STEPS) * job.mixture.tokens_per_step / seconds
    (folder / f"bare-{rank}.json").write_text(json.dumps({"rate": rate, "losses": torch.stack(losses).tolist()}))
    dist.destroy_process_group()


def bare_engine(job: "Job") -> Any:
    """DeepSpeed with the stage's settings: AdamW with weight decay on matrices only, clipping, a ZeRO stage, fp32."""
    import deepspeed
    import torch
    import transformers

    settings = job.settings
    model = transformers.AutoModelForCausalLM.from_pretrained(job.start.local(), dtype=torch.float32)
    model.train()
    groups = [
        {"params": [each for each in model.parameters() if each.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [each for each in model.parameters() if each.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(settings.beta1, settings.beta2), eps=settings.epsilon)
    config = {
        "train_micro_batch_size_per_gpu": settings.global_batch // settings.num_workers,
        "gradient_clipping": settings.clip,
        "zero_optimization": {"stage": settings.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1_000_000_000,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine


if __name__ == "__main__":
    raise SystemExit(main())
