"""Resident memory of a rank when training starts at ZeRO 3: every rank loads the whole model, against its part.

    python benchmarks/start_memory.py                              # 0.25 B parameters, 4 ranks: 12 GB of memory
    python benchmarks/start_memory.py --millions 500 --start parts # 0.5 B: 12 GB

A GPT-NeoX of the given size is written once, then each way runs in processes of its own (gloo, one thread each) that do
nothing but create the engine (``stages/train/engine.py``). The share of a rank is what ZeRO 3 gives it to own at the
start: weights, their fp32 masters and gradients, divided by the ranks. The moments of Adam are made in the first step,
and are not in it. Figures are of the rank that needs most, above nothing: Python and its libraries count too.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOM, FACTOR = 1e9, 1.3  # the goal: FACTOR × share + ROOM bytes
VOCABULARY, WIDTH = 50_304, 1024
WAYS = ("whole", "parts")
WHOLE = {"zero_optimization": {"zero_quantized_weights": False}}  # under it every rank loads the whole model


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the ways and print them; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description="Memory of a rank at the start of training, ZeRO 3")
    parser.add_argument("--millions", type=int, default=250, help="parameters, in millions")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--start", choices=(*WAYS, "both"), default="both")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rank is not None:
        print(json.dumps(started(options)))
        return 0
    with tempfile.TemporaryDirectory(prefix="start-memory-") as folder:
        options.model = Path(folder) / "model"
        subprocess.run([sys.executable, "-c", WRITE, str(options.model), str(layers_of(options.millions))], check=True)
        parameters = json.loads((options.model / "made.json").read_text())["parameters"]
        print(f"{parameters:,} parameters, {options.ranks} ranks, {options.precision}, ZeRO 3")
        print("start  share MB  libraries MB  peak MB  after MB  seconds")
        rows = {way: measure(way, options) for way in (WAYS if options.start == "both" else (options.start,))}
    if "parts" not in rows:
        return 0
    row = rows["parts"]
    goal = FACTOR * row["share"] + ROOM
    met = row["peak"] <= goal
    print(f"parts: peak {row['peak'] / 1e6:,.0f} MB, goal {FACTOR} × share + 1 GB = {goal / 1e6:,.0f} MB: ", end="")
    print("met" if met else "missed")
    return 0 if met else 1


def layers_of(millions: int) -> int:
    """Layers of the width ``WIDTH`` that make about so many parameters."""
    return max(1, round((millions * 1e6 - 2 * VOCABULARY * WIDTH) / (12 * WIDTH**2)))


WRITE = f"""
import json, sys
from pathlib import Path
import torch, transformers
from rewarm.stages.train.weights import digest, model_weights
folder = Path(sys.argv[1])
config = transformers.AutoConfig.for_model(
    "gpt_neox", hidden_size={WIDTH}, num_hidden_layers=int(sys.argv[2]), num_attention_heads=16,
    intermediate_size={4 * WIDTH}, vocab_size={VOCABULARY}, max_position_embeddings=64, pad_token_id=None)
torch.manual_seed(0)
model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
model.save_pretrained(folder, max_shard_size="500MB")
made = {{"digest": digest(model_weights(model)), "parameters": sum(p.numel() for p in model.parameters())}}
(folder / "made.json").write_text(json.dumps(made))
"""


def measure(way: str, options: argparse.Namespace) -> dict[str, float]:
    """Start all ranks in one way; return and print the figures of the rank that needs most."""
    from rewarm.stages.core.operators import environment

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(Path(__file__).resolve()), "--start", way, "--model", str(options.model)]
    command += ["--precision", options.precision, "--ranks", str(options.ranks)]
    fixed = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(options.ranks), **environment()}
    ranks = [
        subprocess.Popen(
            [*command, "--rank", str(rank)],
            env={**os.environ, **fixed, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_SIZE": str(options.ranks)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(options.ranks)
    ]
    answers = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        sys.exit(f"{way}: a rank failed with code {next(rank.returncode for rank in ranks if rank.returncode)}")
    found = [json.loads(answer.splitlines()[-1]) for answer in answers]
    row = {name: max(each[name] for each in found) for name in found[0]}
    megabytes = [row[name] / 1e6 for name in ("share", "libraries", "peak", "after")]
    print(f"{way:5}  " + "  ".join(f"{value:8,.0f}" for value in megabytes) + f"  {row['seconds']:6.1f}", flush=True)
    return row


def started(options: argparse.Namespace) -> dict[str, float]:
    """Create this rank's engine; return bytes of its share and of resident memory, and seconds."""
    import deepspeed
    import torch
    import transformers.models.gpt_neox.modeling_gpt_neox  # noqa: F401  # counts as a library

    from rewarm.stages.train.engine import Engine, Place
    from rewarm.stages.train.freed_memory import returned
    from rewarm.stages.train.settings import TrainSettings

    torch.set_num_threads(1)
    deepspeed.init_distributed("gloo")
    made = json.loads((options.model / "made.json").read_text())
    settings = TrainSettings.model_validate(
        {
            "seq_len": 64,
            "global_batch": options.ranks,
            "zero_stage": 3,
            "precision": options.precision,
            "deepspeed": WHOLE if options.start == "whole" else {},
        }
    )
    place = Place(options.rank, options.ranks, options.rank, torch.device("cpu"))
    torch.distributed.barrier()
    libraries, start = resident("VmRSS"), time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    with returned(place.device):
        engine = Engine(options.model, made["digest"], settings, place, options.model)
    assert bool(engine.notes) == (options.start == "whole"), engine.notes
    figures = {
        "share": share(engine.engine),
        "libraries": libraries,
        "peak": resident("VmHWM"),
        "after": resident("VmRSS"),
        "seconds": time.perf_counter() - start,
    }
    torch.distributed.barrier()
    return figures


def share(engine: Any) -> float:
    """Bytes of what ZeRO 3 gives a rank to own."""
    optimizer = engine.optimizer
    owned = [parameter.ds_tensor for parameter in engine.module.parameters()]
    owned += [*optimizer.fp32_partitioned_groups_flat, optimizer.grad_partitions_flat_buffer]
    owned += [value for state in optimizer.optimizer.state.values() for value in state.values() if value.dim()]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in owned}
    return float(sum(storages.values()))


def resident(name: str) -> int:
    """A figure of this process's memory in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(row.split()[1] for row in status.splitlines() if row.startswith(f"{name}:")))


if __name__ == "__main__":
    sys.exit(main())
