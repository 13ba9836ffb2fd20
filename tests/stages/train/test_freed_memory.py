"""Memory that tensors free is returned to the system while an engine starts, and kept during training."""

import subprocess
import sys

import pytest

PROGRAM = """
import torch
from pathlib import Path
from rewarm.stages.train.freed_memory import returned

def resident():
    rows = Path("/proc/self/status").read_text().splitlines()
    return int(next(row.split()[1] for row in rows if row.startswith("VmRSS:"))) >> 10

def rise():
    before = resident()
    for _ in range(3):
        freed = [torch.ones(4 << 20) for _ in range(8)]
        stays = torch.ones(1 << 18)
        del freed
    return resident() - before

with returned(torch.device("cpu")):
    print(rise())
print(rise())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_start_returns_what_it_frees_and_training_keeps_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    while_starting, afterwards = map(int, done.stdout.split())
    assert while_starting < 16, "MB, of 128 that were freed"
    assert afterwards > 100
