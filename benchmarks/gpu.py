"""Training on one GPU, without Ray: speed, memory and exactness, in one table of at most eight minutes.

    python benchmarks/gpu.py                     # one GPU: GPT-NeoX 405M in bf16, at 2,048 and 8,192 tokens
    python benchmarks/gpu.py --tiny              # the same rows with a tiny model, also on a CPU
    python benchmarks/gpu.py --rows "ours varlen 2048" "resume"
    python benchmarks/gpu.py --packages          # what must be installed beside torch, transformers and numpy

The engine and the loop of ``stages/train`` run in one process; each row runs in a process of its own, so a row that
fails says why and the others still run. Rows that would begin after ``--budget`` seconds are not run, and say so.

Sequences are packed with documents of log-normal length (median 400 tokens, sigma 1.1), random tokens. A row times
12 steps after 4 others. Utilisation (MFU) is that of ``stages/train/metrics.py``, which counts attention
over the whole sequence; "multiplied" counts only the weights that are multiplied and the pairs within documents. The
peers are a hand-written DeepSpeed loop with whole logits and the dense mask, and Hugging Face's Trainer without a
mask between documents, which is its fastest form, on ``flash_attention_2`` if that is installed.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import numpy as np

BUDGET = 480.0  # seconds
MEDIAN, SIGMA = 400, 1.1  # of the documents' lengths in tokens
KNOWN = {"torch", "transformers", "numpy"}  # installed anyway, with what they need themselves


@dataclass(frozen=True)
class Size:
    """A model, and the tokens of a step."""

    hidden: int
    layers: int
    heads: int
    vocabulary: int
    short: int  # tokens of a sequence
    long: int
    tokens: int  # of a micro batch
    rounds: int  # micro batches of a step
    warm: int  # steps before those that are timed
    timed: int  # steps


FULL = Size(1024, 24, 16, 50_304, 2048, 8192, 16_384, 4, 4, 12)
TINY = Size(64, 2, 4, 512, 64, 128, 256, 2, 1, 2)


@dataclass(frozen=True)
class Setup:
    """What all rows share."""

    size: Size
    scratch: Path

    def windows(self, seq_len: int, count: int, seed: int = 0) -> list[Any]:
        """Packed sequences, each opened within a document."""
        from rewarm.stages.data.tokens import Window

        draw = np.random.default_rng(seed)
        total = seq_len * count + 1
        tokens = draw.integers(1, self.size.vocabulary, total)
        lengths = np.maximum(2, draw.lognormal(np.log(min(MEDIAN, seq_len / 3)), SIGMA, total // 2)).astype(np.int64)
        starts = np.cumsum(lengths)
        tokens[starts[starts < total]] = 0  # end-of-text opens the next document
        rows = [tokens[place * seq_len : (place + 1) * seq_len + 1] for place in range(count)]
        return [Window(row[:-1], row[1:], row[:-1] == 0) for row in rows]

    def batches(self, seq_len: int, device: Any) -> list[Any]:
        """The micro batches of a step."""
        import torch

        from rewarm.stages.inference.causal import Documents, collate, documents_of
        from rewarm.stages.train.data import MicroBatch

        rows = self.size.tokens // seq_len
        found = []
        for number in range(self.size.rounds):
            packed = collate(self.windows(seq_len, rows, number), torch.device("cpu"), document_mask=True)
            documents = documents_of(packed.positions)
            there = [tensor.to(device) for tensor in packed]
            found.append(
                MicroBatch(
                    there[0], there[1], there[2], [], 0.0, Documents(documents.boundaries.to(device), documents.longest)
                )
            )
        return found

    def model_folder(self) -> tuple[Path, str]:
        """Folder and digest of the model, made once."""
        folder = self.scratch / "model"
        if not (folder / "digest").exists():
            import torch
            import transformers

            from rewarm.stages.train.weights import digest, model_weights

            config = transformers.AutoConfig.for_model("gpt_neox", **self.fields())
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            model.save_pretrained(folder)
            (folder / "digest").write_text(digest(model_weights(model)))
        return folder, (folder / "digest").read_text()

    def fields(self) -> dict[str, Any]:
        """Fields of the model's configuration."""
        size = self.size
        return {
            "hidden_size": size.hidden,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "intermediate_size": 4 * size.hidden,
            "max_position_embeddings": size.long,
            "vocab_size": size.vocabulary,
            "pad_token_id": None,
        }

    def engine(self, seq_len: int, **settings: Any) -> Any:
        """The training engine, alone in its process."""
        from rewarm.stages.train.engine import Engine, Place
        from rewarm.stages.train.settings import TrainSettings

        rows = self.size.tokens // seq_len
        given = TrainSettings.model_validate(
            {
                "seq_len": seq_len,
                "global_batch": rows * self.size.rounds,
                "micro_batch": rows,
                "loss": "chunks",
                "precision": "bf16",
                **settings,
            }
        )
        folder, digest = self.model_folder()
        return Engine(folder, digest, given, Place(0, 1, 0, begin()), self.scratch)


