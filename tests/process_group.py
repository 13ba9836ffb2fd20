"""Real process groups on this machine, for tests of what runs on several ranks."""

import os
import socket
import sys
from collections.abc import Callable

import torch
from torch import multiprocessing

from rewarm.stages.core.operators import environment


def in_group(work: Callable[..., None], size: int, *arguments: object) -> None:
    """Run ``work(rank, size, …)`` in ``size`` processes of one group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(started, (work, size, port, *arguments), nprocs=size)


def started(rank: int, work: Callable[..., None], size: int, port: int, *arguments: object) -> None:
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
