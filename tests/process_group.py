"""Real process groups on this machine, for tests of what runs on several ranks."""

import gc
import os
import socket
import sys
from collections.abc import Callable

import pytest
import torch
from torch import multiprocessing

from rewarm.stages.core.operators import environment

PRELOADED = [
    "deepspeed",
    "rewarm.stages.train.engine",
    "rewarm.stages.train.data",
    "transformers.models.gpt_neox.modeling_gpt_neox",
]
"""What the process has imported from which the groups' processes are forked: five seconds of CPU for each of them."""


def in_group(work: Callable[..., None], size: int, *arguments: object) -> None:
    """Run ``work(rank, size, …)`` in ``size`` processes of one group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        multiprocessing.start_processes(started, (work, size, port, *arguments), size, start_method="forkserver")


def started(rank: int, work: Callable[..., None], size: int, port: int, *arguments: object) -> None:
    gc.freeze()  # DeepSpeed collects garbage often, of which none is among what was imported before the fork
    os.environ.update(environment(), RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), LOCAL_SIZE=str(size))
    torch.set_num_threads(1)
    import deepspeed

    deepspeed.init_distributed("gloo")
    work(rank, size, *arguments)
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # gloo's threads may still run: C++ aborts a process that ends beside them