def begin() -> Any:
    """Take the device and a process group of one."""
    import torch

    from rewarm.stages.core import operators

    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_SIZE="1", MASTER_ADDR="127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(20_000 + os.getpid() % 20_000))
    os.environ.update(operators.environment())
    cuda = torch.cuda.is_available()
    if not cuda:
        torch.set_num_threads(1)
    if cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    if not torch.distributed.is_initialized():
        operators.load(say=lambda line: None)
        import deepspeed

        with contextlib.redirect_stdout(io.StringIO()):
            deepspeed.init_distributed("nccl" if cuda else "gloo")
    return torch.device("cuda", 0) if cuda else torch.device("cpu")


# -- speed -------------------------------------------------------------------------------------------------------


def timed(setup: Setup, seq_len: int, device: Any, step: Callable[[], Any]) -> dict[str, Any]:
    """Figures of a step that is run repeatedly."""
    import torch

    from rewarm.stages.train.metrics import flops_per_token, peak_flops

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(setup.size.warm):
        step()
    wait()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    for _ in range(setup.size.timed):
        loss = step()
    wait()
    seconds = time.perf_counter() - start
    size = setup.size
    rate = size.timed * size.tokens * size.rounds / seconds
    blocks = 12 * size.layers * size.hidden**2
    head = size.vocabulary * size.hidden
    peak = peak_flops(device, low_precision=True)
    pairs = float(np.mean([seen(batch.positions) for batch in setup.batches(seq_len, torch.device("cpu"))]))
    multiplied = 6.0 * (blocks + head) + 12.0 * size.layers * size.hidden * pairs
    return {
        "tokens/s": rate,
        "MFU": rate * flops_per_token(blocks + 2 * head, size.layers, size.hidden, seq_len) / peak,
        "multiplied": rate * multiplied / peak,
        "GB": torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None,
        "note": f"loss {float(loss):.3f}",
    }


def seen(positions: Any) -> float:
    """Mean number of tokens that a token attends to, itself included."""
    from rewarm.stages.inference.causal import documents_of

    lengths = documents_of(positions).boundaries.diff().double()
    return float((lengths * (lengths + 1) / 2).sum() / lengths.sum())


def ours(setup: Setup, seq_len: int, attention: str, **settings: Any) -> dict[str, Any]:
    """Our engine."""
    engine = setup.engine(seq_len, attention=attention, **settings)
    batches = setup.batches(seq_len, engine.place.device)
    row = timed(setup, seq_len, engine.place.device, lambda: engine.step(batches, 1e-4))
    return {**row, "note": "; ".join([row["note"], json.dumps(engine.ways.arithmetic), *engine.notes])}


