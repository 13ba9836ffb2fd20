"""Peak memory of a micro batch's loss and its gradient: whole logits against chunks of tokens.

    python benchmarks/loss_memory.py                       # half a minute on two cores, 5 GB of memory
    python benchmarks/loss_memory.py --tokens 2048 --vocabulary 32768

Each way runs in a process of its own on the CPU: a GPT-NeoX of one narrow layer, whose own memory is small beside that
of the loss, one forward and backward pass of ``stages/train/objective.py``. The peak is the process's largest resident
memory during the pass (``VmHWM``, reset before it) above that before it; the gradients of the weights are part of it.
Both ways must give the same loss.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

GOAL = 4.0  # bytes per token × vocabulary entry
WIDTH = 128
ROWS = 4  # sequences


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both ways and print them; 1 if the goal is missed or the losses differ."""
    parser = argparse.ArgumentParser(description="Peak memory of the loss, whole and in chunks")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of the micro batch")
    parser.add_argument("--vocabulary", type=int, default=50_304, help="vocabulary entries")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--way", choices=("whole", "chunks"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.tokens < ROWS or options.tokens % ROWS:
        parser.error(f"--tokens {options.tokens}: expected a multiple of {ROWS}")
    if options.way:
        print(json.dumps(measure(options.way, options.tokens, options.vocabulary, options.precision)))
        return 0
    print(f"{options.tokens:,} tokens × {options.vocabulary:,} entries, {options.precision}")
    print("way      peak MB  bytes per token × entry  CPU s    loss")
    found = {}
    for way in ("whole", "chunks"):
        command = [sys.executable, str(Path(__file__).resolve()), "--way", way, *(arguments or sys.argv[1:])]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[way] = json.loads(answer.splitlines()[-1])
        print(line(way, found[way], options.tokens * options.vocabulary), flush=True)
    each = found["chunks"]["bytes"] / (options.tokens * options.vocabulary)
    apart = abs(found["chunks"]["loss"] - found["whole"]["loss"]) / found["whole"]["loss"]
    met = each <= GOAL and apart <= 1e-6
    print(
        f"chunks: {each:.2f} bytes (goal {GOAL:g}), losses differ by {apart:.1e} (goal 1e-6): "
        + ("met" if met else "missed")
    )
    return 0 if met else 1


def line(way: str, row: dict[str, float], entries: int) -> str:
    """A way as a line of the table."""
    return (
        f"{way:7}  {row['bytes'] / 1e6:7,.0f}  {row['bytes'] / entries:23.2f}  {row['seconds']:7.1f}  {row['loss']:.6f}"
    )


def measure(way: str, tokens: int, vocabulary: int, precision: str) -> dict[str, float]:
    """Run one pass; return peak bytes above the start, CPU seconds, and the loss in nats."""
    import torch
    import transformers

    from rewarm.stages.train.chunked_loss import ChunkedHead, HeadForm
    from rewarm.stages.train.data import MicroBatch
    from rewarm.stages.train.freed_memory import keep_freed_memory
    from rewarm.stages.train.objective import Objective
    from rewarm.stages.train.ways import Ways

    keep_freed_memory()
    torch.manual_seed(0)
    length = tokens // ROWS
    config = transformers.AutoConfig.for_model(
        "gpt_neox",
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=WIDTH,
        max_position_embeddings=length,
        vocab_size=vocabulary,
        pad_token_id=None,
    )
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).train()
    head = ChunkedHead(model, HeadForm()) if way == "chunks" else None
    objective = Objective(0.0, None, None)

    def run(rows: int, columns: int) -> float:
        given = torch.randint(0, vocabulary, (rows, columns + 1))
        batch = MicroBatch(given[:, :-1], given[:, 1:], torch.arange(columns).expand(rows, -1), [], 0.0)
        terms = objective.terms(model, batch, Ways(head))
        terms.objective.backward()
        return float(terms.cross_entropy)

    run(1, 8)  # libraries allocate what they need
    model.zero_grad()
    torch.manual_seed(1)
    before, start = resident("VmRSS"), time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    loss = run(ROWS, length)
    return {"bytes": resident("VmHWM") - before, "seconds": time.process_time() - start, "loss": loss}


def resident(name: str) -> int:
    """A figure of this process's memory in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(row.split()[1] for row in status.splitlines() if row.startswith(f"{name}:")))


if __name__ == "__main__":
    sys.exit(main())
