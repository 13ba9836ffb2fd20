"""Modules that a training worker must not import; a worker that is not forked pays for each of its imports.

``torch._dynamo`` cannot be kept out: transformers' generation code, which every model class imports, decorates its
functions with ``torch.compiler.disable``.
"""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.faults

WORKER = """
import json, os, sys

from rewarm.stages.core.operators import environment

os.environ.update(environment())
import deepspeed, ray.train, ray.train.torch
import rewarm.stages.train.engine, rewarm.stages.train.loop, rewarm.stages.train.weights
from transformers import AutoModelForCausalLM, GPTNeoXConfig

tiny = GPTNeoXConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=16)
AutoModelForCausalLM.from_config(tiny)
print(json.dumps(sorted(sys.modules)))
"""
NEVER = {
    "lm_eval",
    "datasets",
    "sklearn",
    "plotly",
    "matplotlib",
    "nltk",
    "ray.tune",
    "aiohttp",
    "kingfisher_sdk",
    "ftfy",
}


def test_a_training_worker_imports_nothing_of_other_stages() -> None:
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, timeout=300, check=True)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert "torch.distributed" in modules
    assert modules & NEVER == set()
    stages = {name for name in modules if name.startswith("rewarm.stages.")}
    assert not {
        name for name in stages if name.split(".")[2] in ("evaluate", "ingest", "tokenize", "select", "distill")
    }