def bare(setup: Setup, seq_len: int) -> dict[str, Any]:
    """A hand-written DeepSpeed loop."""
    import deepspeed
    import torch
    import transformers
    from torch.nn import functional

    device = begin()
    model = transformers.AutoModelForCausalLM.from_pretrained(setup.model_folder()[0], dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=device.type == "cuda")
    config = {
        "train_micro_batch_size_per_gpu": setup.size.tokens // seq_len,
        "gradient_accumulation_steps": setup.size.rounds,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": 1},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": True},
        "steps_per_print": 1_000_000_000,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    batches = setup.batches(seq_len, device)

    def step() -> Any:
        for batch in batches:
            logits = engine(input_ids=batch.inputs, position_ids=batch.positions, use_cache=False).logits
            loss = functional.cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten())
            engine.backward(loss)
            engine.step()
        return loss.detach()

    return timed(setup, seq_len, device, step)


def trainer(setup: Setup, seq_len: int) -> dict[str, Any]:
    """Hugging Face's Trainer; its rate is that of its own steps after the first ones."""
    import torch
    import transformers

    device = begin()
    flash = device.type == "cuda" and transformers.utils.is_flash_attn_2_available()
    implementation = "flash_attention_2" if flash else "sdpa"
    model = transformers.AutoModelForCausalLM.from_pretrained(
        setup.model_folder()[0], dtype=torch.float32, attn_implementation=implementation
    )
    rows = setup.size.tokens // seq_len
    windows = setup.windows(seq_len, rows * setup.size.rounds)
    data = [{"input_ids": window.inputs, "labels": window.inputs} for window in windows] * (
        setup.size.warm + setup.size.timed
    )
    moments: list[float] = []

    class Clock(transformers.TrainerCallback):
        """Times the ends of steps."""

        def on_step_end(self, *arguments: Any, **options: Any) -> None:
            if device.type == "cuda":
                torch.cuda.synchronize()
            moments.append(time.perf_counter())

    arguments = transformers.TrainingArguments(
        output_dir=str(setup.scratch / "trainer"),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=setup.size.rounds,
        max_steps=setup.size.warm + setup.size.timed,
        bf16=True,
        optim="adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=device.type != "cuda",
    )
    run = transformers.Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Clock()])
    with contextlib.redirect_stdout(io.StringIO()):
        run.train()
    rate = setup.size.timed * setup.size.tokens * setup.size.rounds / (moments[-1] - moments[setup.size.warm - 1])
    gigabytes = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None
    return {"tokens/s": rate, "GB": gigabytes, "note": f"{implementation}, no mask between documents"}


# -- exactness ---------------------------------------------------------------------------------------------------


def isolation(setup: Setup) -> dict[str, Any]:
    """How much a document's losses change with another document before it, by each attention; and between the two."""
    import torch

    from rewarm.stages.inference.causal import collate
    from rewarm.stages.train.document_mask import pack

    draw = np.random.default_rng(0)
    half = setup.size.short // 2
    document = draw.integers(1, setup.size.vocabulary, half - 2)
    windows = [pack([draw.integers(1, setup.size.vocabulary, half - 2), document]) for _ in range(2)]
    losses = {}
    for attention in ("sdpa", "varlen"):
        engine = setup.engine(setup.size.short, attention=attention)
        engine.engine.eval()
        with torch.no_grad():
            losses[attention] = engine.token_losses(collate(windows, engine.place.device, True))[:, half:].cpu()
        del engine
    changes = {name: float((values[0] - values[1]).abs().max()) for name, values in losses.items()}
    apart = float((losses["sdpa"] - losses["varlen"]).abs().max())
    return {"note": f"change by a neighbour, nats: {changes}; varlen against sdpa: {apart:.2g}"}


