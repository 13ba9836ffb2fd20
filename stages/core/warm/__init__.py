"""Warm worker processes: Ray's workers forked from a process that has imported torch, transformers and DeepSpeed.

A Ray worker is a fresh interpreter. Importing the libraries for training and evaluation takes four to five seconds of
CPU, and an update starts about twenty workers. With ``runtime_env()`` Ray starts ``client.py`` instead of the
interpreter: it requests a fork from the job's fork server (``server.py``; one per job and node, started by the job's
first worker, see ``begin_servers``), and remains as the worker's stand-in until that ends. If there is no server yet,
or it fails, the client becomes an ordinary worker. Arguments, environment, working directory and standard streams are
the worker's own in both cases.

Only on CPUs: a forked process cannot use CUDA if its parent has initialised it.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from rewarm.stages.core.operators import accelerator

SWITCH = "REWARM_WARM_WORKERS"
"""Environment variable: ``0`` disables forking; ``1`` also forks workers on a joined cluster, whose nodes must then
have rewarm installed under the same path."""


def runtime_env(joined: bool) -> dict[str, Any]:
    """Return the part of Ray's ``runtime_env`` that makes workers fork; empty on GPUs and if ``SWITCH`` disables it.

    ``joined``: whether this is an existing cluster rather than a local Ray of this process.
    """
    chosen = os.environ.get(SWITCH, "0" if joined else "1")
    if chosen == "0" or sys.platform != "linux" or accelerator() != "cpu":
        return {}
    client = Path(__file__).with_name("client.py")
    return {"py_executable": shlex.join([sys.executable, "-ISE", str(client)])}


def begin_servers() -> None:
    """Start this job's fork server on every node now, so that it imports while data is ingested.

    A worker starts its node's server, so each node runs a task that does nothing and needs no CPU. Nothing is waited
    for: models that need workers before a server has imported everything get ordinary ones.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote  # its stubs lack node affinity
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(start_a_worker).remote()


def start_a_worker() -> None:
    """Do nothing, in a worker whose start has started its node's fork server."""
