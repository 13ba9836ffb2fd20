"""Warm worker processes: Ray's workers forked from a process that has imported torch, transformers and DeepSpeed.

A worker of Ray is a fresh interpreter. Importing what training and evaluation need costs it four to five seconds of
CPU, and an update starts some twenty of them. With ``runtime_env()`` Ray starts ``client.py`` in place of the
interpreter: it asks the job's fork server (``server.py``; one per job and node, started by the job's first worker) for
a fork, and stays as the worker's stand-in until that ends. If there is no server yet, or it fails, the client becomes
an ordinary worker. Arguments, environment, working directory and standard streams are the worker's own either way.

Only on CPUs: a forked process cannot use CUDA once its parent has asked for it.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from rewarm.stages.core.operators import accelerator

SWITCH = "REWARM_WARM_WORKERS"
"""Environment variable: ``0`` starts every worker from nothing; ``1`` also forks them on a cluster that was joined,
whose nodes then need rewarm installed under the same path."""


def runtime_env(joined: bool) -> dict[str, Any]:
    """The part of Ray's ``runtime_env`` that has workers forked; empty on GPUs and if ``SWITCH`` says so.

    ``joined``: whether the cluster is somebody else's, rather than a local Ray of this process.
    """
    chosen = os.environ.get(SWITCH, "0" if joined else "1")
    if chosen == "0" or sys.platform != "linux" or accelerator() != "cpu":
        return {}
    client = Path(__file__).with_name("client.py")
    return {"py_executable": shlex.join([sys.executable, "-ISE", str(client)])}