def determinism(setup: Setup) -> dict[str, Any]:
    """Whether two runs of the same steps give the same weights, by each attention."""
    found = {}
    for attention in ("sdpa", "varlen"):
        digests = set()
        for _ in range(2):
            engine = setup.engine(setup.size.short, attention=attention)
            for _ in range(3):
                engine.step(setup.batches(setup.size.short, engine.place.device), 1e-4)
            digests.add(engine.weights_digest())
            del engine
        found[attention] = "bit-equal" if len(digests) == 1 else "not bitwise"
    return {"note": f"two runs of three steps: {found}"}


def resume(setup: Setup) -> dict[str, Any]:
    """Whether a run that is saved and loaded continues with the same losses and weights."""
    engine = setup.engine(setup.size.short)
    batches = setup.batches(setup.size.short, engine.place.device)
    engine.step(batches, 1e-4)
    folder = setup.scratch / "saved"
    engine.save(folder)
    saved = engine.weights_digest()
    losses, digests = [float(engine.step(batches, 1e-4))], [engine.weights_digest()]
    del engine
    again = setup.engine(setup.size.short)
    again.load(folder, 1, saved)
    losses.append(float(again.step(batches, 1e-4)))
    digests.append(again.weights_digest())
    same = losses[0] == losses[1] and digests[0] == digests[1]
    return {"note": f"{'bit-equal' if same else 'not bitwise'}: losses {losses}"}


def release(setup: Setup) -> dict[str, Any]:
    """Write a release, and evaluate it with lm-eval on a generated task of 20 questions."""
    import torch
    import transformers
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from tokenizers import Tokenizer, models, pre_tokenizers

    from rewarm.stages.core.storage import Folder
    from rewarm.stages.train.weights import load_model, model_weights, write_model

    device = begin()
    folder, _ = setup.model_folder()
    words = {"<|endoftext|>": 0, **{f"w{number}": number for number in range(1, setup.size.vocabulary)}}
    plain = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    out = Folder(setup.scratch / "release")
    write_model(folder, dict(model_weights(load_model(folder))), out, "bfloat16")
    tasks = setup.scratch / "tasks"
    tasks.mkdir()
    rows = [{"q": f"w{n} w{n + 1}", "a": [f"w{n + 2}", f"w{n + 3}"], "gold": n % 2} for n in range(1, 21)]
    (tasks / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tasks / "words.yaml").write_text(
        "task: words\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tasks / 'rows.jsonl'}}}}}\n"
        'test_split: test\noutput_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: "{{a}}"\n'
        'doc_to_target: "{{gold}}"\nmetric_list: [{metric: acc}]\n'
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(out.path / "model", dtype=torch.bfloat16).to(device)
    given = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device=str(device))
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    with contextlib.redirect_stdout(io.StringIO()):
        found = simple_evaluate(model=given, tasks=["words"], task_manager=manager, bootstrap_iters=0)
    return {"note": f"accuracy {found['results']['words']['acc,none']:.2f} of 20 questions (untrained model)"}


# -- the table ---------------------------------------------------------------------------------------------------


def rows_of(size: Size) -> dict[str, Callable[[Setup], dict[str, Any]]]:
    """The rows, in the order of their worth."""
    short, long = size.short, size.long
    return {
        f"ours varlen {short}": lambda setup: ours(setup, short, "varlen"),
        f"bare DeepSpeed {short}": lambda setup: bare(setup, short),
        f"ours sdpa {short}": lambda setup: ours(setup, short, "sdpa"),
        "resume": resume,
        "isolation": isolation,
        f"ours varlen compiled {short}": lambda setup: ours(setup, short, "varlen", compile=True),
        f"ours varlen {long}": lambda setup: ours(setup, long, "varlen"),
        f"ours sdpa {long}": lambda setup: ours(setup, long, "sdpa"),
        f"Trainer {short}": lambda setup: trainer(setup, short),
        "determinism": determinism,
        "lm-eval of a release": release,
        f"ours whole logits {short}": lambda setup: ours(setup, short, "varlen", loss="whole"),
        f"ours fp32 gradients {short}": lambda setup: ours(setup, short, "varlen", gradients="fp32"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a row failed."""
    parser = argparse.ArgumentParser(description="Training on one GPU: speed, memory and exactness")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, also on a CPU")
    parser.add_argument("--rows", nargs="+", help="only these rows")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds after which no row begins")
    parser.add_argument("--packages", action="store_true", help="list the packages that are needed, and end")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    size = TINY if options.tiny else FULL
    rows = rows_of(size)
    for name in options.rows or ():
        if name not in rows:
            parser.error(f"--rows {name}: expected one of {', '.join(rows)}")
    if options.row:
        return run_row(rows[options.row], Setup(size, options.scratch))
    if options.packages:
        print("\n".join(needed_packages(size)))
        return 0
    with tempfile.TemporaryDirectory(prefix="rewarm-gpu-") as scratch:
        return print_table(options.rows or list(rows), Path(scratch), options)


def run_row(row: Callable[[Setup], dict[str, Any]], setup: Setup) -> int:
    """Run one row in this process, and print its figures as JSON."""
    print(json.dumps(row(setup)), flush=True)
    os._exit(0)  # threads of the process group may still run


def print_table(names: list[str], scratch: Path, options: argparse.Namespace) -> int:
    """Run the rows one after another; print each when it is done."""
    import torch

    start, failed = time.monotonic(), 0
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    print(f"{device}; " + ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "deepspeed")))
    print(f"{'row':26}{'tokens/s':>11}{'MFU':>7}{'mult.':>7}{'GB':>7}{'s':>6}  note", flush=True)
    for name in names:
        begun = time.monotonic()
        if begun - start > options.budget:
            print(f"{name:26}not run: {options.budget:.0f} seconds are over", flush=True)
            continue
        command = [sys.executable, str(Path(__file__).resolve()), "--row", name, "--scratch", str(scratch)]
        left = max(60.0, options.budget - (begun - start))
        try:
            done = subprocess.run(
                [*command, *(["--tiny"] if options.tiny else [])],
                capture_output=True,
                text=True,
                timeout=left,
                check=False,
            )
            row = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            row = {"note": f"stopped after {left:.0f} seconds"}
            failed += 1
        except (json.JSONDecodeError, IndexError):
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no output"]
            row = {"note": f"failed: {lines[-1][:300]}"}
            failed += 1
        print(line(name, row, time.monotonic() - begun), flush=True)
    print(f"{time.monotonic() - start:.0f} seconds in all")
    return int(failed > 0)


def line(name: str, row: dict[str, Any], seconds: float) -> str:
    """A row as a line of the table."""

    def figure(key: str, form: str, width: int) -> str:
        value = row.get(key)
        return ("" if value is None else format(value, form)).rjust(width)

    columns = figure("tokens/s", ",.0f", 11) + figure("MFU", ".1%", 7) + figure("multiplied", ".1%", 7)
    return f"{name:26}{columns}{figure('GB', '.1f', 7)}{seconds:6.0f}  {row.get('note', '')}"


def needed_packages(size: Size) -> list[str]:
    """The distributions that a step imports beside those of torch, transformers and numpy, with their versions."""
    with tempfile.TemporaryDirectory(prefix="rewarm-gpu-") as scratch:
        names = ("import torch, transformers, numpy, sys", "print(sorted({m.partition('.')[0] for m in sys.modules}))")
        plain = subprocess.run([sys.executable, "-c", "\n".join(names)], capture_output=True, text=True, check=True)
        before = set(json.loads(plain.stdout.splitlines()[-1].replace("'", '"')))
        ours(Setup(TINY if size == TINY else size, Path(scratch)), TINY.short if size == TINY else size.short, "sdpa")
    owners = packages_distributions()
    modules = {name.partition(".")[0] for name in sys.modules} - before
    found = {owner for name in modules for owner in owners.get(name, ())} - KNOWN - {"rewarm"}
    return sorted(f"{name}=={version(name)}" for name in found)


if __name__ == "__main__":
    sys.exit(main())
